//! A proxy under test, and apps on loopback ports in the place of ports inside environments.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use offshoot_gateway::{
    Destinations, Later, Listed, Preview, PreviewLimits, PreviewName, Reason, Unavailable,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::timeout,
};

use crate::support::{LONG, read_to_end};

/// What there is.
#[derive(Default)]
pub struct Map {
    apps: Mutex<HashMap<PreviewName, Result<SocketAddr, Unavailable>>>,
    log: Mutex<Vec<String>>,
    pub logged: Notify,
}

impl Map {
    fn note(&self, what: String) {
        self.log.lock().unwrap().push(what);
        self.logged.notify_waiters();
    }

    /// `dial NAME` and `used NAME`, in order.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

impl Destinations for Map {
    fn dial<'a>(&'a self, name: &'a PreviewName) -> Later<'a, TcpStream> {
        Box::pin(async move {
            self.note(format!("dial {name}"));
            let to = self.apps.lock().unwrap().get(name).cloned();
            let address = match to {
                Some(to) => to?,
                None => {
                    return Err(Unavailable::new(
                        Reason::UnknownTask,
                        format!("there is no task <{}>", name.task),
                    ));
                }
            };
            TcpStream::connect(address).await.map_err(|_| {
                Unavailable::new(Reason::NotListening, format!("nothing listens for {} yet", name.app))
            })
        })
    }

    fn used<'a>(&'a self, name: &'a PreviewName) -> Later<'a, ()> {
        Box::pin(async move {
            self.note(format!("used {name}"));
            Ok(())
        })
    }

    fn list<'a>(&'a self, task: Option<&'a str>) -> Later<'a, Vec<Listed>> {
        Box::pin(async move {
            let apps = self.apps.lock().unwrap();
            let names = apps.keys().filter(|name| task.is_none_or(|task| task == name.task));
            Ok(names.map(|name| Listed { name: name.clone(), state: "running".to_owned() }).collect())
        })
    }
}

pub struct Lab {
    pub map: Arc<Map>,
    _preview: Preview,
    pub address: SocketAddr,
}

pub fn name(text: &str) -> PreviewName {
    let (app, task) = text.split_once('.').unwrap();
    PreviewName { app: app.to_owned(), task: task.to_owned() }
}

impl Lab {
    /// With apps at addresses, each by `app.task`.
    pub fn new(apps: &[(&str, SocketAddr)]) -> Self {
        Self::with(apps, |_| {})
    }

    pub fn with(apps: &[(&str, SocketAddr)], change: impl FnOnce(&mut PreviewLimits)) -> Self {
        let map = Arc::new(Map::default());
        for (app, address) in apps {
            map.apps.lock().unwrap().insert(name(app), Ok(*address));
        }
        let mut limits = PreviewLimits::default();
        change(&mut limits);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let destinations: Arc<dyn Destinations> = map.clone();
        let preview = Preview::serve(vec![listener], destinations, limits).unwrap();
        let address = preview.addresses()[0];
        Self { map, _preview: preview, address }
    }

    /// An app that is not to be had.
    pub fn lacks(&self, app: &str, unavailable: Unavailable) {
        self.map.apps.lock().unwrap().insert(name(app), Err(unavailable));
    }

    pub fn moves(&self, app: &str, to: SocketAddr) {
        self.map.apps.lock().unwrap().insert(name(app), Ok(to));
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `app.task.localhost:port`.
    pub fn host(&self, app: &str) -> String {
        format!("{app}.localhost:{}", self.port())
    }

    pub fn url(&self, app: &str, path: &str) -> String {
        format!("http://{}{path}", self.host(app))
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes, reads to the end, which the bytes have to ask for.
    pub async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // What is refused early need not be taken whole.
        let _ = stream.write_all(bytes.as_ref()).await;
        read_to_end(&mut stream).await
    }

    /// A GET with more fields, each ended by CR LF; the whole answer.
    pub async fn get(&self, app: &str, path: &str, fields: &str) -> String {
        let host = self.host(app);
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n"))
            .await
    }
}

/// An app that answers each request's head and body as it was sent, at `/echo`; other paths have their own manners.
pub struct App {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    pub noted: Arc<Notify>,
    _tasks: tokio::task::JoinSet<()>,
}

impl App {
    pub async fn start(text: &'static str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::new(Notify::new());
        let mut tasks = tokio::task::JoinSet::new();
        let (log, told) = (Arc::clone(&heads), Arc::clone(&noted));
        tasks.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (log, told) = (Arc::clone(&log), Arc::clone(&told));
                connections.spawn(async move {
                    let note = |what: String| {
                        log.lock().unwrap().push(what);
                        told.notify_waiters();
                    };
                    answer(stream, text, &note).await;
                    note("end".to_owned());
                });
            }
        });
        Self { address, heads, noted, _tasks: tasks }
    }

    /// The heads of requests as they came, and `end` where a connection ended.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Waits until something was noted that is wanted.
    pub async fn saw(&self, wanted: impl Fn(&[String]) -> bool) {
        timeout(LONG, async {
            loop {
                let noted = self.noted.notified();
                if wanted(&self.heads()) {
                    return;
                }
                noted.await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{:?}", self.heads()));
    }
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// By hand, so that nothing is hidden.
async fn answer(mut stream: TcpStream, text: &str, note: &(dyn Fn(String) + Sync)) {
    while let Some(head) = head(&mut stream).await {
        note(head.clone());
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let lower = head.to_ascii_lowercase();
        let field = |name: &str| {
            lower.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).map(str::to_owned)
        };
        let mut body = Vec::new();
        if let Some(length) = field("content-length") {
            body = vec![0; length.parse().unwrap()];
            if stream.read_exact(&mut body).await.is_err() {
                return;
            }
        } else if field("transfer-encoding").is_some() {
            // As it came.
            while !body.ends_with(b"0\r\n\r\n")
                && !body.ends_with(b"X-Sum: 1\r\n\r\n")
                && !body.ends_with(b"x-sum: 1\r\n\r\n")
            {
                match stream.read_u8().await {
                    Ok(byte) => body.push(byte),
                    Err(_) => return,
                }
            }
        }
        let written = match path.as_str() {
            "/trailers" => {
                let rest = "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n";
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n{rest}").into_bytes()
            }
            "/cookies" => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=1; Domain=localhost\r\nSet-Cookie: b=2\r\n\r\n".to_vec(),
            "/close" => b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nc".to_vec(),
            "/last" => b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nl".to_vec(),
            "/hang" => {
                // Until the other side is gone.
                let _ = stream.read_u8().await;
                return;
            }
            "/events" => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
                stream.write_all(head.as_bytes()).await.unwrap();
                for number in 0..3 {
                    stream.write_all(format!("data: {number}\n\n").as_bytes()).await.unwrap();
                    // The next one only when somebody else asked for it, so nothing may be held back.
                    let _ = timeout(Duration::from_millis(50), stream.read_u8()).await;
                }
                return;
            }
            "/switch" | "/switch-other" => {
                let protocol = field("upgrade").unwrap_or_else(|| "unasked".to_owned());
                let head = format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\nfirst");
                stream.write_all(head.as_bytes()).await.unwrap();
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.write_all(b"bye").await;
                return;
            }
            _ => {
                let whole = [text.as_bytes(), b"\n", head.as_bytes(), &body].concat();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-App: {text}\r\n\r\n", whole.len());
                if lower.starts_with("head ") { head.into_bytes() } else { [head.as_bytes(), &whole].concat() }
            }
        };
        if stream.write_all(&written).await.is_err() || matches!(path.as_str(), "/close" | "/last") {
            return;
        }
    }
}
