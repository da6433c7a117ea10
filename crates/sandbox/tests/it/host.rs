//! Without a boundary: processes on the host that are nevertheless started, told of, stopped and ended together.

use std::{path::Path, time::Instant};

use offshoot_sandbox::{Connection, Event, ExecRequest, Exit, Host, Stdio, cleanup, connect, end};
use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{PATIENCE, Stage, event, request, shell};

fn stage(mark: &str) -> Stage {
    let mut stage = Stage::new();
    let work = stage.path("work-dir");
    std::fs::create_dir(&work).unwrap();
    stage.spec.workdir = work;
    stage.spec.id = mark.to_owned();
    stage.spec.env.insert("OFFSHOOT_ENVIRONMENT".to_owned(), mark.to_owned());
    stage.spec.host = Some(Host { umask: 0o027 });
    stage
}

/// Host processes with this in their command line, dead ones aside.
fn marked(marker: &str) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|p| p.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(marker)
        })
        .collect()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

/// Starts processes that do what they can to be forgotten: sessions of their own, no parent, no variables.
async fn scatter(connection: &Connection, number: &str) {
    let script = format!(
        "sleep {number} & setsid sleep {number} & (setsid sh -c 'sleep {number} & sleep {number} &' &) ; \
         env -i setsid sh -c 'trap \"\" TERM HUP; exec /bin/sleep {number}' & \
         (trap '' TERM; sleep {number}) & wait"
    );
    connection.exec(request("scatter", &["sh", "-c", &script], Stdio::Journal)).await.unwrap();
    let sleeping = format!("sleep\0{number}");
    until("they sleep", || marked(&sleeping).len() >= 6).await;
}

fn pid(dir: &Path) -> Pid {
    Pid::from_raw(std::fs::read_to_string(dir.join("pid")).unwrap().parse().unwrap()).unwrap()
}

/// The process that plays init: the shim's only child.
fn init(dir: &Path) -> Pid {
    let shim = pid(dir).as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
    Pid::from_raw(children.trim().parse().unwrap()).unwrap()
}

#[tokio::test]
async fn it_is_the_host_as_the_user_sees_it() {
    let stage = stage("host-view");
    let connection = stage.up().await;
    let (exit, out, err) =
        shell(&connection, "one", "id -u; pwd; umask; env | grep -c . ; test -e /proc/$PPID/exe; echo $?")
            .await;
    assert_eq!(exit, Exit::Code(0), "{err}");
    let own = rustix::process::geteuid().as_raw();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], own.to_string(), "its own user, root included");
    assert_eq!(lines[1], stage.spec.workdir.display().to_string());
    assert_eq!(lines[2], "0027");
    // A file made in the working directory is a file of the host.
    let (exit, ..) = shell(&connection, "two", "echo x > made").await;
    assert_eq!(
        (exit, std::fs::read(stage.spec.workdir.join("made")).unwrap()),
        (Exit::Code(0), b"x\n".to_vec())
    );
    connection.down().await.unwrap();
    for left in ["shim.sock", "pid", "cgroup"] {
        assert!(!stage.spec.dir.join(left).exists(), "{left}");
    }
}

#[tokio::test]
async fn everything_below_ends_and_nothing_else() {
    let stage = stage("host-kill-all");
    let number = format!("{}.4711", std::process::id());
    let mut bystander = std::process::Command::new("sleep").arg(format!("{number}9")).spawn().unwrap();
    let connection = stage.up().await;
    scatter(&connection, &number).await;
    let stats = connection.stats().await.unwrap();
    assert!(stats.processes >= 6, "{stats:?}");
    connection.kill_all().await.unwrap();
    assert_eq!(marked(&format!("sleep\0{number}\0")), [] as [i32; 0]);
    // It can be used as before.
    let (exit, out, _) = shell(&connection, "after", "echo still here").await;
    assert_eq!((exit, out.as_str()), (Exit::Code(0), "still here\n"));
    scatter_again(&connection, &number).await;
    connection.down().await.unwrap();
    until("nothing is left", || marked(&format!("sleep\0{number}\0")).is_empty()).await;
    assert!(bystander.try_wait().unwrap().is_none(), "a process of the user's that is not below was killed");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

async fn scatter_again(connection: &Connection, number: &str) {
    let script = format!("setsid setsid sleep {number} & wait");
    connection.exec(request("again", &["sh", "-c", &script], Stdio::Journal)).await.unwrap();
    until("it sleeps", || !marked(&format!("sleep\0{number}\0")).is_empty()).await;
}

#[tokio::test]
async fn whoever_is_killed_nothing_is_left() {
    for (n, victims) in ["shim", "init", "both"].iter().enumerate() {
        let mark = format!("host-{victims}-{}", std::process::id());
        let stage = stage(&mark);
        let number = format!("{}.471{n}", std::process::id());
        let connection = stage.up().await;
        // With variables: they are the last thing by which an orphan is known.
        let script = format!("setsid sleep {number} & (setsid sleep {number} &) ; wait");
        connection.exec(request("sleepers", &["sh", "-c", &script], Stdio::Journal)).await.unwrap();
        let sleeping = format!("sleep\0{number}\0");
        until("they sleep", || marked(&sleeping).len() == 2).await;
        let (shim, init) = (pid(&stage.spec.dir), init(&stage.spec.dir));
        let killed: &[Pid] = match *victims {
            "shim" => &[shim],
            "init" => &[init],
            _ => &[shim, init],
        };
        // Stopped first, so that neither sees the other go.
        for pid in killed {
            kill_process(*pid, Signal::STOP).unwrap();
        }
        for pid in killed {
            kill_process(*pid, Signal::KILL).unwrap();
        }
        end(&stage.spec.dir).unwrap();
        until("nothing is left", || marked(&sleeping).is_empty()).await;
        assert!(cleanup(&stage.spec.dir).is_ok());
    }
}

#[tokio::test]
async fn it_outlives_whoever_started_it() {
    let stage = stage("host-adopt");
    let connection = stage.up().await;
    connection
        .exec(request("count", &["sh", "-c", "read line; echo got $line"], Stdio::Journal))
        .await
        .unwrap();
    drop(connection);
    let connection = connect(&stage.spec.dir).await.unwrap();
    connection.subscribe().await.unwrap();
    connection.input("count", b"it\n").await.unwrap();
    event(&connection, |e| matches!(e, Event::Exited { .. })).await;
    assert_eq!(crate::stage::said(&connection, "count", offshoot_sandbox::journal::Kind::Stdout), "got it\n");
    connection.down().await.unwrap();
}

#[tokio::test]
async fn it_stands_still_while_it_is_frozen() {
    let stage = stage("host-freeze");
    let connection = stage.up().await;
    let file = stage.spec.workdir.join("count");
    let script = "while :; do echo >> count; sleep 0.01; done";
    connection.exec(request("count", &["sh", "-c", script], Stdio::Journal)).await.unwrap();
    until("it counts", || file.exists()).await;
    connection.freeze().await.unwrap();
    // What was on its way when the last one was stopped.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let length = std::fs::metadata(&file).unwrap().len();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(std::fs::metadata(&file).unwrap().len(), length);
    connection.thaw().await.unwrap();
    until("it goes on", || std::fs::metadata(&file).unwrap().len() > length).await;
    connection.down().await.unwrap();
}

#[tokio::test]
async fn what_a_service_starts_ends_with_it() {
    let stage = stage("host-service");
    let connection = stage.up().await;
    let number = format!("3{}", std::process::id());
    let script =
        format!("setsid sh -c 'setsid sleep {number} & setsid env -i sleep {number} &' ; sleep {number}");
    for id in ["ended", "abandoned"] {
        let request = ExecRequest { tree: true, ..request(id, &["sh", "-c", &script], Stdio::Journal) };
        connection.exec(request).await.unwrap();
        let sleeping = format!("sleep\0{number}");
        until("they sleep", || marked(&sleeping).len() >= 3).await;
        if id == "ended" {
            connection.end_tree(id).await.unwrap();
            event(&connection, |e| matches!(e, Event::Exited { exec, .. } if exec == id)).await;
            assert_eq!(marked(&number), [0; 0]);
        }
    }
    kill_process(init(&stage.spec.dir), Signal::KILL).unwrap();
    until("nothing is left", || marked(&number).is_empty()).await;
}
