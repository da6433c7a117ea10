//! Connections by synthetic address, in a network namespace like a run's: only `lo`, the synthetic range routed to it.
//! Outside addresses are played by 203.0.113.0/24 (TEST-NET-3) on the same `lo`, so these are also the tests in which
//! public addresses are really dialled.

use std::{
    net::IpAddr,
    process::Command,
    sync::{Arc, Mutex},
};

use offshoot_core::egress::HostName;
use offshoot_gateway::{Egress, EgressEvent, Listener, ListenerKind, Options, Resolve, Resolver};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use crate::support::{Manner, Server, hello, policy, read_exactly, read_head, read_to_end};

const INSIDE: &str = "OFFSHOOT_TEST_NAMESPACE";

/// Runs `inside` in a network namespace of its own.
#[test]
fn transparent_connections_in_a_network_namespace() {
    // 203.0.113.0/24 answers from another address, as the outside does; 192.0.2.9 is this machine's own.
    let script = "ip link set lo up && ip route add local 198.18.0.0/15 dev lo \
        && ip route add local 203.0.113.0/24 dev lo src 127.0.0.1 && ip addr add 192.0.2.9/32 dev lo \
        && exec \"$0\" --exact transparent::inside --nocapture";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("all of it"), "{text}");
}

/// Names with fixed addresses.
struct Table;

impl Resolve for Table {
    fn resolve<'a>(&'a self, name: &'a HostName) -> Resolver<'a> {
        let addresses: &[&str] = match name.as_str() {
            "a.org" => &["10.0.0.1", "203.0.113.1"],
            // The first does not listen.
            "b.org" => &["203.0.113.99", "203.0.113.2"],
            "x.wild.net" => &["203.0.113.3"],
            "own.org" => &["192.0.2.9"],
            _ => &[],
        };
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Box::pin(async move { Ok(addresses) })
    }
}

struct Inside {
    events: Arc<Mutex<Vec<EgressEvent>>>,
    _egress: Egress,
}

impl Inside {
    fn new() -> Self {
        let listeners = [
            "0.0.0.0:80",
            "0.0.0.0:443",
            "198.18.0.1:5432",
            "198.18.0.2:22",
            "198.18.0.3:8080",
            "198.19.255.254:9000",
        ]
        .iter()
        .map(|address| Listener {
            kind: ListenerKind::Transparent,
            socket: listen(address).into_std().unwrap(),
        })
        .collect();
        let rules = policy(&[
            "a.org",
            "*.wild.net",
            "a.org:5432",
            "b.org:22",
            "host:8080",
            "*.wild.net:9000",
            "own.org",
        ]);
        let events: Arc<Mutex<Vec<EgressEvent>>> = Arc::default();
        let sink = Arc::clone(&events);
        let options = Options {
            resolver: Arc::new(Table),
            upstream: None,
            sink: Arc::new(move |event| sink.lock().unwrap().push(event)),
            ..Options::default()
        };
        Self { events, _egress: Egress::serve_with(listeners, rules, options).unwrap() }
    }

    /// Sends bytes to a synthetic address and reads to the end.
    async fn exchange(&self, address: &str, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A refused connection may be closed before everything is sent.
        let _ = stream.write_all(bytes.as_ref()).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(crate::support::LONG, stream.read_to_end(&mut answer)).await.unwrap();
        answer
    }

    async fn get(&self, address: &str, head: &str) -> String {
        let answer = self.exchange(address, format!("GET / HTTP/1.1\r\n{head}\r\n")).await;
        String::from_utf8(answer).unwrap()
    }

    fn codes(&self) -> Vec<&'static str> {
        let mut events = self.events.lock().unwrap();
        let codes = events.iter().filter_map(|event| match event {
            EgressEvent::Refused { code, .. } => Some(*code),
            EgressEvent::Allowed { .. } => None,
        });
        let codes = codes.collect();
        events.clear();
        codes
    }
}

/// The servers share ports with the listeners on all addresses; the most exact address wins.
fn listen(address: &str) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address.parse().unwrap()).unwrap();
    socket.listen(64).unwrap()
}

fn server(address: &str, manner: Manner) -> Server {
    Server::listen(listen(address), manner)
}

#[tokio::test]
async fn inside() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let web = server("203.0.113.1:80", Manner::Web);
    let tls = server("203.0.113.1:443", Manner::Echo);
    let postgres = server("203.0.113.1:5432", Manner::Greets);
    let ssh = server("203.0.113.2:22", Manner::Greets);
    let wild = server("203.0.113.3:443", Manner::Echo);
    let wild_web = server("203.0.113.3:9000", Manner::Web);
    let own = server("192.0.2.9:443", Manner::Greets);
    let host = server("127.0.0.1:8080", Manner::Web);
    let inside = Inside::new();

    // Port 80: the name of the address, and Host must agree with it.
    let answer = inside.get("198.18.0.1:80", "Host: A.org\r\n").await;
    assert!(answer.ends_with("answer 1"), "{answer}");
    assert!(inside.get("198.18.0.1:80", "Host: evil.com\r\n").await.contains("names-differ"));
    let answer = inside.exchange("198.18.0.1:80", "GET / HTTP/1.0\r\n\r\n").await;
    assert!(String::from_utf8_lossy(&answer).ends_with("answer 1"), "without Host it is the address's name");
    assert!(inside.get("198.18.0.2:80", "Host: b.org\r\n").await.contains("port-not-listed"));
    assert!(web.received().iter().all(|sent| sent.to_ascii_lowercase().contains("host: a.org\r\n")));
    assert_eq!(inside.codes(), ["names-differ", "port-not-listed"]);

    // Port 443: the TLS server name must be the address's.
    let good = hello("a.org");
    assert_eq!(inside.exchange("198.18.0.1:443", &good).await, good);
    assert_eq!(inside.exchange("198.18.0.1:443", hello("b.org")).await, [21, 3, 1, 0, 2, 2, 49]);
    assert_eq!(inside.codes(), ["names-differ"]);
    assert_eq!(tls.received().len(), 2, "dialled, but sent nothing: {:?}", tls.received());
    assert!(tls.received().iter().any(String::is_empty));

    // A rule with a port of its own; the server speaks first.
    let mut stream = TcpStream::connect("198.18.0.1:5432").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 5).await, b"hello");
    let mut second = TcpStream::connect("198.18.0.2:22").await.unwrap();
    assert_eq!(read_exactly(&mut second, 5).await, b"hello");
    drop((stream, second, postgres, ssh));

    // The host's own port.
    assert!(inside.get("198.18.0.3:8080", "Host: host.internal:8080\r\n").await.ends_with("answer 1"));
    assert!(inside.get("198.18.0.3:8080", "Host: localhost:8080\r\n").await.contains("names-differ"));
    assert_eq!(host.received().iter().filter(|sent| sent.contains("localhost")).count(), 0);
    assert_eq!(inside.codes(), ["names-differ"]);

    // The address that a wildcard's names share: the connection has to say which.
    let good = hello("x.wild.net");
    assert_eq!(inside.exchange("198.19.255.254:443", &good).await, good);
    for (bytes, code) in [
        (hello("evil.com"), "not-listed"),
        (hello("wild.net"), "not-listed"),
        (b"\0\0\0\x08".to_vec(), "no-name"),
        (b"".to_vec(), "no-name"),
    ] {
        inside.exchange("198.19.255.254:443", bytes).await;
        assert_eq!(inside.codes(), [code]);
    }
    assert_eq!(wild.received().len(), 1);
    assert!(inside.get("198.19.255.254:9000", "Host: x.wild.net:9000\r\n").await.ends_with("answer 1"));
    assert!(inside.get("198.19.255.254:80", "Host: evil.com\r\n").await.contains("not-listed"));
    assert!(inside.get("198.19.255.254:9000", "Host: x.wild.net:80\r\n").await.contains("names-differ"));
    assert!(inside.get("198.19.255.254:9000", "").await.contains("no-name"));
    assert_eq!(inside.codes(), ["not-listed", "names-differ", "no-name"]);
    drop(wild_web);

    // A public address of this very machine, and addresses that stand for nothing.
    assert_eq!(inside.exchange("198.18.0.4:443", hello("own.org")).await, [21, 3, 1, 0, 2, 2, 49]);
    assert!(own.received().iter().all(String::is_empty), "{:?}", own.received());
    for made_up in ["198.18.0.9:443", "198.19.1.1:80", "127.0.0.1:443"] {
        assert_eq!(inside.exchange(made_up, hello("a.org")).await, b"", "{made_up}");
    }
    assert_eq!(inside.codes(), ["private-address", "address", "address", "address"]);

    // Requests of one connection are looked at one by one.
    let mut stream = TcpStream::connect("198.18.0.1:80").await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.org\r\n\r\n").await.unwrap();
    read_head(&mut stream).await;
    read_exactly(&mut stream, 8).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: b.org\r\n\r\n").await.unwrap();
    assert!(read_to_end(&mut stream).await.contains("names-differ"));
    println!("all of it");
}
