//! Figures: `cargo run --release -p offshoot-gateway --example gateway_figures`. Everything on loopback, one process.

use std::{
    error::Error,
    net::SocketAddr,
    time::{Duration, Instant},
};

use offshoot_gateway::{Egress, EgressPolicy, Listener, ListenerKind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const DOWNLOAD: usize = 4 << 30;

/// Answers the first byte: `d` with a download, anything else byte for byte.
async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0];
    while stream.read(&mut byte).await? == 1 {
        if &byte == b"d" {
            let chunk = vec![7; 1 << 20];
            for _ in 0..DOWNLOAD >> 20 {
                stream.write_all(&chunk).await?;
            }
            return stream.shutdown().await;
        }
        stream.write_all(&byte).await?;
    }
    Ok(())
}

async fn tunnel(proxy: SocketAddr, port: u16) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    stream.set_nodelay(true)?;
    let place = format!("host.internal:{port}");
    stream.write_all(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(stream)
}

async fn download(mut stream: TcpStream, what: &str) -> std::io::Result<()> {
    let start = Instant::now();
    stream.write_all(b"d").await?;
    let mut buffer = vec![0; 1 << 18];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            length => total += length,
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{what}: {:.1} Gbit/s", total as f64 * 8.0 / seconds / 1e9);
    Ok(())
}

async fn round_trips(mut stream: TcpStream, what: &str) -> std::io::Result<()> {
    let mut times = Vec::new();
    for _ in 0..20_000 {
        let start = Instant::now();
        stream.write_all(b"x").await?;
        stream.read_u8().await?;
        times.push(start.elapsed());
    }
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or(Duration::ZERO);
    println!("{what}: median {:?}, p99 {:?}", at(50), at(99));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let address = server.local_addr()?;
    let port = address.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = server.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
    let proxy = socket.local_addr()?;
    let rules = vec![format!("host:{port}").parse()?];
    let egress = Egress::serve(vec![Listener { kind: ListenerKind::Proxy, socket }], EgressPolicy { rules })?;

    let direct = TcpStream::connect(address).await?;
    direct.set_nodelay(true)?;
    round_trips(direct, "round trip, direct").await?;
    round_trips(tunnel(proxy, port).await?, "round trip, tunnel").await?;
    download(TcpStream::connect(address).await?, "download, direct").await?;
    download(tunnel(proxy, port).await?, "download, tunnel").await?;

    let start = Instant::now();
    let mut tunnels = JoinSet::new();
    for _ in 0..8 {
        tunnels.spawn(async move {
            for _ in 0..500 {
                let mut stream = tunnel(proxy, port).await?;
                stream.write_all(b"x").await?;
                stream.read_u8().await?;
            }
            std::io::Result::Ok(())
        });
    }
    while let Some(done) = tunnels.join_next().await {
        done??;
    }
    println!("tunnels opened and closed: {:.0}/s", 4000.0 / start.elapsed().as_secs_f64());
    println!("traffic counted: {:?}", egress.traffic());
    Ok(())
}
