//! From a name to an address: what was checked is what is dialled.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use offshoot_gateway::{Resolve, Resolver};

use crate::support::{Lab, Manner};

/// Answers differently every time.
struct Flipping {
    answers: Vec<Vec<&'static str>>,
    asked: AtomicUsize,
}

impl Resolve for Flipping {
    fn resolve<'a>(&'a self, _: &'a offshoot_core::egress::HostName) -> Resolver<'a> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers[number % self.answers.len()].iter().map(|a| a.parse::<IpAddr>().unwrap());
        let answer: Vec<_> = answer.collect();
        Box::pin(
            async move { if answer.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(answer) } },
        )
    }
}

async fn lab(rules: &[&str], answers: &[&[&'static str]]) -> (Lab, Arc<Flipping>) {
    let resolver = Arc::new(Flipping {
        answers: answers.iter().map(|a| a.to_vec()).collect(),
        asked: AtomicUsize::new(0),
    });
    let theirs = Arc::clone(&resolver);
    let lab = Lab::with(rules, Manner::Web, move |options| {
        options.upstream = None;
        options.resolver = theirs;
    })
    .await;
    (lab, resolver)
}

#[tokio::test]
async fn an_allowed_name_that_leads_to_a_private_address_leads_nowhere() {
    let private: &[&[&str]] = &[
        &["127.0.0.1"],
        &["10.0.0.1", "192.168.1.1", "169.254.169.254"],
        &["::1", "::ffff:127.0.0.1", "fe80::1", "fd00:ec2::254"],
        &["198.18.0.1", "100.64.0.1", "0.0.0.0", "64:ff9b::7f00:1"],
    ];
    let server = crate::support::Server::start(Manner::Web).await;
    let rule = format!("rebinds.example:{}", server.address.port());
    let (lab, resolver) = lab(&[&rule], private).await;
    for _ in private {
        let place = &rule;
        let answer = lab.exchange(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("private-address"), "{answer}");
    }
    assert_eq!(resolver.asked.load(Ordering::SeqCst), private.len());
    assert!(server.received().is_empty(), "nobody was dialled");
}

#[tokio::test]
async fn a_name_is_resolved_once_a_connection_and_only_when_allowed() {
    let (lab, resolver) = lab(&["example.org"], &[&[]]).await;
    for _ in 0..50 {
        lab.exchange("CONNECT label.evil.com:443 HTTP/1.1\r\nHost: label.evil.com\r\n\r\n").await;
    }
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 0, "a name that is not allowed is not looked up");
    let answer = lab.exchange("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("does not resolve"), "{answer}");
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_host_alias_is_never_resolved() {
    let (lab, resolver) = lab(&["host:SERVER", "*.internal"], &[&["203.0.113.1"]]).await;
    let place = format!("host.internal:{}", lab.server.address.port());
    let answer = lab.exchange(format!("GET http://{place}/ HTTP/1.1\r\nHost: {place}\r\n\r\n")).await;
    assert!(answer.ends_with("answer 1"), "{answer}");
    let answer = lab.exchange("CONNECT host.internal:443 HTTP/1.1\r\nHost: host.internal\r\n\r\n").await;
    assert!(answer.contains("port-not-listed"), "{answer}");
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 0);
}
