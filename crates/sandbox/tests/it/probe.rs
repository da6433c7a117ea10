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
    sync::OnceLock,
};

use offshoot_sandbox::{
    Exit, Mount, Stdio,
    Weakness::{self, *},
    journal::Kind,
};
use rustix::net::{AddressFamily, SocketType};

use crate::{
    roots::{in_root, share, with_root},
    stage::{Stage, exit, request, said},
};

/// The probe, as a static program that needs nothing of what is inside; elsewhere when the suite was copied for another
/// user.
pub fn probe() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(copied) = std::env::var_os(COPIED_PROBE) {
        return copied.into();
    }
    BUILT.get_or_init(build).clone()
}

fn build() -> PathBuf {
    let target = concat!(env!("CARGO_TARGET_TMPDIR"), "/static-probe");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--target-dir", target, "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/probe/Cargo.toml"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the probe cannot be built statically (is libc.a there?): {said}");
    let program = PathBuf::from(target).join("debug/offshoot-probe");
    let elf = std::fs::read(&program).unwrap();
    let interpreter: &[u8] = b"/ld-linux";
    assert!(!elf.windows(interpreter.len()).any(|window| window == interpreter), "it is not static");
    program
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

/// By attack: outcome and detail. And whether the canary resolver was asked.
type Outcomes = (BTreeMap<String, (String, String)>, bool);

/// Runs the probe in an environment without `weaken`; outcomes by attack, and whether the canary resolver was asked.
async fn run(weaken: &[Weakness], only: &[&str]) -> Outcomes {
    run_as(None, weaken, only).await
}

/// The same, in a service's root as this user if given.
async fn run_as(service: Option<u32>, weaken: &[Weakness], only: &[&str]) -> Outcomes {
    let mut stage = Stage::new();
    let host = lay_out(&mut stage);
    if service.is_some() {
        with_root(&mut stage);
        for path in ["/run/probe", "/read-only"] {
            stage.spec.mounts.push(share(path.as_ref(), true));
        }
    }
    stage.spec.weaken = weaken.iter().copied().collect::<BTreeSet<_>>();
    let connection = stage.up().await;
    let mut arguments = host.arguments.clone();
    if !only.is_empty() {
        arguments.push(format!("only={}", only.join(",")));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let request = match service {
        Some(uid) => in_root("probe", uid, &arguments),
        None => request("probe", &arguments, Stdio::Journal),
    };
    connection.exec(request).await.unwrap();
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

/// Each attack with what is left out for it to succeed: that is what holds it. Where two are named, either holds it.
const HELD_BY_US: &[(&[Weakness], &[&str])] = &[
    (&[CleanEnv, Undumpable], &["environments"]),
    (
        &[Undumpable],
        &[
            "init_memory",
            "init_maps",
            "init_descriptors",
            "init_ptrace",
            "init_getfd",
            "init_namespaces",
            "init_root",
        ],
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
            "bpf",
            "vsock",
            "kernel_crypto",
            "can_bus",
        ],
    ),
    (&[Seccomp, DropCapabilities], &["reboot"]),
    (&[NetworkNamespace], &["abstract_socket", "host_loopback"]),
    (&[OwnProc], &["host_processes"]),
    (&[IpcNamespace], &["shared_memory"]),
    (&[HostnameNamespace], &["host_name"]),
    (&[DropCapabilities], &["capabilities", "interface", "remount", "mount_over", "drop_groups"]),
    (&[IdentityMap, DropCapabilities], &["become_root", "core_pattern", "modprobe_path", "sysrq"]),
    (&[NoNewPrivileges], &["new_privileges"]),
    (&[CloseOnExec], &["inherited_descriptors"]),
    (&[ReadOnlySystem], &["read_only_bind", "system_directory"]),
    (&[ReadOnlyRoot], &["root_directory"]),
    (&[ReadOnlyRoot, TmpLimit], &["fill_run"]),
    (&[PrivateRoot], &["host_file", "host_socket"]),
    (&[PivotRoot, DropCapabilities], &["chroot_escape"]),
    (&[OwnDevices], &["devices"]),
    (&[ProcessLimit], &["fork_bomb"]),
    (&[MemoryLimit], &["memory_bomb"]),
    (&[TmpLimit], &["fill_tmp", "fill_shm"]),
    (&[FileLimit], &["huge_file"]),
    (&[CoreLimit], &["core_dump"]),
    (&[DnsFilter], &["dns_labels"]),
    (&[LayerPaths], &["layer_paths"]),
];

/// Attacks that the kernel refuses to everybody in a user namespace that is not the first, whatever we leave out, and
/// by which of its own checks.
const HELD_BY_THE_KERNEL: &[(&str, &str)] = &[
    ("kernel_memory", "/proc/kcore wants CAP_SYS_RAWIO over the first user namespace"),
    ("kernel_log", "/proc/kmsg wants CAP_SYSLOG over the first user namespace"),
    ("make_device", "device nodes want CAP_MKNOD over the first user namespace"),
    ("whiteout_forgery", "trusted.* attributes want CAP_SYS_ADMIN over the first user namespace"),
    ("modules", "CAP_SYS_MODULE over the first user namespace"),
    ("kexec", "CAP_SYS_BOOT over the first user namespace"),
    ("swap", "CAP_SYS_ADMIN over the first user namespace"),
    ("raise_limits", "a hard limit is raised with CAP_SYS_RESOURCE over the first user namespace"),
    ("init_executable", "a program that runs cannot be opened for writing, and it is a file of the host's"),
    ("init_nested_ptrace", "rights in a nested namespace are none over a process outside of it"),
    ("init_kill", "the first process of a pid namespace gets no signal from inside that it does not handle"),
    ("cgroup", "files of control groups belong to the host's users; a nested mount shows the same files"),
];

/// Held by the network namespace like `host_loopback`, but not shown: with it left out, packets would leave the machine
/// that tests. `dns_direct` is shown below, by the canary that hears it.
const NOT_LET_OUT: &[&str] = &["ipv4", "ipv6", "metadata", "dns_direct"];

#[tokio::test]
async fn nothing_is_reached() {
    let (outcomes, asked) = run(&[], &[]).await;
    let bad: Vec<_> = outcomes.iter().filter(|(_, (outcome, _))| outcome != "blocked").collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(!asked, "a packet left");
    let ours = HELD_BY_US.iter().flat_map(|(_, attacks)| attacks.iter());
    let kernels = HELD_BY_THE_KERNEL.iter().map(|(attack, _)| attack);
    let told: BTreeSet<&str> = ours.chain(kernels).chain(NOT_LET_OUT).copied().collect();
    let made: BTreeSet<&str> = outcomes.keys().map(String::as_str).collect();
    assert_eq!(made, told, "what holds each attack is said, and shown where it is ours");
}

/// From inside a service there is no more to reach than for the agent, whatever the service is called.
#[tokio::test]
async fn a_service_reaches_nothing_either() {
    // Its root is its own to write, and on disk; and these have no effect for one that is root in name only.
    let own = ["root_directory"];
    let nominal = ["become_root", "drop_groups", "make_device"];
    for uid in [999, 0] {
        let (outcomes, asked) = run_as(Some(uid), &[], &[]).await;
        let bad: BTreeMap<_, _> = outcomes
            .iter()
            .filter(|(attack, (outcome, _))| {
                let named = own.contains(&attack.as_str()) || uid == 0 && nominal.contains(&attack.as_str());
                outcome != if named { "reached" } else { "blocked" }
            })
            .collect();
        assert!(bad.is_empty(), "as {uid}: {bad:#?}");
        assert!(outcomes.len() >= 60 && !asked);
    }
}

/// What a kernel or machine may refuse for reasons of its own, so that leaving our defence out shows nothing there.
fn refused_anyway(attack: &str) -> bool {
    let sysctl = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
    let no_socket =
        |family: i32, kind| rustix::net::socket(AddressFamily::from_raw(family as u16), kind, None).is_err();
    let no_file = |path| !std::path::Path::new(path).exists();
    match attack {
        "sysrq" if no_file("/proc/sysrq-trigger") => true,
        "modprobe_path" if no_file("/proc/sys/kernel/modprobe") => true,
        "terminal_input" => sysctl("dev/tty/legacy_tiocsti").trim() == "0",
        "io_uring" => !matches!(sysctl("kernel/io_uring_disabled").trim(), "" | "0"),
        "perf" => sysctl("kernel/perf_event_paranoid").trim().parse().is_ok_and(|n: i32| n > 2),
        "shared_memory" => Command::new("ipcmk").arg("--version").output().is_err(),
        "bpf" => sysctl("kernel/unprivileged_bpf_disabled").trim() != "0",
        "vsock" => no_socket(libc::AF_VSOCK, SocketType::STREAM),
        "kernel_crypto" => no_socket(libc::AF_ALG, SocketType::SEQPACKET),
        "can_bus" => no_socket(libc::AF_CAN, SocketType::RAW),
        // An ordinary user may map nobody but itself, and no groups: the kernel holds these for us.
        "become_root" | "core_pattern" | "modprobe_path" | "sysrq" | "drop_groups" => {
            !rustix::process::geteuid().is_root()
        }
        _ => false,
    }
}

#[tokio::test]
async fn every_defence_is_what_holds() {
    let mut blind = Vec::new();
    for (weaken, attacks) in HELD_BY_US {
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

/// With everything of ours left out at once that does not make the probe a process of the host: the kernel still holds.
#[tokio::test]
async fn the_kernel_holds_the_rest() {
    let attacks: Vec<&str> = HELD_BY_THE_KERNEL.iter().map(|(attack, _)| *attack).collect();
    let left_out = [Seccomp, DropCapabilities, NoNewPrivileges, Undumpable, ReadOnlySystem, ReadOnlyRoot];
    let (outcomes, _) = run(&left_out, &attacks).await;
    let reached: Vec<_> = outcomes.iter().filter(|(_, (outcome, _))| outcome != "blocked").collect();
    assert!(reached.is_empty(), "these are held by us and want a switch: {reached:#?}");
}
