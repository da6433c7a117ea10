//! What it is like inside: names, addresses, listeners, dials, nested sandboxes, layers, limits.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
};

use offshoot_sandbox::{Connection, Event, Exit, ListenerKind, Mount, Stdio, journal::Kind};

use crate::stage::{Stage, event, exit, request, said, shell};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn good(connection: &Connection, id: &str, script: &str) -> String {
    let (exit, out, err) = shell(connection, id, script).await;
    assert_eq!(exit, Exit::Code(0), "{out}{err}");
    out
}

#[tokio::test]
async fn allowed_names_lead_to_the_hosts_listeners() {
    let mut stage = Stage::new();
    stage.spec.network.egress =
        ["example.org", "*.example.net", "db.example:5432", "host:9000"].map(|r| r.parse().unwrap()).to_vec();
    let connection = stage.up().await;
    let out = good(
        &connection,
        "names",
        "for n in example.org a.example.net db.example host.internal; do getent ahostsv4 $n | head -1; done; \
         getent hosts other.org && exit 9; exit 0",
    )
    .await;
    for address in ["198.18.0.1", "198.19.255.254", "198.18.0.2", "198.18.0.3"] {
        assert!(out.contains(address), "{out}");
    }
    let listeners = connection.listeners().await.unwrap();
    assert_eq!(listeners.len(), 5);
    for (wanted, script) in [
        ("198.18.0.1:443", "exec 3<>/dev/tcp/example.org/443; echo hi >&3; cat <&3"),
        ("198.18.0.2:5432", "exec 3<>/dev/tcp/db.example/5432; echo hi >&3; cat <&3"),
    ] {
        let id = wanted.replace(':', "-");
        connection.exec(request(&id, &["bash", "-c", script], Stdio::Journal)).await.unwrap();
        let listener = listeners.iter().find(|l| match &l.kind {
            ListenerKind::Transparent { port } => *port == 443 && wanted.ends_with(":443"),
            ListenerKind::Port { port, host, .. } => {
                *port == 5432 && wanted.ends_with(":5432") && host.as_ref().unwrap().as_str() == "db.example"
            }
            ListenerKind::Proxy | ListenerKind::Served { .. } => false,
        });
        let listener = TcpListener::from(listener.unwrap().fd.try_clone().unwrap());
        listener.set_nonblocking(false).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        assert_eq!(stream.local_addr().unwrap().to_string(), wanted);
        let mut hi = [0; 3];
        stream.read_exact(&mut hi).unwrap();
        stream.write_all(b"hello from outside").unwrap();
        drop(stream);
        assert_eq!(exit(&connection, &id).await, Exit::Code(0));
        assert_eq!(said(&connection, &id, Kind::Stdout), "hello from outside");
    }
    let mut rules = stage.spec.network.egress.clone();
    rules.extend(["late.example:22".parse().unwrap()]);
    connection.set_egress(rules).await.unwrap();
    assert!(good(&connection, "late", "getent ahostsv4 late.example").await.contains("198.18.0.4"));
    assert_eq!(connection.listeners().await.unwrap().len(), 6);
    connection.down().await.unwrap();
}

#[tokio::test]
async fn servers_may_bind_what_is_listened_on_outside_and_catch_nothing() {
    let mut stage = Stage::new();
    stage.spec.network.egress = ["example.org", "db.example:5432"].map(|r| r.parse().unwrap()).to_vec();
    let connection = stage.up().await;
    let script = "import socket\n\
                  v4=[socket.create_server(('0.0.0.0',p)) for p in (80,5432)]\n\
                  v6=socket.create_server(('::',443),family=socket.AF_INET6,dualstack_ipv6=True)\n\
                  own=socket.create_server(('127.0.0.1',3000))\n\
                  print('up',flush=True)\n\
                  for s in v4+[v6]: c,_=s.accept();c.sendall(b'from inside');c.close()";
    connection.exec(request("server", &["/usr/bin/python3", "-c", script], Stdio::Journal)).await.unwrap();
    event(&connection, |e| matches!(e, Event::Output { .. })).await;
    let listeners = connection.listeners().await.unwrap();
    for (wanted, name) in [
        ("198.18.0.1:80", "example.org"),
        ("198.18.0.1:443", "example.org"),
        ("198.18.0.2:5432", "db.example"),
    ] {
        let port = wanted.rsplit(':').next().unwrap();
        let id = format!("client{port}");
        let script = format!("exec 3<>/dev/tcp/{name}/{port}; cat <&3");
        connection.exec(request(&id, &["bash", "-c", &script], Stdio::Journal)).await.unwrap();
        let listener = listeners.iter().find(|l| match &l.kind {
            ListenerKind::Transparent { port: p } | ListenerKind::Port { port: p, .. } => {
                p.to_string() == port
            }
            ListenerKind::Proxy | ListenerKind::Served { .. } => false,
        });
        let listener = TcpListener::from(listener.unwrap().fd.try_clone().unwrap());
        listener.set_nonblocking(false).unwrap();
        let (mut stream, from) = listener.accept().unwrap();
        assert_eq!(stream.local_addr().unwrap().to_string(), wanted);
        assert_eq!(from.ip(), offshoot_sandbox::network::OWN);
        stream.write_all(b"from outside").unwrap();
        drop(stream);
        assert_eq!(exit(&connection, &id).await, Exit::Code(0));
        assert_eq!(said(&connection, &id, Kind::Stdout), "from outside");
    }
    for port in [80, 5432, 443] {
        let mut stream = TcpStream::from(connection.dial(LOCAL, port).await.unwrap());
        stream.set_nonblocking(false).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from inside");
    }
    connection.down().await.unwrap();
}

#[tokio::test]
async fn servers_inside_can_be_dialled() {
    let stage = Stage::new();
    let connection = stage.up().await;
    assert!(connection.dial(LOCAL, 3000).await.is_err());
    let script = "import socket\ns=socket.create_server(('127.0.0.1',3000))\nprint('up',flush=True)\nc,_=s.accept()\nc.sendall(b'served')";
    connection.exec(request("server", &["/usr/bin/python3", "-c", script], Stdio::Journal)).await.unwrap();
    event(&connection, |e| matches!(e, Event::Output { .. })).await;
    let mut stream = TcpStream::from(connection.dial(LOCAL, 3000).await.unwrap());
    stream.set_nonblocking(false).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "served");
    connection.down().await.unwrap();
}

#[tokio::test]
async fn agents_own_sandboxes_work_inside() {
    let stage = Stage::new();
    let connection = stage.up().await;
    if good(&connection, "which", "command -v bwrap || true").await.is_empty() {
        return connection.down().await.unwrap();
    }
    let nested = "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev";
    good(&connection, "one", &format!("{nested} true")).await;
    good(&connection, "two", &format!("{nested} {nested} true")).await;
    connection.down().await.unwrap();
}

#[tokio::test]
async fn layers_stack_and_many_of_them_fit() {
    let mut stage = Stage::new();
    let Some(Mount::Overlay { lowers, .. }) = stage.spec.mounts.last_mut() else { unreachable!() };
    let base = lowers.pop().unwrap();
    for n in 0..60 {
        let layer = base
            .with_file_name(format!("layer-with-a-name-that-is-long-enough-to-fill-a-page-of-options-{n}"));
        std::fs::create_dir(&layer).unwrap();
        std::fs::write(layer.join("top"), n.to_string()).unwrap();
        stage.spec.identity.own(&layer).unwrap();
        lowers.push(layer);
    }
    lowers.push(base);
    let connection = stage.up().await;
    assert_eq!(good(&connection, "a", "cat top file; rm top; ! test -e top").await, "0from the layer\n");
    let mounts = good(&connection, "b", "cat /proc/self/mountinfo").await;
    assert!(!mounts.contains("layer-with"), "{mounts}");
    connection.down().await.unwrap();
}

#[tokio::test]
async fn an_upper_without_lowers_starts_empty_and_is_kept() {
    let mut stage = Stage::new();
    let Some(Mount::Overlay { lowers, .. }) = stage.spec.mounts.last_mut() else { unreachable!() };
    lowers.clear();
    let connection = stage.up().await;
    good(&connection, "a", "test -z \"$(ls)\" && echo made > new").await;
    connection.down().await.unwrap();
    assert_eq!(std::fs::read_to_string(stage.path("upper/new")).unwrap(), "made\n");
}

#[tokio::test]
async fn links_left_in_a_home_do_not_lead_out() {
    let mut stage = Stage::new();
    let home = stage.path("home");
    let outside = stage.path("outside");
    for path in [&home, &outside] {
        std::fs::create_dir(path).unwrap();
        stage.spec.identity.own(path).unwrap();
    }
    std::os::unix::fs::symlink(&outside, home.join("config")).unwrap();
    std::os::unix::fs::symlink(outside.join("file"), home.join("rc")).unwrap();
    for mount in [
        Mount::Bind { source: home, target: "/home/dev".into(), writable: true, optional: false },
        Mount::File { target: "/home/dev/config/file".into(), content: "x".into(), mode: 0o644 },
        Mount::File { target: "/home/dev/rc".into(), content: "y".into(), mode: 0o644 },
    ] {
        stage.spec.mounts.push(mount);
    }
    if let Ok(connection) = offshoot_sandbox::start(&stage.spec, &crate::stage::shim()).await {
        connection.down().await.unwrap();
    }
    assert_eq!(std::fs::read_dir(outside).unwrap().count(), 0);
}

#[tokio::test]
async fn a_memory_bomb_dies_and_its_neighbours_do_not() {
    let mut stage = Stage::new();
    stage.spec.limits.memory_bytes = 256 << 20;
    let connection = stage.up().await;
    connection.exec(request("neighbour", &["sleep", "1000"], Stdio::Journal)).await.unwrap();
    // Four that stay below the limit each, and exceed it together.
    let script = "import time\nb=bytearray(120<<20)\nb[::4096]=b'x'*len(b[::4096])\ntime.sleep(60)";
    for n in 0..4 {
        let id = format!("bomb{n}");
        connection.exec(request(&id, &["/usr/bin/python3", "-c", script], Stdio::Journal)).await.unwrap();
    }
    let event = event(&connection, |e| matches!(e, Event::LimitExceeded { .. })).await;
    assert!(
        matches!(&event, Event::LimitExceeded { exec: None, what } if what.contains("memory")),
        "{event:?}"
    );
    assert_eq!(connection.execs().await.unwrap()[0].exit, None);
    connection.down().await.unwrap();
}
