//! A proxy, a web server outside, and between them a company's proxy, which leads every name to that server. (The
//! egress proxy itself never dials a loopback address, other than for `host:PORT`.)

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use offshoot_gateway::{
    Egress, EgressEvent, EgressPolicy, Limits, Listener, ListenerKind, Options, UpstreamProxy,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// Nothing in a test takes longer, on however slow a machine.
pub const LONG: Duration = Duration::from_secs(30);

pub fn policy(rules: &[&str]) -> EgressPolicy {
    EgressPolicy { rules: rules.iter().map(|rule| rule.parse().unwrap()).collect() }
}

/// What a server outside does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers every request head that ends in an empty line, with its number.
    Web,
    /// Sends everything back.
    Echo,
    /// Says `hello` first, then sends everything back.
    Greets,
}

/// A server on a loopback port, and what it was sent.
pub struct Server {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub async fn start(manner: Manner) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").await.unwrap(), manner)
    }

    pub fn listen(listener: TcpListener, manner: Manner) -> Self {
        let address = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let log = Arc::clone(&received);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut log = log.lock().unwrap();
                    log.push(Vec::new());
                    log.len() - 1
                };
                connections.spawn(serve(stream, manner, Arc::clone(&log), number));
            }
        });
        Self { address, received, _tasks: tasks }
    }

    /// What came over each connection so far.
    pub fn received(&self) -> Vec<String> {
        self.received
            .lock()
            .unwrap()
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect()
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, log: Arc<Mutex<Vec<Vec<u8>>>>, number: usize) {
    if manner == Manner::Greets {
        stream.write_all(b"hello").await.unwrap();
    }
    let mut buffer = vec![0; 64 * 1024];
    let mut answered = 0;
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if manner != Manner::Web {
            if stream.write_all(&buffer[..length]).await.is_err() {
                break;
            }
            let mut log = log.lock().unwrap();
            // The beginning is what tests ask for.
            let room = (1usize << 16).saturating_sub(log[number].len());
            log[number].extend_from_slice(&buffer[..length.min(room)]);
            continue;
        }
        let heads = {
            let mut log = log.lock().unwrap();
            log[number].extend_from_slice(&buffer[..length]);
            log[number].windows(4).filter(|window| window == b"\r\n\r\n").count()
        };
        while answered < heads {
            answered += 1;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nanswer {answered}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }
    let _ = stream.shutdown().await;
}

/// A company's proxy: leads every name to one address.
pub struct Company {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Company {
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let log = Arc::clone(&log);
                connections.spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap();
                    log.lock().unwrap().push(head.split(' ').nth(1).unwrap().to_owned());
                    let mut server = TcpStream::connect(to).await.unwrap();
                    stream.write_all(b"HTTP/1.1 200 Go on\r\nVia: company\r\n\r\n").await.unwrap();
                    let _ =
                        tokio::io::copy_bidirectional_with_sizes(&mut stream, &mut server, 1 << 16, 1 << 16)
                            .await;
                });
            }
        });
        Self { address, asked, _tasks: tasks }
    }

    pub fn proxy(&self) -> UpstreamProxy {
        let url = format!("http://{}", self.address);
        UpstreamProxy::from_env(|name| (name == "HTTPS_PROXY").then(|| url.clone())).unwrap().unwrap()
    }

    /// The places it was asked for, as `host:port`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A proxy under test with its surroundings.
pub struct Lab {
    pub server: Server,
    pub company: Company,
    pub egress: Egress,
    pub proxy: SocketAddr,
    events: Arc<Mutex<Vec<EgressEvent>>>,
    told: Arc<tokio::sync::Notify>,
}

impl Lab {
    pub async fn new(rules: &[&str], manner: Manner) -> Self {
        Self::with(rules, manner, |_| {}).await
    }

    pub async fn with(rules: &[&str], manner: Manner, change: impl FnOnce(&mut Options)) -> Self {
        let server = Server::start(manner).await;
        let company = Company::start(server.address).await;
        let events: Arc<Mutex<Vec<EgressEvent>>> = Arc::default();
        let told = Arc::new(tokio::sync::Notify::new());
        let sink = (Arc::clone(&events), Arc::clone(&told));
        let mut options = Options {
            limits: Limits::default(),
            upstream: Some(company.proxy()),
            sink: Arc::new(move |event| {
                sink.0.lock().unwrap().push(event);
                sink.1.notify_waiters();
            }),
            ..Options::default()
        };
        change(&mut options);
        // What the shim would hand out of the run's network namespace.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = socket.local_addr().unwrap();
        let listener = Listener { kind: ListenerKind::Proxy, socket };
        // `host:SERVER` stands for the server's own port.
        let rules: Vec<String> =
            rules.iter().map(|rule| rule.replace("SERVER", &server.address.port().to_string())).collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let egress = Egress::serve_with(vec![listener], policy(&rules), options).unwrap();
        Self { server, company, egress, proxy, events, told }
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.proxy).await.unwrap()
    }

    /// Sends bytes, ends sending, reads to the end.
    pub async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        stream.shutdown().await.unwrap();
        read_to_end(&mut stream).await
    }

    /// A tunnel, with the answer read.
    pub async fn tunnel(&self, place: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream
            .write_all(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        stream
    }

    pub fn events(&self) -> Vec<EgressEvent> {
        self.events.lock().unwrap().clone()
    }

    /// Waits for an event of a sort.
    pub async fn event(&self, wanted: impl Fn(&EgressEvent) -> bool) -> EgressEvent {
        timeout(LONG, async {
            loop {
                let told = self.told.notified();
                if let Some(event) = self.events().into_iter().find(|event| wanted(event)) {
                    return event;
                }
                told.await;
            }
        })
        .await
        .unwrap()
    }
}

pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(LONG, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap()
}

pub async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after an answer is the end, too.
    let _ = timeout(LONG, stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

pub async fn read_exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    timeout(LONG, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
    bytes
}

/// A ClientHello that asks for a name.
pub fn hello(name: &str) -> Vec<u8> {
    let vector = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let entry = [&[0][..], &vector(name.as_bytes())].concat();
    let extension = [&[0, 0][..], &vector(&vector(&entry))].concat();
    let body = [&[3, 3][..], &[7; 32], &[0], &vector(&[0x13, 1]), &[1, 0], &vector(&extension)].concat();
    let message = [&[1, 0][..], &vector(&body)].concat();
    [&[22, 3, 1][..], &vector(&message)].concat()
}
