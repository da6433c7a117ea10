//! Measures what an environment costs: `cargo run --release -p offshoot-sandbox --example latency -- PATH-TO-SHIM`.
//! Prints start → answer → gone for one at a time, 50 at once, their teardown, and the memory of an idle one.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use offshoot_sandbox::{
    Connection, Event, ExecRequest, Identity, Limits, Mount, Network, SandboxSpec, start,
    system::{SystemOptions, default_mounts},
};

fn spec(root: &Path, n: usize) -> SandboxSpec {
    let identity = Identity::for_this_process();
    let at = |name: &str| -> PathBuf {
        let path = root.join(format!("{name}-{n}"));
        std::fs::create_dir(&path).unwrap();
        identity.own(&path).unwrap();
        path
    };
    let mut mounts = default_mounts(&SystemOptions {
        identity: identity.clone(),
        home: "/home/dev".into(),
        home_source: None,
        hostname: "bench".into(),
        tool_dirs: Vec::new(),
        tmp_bytes: 64 << 20,
        hosts: Vec::new(),
    });
    let (lower, upper, work) = (at("lower"), at("upper"), at("work"));
    mounts.push(Mount::Overlay {
        target: "/work/project".into(),
        lowers: vec![lower],
        upper,
        work,
        root: false,
    });
    SandboxSpec {
        id: format!("bench-{n}"),
        dir: root.join(format!("env-{n}")),
        identity,
        hostname: "bench".into(),
        mounts,
        workdir: "/work/project".into(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        network: Network::default(),
        limits: Limits::default(),
        host: None,
        weaken: BTreeSet::new(),
        fault: None,
    }
}

async fn answer(connection: &Connection) {
    connection.subscribe().await.unwrap();
    let argv = vec!["/bin/true".to_owned()];
    let request = ExecRequest { id: "true".into(), argv, ..ExecRequest::default() };
    connection.exec(request).await.unwrap();
    while !matches!(connection.next_event().await, Some(Event::Exited { .. }) | None) {}
}

fn proportional(pid: &str) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let pss = rollup.lines().find_map(|l| l.strip_prefix("Pss:"));
    pss.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[tokio::main]
async fn main() {
    let shim = PathBuf::from(std::env::args().nth(1).unwrap());
    let root = std::env::temp_dir().join(format!("offshoot-latency-{}", std::process::id()));
    std::fs::create_dir_all(&root).unwrap();
    let (mut up, mut all) = (Vec::new(), Vec::new());
    for n in 0..100 {
        let spec = spec(&root, n);
        let from = Instant::now();
        let connection = start(&spec, &shim).await.unwrap();
        answer(&connection).await;
        up.push(from.elapsed());
        connection.down().await.unwrap();
        all.push(from.elapsed());
    }
    let show = |what: &str, times: &mut Vec<Duration>| {
        times.sort();
        let at = |p: usize| times[(times.len() * p / 100).min(times.len() - 1)].as_secs_f64() * 1000.0;
        println!("{what}: median {:.1} ms, p95 {:.1} ms, best {:.1} ms", at(50), at(95), at(0));
    };
    show("up and answered", &mut up);
    show("up, answered, gone", &mut all);
    let specs: Vec<_> = (100..150).map(|n| spec(&root, n)).collect();
    let from = Instant::now();
    let starting: Vec<_> = specs
        .into_iter()
        .map(|spec| {
            let shim = shim.clone();
            tokio::spawn(async move {
                let connection = start(&spec, &shim).await.unwrap();
                answer(&connection).await;
                connection
            })
        })
        .collect();
    let mut connections = Vec::new();
    for one in starting {
        connections.push(one.await.unwrap());
    }
    println!("50 at once: {:.0} ms", from.elapsed().as_secs_f64() * 1000.0);
    let mut memory = 0;
    for n in 100..150 {
        let pid = std::fs::read_to_string(root.join(format!("env-{n}/pid"))).unwrap();
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        memory += proportional(&pid) + proportional(children.trim());
    }
    println!("idle shim and init: {} KiB (proportional, mean of 50; needs root)", memory / 50);
    let from = Instant::now();
    let ending: Vec<_> =
        connections.into_iter().map(|c| tokio::spawn(async move { c.down().await.unwrap() })).collect();
    for one in ending {
        one.await.unwrap();
    }
    println!("50 gone: {:.0} ms", from.elapsed().as_secs_f64() * 1000.0);
    let _ = std::fs::remove_dir_all(root);
}
