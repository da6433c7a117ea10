//! Processes that are kept together with all they start: services.

use offshoot_sandbox::{Connection, Event, ExecRequest, Exit, Stdio, journal::Kind};

use crate::{
    roots::{in_root, with_root},
    stage::{Stage, event, exit, request, said, shell},
};

fn tree(id: &str, script: &str) -> ExecRequest {
    ExecRequest { tree: true, ..request(id, &["sh", "-c", script], Stdio::Journal) }
}

async fn up(connection: &Connection, exec: &str) {
    heard(connection, exec, "up").await;
}

/// Waits until a process has said this. The event of it may have passed already.
async fn heard(connection: &Connection, exec: &str, text: &str) {
    let said = || said(connection, exec, Kind::Stdout).contains(text);
    if !said() {
        event(connection, |_| said()).await;
    }
}

/// Processes besides init, as told from inside; dead ones that nobody has asked after yet do not count.
async fn processes(connection: &Connection, id: &str) -> usize {
    let count = "n=0; for p in /proc/[0-9]*; do case $(cat $p/stat 2>/dev/null) in ''|*') Z '*) ;; *) n=$((n+1));; esac; done; echo $n";
    let (_, out, _) = shell(connection, id, count).await;
    // Not init, the shell, nor the shell of the substitution, which is gone before the next.
    out.trim().parse::<usize>().unwrap() - 2
}

/// Detached in every way: own sessions, orphaned, with nothing of the parent's left.
const DAEMONS: &str = "for i in 1 2 3; do setsid sh -c 'setsid env -i sleep 1000 & setsid sleep 1000 &' \
                       </dev/null >/dev/null 2>&1; done; echo up; ";

#[tokio::test]
async fn what_a_service_leaves_behind_ends_with_it() {
    let stage = Stage::new();
    let connection = stage.up().await;
    connection.exec(request("agent", &["sleep", "1000"], Stdio::Journal)).await.unwrap();
    let before = processes(&connection, "before").await;
    connection.exec(tree("returns", &format!("{DAEMONS} exit 3"))).await.unwrap();
    assert_eq!(exit(&connection, "returns").await, Exit::Code(3));
    assert_eq!(processes(&connection, "after-return").await, before);
    connection.exec(tree("dies", &format!("{DAEMONS} kill -SEGV $$"))).await.unwrap();
    assert_eq!(exit(&connection, "dies").await, Exit::Signal(libc::SIGSEGV));
    assert_eq!(processes(&connection, "after-death").await, before);
    assert_eq!(connection.execs().await.unwrap()[0].exit, None);
    connection.down().await.unwrap();
}

#[tokio::test]
async fn a_service_is_asked_to_end_by_a_signal() {
    let stage = Stage::new();
    let connection = stage.up().await;
    // No shell stands between: what it is started with is what it has.
    connection
        .exec(ExecRequest { tree: true, ..request("asked", &["sleep", "1000"], Stdio::Journal) })
        .await
        .unwrap();
    connection.signal("asked", libc::SIGTERM).await.unwrap();
    assert_eq!(exit(&connection, "asked").await, Exit::Signal(libc::SIGTERM));
    connection.down().await.unwrap();
}

#[tokio::test]
async fn a_service_is_stopped_whole() {
    let mut stage = Stage::new();
    with_root(&mut stage);
    let connection = stage.up().await;
    connection.exec(request("agent", &["sleep", "1000"], Stdio::Journal)).await.unwrap();
    let before = processes(&connection, "before").await;
    let script = format!("{DAEMONS} sleep 1000");
    let asked = |id: &str| ExecRequest { tree: true, ..in_root(id, 999, &["sh", "-c", &script]) };
    connection.exec(asked("ended")).await.unwrap();
    up(&connection, "ended").await;
    assert!(processes(&connection, "while").await > before + 6);
    connection.end_tree("ended").await.unwrap();
    assert_eq!(exit(&connection, "ended").await, Exit::Signal(libc::SIGKILL));
    assert_eq!(processes(&connection, "after-end").await, before);
    connection.exec(asked("killed")).await.unwrap();
    up(&connection, "killed").await;
    connection.signal("killed", libc::SIGKILL).await.unwrap();
    assert_eq!(exit(&connection, "killed").await, Exit::Signal(libc::SIGKILL));
    assert_eq!(processes(&connection, "after-kill").await, before);
    let polite = format!("trap 'exit 5' TERM; {DAEMONS} while :; do sleep 0.1; done");
    connection.exec(tree("asked", &polite)).await.unwrap();
    up(&connection, "asked").await;
    connection.signal("asked", libc::SIGTERM).await.unwrap();
    assert_eq!(exit(&connection, "asked").await, Exit::Code(5));
    assert_eq!(processes(&connection, "after-asking").await, before);
    assert!(connection.end_tree("asked").await.is_err());
    let missing = ExecRequest { tree: true, ..request("missing", &["no-such-program"], Stdio::Journal) };
    assert!(connection.exec(missing).await.unwrap_err().to_string().contains("no-such-program"));
    // Nobody tells when the keeper of what did not start is gone.
    for n in 0.. {
        if processes(&connection, &format!("after-nothing{n}")).await == before {
            break;
        }
        assert!(n < 1000);
    }
    connection.down().await.unwrap();
}

#[tokio::test]
async fn a_service_that_takes_too_much_dies_alone() {
    let mut stage = Stage::new();
    with_root(&mut stage);
    let connection = stage.up().await;
    connection.exec(request("agent", &["sleep", "1000"], Stdio::Journal)).await.unwrap();
    let before = processes(&connection, "before").await;
    let limited = |id: &str, bytes: u64, script: &str| ExecRequest {
        memory_bytes: Some(bytes),
        ..in_root(id, 999, &["python3", "-c", script])
    };
    let hold = "b=bytearray(40<<20)\nb[::4096]=b'x'*len(b[::4096])\nprint('up',flush=True)\nimport time\ntime.sleep(1000)";
    connection.exec(limited("modest", 128 << 20, hold)).await.unwrap();
    up(&connection, "modest").await;
    let stats = connection.stats().await.unwrap();
    let modest = stats.trees["modest"];
    assert!((40 << 20..128 << 20).contains(&modest), "{modest}");
    assert!(stats.memory_bytes >= modest, "it counts for the environment: {stats:?}");
    // A child takes it: all of it has to end.
    let bomb = "import os,time\n\
                if os.fork()==0:\n  os.setsid()\n  b=[]\n  while True: b.append(bytearray(b'x')*(1<<20))\n\
                time.sleep(1000)";
    connection.exec(limited("greedy", 64 << 20, bomb)).await.unwrap();
    let told = event(&connection, |e| matches!(e, Event::LimitExceeded { .. })).await;
    assert!(
        matches!(&told, Event::LimitExceeded { exec: Some(exec), what } if exec == "greedy" && what.contains("memory")),
        "{told:?}"
    );
    assert_eq!(exit(&connection, "greedy").await, Exit::Signal(libc::SIGKILL));
    let (running, ended): (Vec<_>, Vec<_>) =
        connection.execs().await.unwrap().into_iter().partition(|e| e.exit.is_none());
    let names = |all: &[offshoot_sandbox::ExecState]| all.iter().map(|e| e.id.clone()).collect::<Vec<_>>();
    assert_eq!(names(&running), ["agent", "modest"], "{:?}", names(&ended));
    connection.end_tree("modest").await.unwrap();
    assert_eq!(exit(&connection, "modest").await, Exit::Signal(libc::SIGKILL));
    assert_eq!(processes(&connection, "after").await, before);
    assert!(connection.stats().await.unwrap().trees.is_empty());
    let groups = std::fs::read_to_string(stage.spec.dir.join("cgroup")).unwrap_or_default();
    connection.exec(limited("last", 128 << 20, hold)).await.unwrap();
    connection.down().await.unwrap();
    assert!(groups.lines().all(|group| !std::path::Path::new(group).exists()), "{groups}");
}

/// A shell's `wait` never returns where the signal of an ended child is blocked.
#[tokio::test]
async fn nothing_is_blocked_or_ignored() {
    let mut stage = Stage::new();
    with_root(&mut stage);
    let connection = stage.up().await;
    let argv = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let plain = || request("plain", &argv, Stdio::Journal);
    let kept = ExecRequest { tree: true, ..request("kept", &argv, Stdio::Journal) };
    for request in [plain(), kept, in_root("rooted", 7, &argv)] {
        let id = request.id.clone();
        connection.exec(request).await.unwrap();
        assert_eq!(exit(&connection, &id).await, Exit::Code(0));
        let out = said(&connection, &id, Kind::Stdout);
        for line in out.lines() {
            let set = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
            // 32 and 33 are the C library's own, as whoever runs these tests left them.
            assert_eq!(set & !(3 << 31), 0, "{id}: {out}");
        }
    }
    connection.down().await.unwrap();
}

#[tokio::test]
async fn a_kept_process_has_terminal_and_input() {
    let stage = Stage::new();
    let connection = stage.up().await;
    let terminal = Stdio::Terminal(offshoot_sandbox::Terminal { rows: 30, cols: 100 });
    let script = "stty size; trap 'echo interrupted; exit 9' INT; read line; echo got $line; read line";
    let request = ExecRequest { tree: true, ..request("tty", &["sh", "-c", script], terminal) };
    connection.exec(request).await.unwrap();
    connection.input("tty", b"hello\n").await.unwrap();
    event(&connection, |_| said(&connection, "tty", Kind::Terminal).contains("got hello")).await;
    connection.input("tty", b"\x03").await.unwrap();
    assert_eq!(exit(&connection, "tty").await, Exit::Code(9));
    assert!(said(&connection, "tty", Kind::Terminal).contains("interrupted"));
    connection.exec(tree("cat", "cat")).await.unwrap();
    connection.input("cat", b"through").await.unwrap();
    connection.close_input("cat").await.unwrap();
    assert_eq!(exit(&connection, "cat").await, Exit::Code(0));
    assert_eq!(said(&connection, "cat", Kind::Stdout), "through");
    connection.down().await.unwrap();
}

/// The keeper shares init's memory.
#[tokio::test]
async fn a_keeper_gives_nothing_away() {
    let stage = Stage::new();
    let connection = stage.up().await;
    connection.exec(tree("kept", "echo up; sleep 1000")).await.unwrap();
    up(&connection, "kept").await;
    let keeper = connection.execs().await.unwrap()[0].pid;
    let script = format!(
        "cd /proc/{keeper} || exit 9; for f in mem environ maps syscall; do cat $f >/dev/null 2>&1 && echo $f; done; \
         for f in exe root cwd; do readlink $f && echo $f; done; ls fd && echo fd; (: > exe) && echo written; \
         python3 -c 'import ctypes; print(ctypes.CDLL(None).ptrace(16,{keeper},0,0))'; grep -E '^(Cap|NoNew)' status"
    );
    let (code, out, err) = shell(&connection, "agent", &script).await;
    assert_eq!(code, Exit::Code(0), "{out}{err}");
    let (said, status) = out.split_once("CapInh").unwrap();
    assert_eq!(said, "-1\n", "{out}{err}");
    assert!(
        status.lines().filter(|l| l.starts_with("Cap")).all(|l| l.ends_with("\t0000000000000000")),
        "{out}"
    );
    assert!(status.contains("NoNewPrivs:\t1"), "{out}");
    connection.down().await.unwrap();
}

/// In a service's root, Offshoot's own program runs for a moment, which an ordinary user's sandbox is the owner of.
#[tokio::test]
async fn the_program_that_enters_a_root_cannot_be_written() {
    let mut stage = Stage::new();
    with_root(&mut stage);
    let connection = stage.up().await;
    let script = "import os,glob\n\
                  print('up',flush=True)\n\
                  seen,written=set(),[]\n\
                  while 'done' not in os.listdir('.'):\n  for p in glob.glob('/proc/[0-9]*/cmdline'):\n    try:\n\
                  \x20     if b'enter' in open(p,'rb').read():\n        seen.add(p); e=os.path.dirname(p)+'/exe'\n\
                  \x20       os.chmod(e,0o777); written.append(p)\n    except OSError: pass\n\
                  print(len(seen)>0,written)";
    let hunter = connection.exec(request("hunter", &["python3", "-c", script], Stdio::Journal)).await;
    hunter.unwrap();
    up(&connection, "hunter").await;
    for n in 0..30 {
        connection.exec(in_root(&format!("s{n}"), 9, &["true"])).await.unwrap();
    }
    shell(&connection, "stop", "touch done").await;
    heard(&connection, "hunter", "[").await;
    let out = said(&connection, "hunter", Kind::Stdout);
    assert!(out.ends_with("[]\n"), "{out}");
    connection.down().await.unwrap();
}
