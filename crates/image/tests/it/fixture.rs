//! Tars written byte by byte, images made of them, a real registry, and one that does what a test wants.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use flate2::{Compression, write::GzEncoder};
use offshoot_image::{CredentialFiles, Digest, Images, Limits, Owner, Reference};
use offshoot_testkit::user;

/// What root gives unpacked files to in these tests.
pub fn owner() -> Option<Owner> {
    user::is_root().then_some(Owner { uid: 65533, gid: 65533 })
}

/// Limits with which nothing takes long.
pub fn quick() -> Limits {
    let short = std::time::Duration::from_millis(1500);
    Limits { connect: short, stall: short, grace: short, tries: 2, ..Limits::default() }
}

pub fn images(dir: &Path) -> Images {
    images_with(dir, quick())
}

pub fn images_with(dir: &Path, limits: Limits) -> Images {
    Images::with(&dir.join("images"), owner(), limits, CredentialFiles::default()).unwrap()
}

pub fn open(dir: &Path) -> OwnedFd {
    File::open(dir).unwrap().into()
}

pub fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|it| format!(": {}", chain(it))).unwrap_or_default();
    format!("{error}{source}")
}

/// A tar with whatever is to be in it.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    /// A header as told, its contents after it.
    pub fn raw(
        mut self,
        kind: u8,
        path: impl AsRef<[u8]>,
        link: impl AsRef<[u8]>,
        mode: u32,
        contents: &[u8],
    ) -> Self {
        let (path, link) = (path.as_ref(), link.as_ref());
        if path.len() > 100 {
            self = self.raw(b'L', "././@LongLink", "", 0, &[path, b"\0"].concat());
        }
        if link.len() > 100 {
            self = self.raw(b'K', "././@LongLink", "", 0, &[link, b"\0"].concat());
        }
        self.header(kind, path, link, mode, contents.len() as u64);
        self.0.extend(contents);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn header(&mut self, kind: u8, path: &[u8], link: &[u8], mode: u32, size: u64) {
        let mut block = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8], most: usize| {
            block[at..at + bytes.len().min(most)].copy_from_slice(&bytes[..bytes.len().min(most)]);
        };
        put(0, path, 100);
        put(100, format!("{mode:07o}").as_bytes(), 8);
        put(108, b"0001750", 8);
        put(116, b"0001750", 8);
        put(124, format!("{size:011o}").as_bytes(), 12);
        put(136, format!("{:011o}", 1_000_000_000).as_bytes(), 12);
        put(148, b"        ", 8);
        put(156, &[kind], 1);
        put(157, link, 100);
        put(257, b"ustar  ", 8);
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend(block);
    }

    pub fn file(self, path: impl AsRef<[u8]>, contents: impl AsRef<[u8]>) -> Self {
        self.raw(b'0', path, "", 0o644, contents.as_ref())
    }

    pub fn dir(self, path: impl AsRef<[u8]>) -> Self {
        self.raw(b'5', path, "", 0o755, b"")
    }

    pub fn symlink(self, path: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        self.raw(b'2', path, to, 0o777, b"")
    }

    pub fn link(self, path: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        self.raw(b'1', path, to, 0o644, b"")
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length.to_string().len() + rest != length {
                length += 1;
            }
            bytes.extend(format!("{length} {key}=").as_bytes());
            bytes.extend(*value);
            bytes.push(b'\n');
        }
        self.raw(b'x', "PaxHeaders/x", "", 0o644, &bytes)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut to = GzEncoder::new(Vec::new(), Compression::fast());
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image as blobs.
#[derive(Clone)]
pub struct Built {
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    /// Of the tars, the lowest first.
    pub tars: Vec<Vec<u8>>,
}

impl Built {
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }
}

pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub fn config_of(tars: &[Vec<u8>]) -> Vec<u8> {
    let diffs: Vec<_> = tars.iter().map(|tar| format!("\"{}\"", Digest::of(tar))).collect();
    format!(
        r#"{{"architecture":"{}","os":"linux","config":{{"Env":["PATH=/bin"],"Entrypoint":["/entry"],"Cmd":["serve"],
        "User":"postgres","WorkingDir":"/data","ExposedPorts":{{"5432/tcp":{{}}}},"Volumes":{{"/data":{{}}}},
        "StopSignal":"SIGINT"}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        architecture(),
        diffs.join(",")
    )
    .into_bytes()
}

/// An image of these tars, the lowest first, compressed by `pack`.
pub fn build_with(tars: &[Vec<u8>], pack: impl Fn(&[u8]) -> Vec<u8>) -> Built {
    let mut blobs = BTreeMap::new();
    let config = config_of(tars);
    let layers: Vec<_> = tars
        .iter()
        .map(|tar| {
            let blob = pack(tar);
            let text = format!(
                r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":{}}}"#,
                Digest::of(&blob),
                blob.len()
            );
            blobs.insert(Digest::of(&blob), blob);
            text
        })
        .collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":
        "application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{}]}}"#,
        Digest::of(&config),
        config.len(),
        layers.join(",")
    );
    blobs.insert(Digest::of(&config), config.clone());
    Built { blobs, manifest: manifest.into_bytes(), config, tars: tars.to_vec() }
}

pub fn build(tars: &[Vec<u8>]) -> Built {
    build_with(tars, gzip)
}

/// An OCI image layout.
pub fn layout(dir: &Path, images: &[(&str, &Built)]) {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let mut manifests = Vec::new();
    for (name, image) in images {
        for (digest, blob) in &image.blobs {
            std::fs::write(blobs.join(digest.hex()), blob).unwrap();
        }
        std::fs::write(blobs.join(image.digest().hex()), &image.manifest).unwrap();
        manifests.push(format!(
            r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":{},
            "annotations":{{"org.opencontainers.image.ref.name":"{name}"}}}}"#,
            image.digest(),
            image.manifest.len()
        ));
    }
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, manifests.join(","));
    std::fs::write(dir.join("index.json"), index).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Debian's docker-registry, on a port of its own.
pub struct Registry {
    child: Child,
    pub port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// `more` is further configuration.
    pub fn start_with(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\n{more}",
            dir.path().join("data").display()
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("docker-registry is needed: scripts/prerequisites installs it (Debian: docker-registry)");
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let port = loop {
            let from = said.len();
            assert!(lines.read_line(&mut said).unwrap() > 0, "docker-registry ended: {said}");
            if let Some((_, rest)) = said[from..].split_once("listening on 127.0.0.1:") {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                break digits.parse().unwrap();
            }
        };
        // It would stop at a full pipe.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { child, port, _dir: dir }
    }

    pub fn reference(&self, name: &str) -> Reference {
        format!("127.0.0.1:{}/{name}", self.port).parse().unwrap()
    }

    pub fn push(&self, name: &str, tag: &str, image: &Built) {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let base = format!("http://127.0.0.1:{}/v2/{name}", self.port);
        for (digest, blob) in &image.blobs {
            let started = agent.post(format!("{base}/blobs/uploads/")).send_empty().unwrap();
            let to = started.headers()["location"].to_str().unwrap().to_owned();
            let and = if to.contains('?') { '&' } else { '?' };
            let done = agent
                .put(format!("{to}{and}digest={digest}"))
                .header("content-type", "application/octet-stream")
                .send(&blob[..])
                .unwrap();
            assert_eq!(done.status(), 201);
        }
        self.push_manifest(name, tag, OCI_MANIFEST, &image.manifest);
    }

    pub fn push_manifest(&self, name: &str, tag: &str, kind: &str, manifest: &[u8]) {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let url = format!("http://127.0.0.1:{}/v2/{name}/manifests/{tag}", self.port);
        let mut done = agent.put(url).header("content-type", kind).send(manifest).unwrap();
        assert_eq!(done.status(), 201, "{}", done.body_mut().read_to_string().unwrap());
    }
}

/// An answer of a registry that does what a test wants.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

pub enum Body {
    Whole(Vec<u8>),
    /// Announces more than it sends.
    Cut(Vec<u8>, usize),
    /// For ever the same byte.
    Endless,
    /// One byte, then silence until the client goes.
    Silent,
    /// A byte now and then, until the client goes.
    Drip,
}

impl Answer {
    pub fn ok(kind: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type".to_owned(), kind.to_owned())];
        Self { status: 200, headers, body: Body::Whole(body.into()) }
    }

    pub fn status(status: u16) -> Self {
        Self { status, headers: vec![], body: Body::Whole(vec![]) }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn body(body: Body) -> Self {
        Self { status: 200, headers: vec![], body }
    }
}

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

pub struct Fake {
    pub port: u16,
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();

        let (answer, all) = (Arc::new(answer), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, all) = (answer.clone(), all.clone());
                std::thread::spawn(move || serve(&stream, &*answer, &all));
            }
        });
        Self { port, asked }
    }

    /// One that has an image under any name and tag; `change` may answer first.
    pub fn of(image: Built, change: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Self {
        Self::start(move |asked| change(asked).unwrap_or_else(|| answer(&image, asked)))
    }

    pub fn reference(&self, name: &str) -> Reference {
        format!("127.0.0.1:{}/{name}", self.port).parse().unwrap()
    }

    pub fn paths(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|it| it.path.clone()).collect()
    }
}

/// What an honest registry says.
pub fn answer(image: &Built, asked: &Asked) -> Answer {
    if asked.path.contains("/manifests/") {
        return Answer::ok(OCI_MANIFEST, image.manifest.clone());
    }
    let digest = asked.path.rsplit('/').next().unwrap().parse::<Digest>();
    let Some(blob) = digest.ok().and_then(|it| image.blobs.get(&it)) else { return Answer::status(404) };
    match asked.headers.get("range").and_then(|it| it.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
    {
        Some(from) => {
            let from: usize = from;
            Answer { status: 206, headers: vec![], body: Body::Whole(blob[from..].to_vec()) }
        }
        None => Answer::ok("application/octet-stream", blob.clone()),
    }
}

fn serve(stream: &TcpStream, answer: &dyn Fn(&Asked) -> Answer, all: &Mutex<Vec<Asked>>) {
    let mut lines = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if lines.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap_or(0) <= 2 {
                break;
            }
            if let Some((name, value)) = line.trim_end().split_once(": ") {
                headers.insert(name.to_ascii_lowercase(), value.to_owned());
            }
        }
        if let Some(length) = headers.get("content-length").and_then(|it| it.parse::<u64>().ok()) {
            let _ = std::io::copy(&mut (&mut lines).take(length), &mut std::io::sink());
        }
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let asked = Asked { path, headers };
        all.lock().unwrap().push(asked.clone());
        if send(stream, answer(&asked)).is_err() {
            return;
        }
    }
}

fn send(mut stream: &TcpStream, answer: Answer) -> std::io::Result<()> {
    let length = match &answer.body {
        Body::Whole(bytes) => Some(bytes.len()),
        Body::Cut(_, announced) => Some(*announced),
        Body::Silent | Body::Drip => Some(1 << 20),
        Body::Endless => None,
    };
    let mut head = format!("HTTP/1.1 {} x\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    match length {
        Some(length) => head += &format!("content-length: {length}\r\n\r\n"),
        None => head += "connection: close\r\n\r\n",
    }
    stream.write_all(head.as_bytes())?;
    let gone = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    match answer.body {
        Body::Whole(bytes) => stream.write_all(&bytes),
        Body::Cut(bytes, _) => {
            stream.write_all(&bytes)?;
            Err(gone())
        }
        Body::Endless => loop {
            stream.write_all(&[b' '; 65536])?;
        },
        Body::Silent => {
            stream.write_all(b"x")?;
            // Ends when the client has gone.
            let _ = stream.read(&mut [0]);
            Err(gone())
        }
        Body::Drip => {
            let timeout = std::time::Duration::from_millis(20);
            stream.set_read_timeout(Some(timeout))?;
            loop {
                stream.write_all(b"x")?;
                // The wait between two bytes; ends at once when the client has gone.
                match stream.read(&mut [0]) {
                    Ok(0) => return Err(gone()),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    other => drop(other?),
                }
            }
        }
    }
}
