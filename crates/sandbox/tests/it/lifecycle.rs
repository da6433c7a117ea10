//! Up, execute, input, signals, adoption, ends of all kinds.

use std::{io::Read, os::fd::OwnedFd, path::Path, time::Instant};

use offshoot_sandbox::{
    CleanupError, ConnectError, Event, ExecError, Exit, Stdio, Terminal, cleanup, connect, journal::Kind,
    start,
};
use rustix::process::{Pid, Signal};

use crate::stage::{PATIENCE, Stage, event, exit, request, said, shell, shim};

fn shim_pid(dir: &Path) -> Pid {
    let text = std::fs::read_to_string(dir.join("pid")).unwrap();
    Pid::from_raw(text.parse().unwrap()).unwrap()
}

/// Host processes in the environment: what has this directory's overlay mounted cannot be asked for by path, so the
/// host's view of a marker argument is taken.
fn marked(marker: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(marker)).count()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_process_runs_and_its_journal_tells_all() {
    let stage = Stage::new();
    let connection = stage.up().await;
    let (exit, out, err) =
        shell(&connection, "one", "id -u; cat file; echo more > file; echo oops >&2; hostname; exit 3").await;
    assert_eq!(exit, Exit::Code(3), "{out}{err}");
    assert_eq!(out, format!("{}\nfrom the layer\nstage\n", stage.spec.identity.uid));
    assert_eq!(err, "oops\n");
    assert_eq!(std::fs::read_to_string(stage.path("upper/file")).unwrap(), "more\n");
    assert_eq!(std::fs::read_to_string(stage.path("lower/file")).unwrap(), "from the layer\n");
    connection.down().await.unwrap();
    assert!(matches!(connect(&stage.spec.dir).await, Err(ConnectError::Gone)));
    for left in ["shim.sock", "pid", "cgroup"] {
        assert!(!stage.spec.dir.join(left).exists(), "{left}");
    }
    assert_eq!(std::fs::read_to_string(stage.spec.dir.join("shim.log")).unwrap(), "");
}

#[tokio::test]
async fn input_reaches_the_process_and_ends() {
    let stage = Stage::new();
    let connection = stage.up().await;
    connection.exec(request("cat", &["cat"], Stdio::Journal)).await.unwrap();
    let text = "0123456789abcdef".repeat(200_000);
    connection.input("cat", text.as_bytes()).await.unwrap();
    connection.close_input("cat").await.unwrap();
    assert_eq!(exit(&connection, "cat").await, Exit::Code(0));
    assert_eq!(said(&connection, "cat", Kind::Stdout), text);
    assert_eq!(said(&connection, "cat", Kind::Stdin), text);
    assert!(connection.input("cat", b"late").await.is_err());
    connection.down().await.unwrap();
}

#[tokio::test]
async fn a_process_that_does_not_read_holds_up_its_sender_only() {
    let stage = Stage::new();
    let connection = stage.up().await;
    connection.exec(request("deaf", &["sleep", "1000"], Stdio::Journal)).await.unwrap();
    let flood = vec![b'x'; 4 << 20];
    let sender = connection.clone();
    let sending = tokio::spawn(async move { sender.input("deaf", &flood).await });
    let (code, ..) = shell(&connection, "other", "true").await;
    assert_eq!(code, Exit::Code(0));
    assert!(!sending.is_finished());
    connection.signal("deaf", libc::SIGTERM).await.unwrap();
    assert_eq!(exit(&connection, "deaf").await, Exit::Signal(libc::SIGTERM));
    assert!(tokio::time::timeout(PATIENCE, sending).await.unwrap().unwrap().is_err());
    connection.down().await.unwrap();
}

#[tokio::test]
async fn a_terminal_is_a_terminal() {
    let stage = Stage::new();
    let connection = stage.up().await;
    let stdio = Stdio::Terminal(Terminal { rows: 30, cols: 100 });
    let script = "tty; stty size; read line; echo got $line; stty size; echo end > /dev/tty";
    connection.exec(request("tty", &["sh", "-c", script], stdio)).await.unwrap();
    event(&connection, |_| said(&connection, "tty", Kind::Terminal).contains("30 100")).await;
    connection.resize("tty", 40, 120).await.unwrap();
    connection.input("tty", b"hello\n").await.unwrap();
    assert_eq!(exit(&connection, "tty").await, Exit::Code(0));
    let said = said(&connection, "tty", Kind::Terminal);
    for part in ["/dev/pts/0", "30 100", "got hello", "40 120", "end"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    connection.down().await.unwrap();
}

#[tokio::test]
async fn files_are_handed_in() {
    let stage = Stage::new();
    let connection = stage.up().await;
    let (mut out, theirs) = std::io::pipe().unwrap();
    let errors = std::fs::File::create(stage.path("errors")).unwrap();
    let stdio = Stdio::Files { stdin: None, stdout: theirs.into(), stderr: errors.into() };
    connection.exec(request("files", &["sh", "-c", "cat; echo out; echo err >&2"], stdio)).await.unwrap();
    assert_eq!(exit(&connection, "files").await, Exit::Code(0));
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert_eq!(text, "out\n");
    assert_eq!(std::fs::read_to_string(stage.path("errors")).unwrap(), "err\n");
    let root: OwnedFd = std::fs::File::open("/").unwrap().into();
    let (a, b) = (root.try_clone().unwrap(), root.try_clone().unwrap());
    let stdio = Stdio::Files { stdin: Some(root), stdout: a, stderr: b };
    assert!(connection.exec(request("root", &["ls"], stdio)).await.is_err(), "a directory leads out");
    connection.down().await.unwrap();
}

#[tokio::test]
async fn refusals_name_the_cause() {
    let stage = Stage::new();
    let connection = stage.up().await;
    let result = connection.exec(request("a", &["no-such-program"], Stdio::Journal)).await;
    assert!(
        matches!(&result, Err(ExecError::NotFound(what)) if what.contains("no-such-program")),
        "{result:?}"
    );
    connection.exec(request("a", &["true"], Stdio::Journal)).await.unwrap();
    assert!(matches!(connection.exec(request("a", &["true"], Stdio::Journal)).await, Err(ExecError::Exists)));
    for id in ["", "../a", ".a", "a/b", "a b"] {
        assert!(connection.exec(request(id, &["true"], Stdio::Journal)).await.is_err(), "{id:?}");
    }
    let second = start(&stage.spec, &shim()).await;
    assert!(second.unwrap_err().to_string().contains("lock"), "one upper, one environment");
    assert!(matches!(cleanup(&stage.spec.dir), Err(CleanupError::Alive)));
    connection.down().await.unwrap();
    let mut spec = stage.spec.clone();
    spec.mounts.push(offshoot_sandbox::Mount::Bind {
        source: "/no/such/place".into(),
        target: "/x".into(),
        writable: false,
        optional: false,
    });
    let error = start(&spec, &shim()).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/place"), "{error}");
    stage.up().await.down().await.unwrap();
}

#[tokio::test]
async fn another_daemon_takes_over() {
    let stage = Stage::new();
    let first = stage.up().await;
    first.exec(request("cat", &["cat"], Stdio::Journal)).await.unwrap();
    first.input("cat", b"one ").await.unwrap();
    drop(first);
    let second = connect(&stage.spec.dir).await.unwrap();
    second.subscribe().await.unwrap();
    let execs = second.execs().await.unwrap();
    assert_eq!((execs.len(), execs[0].id.as_str(), execs[0].exit), (1, "cat", None));
    second.input("cat", b"two").await.unwrap();
    second.close_input("cat").await.unwrap();
    assert_eq!(exit(&second, "cat").await, Exit::Code(0));
    assert_eq!(said(&second, "cat", Kind::Stdout), "one two");
    assert_eq!(second.execs().await.unwrap()[0].exit, Some(Exit::Code(0)));
    assert_eq!(second.listeners().await.unwrap().len(), 3);
    second.down().await.unwrap();
}

#[tokio::test]
async fn everything_inside_can_be_killed_at_once() {
    let stage = Stage::new();
    let connection = stage.up().await;
    let script = "for i in $(seq 50); do setsid sleep 1000 & done; wait";
    connection.exec(request("many", &["sh", "-c", script], Stdio::Journal)).await.unwrap();
    let mut processes = 0;
    for _ in 0..500 {
        processes = connection.stats().await.unwrap().processes;
        if processes > 50 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(processes > 50, "{processes}");
    connection.kill_all().await.unwrap();
    assert_eq!(connection.stats().await.unwrap().processes, 0);
    assert_eq!(exit(&connection, "many").await, Exit::Signal(libc::SIGKILL));
    let (code, ..) = shell(&connection, "after", "true").await;
    assert_eq!(code, Exit::Code(0));
    connection.down().await.unwrap();
}

#[tokio::test]
async fn what_is_frozen_stands_still() {
    let stage = Stage::new();
    let connection = stage.up().await;
    connection
        .exec(request("tick", &["sh", "-c", "while :; do echo x; sleep 0.01; done"], Stdio::Journal))
        .await
        .unwrap();
    event(&connection, |e| matches!(e, Event::Output { .. })).await;
    connection.freeze().await.unwrap();
    let frozen = connection.execs().await.unwrap()[0].journal_end;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let later = connection.execs().await.unwrap()[0].journal_end;
    // What was in the pipe may still come out.
    assert!(later - frozen < 200, "{frozen} {later}");
    assert!(connection.exec(request("no", &["true"], Stdio::Journal)).await.is_err());
    connection.thaw().await.unwrap();
    event(&connection, |e| matches!(e, Event::Output { end_offset, .. } if *end_offset > later)).await;
    connection.freeze().await.unwrap();
    connection.down().await.unwrap();
}

#[tokio::test]
async fn nothing_survives_the_shim() {
    let stage = Stage::new();
    let connection = stage.up().await;
    let marker = format!("marker-{}", stage.dir.path().display());
    let script = format!(
        "setsid sh -c 'sleep 1000; : {marker}' & setsid sh -c 'setsid sleep 1000; : {marker}' & wait"
    );
    connection.exec(request("a", &["sh", "-c", &script], Stdio::Journal)).await.unwrap();
    until("processes are seen", || marked(&marker) >= 3).await;
    rustix::process::kill_process(shim_pid(&stage.spec.dir), Signal::KILL).unwrap();
    until("processes are gone", || marked(&marker) == 0).await;
    assert_eq!(connection.next_event().await.map(|e| matches!(e, Event::Output { .. })), None);
    until("the lock is free", || cleanup(&stage.spec.dir).is_ok()).await;
    assert!(!stage.spec.dir.join("shim.sock").exists());
    assert!(!stage.spec.dir.join("cgroup").exists());
    stage.up().await.down().await.unwrap();
}

#[tokio::test]
async fn the_end_of_init_is_told() {
    let stage = Stage::new();
    let connection = stage.up().await;
    connection.exec(request("a", &["sleep", "1000"], Stdio::Journal)).await.unwrap();
    let shim = shim_pid(&stage.spec.dir).as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
    let init = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(init, Signal::KILL).unwrap();
    assert_eq!(exit(&connection, "a").await, Exit::Signal(libc::SIGKILL));
    event(&connection, |e| *e == Event::InitGone).await;
    assert_eq!(connection.next_event().await, None);
    connection.down().await.unwrap();
}

#[tokio::test]
async fn an_exit_comes_after_all_output() {
    let stage = Stage::new();
    let connection = stage.up().await;
    let bytes = 3_000_000;
    let script = format!("head -c {bytes} /dev/zero; setsid sleep 1000 & exit 7");
    let (exit, out, _) = shell(&connection, "a", &script).await;
    assert_eq!((exit, out.len()), (Exit::Code(7), bytes));
    let reader = offshoot_sandbox::journal::Reader::open(&connection.journal("a")).unwrap();
    let (records, _) = reader.read_from(0, usize::MAX).unwrap();
    assert_eq!(records.last().unwrap().exit(), Some(Exit::Code(7)));
    connection.down().await.unwrap();
}

#[test]
fn the_doctor_finds_what_these_tests_use() {
    let dir = tempfile::tempdir().unwrap();
    let report = offshoot_sandbox::examine(dir.path());
    assert_eq!(report.tier, offshoot_sandbox::Tier::Sandbox, "{report:#?}");
    assert_eq!(report.checks.len(), 8);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn death_at_any_step_of_set_up_leaves_nothing() {
    let points = [
        "shim.locked",
        "shim.cgroup",
        "shim.cloned",
        "init.go",
        "init.mount",
        "init.mounted",
        "init.ready",
        "shim.ready",
    ];
    let mut stage = Stage::new();
    for point in points {
        stage.spec.fault = Some(point.to_owned());
        let result = tokio::time::timeout(PATIENCE, start(&stage.spec, &shim())).await.expect(point);
        assert!(result.is_err(), "{point}");
        let groups = std::fs::read_to_string(stage.spec.dir.join("cgroup")).unwrap_or_default();
        until(point, || cleanup(&stage.spec.dir).is_ok()).await;
        assert!(groups.lines().all(|group| !Path::new(group).exists()), "{point}: {groups}");
        for left in ["shim.sock", "pid", "cgroup"] {
            assert!(!stage.spec.dir.join(left).exists(), "{point}: {left}");
        }
        stage.spec.fault = None;
        stage.up().await.down().await.unwrap();
    }
    stage.spec.fault = Some("shim.ended".to_owned());
    let connection = stage.up().await;
    let _ = connection.down().await;
    until("the lock is free", || cleanup(&stage.spec.dir).is_ok()).await;
    assert!(!stage.spec.dir.join("cgroup").exists());
}

/// Context switches so far: what does nothing has no new ones.
fn switches(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let lines =
        status.lines().filter_map(|l| l.split_once("ctxt_switches:").map(|(_, n)| n.trim().to_owned()));
    lines.map(|n| n.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn an_idle_environment_sleeps() {
    let stage = Stage::new();
    let connection = stage.up().await;
    shell(&connection, "a", "true").await;
    connection.execs().await.unwrap();
    let shim = shim_pid(&stage.spec.dir).as_raw_nonzero().to_string();
    let children = std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
    let all = [shim.as_str(), children.trim()];
    let settled = std::time::Duration::from_millis(100);
    tokio::time::sleep(settled).await;
    let before = all.map(switches);
    tokio::time::sleep(5 * settled).await;
    assert_eq!(all.map(switches), before);
    connection.down().await.unwrap();
}
