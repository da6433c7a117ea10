//! Ports of this machine that lead inside.

use std::{net::TcpListener, sync::Arc};

use offshoot_gateway::{Dial, Forward, ForwardLimits, Later, ListenError, Reason, Unavailable};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{LONG, Manner, Server, read_exactly, read_to_end};

struct To(Option<std::net::SocketAddr>);

impl Dial for To {
    fn dial(&self) -> Later<'_, TcpStream> {
        Box::pin(async move {
            let gone = || Unavailable::new(Reason::Gone, "the environment is gone");
            TcpStream::connect(self.0.ok_or_else(gone)?).await.map_err(|_| gone())
        })
    }

    fn used(&self) -> Later<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

fn forward(to: Option<std::net::SocketAddr>) -> Forward {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Forward::serve(listener, Arc::new(To(to)), ForwardLimits::default()).unwrap()
}

#[tokio::test]
async fn bytes_and_ends_pass_both_ways() {
    let greets = Server::start(Manner::Greets).await;
    let forward = forward(Some(greets.address));
    let mut stream = TcpStream::connect(forward.address()).await.unwrap();
    assert_eq!(read_exactly(&mut stream, 5).await, b"hello");
    stream.write_all(b"more").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, "more");
}

#[tokio::test]
async fn a_port_that_leads_nowhere_is_a_broken_connection() {
    let forward = forward(None);
    let mut stream = TcpStream::connect(forward.address()).await.unwrap();
    let read = tokio::time::timeout(LONG, stream.read_u8()).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn dropping_it_ends_its_connections() {
    let echo = Server::start(Manner::Echo).await;
    let forward = forward(Some(echo.address));
    let address = forward.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 1).await, b"x");
    drop(forward);
    assert_eq!(read_to_end(&mut stream).await, "");
    TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test]
async fn other_machines_are_not_served() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let served = Forward::serve(listener, Arc::new(To(None)), ForwardLimits::default());
    assert!(matches!(served, Err(ListenError::Exposed { .. })));
}
