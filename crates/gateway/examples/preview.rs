//! A preview proxy by hand: `preview PORT [--forward PORT=ADDRESS]… APP.TASK=ADDRESS…`, and an app to measure it with:
//! `preview --app PORT`, which answers `/` with a few bytes and `/<n>` with n MiB. Used by `bench/preview`.

use std::{
    collections::HashMap,
    convert::Infallible,
    error::Error,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    header::{CONTENT_LENGTH, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use offshoot_gateway::{
    Destinations, Dial, Forward, ForwardLimits, Later, Listed, Preview, PreviewLimits, PreviewName, Reason,
    Unavailable,
};
use tokio::net::TcpStream;

struct Map(HashMap<PreviewName, SocketAddr>);

async fn connect(address: SocketAddr) -> Result<TcpStream, Unavailable> {
    TcpStream::connect(address)
        .await
        .map_err(|_| Unavailable::new(Reason::NotListening, format!("nothing listens at {address} yet")))
}

impl Destinations for Map {
    fn dial<'a>(&'a self, name: &'a PreviewName) -> Later<'a, TcpStream> {
        Box::pin(async move {
            let unknown = || Unavailable::new(Reason::UnknownApp, format!("there is no {name}"));
            connect(*self.0.get(name).ok_or_else(unknown)?).await
        })
    }

    fn used<'a>(&'a self, _: &'a PreviewName) -> Later<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn list<'a>(&'a self, task: Option<&'a str>) -> Later<'a, Vec<Listed>> {
        let names = self.0.keys().filter(move |name| task.is_none_or(|task| task == name.task));
        let listed = names.map(|name| Listed { name: name.clone(), state: "running".to_owned() });
        Box::pin(async { Ok(listed.collect()) })
    }
}

struct To(SocketAddr);

impl Dial for To {
    fn dial(&self) -> Later<'_, TcpStream> {
        Box::pin(connect(self.0))
    }

    fn used(&self) -> Later<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// So many bytes that are there already.
struct Bytewise {
    chunk: Bytes,
    left: usize,
}

impl Body for Bytewise {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.left.min(self.chunk.len());
        self.left -= length;
        Poll::Ready((length > 0).then(|| Ok(Frame::data(self.chunk.slice(..length)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

async fn app(port: u16) -> Result<(), Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("app {}", listener.local_addr()?);
    let chunk = Bytes::from(vec![b'x'; 256 * 1024]);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let chunk = chunk.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let left = request.uri().path()[1..].parse::<usize>().map_or(12, |mebibytes| mebibytes << 20);
            let mut response = Response::new(Bytewise { chunk: chunk.clone(), left });
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(left));
            async move {
                let mut body = request.into_body();
                while let Some(Ok(_)) = body.frame().await {}
                Ok::<_, Infallible>(response)
            }
        });
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let first = args.next().ok_or("usage: preview PORT APP.TASK=ADDRESS…")?;
    if first == "--app" {
        return app(args.next().ok_or("a port")?.parse()?).await;
    }
    let (mut map, mut forwards) = (HashMap::new(), Vec::new());
    while let Some(arg) = args.next() {
        let (pair, forward) =
            if arg == "--forward" { (args.next().ok_or("PORT=ADDRESS")?, true) } else { (arg, false) };
        let (from, to) = pair.split_once('=').ok_or("no =")?;
        let to: SocketAddr = to.parse()?;
        if forward {
            let listener = TcpListener::bind(("127.0.0.1", from.parse()?))?;
            forwards.push(Forward::serve(listener, Arc::new(To(to)), ForwardLimits::default())?);
            continue;
        }
        let (app, task) = from.split_once('.').ok_or("no dot")?;
        map.insert(PreviewName { app: app.to_owned(), task: task.to_owned() }, to);
    }
    let listener = TcpListener::bind(("127.0.0.1", first.parse()?))?;
    let preview = Preview::serve(vec![listener], Arc::new(Map(map)), PreviewLimits::default())?;
    println!("preview {}", preview.addresses()[0]);
    std::future::pending().await
}
