//! Many connections at once, and much through one.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::timeout,
};

use crate::support::{LONG, Lab, Manner, read_exactly};

#[tokio::test]
async fn many_tunnels_at_once_do_not_mix() {
    let lab = std::sync::Arc::new(Lab::new(&["example.org:9"], Manner::Echo).await);
    let mut tunnels = JoinSet::new();
    for number in 0..200u32 {
        let lab = std::sync::Arc::clone(&lab);
        tunnels.spawn(async move {
            let mut stream = lab.tunnel("example.org:9").await;
            for round in 0..20u32 {
                let text = format!("{number:06} {round:06}");
                stream.write_all(text.as_bytes()).await.unwrap();
                assert_eq!(read_exactly(&mut stream, text.len()).await, text.as_bytes());
            }
        });
    }
    while let Some(done) = tunnels.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let lab = Lab::with(&["example.org:9"], Manner::Echo, |options| options.limits.connections = 3).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(lab.tunnel("example.org:9").await);
    }
    let mut fourth = lab.connect().await;
    fourth.write_all(b"CONNECT example.org:9 HTTP/1.1\r\nHost: example.org\r\n\r\n").await.unwrap();
    let mut byte = [0];
    tokio::select! {
        biased;
        read = fourth.read(&mut byte) => panic!("served although the limit is reached: {read:?}"),
        // The three are served meanwhile: their bytes make a round trip.
        () = async {
            for stream in &mut open {
                stream.write_all(b"x").await.unwrap();
                assert_eq!(read_exactly(stream, 1).await, b"x");
            }
        } => {}
    }
    open.pop();
    assert_eq!(timeout(LONG, fourth.read(&mut byte)).await.unwrap().unwrap(), 1);
    assert_eq!(&byte, b"H");
}

#[tokio::test]
async fn much_arrives_whole() {
    const LENGTH: usize = 64 << 20;
    let lab = Lab::new(&["example.org:9"], Manner::Echo).await;
    let (mut from, mut to) = lab.tunnel("example.org:9").await.into_split();
    let send = async move {
        let chunk: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
        to.write_all(b"\0").await.unwrap();
        for _ in 0..LENGTH >> 20 {
            to.write_all(&chunk).await.unwrap();
        }
        to.shutdown().await.unwrap();
    };
    let receive = async {
        let mut all = Vec::with_capacity(LENGTH + 1);
        timeout(LONG, from.read_to_end(&mut all)).await.unwrap().unwrap();
        all
    };
    let ((), all) = tokio::join!(send, receive);
    assert_eq!(all.len(), LENGTH + 1);
    assert!(
        all[1..].chunks(1 << 20).all(|chunk| chunk.iter().enumerate().all(|(n, b)| *b == (n % 251) as u8))
    );
}

#[tokio::test]
async fn a_reader_that_stops_reading_stops_the_sender() {
    let lab = Lab::new(&["example.org:9"], Manner::Echo).await;
    let mut stream = lab.tunnel("example.org:9").await;
    stream.write_all(b"\0").await.unwrap();
    let chunk = vec![7; 1 << 20];
    let mut sent = 0;
    // Nothing is read, so the buffers between (two sockets and 64 KiB each way) fill up and no more is taken.
    while timeout(std::time::Duration::from_millis(500), stream.write_all(&chunk)).await.is_ok() {
        sent += 1;
        assert!(sent < 200, "taken without end");
    }
    drop(stream);
    let answer = lab.exchange("GET http://evil.com/ HTTP/1.1\r\nHost: evil.com\r\n\r\n").await;
    assert!(answer.contains("not-listed"), "others are served: {answer}");
}
