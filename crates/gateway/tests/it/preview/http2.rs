//! HTTP/2 with prior knowledge, as gRPC clients and curl speak it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt, channel::Channel};
use hyper::{
    HeaderMap, Request, Response,
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
    header::HeaderValue,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::lab::{App, Lab};
use crate::support::LONG;

/// An app that speaks HTTP/2 only: sends each frame back as it comes, trailers too.
async fn echo() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let called: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&called);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let log = Arc::clone(&log);
            let service = service_fn(move |request: Request<Incoming>| {
                log.lock().unwrap().push(request.uri().to_string());
                async move { Ok::<_, Infallible>(Response::new(request.into_body())) }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, called)
}

type Body = Channel<Bytes, Infallible>;

async fn client(lab: &Lab) -> SendRequest<Body> {
    let stream = TcpStream::connect(lab.address).await.unwrap();
    let (sender, driver) = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    sender
}

async fn text(response: Response<Incoming>) -> String {
    let body = timeout(LONG, response.into_body().collect()).await.unwrap().unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn frames_and_trailers_pass_as_they_come() {
    let (address, called) = echo().await;
    let lab = Lab::new(&[("rpc.task", address)]);
    for kind in ["application/grpc", "text/plain"] {
        let mut client = client(&lab).await;
        let (mut sender, body) = Channel::new(1);
        let request = Request::post(lab.url("rpc.task", "/call"))
            .header("content-type", kind)
            .header("te", "trailers")
            .body(body)
            .unwrap();
        let response = timeout(LONG, client.send_request(request)).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        // Each message goes only when the one before has come back.
        for message in ["one", "two", "three"] {
            sender.send_data(Bytes::from(message)).await.unwrap();
            let frame = timeout(LONG, body.frame()).await.unwrap().unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), message);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        sender.send_trailers(trailers.clone()).await.unwrap();
        drop(sender);
        let frame = timeout(LONG, body.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_trailers().unwrap(), trailers);
    }
    assert_eq!(*called.lock().unwrap(), [lab.url("rpc.task", "/call"), lab.url("rpc.task", "/call")]);
}

#[tokio::test]
async fn each_stream_goes_where_its_own_host_says() {
    let (address, called) = echo().await;
    let app = App::start("app").await;
    let lab = Lab::new(&[("rpc.one", address), ("web.two", app.address)]);
    let client = client(&lab).await;
    let mut streams = tokio::task::JoinSet::new();
    for number in 0..40 {
        let name = if number % 2 == 0 { "rpc.one" } else { "web.two" };
        let (mut sender, body) = Channel::new(1);
        let request = Request::post(lab.url(name, &format!("/{number}"))).body(body).unwrap();
        let mut client = client.clone();
        streams.spawn(async move {
            let send = async move {
                sender.send_data(Bytes::from(format!("body {number}"))).await.unwrap();
            };
            let (response, ()) = tokio::join!(client.send_request(request), send);
            (number, text(response.unwrap()).await)
        });
    }
    while let Some(done) = timeout(LONG, streams.join_next()).await.unwrap() {
        let (number, text) = done.unwrap();
        if number % 2 == 0 {
            assert_eq!(text, format!("body {number}"));
        } else {
            assert!(text.starts_with(&format!("app\nPOST /{number} HTTP/1.1\r\n")), "{text}");
            assert!(text.contains(&format!("host: {}\r\n", lab.host("web.two"))), "{text}");
            assert!(text.contains(&format!("body {number}")), "{text}");
        }
    }
    let called = called.lock().unwrap();
    assert_eq!(called.len(), 20);
    assert!(called.iter().all(|uri| uri.starts_with(&lab.url("rpc.one", "/"))), "{called:?}");
}

#[tokio::test]
async fn streams_are_refused_as_requests_are() {
    let lab = Lab::new(&[]);
    let mut client = client(&lab).await;
    for (uri, status) in [
        (lab.url("web.none", "/"), 404),
        ("http://evil.com/".to_owned(), 421),
        (lab.url("web.none", "/").replace("http:", "https:"), 403),
    ] {
        let (sender, body) = Channel::new(1);
        drop(sender);
        let response = client.send_request(Request::get(uri).body(body).unwrap()).await.unwrap();
        assert_eq!(response.status(), status);
        assert!(text(response).await.starts_with("offshoot: "));
    }
}
