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

/// A stage with this `offshoot.toml` and three lockfiles.
fn with(configuration: &str) -> Stage {
    let stage = Stage::new();
    stage.repo.write("offshoot.toml", configuration).unwrap();
    stage.repo.write(".gitignore", "out-*\n").unwrap();
    for lock in ["a.lock", "b.lock", "c.lock"] {
        stage.repo.write(lock, "1").unwrap();
    }
    stage.repo.commit("Setups").unwrap();
    stage
}

fn inside(stage: &Stage, name: &str, script: &str) -> String {
    stage.offshoot(&["env", "exec", name, "--", "sh", "-c", script]).ok().trim().to_owned()
}

/// Asks the test's own server for something.
fn ask(port: u16, what: &str) -> String {
    let fetch =
        format!("bash -c {} host.internal:{port}", quoted(&FETCH.replace("got", &format!("out-{what}"))));
    json!(fetch).to_string()
}

fn answer(mut stream: std::net::TcpStream) {
    let mut bytes = [0; 4096];
    let _ = stream.read(&mut bytes).unwrap();
    stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nthing\n").unwrap();
}

#[test]
fn setups_are_built_at_the_same_time_and_each_once() {
    if thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("skipped: one processor builds one at a time");
        return;
    }
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let stage = with(&format!(
        "[setup.a]\ncommands = [{}]\nkey = [\"a.lock\"]\n[setup.b]\ncommands = [{}]\nkey = [\"b.lock\"]\n",
        ask(port, "a"),
        ask(port, "b")
    ));
    // Neither is answered before both have asked; nobody asks twice.
    let both = thread::spawn(move || {
        let asked = [server.accept().unwrap().0, server.accept().unwrap().0];
        asked.into_iter().for_each(answer);
        drop(server);
    });
    let allow = format!("host:{port}");
    let up = |name: &str| stage.command(&["env", "up", "--name", name, "--allow", &allow]).spawn().unwrap();
    for mut environment in [up("one"), up("two")] {
        assert!(environment.wait().unwrap().success());
    }
    both.join().unwrap();
    assert_eq!(inside(&stage, "one", "cat out-a out-b | grep -c thing"), "2");
    assert_eq!(inside(&stage, "two", "cat out-a out-b | grep -c thing"), "2");
    for name in ["one", "two"] {
        stage.offshoot(&["env", "down", name, "--force"]).ok();
    }
}

#[test]
fn only_what_depends_on_a_changed_lock_is_built_again() {
    let stage = with(
        r#"[setup.a]
commands = ["cat a.lock /proc/sys/kernel/random/uuid >out-a"]
key = ["a.lock"]
[setup.b]
commands = ["cat out-a b.lock /proc/sys/kernel/random/uuid >out-b"]
key = ["b.lock"]
after = ["a"]
[setup.c]
commands = ["cat /proc/sys/kernel/random/uuid >out-c; ls out-a 2>&1 || true"]
key = ["c.lock"]
"#,
    );
    let outs = |name: &str| {
        stage.offshoot(&["env", "up", "--name", name]).ok();
        ["a", "b", "c"].map(|out| inside(&stage, name, &format!("cat out-{out}")))
    };
    let before = outs("before");
    assert!(before[1].starts_with(&before[0]), "b saw what a made: {before:?}");
    stage.repo.write("b.lock", "2").unwrap();
    stage.repo.commit("b").unwrap();
    let after = outs("after");
    assert_eq!((&before[0], &before[2]), (&after[0], &after[2]));
    assert_ne!(before[1], after[1]);
    stage.repo.write("a.lock", "2").unwrap();
    stage.repo.commit("a").unwrap();
    let last = outs("last");
    assert!(last[0] != after[0] && last[1] != after[1] && last[2] == after[2], "{after:?} {last:?}");
}

#[test]
fn downloads_are_kept_for_the_next_setup_and_nothing_else() {
    let setup = r#"[setup.a]
commands = ["mkdir -p ~/.npm/_cacache ~/.local/lib; cp ~/.npm/_cacache/* out-found 2>/dev/null; echo $(ls ~/.npm/_cacache | wc -l) >out-count; cp a.lock ~/.npm/_cacache/$(cat a.lock); touch ~/.local/lib/$(cat a.lock); test $(cat a.lock) != bad"]
key = ["a.lock"]
"#;
    let stage = with(setup);
    let up = |name: &str, more: &[&str]| stage.offshoot(&[&["env", "up", "--name", name], more].concat());
    let lock = |content: &str| {
        stage.repo.write("a.lock", content).unwrap();
        stage.repo.commit(content).unwrap();
    };
    let found = |name: &str| inside(&stage, name, "cat out-count; ls ~/.npm/_cacache ~/.local/lib | xargs");
    let home = stage.path().display();
    let shows = |cache: &str, lib: &str, count: u32| {
        format!("{count}\n{home}/.local/lib: {lib} {home}/.npm/_cacache: {cache}")
    };
    up("one", &[]).ok();
    assert_eq!(found("one"), shows("1", "1", 0));
    // One that fails adds nothing; what runs write in their own home directories does not either.
    lock("bad");
    assert_ne!(up("bad", &[]).0, 0);
    inside(&stage, "one", "touch ~/.npm/_cacache/poison");
    lock("2");
    up("two", &[]).ok();
    assert_eq!(found("two"), shows("1 2", "2", 1));
    // What a run brought back is built over the cache, and adds nothing to it.
    inside(&stage, "two", "printf 3 >a.lock; git commit -qam 3");
    assert_ne!(stage.offshoot(&["env", "down", "two"]).0, 0, "what it holds is not landed, but brought back");
    up("three", &["--from", "offshoot/two"]).ok();
    assert_eq!(found("three"), shows("1 2 3", "3", 2));
    lock("4");
    up("four", &[]).ok();
    assert_eq!(found("four"), shows("1 2 4", "4", 2));
    for name in ["one", "three", "four"] {
        stage.offshoot(&["env", "down", name, "--force"]).ok();
    }
    // Its layers outlive the environments; what nobody stands on goes, with a reason.
    let pruned = stage.offshoot(&["prune"]).ok();
    assert!(pruned.contains("no environment stands on it"), "{pruned}");
    lock("5");
    up("five", &[]).ok();
    assert_eq!(found("five"), shows("1 2 4 5", "5", 3));
}
