//! A home of its own for each test, with a repository, a daemon started on demand, and the scripted agent on PATH. When it is
//! dropped everything is thrown away and the daemon is stopped.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use offshoot_testkit::repo::TestRepo;
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use serde_json::Value;

pub struct Stage {
    dir: tempfile::TempDir,
    pub repo: TestRepo,
    /// `offshoot`; the scripted agent is beside it.
    program: PathBuf,
}

/// Exit code, standard output, standard error.
#[must_use]
pub struct Ran(pub i32, pub String, pub String);

impl Ran {
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.0, 0, "stdout: {}\nstderr: {}", self.1, self.2);
        self.1
    }

    #[track_caller]
    pub fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// The problem of a refusal, printed with `--json`.
    #[track_caller]
    pub fn problem(self, exit: i32, code: &str) -> Value {
        assert_eq!(self.0, exit, "stdout: {}\nstderr: {}", self.1, self.2);
        let problem: Value = serde_json::from_str(self.2.trim()).unwrap();
        assert_eq!(problem["code"], code, "{problem}");
        problem
    }
}

impl Stage {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = TestRepo::small(&dir.path().join("repo")).unwrap();
        scripted_agent();
        Self { dir, repo, program: PathBuf::from(env!("CARGO_BIN_EXE_offshoot")) }
    }

    /// Copies the programs into the stage: the build directory may be one that others cannot enter.
    pub fn copy_programs(&mut self) {
        let bin = self.dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for from in [Path::new(env!("CARGO_BIN_EXE_offshoot")), scripted_agent()] {
            fs::copy(from, bin.join(from.file_name().unwrap())).unwrap();
        }
        self.program = bin.join("offshoot");
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let bin = self.program.parent().unwrap().display();
        command
            .args(arguments)
            .current_dir(self.repo.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", format!("{bin}:/usr/local/bin:/usr/bin:/bin"))
            .env("OFFSHOOT_STATE_DIR", self.state_dir())
            .env("OFFSHOOT_CONFIG", self.dir.path().join("config.toml"))
            .stdin(Stdio::null());
        command
    }

    pub fn offshoot(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).output().unwrap())
    }

    pub fn offshoot_in(&self, dir: &Path, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).current_dir(dir).output().unwrap())
    }

    pub fn with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        ran(child.wait_with_output().unwrap())
    }

    /// What the daemon answers to these bytes, up to `until` or its end.
    pub fn raw(&self, request: &str, until: &str) -> String {
        let mut stream = UnixStream::connect(self.state_dir().join("daemon.sock")).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if !until.is_empty() && text.contains(until) {
                return text;
            }
            match stream.read(&mut buffer).unwrap() {
                0 => return text,
                n => answer.extend_from_slice(&buffer[..n]),
            }
        }
    }

    /// Kills the daemon and waits until it is gone, its sockets too. Returns its former number.
    pub fn kill_daemon(&self) -> u64 {
        let pid = self.daemon_pid();
        let process = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let gone = pidfd_open(process, PidfdFlags::empty()).unwrap();
        kill_process(process, Signal::KILL).unwrap();
        poll(&mut [PollFd::new(&gone, PollFlags::IN)], None).unwrap();
        pid
    }

    pub fn daemon_pid(&self) -> u64 {
        self.offshoot(&["--json", "daemon", "status"]).json()["pid"].as_u64().unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let list = self.offshoot(&["--json", "ps"]);
        let list: Value = serde_json::from_str(&list.1).unwrap_or_default();
        for view in list["tasks"].as_array().into_iter().flatten() {
            let id = view["task"]["id"].as_str().unwrap_or_default();
            let _ = self.offshoot(&["discard", id, "--force"]);
        }
        let _ = self.offshoot(&["daemon", "stop"]);
        if std::thread::panicking() {
            let log = fs::read_to_string(self.state_dir().join("daemon.log")).unwrap_or_default();
            let end: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("end of the daemon's log:\n{}", end.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

pub fn ran(output: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran(output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The scripted agent stands beside the program; it is built if only this crate's tests were asked for.
fn scripted_agent() -> &'static Path {
    static AGENT: OnceLock<PathBuf> = OnceLock::new();
    AGENT.get_or_init(|| {
        let agent = Path::new(env!("CARGO_BIN_EXE_offshoot")).with_file_name("offshoot-scripted-agent");
        if !agent.exists() {
            let target = agent.parent().and_then(Path::parent).unwrap();
            let built = Command::new(std::env::var_os("CARGO").unwrap())
                .args(["build", "--quiet", "-p", "offshoot-testkit", "--bin", "offshoot-scripted-agent"])
                .arg("--target-dir")
                .arg(target)
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status()
                .unwrap();
            assert!(built.success());
        }
        agent
    })
}
