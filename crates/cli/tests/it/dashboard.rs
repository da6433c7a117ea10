//! How browsers get in: from this machine, from the network, and out again.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::Command,
    sync::Arc,
};

use offshoot_testkit::user;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sha2::{Digest, Sha256};

use crate::stage::Stage;

/// A browser: where it goes, and its cookie.
struct Browser {
    origin: String,
    /// What the network's certificate has to be.
    fingerprint: Option<String>,
    cookie: String,
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

impl Browser {
    /// One that opens this address, with the code that stands in it.
    fn at(url: &str, fingerprint: Option<&str>) -> (Self, String) {
        let (origin, code) = url.split_once("/login#code=").unwrap();
        let fingerprint = fingerprint.map(str::to_owned);
        (Self { origin: origin.to_owned(), fingerprint, cookie: String::new() }, code.to_owned())
    }

    fn host(&self) -> &str {
        self.origin.split_once("://").unwrap().1
    }

    fn connect(&self) -> Box<dyn Stream> {
        let stream = TcpStream::connect(self.host().replace("localhost", "127.0.0.1")).unwrap();
        match &self.fingerprint {
            None => Box::new(stream),
            Some(fingerprint) => Box::new(secured(stream, fingerprint)),
        }
    }

    /// Status and whole answer.
    fn ask(&self, head: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = self.connect();
        let (host, cookie, length) = (self.host(), &self.cookie, body.len());
        write!(
            stream,
            "{head} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nCookie: {cookie}\r\n\
             Content-Length: {length}\r\nContent-Type: application/json\r\n{headers}\r\n{body}"
        )
        .unwrap();
        let answer = to_its_end(&mut stream);
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    /// As the page does.
    fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path}"), "Sec-Fetch-Site: same-origin\r\n", "")
    }

    fn post(&self, path: &str, body: &str) -> (u16, String) {
        let headers = format!("Origin: {}\r\nSec-Fetch-Site: same-origin\r\n", self.origin);
        self.ask(&format!("POST {path}"), &headers, body)
    }

    fn log_in(&mut self, code: &str) -> (u16, String) {
        let (status, answer) = self.post("/v1/session", &format!("{{\"code\":\"{code}\"}}"));
        if let Some(cookie) = field(&answer, "set-cookie") {
            assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
            assert!(cookie.contains("Path=/;") && !cookie.contains("Domain"), "{cookie}");
            let secure = cookie.starts_with("__Host-") && cookie.contains("; Secure");
            assert_eq!(secure, self.fingerprint.is_some(), "{cookie}");
            self.cookie = cookie.split(';').next().unwrap().to_owned();
        }
        (status, answer)
    }
}

fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let mut fields =
        answer.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(": "));
    fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn to_its_end(stream: &mut dyn Stream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // Cut, with or without what TLS says at an end.
        Err(error) if ![ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind()) => {
            panic!("{error}")
        }
        _ => String::from_utf8(answer).unwrap(),
    }
}

fn until(stream: &mut dyn Stream, text: &str) {
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains(text) {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&buffer[..length]);
    }
}

/// Whether a connection is closed before anything is said over it.
fn refused(stream: TcpStream, fingerprint: &str) -> bool {
    let mut stream = secured(stream, fingerprint);
    write!(stream, "GET / HTTP/1.1\r\n\r\n").and_then(|()| stream.read(&mut [0])).unwrap_or(0) == 0
}

/// Takes the certificate with this fingerprint and no other, as the person does.
#[derive(Debug)]
struct Compares(String, Arc<CryptoProvider>);

impl ServerCertVerifier for Compares {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let digest = Sha256::digest(certificate);
        let shown: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(shown.join(":"), self.0);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.1.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.1.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.1.signature_verification_algorithms.supported_schemes()
    }
}

fn secured(stream: TcpStream, fingerprint: &str) -> StreamOwned<ClientConnection, TcpStream> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Compares(fingerprint.to_owned(), provider)))
        .with_no_client_auth();
    let name = ServerName::from(stream.peer_addr().unwrap().ip());
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

#[test]
fn a_browser_of_this_machine_logs_in_once_by_each_address() {
    let stage = Stage::new();
    let url = stage.offshoot(&["dashboard", "--print"]).ok();
    let (mut browser, code) = Browser::at(url.trim(), None);
    assert!(browser.origin.starts_with("http://localhost:"), "{url}");
    let (status, page) = browser.ask("GET /login", "", "");
    assert!(status == 200 && field(&page, "content-security-policy").is_some(), "{page}");
    assert_eq!(browser.get("/v1/tasks").0, 401);

    let body = format!("{{\"code\":\"{code}\"}}");
    assert_eq!(browser.ask("POST /v1/session", "", &body).0, 403, "no page says that it asks");
    let elsewhere = "Origin: http://web.task.localhost:7878\r\n";
    assert_eq!(browser.ask("POST /v1/session", elsewhere, &body).0, 403);
    assert_eq!(browser.post(&format!("/v1/session?code={code}"), "").0, 400, "not in the address");
    assert_eq!(browser.log_in(&code).0, 200);
    assert_eq!(browser.get("/v1/tasks").0, 200);
    assert_eq!(Browser::at(url.trim(), None).0.log_in(&code).0, 403, "used already");

    // The same browser once more stays the same device, with another secret.
    let before = browser.cookie.clone();
    let again = stage.offshoot(&["--json", "dashboard"]).json();
    let (other, code) = Browser::at(again["url"].as_str().unwrap(), None);
    assert_eq!(other.origin, browser.origin);
    assert_eq!(browser.log_in(&code).0, 200);
    let devices = stage.offshoot(&["--json", "devices"]).json();
    assert_eq!(devices["devices"].as_array().unwrap().len(), 1, "{devices}");
    assert_eq!(devices["devices"][0]["address"], browser.origin.as_str(), "{devices}");
    assert_eq!(Browser { cookie: before, ..other }.get("/v1/tasks").0, 401);

    // It lets nobody else in, nor does the token.
    assert_eq!(browser.post("/v1/dashboard", "").0, 403);
    assert_eq!(browser.post("/v1/devices", "").0, 403);

    // The next daemon is at the same address and knows it still.
    stage.kill_daemon();
    stage.offshoot(&["ps"]).ok();
    let (status, answer) = browser.get("/v1/devices");
    assert!(status == 200 && answer.contains("\"current\":true"), "{answer}");
    let file = stage.state_dir().join("dashboard.json");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let secret = browser.cookie.split_once('=').unwrap().1;
    assert!(!fs::read_to_string(&file).unwrap().contains(secret), "only a digest is kept");
    let log = fs::read_to_string(stage.state_dir().join("daemon.log")).unwrap();
    assert!(!log.contains(secret) && !log.contains(&code));

    let (status, answer) = browser.post("/v1/session/end", "");
    assert!(status == 200 && field(&answer, "set-cookie").unwrap().contains("Max-Age=0"), "{answer}");
    assert_eq!(browser.get("/v1/tasks").0, 401);
}

/// Whoever has seen a session, as what listens at another port of `localhost` may, is to have no use of it.
#[test]
fn another_user_of_this_machine_has_no_use_of_a_session() {
    if !user::is_root() {
        // Nobody else can be asked to try.
        return;
    }
    let stage = Stage::new();
    let url = stage.offshoot(&["dashboard", "--print"]).ok();
    let (mut browser, code) = Browser::at(url.trim(), None);
    assert_eq!(browser.log_in(&code).0, 200);
    let (host, port) = (browser.host(), browser.host().rsplit(':').next().unwrap());
    let request = |cookie: &str| {
        format!(
            "GET /v1/tasks HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nCookie: {cookie}\r\n\
             Sec-Fetch-Site: same-origin\r\n\r\n"
        )
    };
    let asked_as = |uid: u32| {
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; printf %s \"$1\" >&3; cat <&3");
        let mut shell = Command::new("bash");
        shell.args(["-c", &script, "bash", &request(&browser.cookie)]).current_dir("/").uid(uid);
        String::from_utf8(shell.output().unwrap().stdout).unwrap()
    };
    let answer = asked_as(65534);
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("user_refused"), "{answer}");
    let answer = asked_as(0);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn who_guesses_codes_has_to_wait() {
    let stage = Stage::new();
    let url = stage.offshoot(&["dashboard", "--print"]).ok();
    let (mut browser, code) = Browser::at(url.trim(), None);
    let statuses: Vec<u16> = (0..7).map(|n| browser.log_in(&format!("guess-{n}")).0).collect();
    assert_eq!(statuses, [403, 403, 403, 403, 403, 429, 429]);
    assert_eq!(browser.log_in(&code).0, 429, "the right one too, so that guessing tells nothing");
}

#[test]
fn a_phone_is_paired_over_tls_and_what_it_has_open_is_cut_with_it() {
    let stage = Stage::new();
    stage.offshoot(&["env", "up", "--name", "e"]).ok();
    let login = stage.offshoot(&["--json", "pair", "--name", "my phone", "--lan", "127.0.0.1"]).json();
    let fingerprint = login["fingerprint"].as_str().unwrap().to_owned();
    let (mut phone, code) = Browser::at(login["url"].as_str().unwrap(), Some(&fingerprint));
    assert!(phone.origin.starts_with("https://127.0.0.1:"), "{login}");
    let local = stage.offshoot(&["dashboard", "--print"]).ok();
    let (mut wrong, _) = Browser::at(local.trim(), None);
    assert_eq!(wrong.log_in(&code).0, 403, "a code is for the address it was made for");
    assert_eq!(phone.log_in(&code).0, 200);
    assert_eq!(phone.get("/v1/tasks").0, 200);
    let (_, answer) = phone.ask("GET /", "", "");
    assert!(field(&answer, "content-security-policy").is_some(), "{answer}");
    let token = fs::read_to_string(stage.state_dir().join("api-token")).unwrap();
    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    assert_eq!(phone.ask("GET /v1/tasks", &bearer, "").0, 401, "the token is for this machine");
    // Its session is good there only.
    wrong.cookie = phone.cookie.replace("__Host-", "");
    assert_eq!(wrong.get("/v1/tasks").0, 401);

    // A daemon later it is still let in, at the same address, by the same certificate.
    stage.offshoot(&["daemon", "stop"]).ok();
    let list = stage.offshoot(&["--json", "devices"]).json();
    assert_eq!(list["fingerprint"], fingerprint.as_str());
    assert_eq!(list["network"], phone.origin.as_str());
    assert!(stage.offshoot(&["devices"]).ok().contains("my phone"));

    let mut events = phone.connect();
    let (host, cookie) = (phone.host(), &phone.cookie);
    write!(
        events,
        "GET /v1/events HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n\
         Accept: text/event-stream\r\n\r\n"
    )
    .unwrap();
    until(&mut *events, "id: 1");
    let started = phone.post("/v1/tasks/e/exec", "{\"argv\":[\"cat\"]}");
    let exec = started.1.split("\"exec\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let exec = exec.unwrap_or_else(|| panic!("{}", started.1));
    let upgrade = |origin: &str| {
        let mut socket = phone.connect();
        write!(
            socket,
            "GET /v1/tasks/e/exec/{exec}/stream HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nOrigin: {origin}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .unwrap();
        socket
    };
    until(&mut *upgrade("https://evil.example"), "HTTP/1.1 403 ");
    let mut terminal = upgrade(&phone.origin);
    until(&mut *terminal, "HTTP/1.1 101 ");

    stage.offshoot(&["devices", "revoke", "my phone"]).ok();
    to_its_end(&mut *events);
    to_its_end(&mut *terminal);
    assert!(TcpStream::connect(phone.host()).map(|stream| refused(stream, &fingerprint)).unwrap_or(true));
    stage.offshoot(&["--json", "devices", "revoke", "my phone"]).problem(3, "no_such_device");
    // It was the last of the network.
    assert_eq!(stage.offshoot(&["--json", "devices"]).json()["network"], serde_json::Value::Null);
}

#[test]
fn a_tunnel_comes_to_the_loopback_by_its_own_name() {
    let stage = Stage::new();
    let login = stage.offshoot(&["--json", "pair", "--url", "https://my.tunnel"]).json();
    assert_eq!(login["fingerprint"], serde_json::Value::Null);
    let code = login["url"].as_str().unwrap().strip_prefix("https://my.tunnel/login#code=").unwrap();
    let address = stage.offshoot(&["--json", "daemon", "status"]).json()["tcp"].as_str().unwrap().to_owned();
    let ask = |host: &str, origin: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        let body = format!("{{\"code\":\"{code}\"}}");
        write!(
            stream,
            "POST /v1/session HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        to_its_end(&mut stream)
    };
    assert!(ask("other.tunnel", "https://other.tunnel").starts_with("HTTP/1.1 403 "));
    assert!(ask("my.tunnel", "http://my.tunnel").starts_with("HTTP/1.1 403 "));
    let answer = ask("my.tunnel", "https://my.tunnel");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(field(&answer, "set-cookie").unwrap().starts_with("__Host-offshoot-443="), "{answer}");
}

#[test]
fn what_is_no_place_for_it_is_refused() {
    let stage = Stage::new();
    for (arguments, exit, code) in [
        (["pair", "--lan", "0.0.0.0"], 2, "address_public"),
        (["pair", "--lan", "8.8.8.8"], 2, "address_public"),
        (["pair", "--url", "http://my.tunnel"], 2, "url_invalid"),
        (["pair", "--name", "a/b"], 2, "name_invalid"),
    ] {
        stage.offshoot(&[&["--json"], &arguments[..]].concat()).problem(exit, code);
    }
}
