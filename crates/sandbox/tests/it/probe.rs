//! The red-team probe against live canaries on the host: nothing is reached; and with each defence left out, its
//! probe does reach, so that "blocked" proves something.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixListener},
        },
    },
    path::PathBuf,
    process::{Child, Command},
};

use offshoot_sandbox::{
    Exit, Mount, Stdio,
    Weakness::{self, *},
    journal::Kind,
};

use crate::stage::{Stage, exit, request, said};

/// The probe's program; elsewhere when the suite was copied for another user.
pub fn probe() -> PathBuf {
    std::env::var_os(COPIED_PROBE).map_or_else(|| env!("CARGO_BIN_EXE_offshoot-probe").into(), PathBuf::from)
}

pub const COPIED_PROBE: &str = "OFFSHOOT_TEST_PROBE";
/// A variable that the test runner has; see `ordinary`.
pub const VARIABLE: &str = "CARGO_PKG_NAME=offshoot-sandbox";

/// What is laid out on the host for the probe to find.
struct Host {
    arguments: Vec<String>,
    process: Child,
    segment: Option<String>,
    udp: UdpSocket,
    _held: (TcpListener, UnixListener, UnixListener),
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(id) = &self.segment {
            let _ = Command::new("ipcrm").args(["-m", id]).status();
        }
    }
}

fn lay_out(stage: &mut Stage) -> Host {
    let open = PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(stage.dir.path(), open).unwrap();
    let (secret, socket, read_only) = (stage.path("secret"), stage.path("socket"), stage.path("read-only"));
    std::fs::write(&secret, "the canary's song").unwrap();
    std::fs::create_dir(&read_only).unwrap();
    stage.spec.identity.own(&read_only).unwrap();
    let bind = |source: PathBuf, target: &str| Mount::Bind {
        source,
        target: target.into(),
        writable: false,
        optional: false,
    };
    stage.spec.mounts.push(bind(probe(), "/run/probe"));
    stage.spec.mounts.push(bind(read_only, "/read-only"));
    stage.spec.limits.memory_bytes = 192 << 20;
    stage.spec.limits.file_bytes = 1 << 30;
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_nonblocking(true).unwrap();
    let pathname = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o777)).unwrap();
    let name = format!("probe-{}", stage.dir.path().display());
    let hidden = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let span = format!("987{}", std::process::id());
    let process = Command::new("sleep").arg(&span).spawn().unwrap();
    let made = Command::new("ipcmk").args(["-M", "4096", "-p", "0666"]).output();
    let segment = made
        .ok()
        .and_then(|o| String::from_utf8(o.stdout).ok()?.split_whitespace().last().map(str::to_owned));
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let limits = &stage.spec.limits;
    let mut arguments = vec!["/run/probe".to_owned()];
    arguments.extend([
        format!("file={}", secret.display()),
        format!("socket={}", socket.display()),
        "read_only=/read-only".to_owned(),
        format!("stage={}", stage.dir.path().file_name().unwrap().display()),
        format!("environment={VARIABLE}"),
        format!("process={span}"),
        format!("shared_memory={}", segment.as_deref().unwrap_or("none")),
        format!("host_name={}", host_name.trim()),
        format!("abstract={name}"),
        format!("port={}", tcp.local_addr().unwrap().port()),
        format!("udp_port={}", udp.local_addr().unwrap().port()),
        format!("processes={}", limits.processes),
        format!("memory={}", limits.memory_bytes),
        format!("tmp={}", limits.tmp_bytes),
        format!("file_bytes={}", limits.file_bytes),
    ]);
    Host { arguments, process, segment, udp, _held: (tcp, pathname, hidden) }
}

/// Runs the probe in an environment without `weaken`; outcomes by attack, and whether the canary resolver was asked.
async fn run(weaken: &[Weakness], only: &[&str]) -> (BTreeMap<String, (String, String)>, bool) {
    let mut stage = Stage::new();
    let host = lay_out(&mut stage);
    stage.spec.weaken = weaken.iter().copied().collect::<BTreeSet<_>>();
    let connection = stage.up().await;
    let mut arguments = host.arguments.clone();
    if !only.is_empty() {
        arguments.push(format!("only={}", only.join(",")));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    connection.exec(request("probe", &arguments, Stdio::Journal)).await.unwrap();
    let exit = exit(&connection, "probe").await;
    let (out, err) = (said(&connection, "probe", Kind::Stdout), said(&connection, "probe", Kind::Stderr));
    assert_eq!(exit, Exit::Code(0), "{out}{err}");
    connection.down().await.unwrap();
    let parsed = out.lines().map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| value[name].as_str().unwrap().to_owned();
        (field("attack"), (field("outcome"), field("detail")))
    });
    let asked = host.udp.recv(&mut [0; 512]).is_ok();
    (parsed.collect(), asked)
}

#[tokio::test]
async fn nothing_is_reached() {
    let (outcomes, asked) = run(&[], &[]).await;
    assert!(outcomes.len() >= 60, "{}", outcomes.len());
    let bad: Vec<_> = outcomes.iter().filter(|(_, (outcome, _))| outcome != "blocked").collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(!asked, "a packet left");
}

/// What a kernel or machine may refuse for reasons of its own, so that leaving our defence out shows nothing there.
fn refused_anyway(attack: &str) -> bool {
    let sysctl = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
    match attack {
        "terminal_input" => sysctl("dev/tty/legacy_tiocsti").trim() == "0",
        "io_uring" => !matches!(sysctl("kernel/io_uring_disabled").trim(), "" | "0"),
        "perf" => sysctl("kernel/perf_event_paranoid").trim().parse().is_ok_and(|n: i32| n > 2),
        "shared_memory" => Command::new("ipcmk").arg("--version").output().is_err(),
        _ => false,
    }
}

#[tokio::test]
async fn every_defence_is_what_holds() {
    let cases: &[(&[Weakness], &[&str])] = &[
        (&[CleanEnv, Undumpable], &["environments"]),
        (
            &[Undumpable],
            &["init_memory", "init_maps", "init_descriptors", "init_ptrace", "init_getfd", "init_namespaces"],
        ),
        (
            &[Seccomp],
            &[
                "keyring",
                "userfaultfd",
                "io_uring",
                "process_vm",
                "file_handles",
                "personality",
                "packet_socket",
                "terminal_input",
                "perf",
                "clock",
            ],
        ),
        (&[NetworkNamespace], &["abstract_socket", "host_loopback"]),
        (&[OwnProc], &["host_processes"]),
        (&[IpcNamespace], &["shared_memory"]),
        (&[HostnameNamespace], &["host_name"]),
        (&[DropCapabilities], &["capabilities", "interface", "remount", "mount_over"]),
        (&[NoNewPrivileges], &["new_privileges"]),
        (&[ReadOnlySystem], &["read_only_bind"]),
        (&[ReadOnlyRoot], &["root_directory"]),
        (&[PrivateRoot], &["host_file", "host_socket"]),
        (&[OwnDevices], &["devices"]),
        (&[ProcessLimit], &["fork_bomb"]),
        (&[MemoryLimit], &["memory_bomb"]),
        (&[TmpLimit], &["fill_tmp", "fill_shm"]),
        (&[FileLimit], &["huge_file"]),
        (&[CoreLimit], &["core_dump"]),
        (&[DnsFilter], &["dns_labels"]),
        (&[LayerPaths], &["layer_paths"]),
    ];
    let mut blind = Vec::new();
    for (weaken, attacks) in cases {
        let (outcomes, _) = run(weaken, attacks).await;
        for attack in attacks.iter().filter(|a| !refused_anyway(a)) {
            let (outcome, detail) = &outcomes[*attack];
            if outcome != "reached" {
                blind.push(format!("{attack} without {weaken:?}: {outcome}: {detail}"));
            }
        }
    }
    assert!(blind.is_empty(), "{blind:#?}");
    let (_, asked) = run(&[NetworkNamespace], &["dns_direct"]).await;
    assert!(asked, "the canary resolver hears what leaves");
}
