//! HTTP/1.1 by hand: where requests go, what is passed on of them, and what is not passed on at all.

use std::time::Duration;

use offshoot_gateway::{Reason, Unavailable};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::lab::{App, Lab};
use crate::support::{LONG, read_exactly, read_head, read_to_end};

/// Reads an answer with a Content-Length.
async fn read_answer(stream: &mut tokio::net::TcpStream) -> String {
    let head = read_head(stream).await;
    let length = head
        .to_ascii_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ").map(|length| length.parse().unwrap()))
        .unwrap_or_else(|| panic!("{head}"));
    head + &String::from_utf8(read_exactly(stream, length).await).unwrap()
}

#[tokio::test]
async fn each_request_of_a_connection_goes_where_its_own_host_says() {
    let (one, two) = (App::start("one").await, App::start("two").await);
    let lab = Lab::new(&[("web.one", one.address), ("web.two", two.address)]);
    let mut stream = lab.connect().await;
    for (app, text) in [("web.one", "one"), ("web.two", "two"), ("web.one", "one"), ("WEB.One", "one")] {
        let host = lab.host(app);
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.contains(&format!("X-App: {text}")), "{app}: {answer}");
    }
    assert_eq!(one.heads().len(), 3);
    assert_eq!(two.heads().len(), 1);
    let dials = lab.map.log().iter().filter(|line| line.starts_with("dial")).count();
    assert_eq!(dials, 2, "connections are used again: {:?}", lab.map.log());

    // All at once, too.
    let many: String = ["web.one", "web.two", "web.two", "web.one"]
        .map(|app| format!("GET /{app} HTTP/1.1\r\nHost: {}\r\n\r\n", lab.host(app)))
        .concat();
    stream.write_all(many.as_bytes()).await.unwrap();
    for (app, text) in [("web.one", "one"), ("web.two", "two"), ("web.two", "two"), ("web.one", "one")] {
        let answer = read_answer(&mut stream).await;
        assert!(
            answer.contains(&format!("X-App: {text}")) && answer.contains(&format!("GET /{app} ")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn an_app_sees_the_public_name_and_who_asks() {
    let app = App::start("app").await;
    let lab = Lab::new(&[("web.task", app.address)]);
    let answer = lab
        .get(
            "web.task",
            "/a?b=c%20d",
            "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Odd-CASE: Yes\r\n\
             Cookie: theirs=1; offshoot-7870=ours\r\n",
        )
        .await;
    let host = lab.host("web.task");
    for line in [
        "GET /a?b=c%20d HTTP/1.1\r\n".to_owned(),
        format!("Host: {host}\r\n"),
        "x-forwarded-for: 127.0.0.1\r\n".to_owned(),
        format!("x-forwarded-host: {host}\r\n"),
        "x-forwarded-proto: http\r\n".to_owned(),
        "X-Odd-CASE: Yes\r\n".to_owned(),
        "Cookie: theirs=1\r\n".to_owned(),
    ] {
        assert!(answer.to_lowercase().contains(&line.to_lowercase()), "{line} in {answer}");
    }
    assert!(!answer.contains("6.6.6.6") && answer.contains("X-Odd-CASE"), "{answer}");
    assert!(answer.contains("cross-origin-resource-policy: same-site"), "{answer}");

    // In absolute form, as to a proxy.
    let answer = lab
        .exchange(format!("GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
        .await;
    assert!(answer.contains("GET /x HTTP/1.1\r\n"), "{answer}");
    let answer =
        lab.exchange(format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
    assert!(answer.contains("OPTIONS * HTTP/1.1\r\n"), "{answer}");
    let answer = lab.exchange(format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n")).await;
    assert!(answer.contains("X-App: app"), "{answer}");

    let answer = lab.get("web.task", "/cookies", "").await.to_lowercase();
    assert!(answer.contains("set-cookie: a=1\r\n") && answer.contains("set-cookie: b=2\r\n"), "{answer}");
    // An app that serves many hosts by name.
    let answer = lab.get("tenant.web.task", "/", "").await;
    assert!(answer.contains(&format!("Host: {}\r\n", lab.host("tenant.web.task"))), "{answer}");
}

#[tokio::test]
async fn bodies_and_trailers_pass_in_both_directions() {
    let app = App::start("app").await;
    let lab = Lab::new(&[("web.task", app.address)]);
    let host = lab.host("web.task");
    let mut stream = lab.connect().await;
    stream
        .write_all(
            format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhe")
                .as_bytes(),
        )
        .await
        .unwrap();
    app.saw(|heads| heads.len() == 1).await;
    stream.write_all(b"llo\r\n0\r\nX-Sum: 1\r\n\r\n").await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(
        answer.contains("llo\r\n0\r\n") && answer.to_lowercase().ends_with("x-sum: 1\r\n\r\n"),
        "{answer}"
    );

    // The body is asked for only when it has somewhere to go.
    stream
        .write_all(
            format!("POST / HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
                .as_bytes(),
        )
        .await
        .unwrap();
    assert_eq!(read_head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"world").await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(answer.ends_with("world"), "{answer}");

    stream
        .write_all(
            format!("HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\nGET /after HTTP/1.1\r\nHost: {host}\r\n\r\n")
                .as_bytes(),
        )
        .await
        .unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.to_lowercase().contains("content-length: "), "{head}");
    let after = read_answer(&mut stream).await;
    assert!(after.contains("GET /after HTTP/1.1"), "{after}");

    let answer = lab.get("web.task", "/trailers", "TE: trailers\r\n").await;
    assert!(answer.to_lowercase().ends_with("5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn requests_with_two_meanings_are_refused_in_their_turn() {
    let app = App::start("app").await;
    let lab = Lab::new(&[("web.task", app.address)]);
    let host = lab.host("web.task");
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\n , identity",
        "Content-Length : 5",
        "X: y\nContent-Length: 5",
        "Host: other.task.localhost",
    ] {
        let first = format!("GET /first HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let bad = format!(
            "POST /bad HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"
        );
        let answer = lab.exchange(first + &bad).await;
        assert!(answer.contains("GET /first HTTP/1.1"), "{fields}: {answer}");
        assert!(
            answer.contains("HTTP/1.1 400 Bad Request") && answer.contains("malformed"),
            "{fields}: {answer}"
        );
    }
    let large = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    let answer = lab.exchange(large).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let seen = app.heads().concat();
    assert!(!seen.contains("/bad") && !seen.contains("/smuggled"), "{seen}");
}

#[tokio::test]
async fn nothing_but_tasks_can_be_reached() {
    let lab = Lab::new(&[]);
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: evil.com\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: web.task.localhost.evil.com\r\n", 421),
        ("GET http://evil.com/ HTTP/1.1\r\nHost: web.task.localhost\r\n", 421),
        ("GET http://evil.com/ HTTP/1.1\r\nHost: evil.com\r\n", 421),
        ("GET http://a.task.localhost/ HTTP/1.1\r\nHost: b.task.localhost\r\n", 400),
        ("GET https://a.task.localhost/ HTTP/1.1\r\nHost: a.task.localhost\r\n", 403),
        ("CONNECT a.task.localhost:80 HTTP/1.1\r\nHost: a.task.localhost:80\r\n", 403),
        ("CONNECT evil.com:443 HTTP/1.1\r\nHost: evil.com:443\r\n", 403),
        ("GET / HTTP/1.1\r\nHost: refused.invalid\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: 10.0.0.1\r\n", 421),
        ("GET / HTTP/1.1\r\nX: no host\r\n", 400),
        // The daemon's own API is not behind this.
        ("GET /v1/tasks HTTP/1.1\r\nHost: localhost\r\n", 404),
        ("GET /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\n", 404),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n", 405),
    ] {
        let answer = lab.exchange(format!("{request}Connection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
    assert_eq!(lab.map.log(), [""; 0]);
}

#[tokio::test]
async fn another_tasks_page_is_refused() {
    let app = App::start("app").await;
    let lab = Lab::new(&[("web.task", app.address), ("web.other", app.address)]);
    let other = format!("Origin: http://{}\r\n", lab.host("web.other"));
    let answer = lab.get("web.task", "/", &other).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("cross-site"), "{answer}");
    let socket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let answer = lab.get("web.task", "/switch", &format!("{other}{socket}")).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(app.heads(), [""; 0]);
    let own = format!("Origin: http://{}\r\n", lab.host("api.task"));
    assert!(lab.get("web.task", "/", &own).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn what_is_not_there_is_said_to_people_and_programs() {
    let lab = Lab::with(&[], |limits| limits.dial = Duration::from_millis(50));
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    lab.moves("dead.task", dead);
    lab.lacks("waking.task", Unavailable::new(Reason::Waking, "the environment is being woken"));
    lab.lacks(
        "off.task",
        Unavailable::new(Reason::NotStarted, "off is not started").hint("offshoot app start task off"),
    );
    for (app, status, retry) in [
        ("web.none", 404, None),
        ("dead.task", 502, Some("1")),
        ("waking.task", 503, Some("1")),
        ("off.task", 503, Some("5")),
    ] {
        let answer = lab.get(app, "/", "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{app}: {answer}");
        assert_eq!(answer.contains("retry-after: "), retry.is_some(), "{answer}");
        assert!(retry.is_none_or(|retry| answer.contains(&format!("retry-after: {retry}\r\n"))), "{answer}");
    }
    let html = lab.get("web.none", "/", "Accept: text/html,*/*\r\n").await;
    assert!(html.contains("there is no task &lt;none&gt;."), "{html}");
    let html = lab.get("off.task", "/", "Accept: text/html,*/*\r\n").await;
    assert!(
        html.contains("<code>offshoot app start task off</code>") && html.contains("http-equiv=\"refresh\"")
    );

    for (host, text) in [("task", "Apps of task"), ("127.0.0.1", "Apps")] {
        let host = if host == "task" { lab.host("task") } else { format!("{host}:{}", lab.port()) };
        let request =
            format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nConnection: close\r\n\r\n");
        let page = lab.exchange(request).await;
        assert!(page.contains(&format!("<h1>{text}</h1>")), "{page}");
        assert!(page.contains(&format!("<a href=\"{}\">off</a>", lab.url("off.task", "/"))), "{page}");
        assert!(page.contains("frame-ancestors 'none'"), "{page}");
    }
}

#[tokio::test]
async fn upgrades_become_plain_bytes_and_ends_are_passed_on() {
    let app = App::start("app").await;
    let lab = Lab::new(&[("web.task", app.address)]);
    let host = lab.host("web.task");
    for protocol in ["websocket", "Anything/1.0"] {
        let mut stream = lab.connect().await;
        // Bytes that come with the head belong to what follows.
        let head = format!(
            "GET /switch HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        );
        stream.write_all(format!("{head}early").as_bytes()).await.unwrap();
        let answer = read_head(&mut stream).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        assert!(answer.contains(&format!("upgrade: {}\r\n", protocol.to_lowercase())), "{answer}");
        assert_eq!(read_exactly(&mut stream, 10).await, b"firstearly");
        stream.write_all(b"\n\n\0late").await.unwrap();
        assert_eq!(read_exactly(&mut stream, 7).await, b"\n\n\0late");
        stream.shutdown().await.unwrap();
        assert_eq!(read_to_end(&mut stream).await, "bye");
    }
    // One that would hide requests, and one that nobody asked for.
    let answer = lab.get("web.task", "/echo", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.to_lowercase().contains("h2c"), "{answer}");
    let answer = lab.get("web.task", "/switch", "").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn an_upgrade_that_is_declined_ends_the_connection_behind_its_answer() {
    let app = App::start("app").await;
    let lab = Lab::new(&[("web.task", app.address)]);
    let host = lab.host("web.task");
    let answer = lab
        .exchange(format!(
            "GET /declined HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        ))
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let app = App::start("app").await;
    let lab = Lab::new(&[("web.task", app.address)]);
    let mut stream = lab.connect().await;
    stream
        .write_all(format!("GET /events HTTP/1.0\r\nHost: {}\r\n\r\n", lab.host("web.task")).as_bytes())
        .await
        .unwrap();
    read_head(&mut stream).await;
    for number in 0..3 {
        assert_eq!(read_exactly(&mut stream, 9).await, format!("data: {number}\n\n").as_bytes());
    }
}

#[tokio::test]
async fn a_request_that_is_given_up_is_given_up_at_the_app() {
    let app = App::start("app").await;
    let lab = Lab::new(&[("web.task", app.address)]);
    let mut stream = lab.connect().await;
    stream
        .write_all(format!("GET /hang HTTP/1.1\r\nHost: {}\r\n\r\n", lab.host("web.task")).as_bytes())
        .await
        .unwrap();
    app.saw(|heads| heads.len() == 1).await;
    drop(stream);
    app.saw(|heads| heads.last().is_some_and(|head| head == "end")).await;
}

#[tokio::test]
async fn a_connection_that_the_app_closed_is_made_anew() {
    let app = App::start("app").await;
    let lab = Lab::new(&[("web.task", app.address)]);
    let host = lab.host("web.task");
    let mut stream = lab.connect().await;
    for path in ["/close", "/last", "/last", "/last", "/close", "/last"] {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
}

#[tokio::test]
async fn waits_are_bounded() {
    let app = App::start("app").await;
    let lab = Lab::with(&[("web.task", app.address)], |limits| {
        limits.head = Duration::from_millis(200);
        limits.answer = Duration::from_millis(200);
    });
    // A head that never comes, one that does not end, and an answer that does not begin.
    for bytes in ["", "G", "GET / HTTP/1.1\r\n"] {
        let answer = lab.exchange(bytes).await;
        assert!(answer.is_empty(), "{bytes:?}: {answer}");
    }
    let answer = lab.get("web.task", "/hang", "").await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("timed-out"), "{answer}");
    app.saw(|heads| heads.last().is_some_and(|head| head == "end")).await;
}

#[tokio::test]
async fn use_is_told_of_while_bytes_move() {
    let app = App::start("app").await;
    let lab = Lab::with(&[("web.task", app.address)], |limits| limits.told = Duration::from_millis(20));
    let mut stream = lab.connect().await;
    let head = format!(
        "GET /switch HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        lab.host("web.task")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    read_head(&mut stream).await;
    let told = async {
        loop {
            stream.write_all(b"x").await.unwrap();
            stream.read_u8().await.unwrap();
            if lab.map.log().iter().filter(|line| *line == "used web.task.localhost").count() > 2 {
                return;
            }
        }
    };
    timeout(LONG, told).await.unwrap();
}

#[tokio::test]
async fn a_reader_that_stops_reading_stops_the_app() {
    // One that sends without end.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lab = Lab::new(&[("web.task", listener.local_addr().unwrap())]);
    let mut stream = lab.connect().await;
    let host = lab.host("web.task");
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
    let (mut app, _) = listener.accept().await.unwrap();
    app.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let chunk = vec![7; 1 << 20];
    let mut sent = 0;
    // Nothing is read, so the buffers between (two sockets' and the proxy's own) fill up and no more is taken.
    while timeout(Duration::from_millis(500), app.write_all(&chunk)).await.is_ok() {
        sent += 1;
        assert!(sent < 64, "taken without end");
    }
    // Then it is gone, and the app hears of it.
    drop(stream);
    let error = timeout(LONG, async {
        loop {
            if let Err(error) = app.write_all(&chunk).await {
                return error;
            }
        }
    });
    error.await.unwrap();
}
