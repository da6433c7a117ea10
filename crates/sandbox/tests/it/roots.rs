//! Processes with a root and numbers of their own: what an image's service is started as.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use offshoot_sandbox::{
    Connection, Event, ExecError, ExecRequest, ExecRoot, Exit, Mount, Stdio, Terminal, journal::Kind,
};

use crate::stage::{Stage, event, exit, said};

pub const ROOT: &str = "/run/offshoot/services/db/root";

/// Adds a service's root to a stage: "image" layers with nothing but names, and the host's system read-only in it.
pub fn with_root(stage: &mut Stage) {
    let identity = stage.spec.identity.clone();
    let dir = |name: &str| -> PathBuf {
        let path = stage.path(name);
        std::fs::create_dir_all(&path).unwrap();
        identity.own(&path).unwrap();
        path
    };
    let (image, top, upper, work) = (dir("image"), dir("image-top"), dir("db-upper"), dir("db-work"));
    for name in ["etc", "var", "private", "data"] {
        dir(&format!("image/{name}"));
    }
    std::fs::write(image.join("etc/passwd"), "root:x:0:0::/:/bin/sh\npostgres:x:999:999::/data:/bin/sh\n")
        .unwrap();
    std::fs::write(image.join("data/owned"), "by the service").unwrap();
    identity.own(&image.join("data/owned")).unwrap();
    // Links as images have them: to be resolved in the image.
    symlink("/private", image.join("tmp")).unwrap();
    symlink("/run/systemd/resolve/stub-resolv.conf", image.join("etc/resolv.conf")).unwrap();
    symlink("/etc/elsewhere", image.join("etc/hosts")).unwrap();
    std::fs::write(image.join("etc/elsewhere"), "the image's").unwrap();
    let root = Path::new(ROOT);
    stage.spec.mounts.push(Mount::Overlay {
        target: root.into(),
        lowers: vec![top, image],
        upper,
        work,
        root: true,
    });
    let system = ["usr", "bin", "lib", "lib64", "sbin"].map(|n| Path::new("/").join(n));
    for path in system.iter().filter(|p| p.exists()) {
        stage.spec.mounts.push(match std::fs::read_link(path) {
            Ok(to) => Mount::Symlink { target: root.join(path.strip_prefix("/").unwrap()), to },
            Err(_) => share(path, true),
        });
    }
    stage.spec.mounts.push(Mount::Tmpfs { target: root.join("run"), bytes: 16 << 20, mode: 0o755 });
    for path in ["/proc", "/dev", "/tmp", "/etc/resolv.conf", "/etc/hosts"] {
        stage.spec.mounts.push(share(Path::new(path), true));
    }
    stage.spec.mounts.push(Mount::Share {
        source: "/work/project".into(),
        target: root.join("srv/project"),
        writable: false,
    });
}

pub fn share(path: &Path, writable: bool) -> Mount {
    let target = Path::new(ROOT).join(path.strip_prefix("/").unwrap());
    Mount::Share { source: path.into(), target, writable }
}

pub fn in_root(id: &str, uid: u32, argv: &[&str]) -> ExecRequest {
    ExecRequest {
        id: id.to_owned(),
        argv: argv.iter().map(|s| (*s).to_owned()).collect(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/sbin:/usr/bin:/bin".to_owned())]),
        root: Some(ExecRoot { path: ROOT.into(), uid, gid: uid }),
        ..ExecRequest::default()
    }
}

async fn run(connection: &Connection, id: &str, uid: u32, script: &str) -> (Exit, String) {
    connection.exec(in_root(id, uid, &["sh", "-c", script])).await.unwrap();
    let exit = exit(connection, id).await;
    (exit, said(connection, id, Kind::Stdout) + &said(connection, id, Kind::Stderr))
}

#[tokio::test]
async fn a_service_sees_its_own_root_and_numbers() {
    let mut stage = Stage::new();
    with_root(&mut stage);
    let connection = stage.up().await;
    let script = "id -u; id -g; id -un; stat -c %u:%g data/owned; pwd; cat srv/project/file; env | sort; \
                  test -e /home && echo home; test -e /run/offshoot && echo outside; echo > data/new; echo > /tmp/x; \
                  cat /etc/hosts; head -1 /etc/resolv.conf; stat -c %u:%g data/new; cat /proc/self/mountinfo";
    let (code, out) = run(&connection, "look", 999, script).await;
    assert_eq!(code, Exit::Code(0), "{out}");
    let from_layer = out.starts_with("999\n999\npostgres\n999:999\n/\nfrom the layer\n");
    assert!(from_layer, "{out}");
    assert!(
        out.contains("\n127.0.0.1 localhost") && out.contains("nameserver 127.0.0.53\n999:999\n"),
        "{out}"
    );
    assert!(
        !out.contains("HOME=/home/dev") && !out.contains("\nhome\n") && !out.contains("\noutside\n"),
        "{out}"
    );
    assert!(!out.contains("/run/probe") && !out.contains("/work/project"), "the old root is gone: {out}");
    assert!(stage.path("db-upper/data/new").exists());
    assert!(stage.path("image/etc/elsewhere").exists());
    let (code, out) = run(&connection, "read-only", 999, "echo > srv/project/x").await;
    assert_ne!(code, Exit::Code(0), "{out}");
    let script = "test -e /tmp/x && cat /etc/hosts && ! test -e /etc/elsewhere && ! test -e /private";
    let (code, out, err) = crate::stage::shell(&connection, "agent", script).await;
    assert_eq!(code, Exit::Code(0), "links of an image stay in it: {out}{err}");
    connection.down().await.unwrap();
}

#[tokio::test]
async fn a_service_has_no_right_whatever_it_is_called() {
    let mut stage = Stage::new();
    with_root(&mut stage);
    let connection = stage.up().await;
    let script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status";
    for uid in [0, 33, 999] {
        let (code, out) = run(&connection, &format!("status{uid}"), uid, script).await;
        assert_eq!(code, Exit::Code(0), "{out}");
        for line in out.lines() {
            let value = line.split_whitespace().last().unwrap();
            match line.starts_with("Cap") {
                true => assert!(value.bytes().all(|b| b == b'0'), "{line}"),
                false => assert!(line.ends_with("NoNewPrivs:\t1") || line.ends_with("Seccomp:\t2"), "{line}"),
            }
        }
    }
    let script = "id -u; chown 999:999 /data/owned && chgrp 999 /data/owned && stat -c %u /data/owned; \
                  mknod /tmp/disk b 8 0; test -e /tmp/disk && echo made; mkfifo /tmp/pipe && test -p /tmp/pipe && \
                  setpriv --reuid 33 --regid 33 --clear-groups id -u";
    let (code, out) = run(&connection, "root", 0, script).await;
    assert_eq!((code, out.as_str()), (Exit::Code(0), "0\n0\n0\n"));
    let (code, out) = run(&connection, "user", 999, "chown 0:0 /data/owned").await;
    assert_ne!(code, Exit::Code(0), "{out}");
    connection.down().await.unwrap();
}

#[tokio::test]
async fn why_a_service_does_not_start_is_said() {
    let mut stage = Stage::new();
    with_root(&mut stage);
    let connection = stage.up().await;
    let nowhere = ExecRequest {
        root: Some(ExecRoot { path: "/no/such/root".into(), uid: 0, gid: 0 }),
        ..in_root("a", 0, &["true"])
    };
    let error = connection.exec(nowhere).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/root"), "{error}");
    let result = connection.exec(in_root("b", 0, &["no-such-program"])).await;
    assert!(
        matches!(&result, Err(ExecError::NotFound(what)) if what.contains("no-such-program")),
        "{result:?}"
    );
    let elsewhere = ExecRequest { cwd: Some("/work".into()), ..in_root("c", 0, &["true"]) };
    let result = connection.exec(elsewhere).await;
    assert!(matches!(&result, Err(ExecError::NotFound(what)) if what.contains("/work")), "{result:?}");
    for id in ["a", "b", "c"] {
        assert!(!connection.journal(id).exists(), "{id}");
        let (code, out) = run(&connection, id, 5, "echo again").await;
        assert_eq!((code, out.as_str()), (Exit::Code(0), "again\n"));
    }
    connection.down().await.unwrap();
}

#[tokio::test]
async fn services_have_terminals_signals_and_quick_ends() {
    let mut stage = Stage::new();
    with_root(&mut stage);
    let connection = stage.up().await;
    let stdio = Stdio::Terminal(Terminal { rows: 30, cols: 100 });
    let request = ExecRequest {
        stdio,
        ..in_root("tty", 7, &["sh", "-c", "tty; stty size; read line; echo got $line"])
    };
    connection.exec(request).await.unwrap();
    connection.input("tty", b"hello\n").await.unwrap();
    assert_eq!(exit(&connection, "tty").await, Exit::Code(0));
    let text = said(&connection, "tty", Kind::Terminal);
    for part in ["/dev/pts/", "30 100", "got hello"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    connection.exec(in_root("sleep", 7, &["sleep", "1000"])).await.unwrap();
    connection.signal("sleep", libc::SIGTERM).await.unwrap();
    assert_eq!(exit(&connection, "sleep").await, Exit::Signal(libc::SIGTERM));
    let all: Vec<_> = (0..20).map(|n| format!("quick{n}")).collect();
    for id in &all {
        connection.exec(in_root(id, 7, &["true"])).await.unwrap();
    }
    let ended = |id: &String| connection.journal(id);
    event(&connection, |_| all.iter().all(|id| std::fs::metadata(ended(id)).is_ok_and(|m| m.len() > 8)))
        .await;
    connection.down().await.unwrap();
}

#[tokio::test]
async fn a_service_is_dialled_at_its_own_address() {
    let mut stage = Stage::new();
    with_root(&mut stage);
    let connection = stage.up().await;
    let script = "import socket,time\n\
                  all=[socket.create_server(a) for a in (('127.0.1.1',5432),('127.0.1.2',5432),('127.0.0.1',25))]\n\
                  all.append(socket.create_server(('::1',5432),family=socket.AF_INET6))\n\
                  print('up',flush=True)\n\
                  time.sleep(1000)";
    connection.exec(in_root("db", 999, &["python3", "-c", script])).await.unwrap();
    event(&connection, |e| matches!(e, Event::Output { .. })).await;
    let v4 = |d: u8, port: u16| (IpAddr::from(Ipv4Addr::new(127, 0, 1, d)), port);
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    for (address, port) in
        [v4(1, 5432), v4(2, 5432), (local, 25), (Ipv6Addr::LOCALHOST.into(), 5432), (local, 5432)]
    {
        let stream = TcpStream::from(connection.dial(address, port).await.unwrap());
        let wanted = if (address, port) == (local, 5432) { Ipv6Addr::LOCALHOST.into() } else { address };
        assert_eq!(stream.peer_addr().unwrap().ip(), wanted);
    }
    for (address, port) in
        [v4(3, 5432), ("198.18.0.1".parse().unwrap(), 443), ("10.0.0.1".parse().unwrap(), 22)]
    {
        assert!(connection.dial(address, port).await.is_err(), "{address}");
    }
    connection.down().await.unwrap();
}
