//! Setups: what installs dependencies before anybody works.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use serde_json::json;

use crate::stage::Stage;

/// Asks the proxy for a path of a host, and keeps what came back.
const FETCH: &str = r#"exec 3<>/dev/tcp/127.0.0.1/3128; printf 'GET http://%s/thing HTTP/1.0\r\n\r\n' "$0" >&3; cat <&3 >got; grep -q 200 got"#;

#[test]
fn setups_reach_what_is_allowed_and_nothing_else() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let asked = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).unwrap();
        stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nthing\n").unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    });
    let stage = Stage::new();
    let command = format!("bash -c {} host.internal:{port}", quoted(FETCH));
    stage.repo.write("offshoot.toml", &format!("[setup.fetch]\ncommands = [{}]\n", json!(command))).unwrap();
    stage.repo.write(".gitignore", "got\n").unwrap();
    stage.repo.commit("Setup").unwrap();
    let refused = stage.offshoot(&["env", "up", "--name", "refused"]);
    assert_ne!(refused.0, 0, "nothing was allowed: {}", refused.2);
    let allow = format!("host:{port}");
    stage.offshoot(&["env", "up", "--name", "e", "--allow", &allow]).ok();
    assert!(asked.join().unwrap().starts_with("GET /thing "), "the server was asked");
    let got = stage.offshoot(&["env", "exec", "e", "--", "cat", "got"]).ok();
    assert!(got.ends_with("thing\n"), "{got}");
    stage.offshoot(&["env", "down", "e", "--force"]).ok();
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
