//! A home of its own for each test: a repository, a state directory, and a real daemon as a child process, so that its
//! death is an event. When it is dropped nothing runs any more, whatever happened.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use offshoot_testkit::repo::TestRepo;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    http::{self, Answer, Events, PATIENCE},
    leaks,
};

pub struct Stage {
    dir: TempDir,
    /// The user's repository.
    pub repo: PathBuf,
    bins: Arc<TempDir>,
    daemon: RefCell<Option<Child>>,
    closed: RefCell<bool>,
    variables: RefCell<Vec<(String, String)>>,
}

impl Stage {
    pub fn new() -> Self {
        Self::in_dir(tempfile::Builder::new().prefix("o").tempdir_in("/tmp").unwrap())
    }

    pub fn in_dir(dir: TempDir) -> Self {
        let repo = TestRepo::small(&dir.path().join("r")).unwrap();
        // So that commits, and what is named after them, are this stage's only.
        repo.write("stage.txt", &dir.path().display().to_string()).unwrap();
        repo.commit("Stage").unwrap();
        Self {
            repo: repo.path().to_owned(),
            dir,
            bins: binaries(),
            daemon: RefCell::new(None),
            closed: RefCell::new(false),
            variables: RefCell::default(),
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    pub fn socket(&self) -> PathBuf {
        self.state().join("daemon.sock")
    }

    /// The user's `config.toml`.
    pub fn configure(&self, text: &str) {
        fs::write(self.dir.path().join("c.toml"), text).unwrap();
    }

    /// A further variable of what is started from now on.
    pub fn variable(&self, name: &str, value: &str) {
        self.variables.borrow_mut().push((name.to_owned(), value.to_owned()));
    }

    /// A command with the stage's own variables.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.repo)
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.bins.path().display()))
            .env("OFFSHOOT_STATE_DIR", self.state())
            .env("OFFSHOOT_CONFIG", self.dir.path().join("c.toml"))
            .envs(self.variables.borrow().iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// git in the user's repository; what it printed, without the last newline.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = self.command("git").args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// A file of the user's checkout.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.repo.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The offshoot command line. It starts a daemon if there is none.
    pub fn offshoot(&self, arguments: &[&str]) -> std::process::Output {
        self.command("offshoot").args(arguments).output().unwrap()
    }

    /// Starts the daemon, with a fault if there is one.
    #[track_caller]
    pub fn start(&self, fault: Option<&str>) {
        self.try_start(fault).unwrap_or_else(|said| panic!("the daemon did not start: {said}"));
    }

    /// The same; what it said instead of being ready.
    pub fn try_start(&self, fault: Option<&str>) -> Result<(), String> {
        let mut command = self.command("offshoot");
        command.arg("__daemon").arg(self.state()).arg(self.dir.path().join("c.toml"));
        if let Some(fault) = fault {
            command.env("OFFSHOOT_FAULT", fault);
        }
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0).spawn().unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        if said.trim() == "ready" {
            *self.daemon.borrow_mut() = Some(child);
            return Ok(());
        }
        let status = child.wait().unwrap();
        Err(format!("{status} {said}"))
    }

    /// Waits for the daemon's end.
    #[track_caller]
    pub fn ended(&self) -> ExitStatus {
        let mut daemon = self.daemon.borrow_mut().take().expect("no daemon");
        let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap()).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let time = Timespec { tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap(), tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&time)).unwrap();
        if ready == 0 {
            let log = self.log();
            let _ = daemon.kill();
            let _ = daemon.wait();
            panic!("the daemon does not end\n{log}");
        }
        daemon.wait().unwrap()
    }

    /// Waits until the daemon met its fault.
    #[track_caller]
    pub fn died(&self) {
        assert_eq!(self.ended().signal(), Some(6), "not by the fault\n{}", self.log());
    }

    /// `kill -9`
    pub fn kill(&self) {
        if let Some(daemon) = self.daemon.borrow_mut().as_mut() {
            let _ = daemon.kill();
        }
        self.ended();
    }

    /// Stops the daemon as `offshoot daemon stop` does.
    #[track_caller]
    pub fn stop(&self) {
        self.post("/v1/daemon/stop", json!({})).ok();
        assert!(self.ended().success());
    }

    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Answer> {
        http::request(&self.socket(), method, path, body)
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Answer {
        self.request("POST", path, Some(&body)).unwrap_or_else(|e| panic!("{path}: {e}\n{}", self.log()))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, None).unwrap_or_else(|e| panic!("{path}: {e}\n{}", self.log()))
    }

    /// What a task is made from.
    pub fn params(&self, name: &str, prompt: &str) -> Value {
        json!({ "path": self.repo, "prompt": prompt, "agent": "scripted", "name": name })
    }

    /// A new task for the scripted agent.
    #[track_caller]
    pub fn dispatch(&self, name: &str, prompt: &str) -> Value {
        self.post("/v1/tasks", self.params(name, prompt)).ok()
    }

    #[track_caller]
    pub fn task(&self, name: &str) -> Value {
        self.get(&format!("/v1/tasks/{name}")).ok()["task"].clone()
    }

    /// Waits for an entry of the log; returns it.
    #[track_caller]
    pub fn wait(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let mut events = Events::follow(&self.socket(), 0).unwrap();
        loop {
            match events.next() {
                Ok(entry) if wanted(&entry) => return entry,
                Ok(_) => {}
                Err(error) => panic!("no {what}: {error}\n{}", self.log()),
            }
        }
    }

    /// The same with a daemon that may die meanwhile: `false` if it did.
    pub fn wait_if_it_lives(&self, mut wanted: impl FnMut(&Value) -> bool) -> bool {
        let Ok(mut events) = Events::follow(&self.socket(), 0) else { return false };
        loop {
            match events.next() {
                Ok(entry) if wanted(&entry) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("nothing happens\n{}", self.log())
                }
                Err(_) => return false,
            }
        }
    }

    /// Waits until the newest of the task's `runs` runs is over; the task.
    #[track_caller]
    pub fn over(&self, name: &str, runs: usize) -> Value {
        let id = self.task(name)["id"].clone();
        let mut ended = 0;
        self.wait("end of the run", |entry| {
            ended += usize::from(entry["task"] == id && entry["event"]["type"] == "run_ended");
            ended == runs
        });
        self.task(name)
    }

    /// All entries of the log.
    pub fn entries(&self) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let page = self.get(&format!("/v1/events?limit=5000&after={}", all.len())).ok();
            let entries = page["entries"].as_array().unwrap();
            if entries.is_empty() {
                return all;
            }
            all.extend(entries.iter().cloned());
        }
    }

    /// Starts a command in a task's environment.
    #[track_caller]
    pub fn exec(&self, task: &str, script: &str) -> String {
        let body = json!({ "argv": ["sh", "-c", script] });
        let exec = self.post(&format!("/v1/tasks/{task}/exec"), body).ok();
        exec["exec"].as_str().unwrap().to_owned()
    }

    /// Everything a command wrote, and its exit code.
    #[track_caller]
    pub fn output(&self, task: &str, exec: &str) -> (String, Option<i64>) {
        http::output(&self.socket(), task, exec, None)
            .unwrap_or_else(|e| panic!("{exec}: {e}\n{}", self.log()))
    }

    /// A task's environment on the host.
    #[track_caller]
    pub fn environment(&self, task: &str) -> PathBuf {
        let id = self.task(task)["environment"]["id"].as_str().unwrap().to_owned();
        self.state().join("environments").join(id)
    }

    pub fn shim(&self, task: &str) -> Pid {
        pid_in(&self.environment(task)).unwrap()
    }

    /// The end of the daemon's log.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.state().join("daemon.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Everything of the user's repository that no run may change: bytes and modes of its files and of its git
    /// directory, but for objects and the branches of tasks.
    pub fn fingerprint(&self) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut pending = vec![self.repo.clone()];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(&dir).unwrap().flatten() {
                let path = entry.path();
                let name = path.strip_prefix(&self.repo).unwrap().to_string_lossy().into_owned();
                let own = [".git/objects", ".git/refs/heads/offshoot", ".git/logs/refs/heads/offshoot"];
                if own.contains(&name.as_str()) {
                    continue;
                }
                let meta = fs::symlink_metadata(&path).unwrap();
                let bytes = if meta.is_dir() {
                    pending.push(path);
                    Vec::new()
                } else if meta.is_symlink() {
                    fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
                } else {
                    fs::read(&path).unwrap()
                };
                found.insert(name, (meta.permissions().mode(), bytes));
            }
        }
        found
    }

    #[track_caller]
    pub fn unchanged(&self, before: &BTreeMap<String, (u32, Vec<u8>)>) {
        let after = self.fingerprint();
        let names: Vec<_> =
            before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name)).collect();
        assert!(names.is_empty(), "changed in the user's repository: {names:?}");
    }

    /// Throws every task away and stops the daemon; then nothing of all this may be left.
    #[track_caller]
    pub fn close(&self) {
        let seen = leaks::Seen::of(self);
        let tasks = self.get("/v1/tasks").ok();
        for view in tasks["tasks"].as_array().unwrap() {
            let id = view["task"]["id"].as_str().unwrap();
            self.post(&format!("/v1/tasks/{id}/discard"), json!({ "force": true })).ok();
        }
        self.stop();
        let left = seen.left(self);
        assert!(left.is_empty(), "left behind:\n{}\n{}", left.join("\n"), self.log());
        *self.closed.borrow_mut() = true;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.borrow_mut().take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if *self.closed.borrow() {
            return;
        }
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "end of the daemon's log:\n{}", self.log());
        }
        for dir in self.sandboxes() {
            if let Some(pid) = pid_in(&dir) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            let from = Instant::now();
            while offshoot_sandbox::cleanup(&dir).is_err() && from.elapsed() < Duration::from_secs(5) {
                std::thread::yield_now();
            }
        }
        let _ = offshoot_environment::remove::tree(&self.state());
    }
}

impl Stage {
    /// Directories in which a sandbox runs or ran.
    pub fn sandboxes(&self) -> Vec<PathBuf> {
        let list = |dir: &Path| -> Vec<PathBuf> {
            fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect()
        };
        let mut all = list(&self.state().join("environments"));
        for project in list(&self.state().join("projects")) {
            all.extend(list(&project.join("building")));
        }
        all
    }
}

/// The shim that an environment's directory names.
pub fn pid_in(dir: &Path) -> Option<Pid> {
    Pid::from_raw(fs::read_to_string(dir.join("pid")).ok()?.trim().parse().ok()?)
}

/// A directory with the two programs, readable by everybody; the same bytes for the whole suite, even if they are built
/// anew meanwhile.
pub fn binaries() -> Arc<TempDir> {
    static BINS: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut bins = BINS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(dir) = bins.upgrade() {
        return dir;
    }
    let dir = tempfile::Builder::new().prefix("ob").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["offshoot", "offshoot-scripted-agent"] {
        let (from, to) = (built(name), dir.path().join(name));
        place(&from, &to);
    }
    let dir = Arc::new(dir);
    *bins = Arc::downgrade(&dir);
    dir
}

/// A program at another place. Written by a process of its own: one that is started by this process meanwhile would
/// hold the file open for writing, and nothing can execute it then.
pub fn place(from: &Path, to: &Path) {
    if fs::hard_link(from, to).is_err() {
        assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
    }
}

/// A program of the workspace: beside this one; built if only this crate's tests were asked for.
fn built(name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os("OFFSHOOT_BIN") {
        return Path::new(&path).with_file_name(name);
    }
    let exe = std::env::current_exe().unwrap();
    let profile = exe.ancestors().nth(2).unwrap();
    let path = profile.join(name);
    if !path.exists() {
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        build.args([
            "build",
            "--quiet",
            "-p",
            "offshoot",
            "-p",
            "offshoot-testkit",
            "--bins",
            "--target-dir",
        ]);
        build.arg(profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success());
    }
    path
}
