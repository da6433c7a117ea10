//! Real servers behind it, real clients before it: Python's and Node's servers, curl.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use super::lab::Lab;

/// A server that prints its port first. Ended when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(program: &str, args: &[&str]) -> Self {
        let mut child = Command::new(program).args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], line.trim().parse().unwrap()));
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// curl on a blocking thread: what it printed, and its exit code.
async fn curl(lab: &Lab, app: &str, path: &str, args: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new("curl");
    // By address: not every curl takes *.localhost for this machine.
    command.args(["-sS", "--max-time", "30", "--connect-to", &format!("::127.0.0.1:{}", lab.port())]);
    command.args(args).arg(lab.url(app, path));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

const PYTHON: &str = "
import http.server, os, sys
os.chdir(sys.argv[1])
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
print(server.server_port, flush=True)
sys.stderr = open(os.devnull, 'w')
server.serve_forever()
";

/// Answers with what it got, compressed where that is asked for; counts what is uploaded; serves ranges.
const NODE: &str = r"
const http = require('http'), zlib = require('zlib')
const text = 'x'.repeat(100000)
const server = http.createServer((request, response) => {
  if (request.method === 'PUT') {
    let length = 0
    request.on('data', data => { length += data.length })
    request.on('end', () => response.end(String(length)))
  } else if (request.headers.range) {
    response.writeHead(206, { 'Content-Range': 'bytes 2-4/10', 'Content-Length': 3 })
    response.end('234')
  } else if (/gzip/.test(request.headers['accept-encoding'])) {
    response.writeHead(200, { 'Content-Encoding': 'gzip' })
    zlib.createGzip().on('data', data => response.write(data)).on('end', () => response.end()).end(text)
  } else {
    response.writeEarlyHints({ link: '</a.css>; rel=preload' })
    response.end(request.headers.host)
  }
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
";

#[tokio::test(flavor = "multi_thread")]
async fn python_serves_files() {
    const LENGTH: u64 = 256 << 20;
    let directory = tempfile::tempdir().unwrap();
    File::create(directory.path().join("large")).unwrap().set_len(LENGTH).unwrap();
    std::fs::write(directory.path().join("small"), "hello").unwrap();
    let server = Server::start("/usr/bin/python3", &["-c", PYTHON, directory.path().to_str().unwrap()]);
    let lab = Lab::new(&[("files.task", server.address)]);
    assert_eq!(curl(&lab, "files.task", "/small", &[]).await, ("hello".to_owned(), Some(0)));
    let size = ["-o", "/dev/null", "-w", "%{size_download} %{http_version}"];
    let (size, code) = curl(&lab, "files.task", "/large", &size).await;
    assert_eq!((size.as_str(), code), (format!("{LENGTH} 1.1").as_str(), Some(0)));
    let (head, _) = curl(&lab, "files.task", "/small", &["-I"]).await;
    assert!(head.to_lowercase().contains("content-length: 5\r\n"), "{head}");
    // Over HTTP/2 to an app that does not speak it.
    let version = ["--http2-prior-knowledge", "-w", " %{http_version}"];
    assert_eq!(curl(&lab, "files.task", "/small", &version).await.0, "hello 2");
    let refused = ["--http2", "-w", " %{http_version}"];
    assert_eq!(curl(&lab, "files.task", "/small", &refused).await.0, "hello 1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_answers_what_curl_asks_for() {
    const LENGTH: u64 = 64 << 20;
    let server = Server::start("node", &["-e", NODE]);
    let lab = Lab::new(&[("web.task", server.address)]);
    assert_eq!(curl(&lab, "web.task", "/", &[]).await.0, lab.host("web.task"));
    let compressed = ["--compressed", "-w", " %{size_download}"];
    let (text, _) = curl(&lab, "web.task", "/", &compressed).await;
    let (text, size) = text.split_once(' ').unwrap();
    assert_eq!(text.len(), 100_000);
    assert!(size.parse::<usize>().unwrap() < 10_000, "compressed on the way: {size}");
    assert_eq!(curl(&lab, "web.task", "/", &["-r", "2-4"]).await.0, "234");
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(LENGTH).unwrap();
    let file = file.path().to_str().unwrap();
    assert_eq!(curl(&lab, "web.task", "/", &["-T", file]).await.0, LENGTH.to_string());
    let chunked = ["-T", file, "-H", "Transfer-Encoding: chunked"];
    assert_eq!(curl(&lab, "web.task", "/", &chunked).await.0, LENGTH.to_string());
    assert_eq!(
        curl(&lab, "web.task", "/", &["--http2-prior-knowledge", "-T", file]).await.0,
        LENGTH.to_string()
    );
}
