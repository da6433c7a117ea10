//! The daemon's API over its socket: requests, the stream of events, and the stream of a command. Nothing is retried and no
//! daemon is started, so that a test sees exactly what happened.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long anything may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Status and body of an answer.
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    #[track_caller]
    pub fn problem(self, code: &str) -> Value {
        assert_eq!(self.body["code"], code, "{} {}", self.status, self.body);
        self.body
    }
}

/// One request on a connection of its own.
pub fn request(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
    let (status, length, mut reader) = send(socket, method, path, "", body)?;
    let mut bytes = Vec::new();
    match length {
        Some(length) => {
            bytes.resize(length, 0);
            reader.read_exact(&mut bytes)?;
        }
        None => {
            Chunked { reader, left: 0, over: false }.read_to_end(&mut bytes)?;
        }
    }
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Ok(Answer { status, body })
}

fn send(
    socket: &Path,
    method: &str,
    path: &str,
    headers: &str,
    body: Option<&Value>,
) -> io::Result<(u16, Option<usize>, BufReader<UnixStream>)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    // In one piece: who asks a daemon to stop may find it gone before a second one.
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let (mut status, mut length, mut chunked) = (0, None, false);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if status == 0 {
            status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        } else if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        } else if line.starts_with("transfer-encoding:") {
            chunked = true;
        }
    }
    if !chunked && length.is_none() {
        length = Some(0);
    }
    Ok((status, length, reader))
}

/// A body in chunks.
struct Chunked<R> {
    reader: R,
    left: usize,
    over: bool,
}

impl<R: BufRead> Read for Chunked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 && !self.over {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.trim().is_empty() {
                continue;
            }
            self.left = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            self.over = self.left == 0;
        }
        let most = buffer.len().min(self.left);
        let got = self.reader.read(&mut buffer[..most])?;
        if got == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= got;
        Ok(got)
    }
}

/// Entries of the log as they come.
pub struct Events {
    lines: BufReader<Chunked<BufReader<UnixStream>>>,
    until: Instant,
}

impl Events {
    /// All after `after`, then those to come.
    pub fn follow(socket: &Path, after: u64) -> io::Result<Self> {
        let (status, _, reader) =
            send(socket, "GET", &format!("/v1/events?after={after}"), "Accept: text/event-stream\r\n", None)?;
        if status != 200 {
            return Err(io::Error::other(format!("status {status}")));
        }
        let lines = BufReader::new(Chunked { reader, left: 0, over: false });
        Ok(Self { lines, until: Instant::now() + PATIENCE })
    }

    /// The next entry; an error when the daemon is gone or nothing comes for too long.
    pub fn next(&mut self) -> io::Result<Value> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(data) = line.strip_prefix("data:") {
                return serde_json::from_str(data.trim()).map_err(io::Error::other);
            }
            if Instant::now() > self.until {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// What a command wrote, from its beginning to its end, and its exit code. `until`: enough when this was seen.
pub fn output(
    socket: &Path,
    task: &str,
    exec: &str,
    until: Option<&str>,
) -> io::Result<(String, Option<i64>)> {
    let headers = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let (status, _, mut reader) =
        send(socket, "GET", &format!("/v1/tasks/{task}/exec/{exec}/stream"), headers, None)?;
    if status != 101 {
        return Err(io::Error::other(format!("status {status}")));
    }
    let mut text = String::new();
    loop {
        let mut head = [0; 2];
        reader.read_exact(&mut head)?;
        let mut length = u64::from(head[1] & 0x7f);
        if length == 126 {
            let mut more = [0; 2];
            reader.read_exact(&mut more)?;
            length = u64::from(u16::from_be_bytes(more));
        } else if length == 127 {
            let mut more = [0; 8];
            reader.read_exact(&mut more)?;
            length = u64::from_be_bytes(more);
        }
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        reader.read_exact(&mut payload)?;
        match head[0] & 0x0f {
            2 => text.push_str(&String::from_utf8_lossy(&payload[1..])),
            1 => {
                let notice: Value = serde_json::from_slice(&payload).map_err(io::Error::other)?;
                return Ok((text, notice["code"].as_i64()));
            }
            8 => return Err(io::ErrorKind::ConnectionReset.into()),
            _ => {}
        }
        if until.is_some_and(|until| text.contains(until)) {
            return Ok((text, None));
        }
    }
}
