//! The one way git is started on the host.
//!
//! Invariants: the environment is empty but for what stands here; no hook, filter, pager, editor, helper, external
//! diff or transport of any configuration runs; each run has a time limit, an output limit, and leaves one trace
//! record. Every other module of this crate builds a [`Git`]. Whoever needs a repository's filters off in a work
//! tree adds [`Git::without_filters`]. Does not interpret output.

use std::{
    ffi::{OsStr, OsString},
    io::{Read, Write},
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, setpriority_process, waitid},
};

use crate::path::clean;

/// Why a run of git gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git to start.
    #[error("git is not installed, or not in PATH")]
    Missing(#[source] std::io::Error),
    /// The installed git lacks `merge-tree --write-tree`.
    #[error("git {found} is too old: Offshoot needs 2.38 or newer (for merge-tree --write-tree)")]
    TooOld {
        /// What `git --version` says.
        found: String,
    },
    /// The process could not be started or waited for.
    #[error("git {operation} could not be run")]
    Start {
        /// The subcommand.
        operation: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Git ended with an error.
    #[error("git {operation} failed: {stderr}")]
    Failed {
        /// The subcommand.
        operation: String,
        /// The exit code; none if a signal ended it.
        code: Option<i32>,
        /// The end of what it wrote to standard error, cleaned.
        stderr: String,
    },
    /// The time limit was reached; the process group has been ended.
    #[error("git {operation} was ended after {} s", limit.as_secs())]
    TimedOut {
        /// The subcommand.
        operation: String,
        /// The limit.
        limit: Duration,
    },
    /// The output limit was reached; the process group has been ended.
    #[error("git {operation} wrote more than {limit} bytes")]
    TooMuch {
        /// The subcommand.
        operation: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// Git's answer is not of the documented form.
    #[error("git {operation} answered in an unknown form: {answer}")]
    Unexpected {
        /// The subcommand.
        operation: &'static str,
        /// The beginning of the answer, cleaned.
        answer: String,
    },
    /// A file that belongs to a repository could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl GitError {
    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn unexpected(operation: &'static str, answer: &[u8]) -> Self {
        Self::Unexpected { operation, answer: clean(&answer[..answer.len().min(200)]) }
    }
}

/// What a run of git left behind.
#[derive(Debug)]
pub(crate) struct Output {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    /// The end of standard error, cleaned, at most 4 KiB.
    pub stderr: String,
    /// Whether the output limit cut `stdout` (only where [`Git::truncate`] was asked for).
    pub truncated: bool,
}

enum Input<'a> {
    Nothing,
    Bytes(Vec<u8>),
    Stream(&'a mut (dyn Read + Send)),
}

/// One run of git, being put together.
pub(crate) struct Git<'a> {
    global: Vec<OsString>,
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    cwd: PathBuf,
    limit: Duration,
    cap: usize,
    truncate: bool,
    memory: Option<u64>,
    background: bool,
    input: Input<'a>,
}

/// Long enough for any question to a large repository on a busy machine; what moves objects asks for more.
const LIMIT: Duration = Duration::from_secs(60);
/// Enough for a list of a million names; what shows content asks for its own.
const CAP: usize = 256 << 20;
/// Of priorities (`setpriority(2)`).
const LOWEST: i32 = 19;
/// What is read at a time: what a pipe holds.
const CHUNK: usize = 64 << 10;
/// How often a command is tried again that met a worktree in the making, and the pause: git is there within a millisecond, a
/// loaded machine within a second.
const HALF_MADE: u32 = 50;
const HALF_MADE_PAUSE: Duration = Duration::from_millis(20);
/// What is kept of standard error.
const STDERR: usize = 4 << 10;

/// Given to every run before its subcommand. Each line takes away something that git would start or ask.
const CONFIG: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.alternateRefsCommand=:",
    "core.askPass=",
    "core.editor=false",
    "core.sshCommand=false",
    "core.pager=cat",
    "core.quotePath=true",
    "credential.helper=",
    "gc.auto=0",
    "gc.autoDetach=false",
    "maintenance.auto=false",
    "commit.gpgSign=false",
    "gpg.program=false",
    "log.showSignature=false",
    "diff.external=",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "fetch.fsckObjects=true",
    "fetch.writeCommitGraph=false",
    "transfer.bundleURI=false",
    "protocol.allow=never",
    "protocol.file.allow=always",
    "advice.graftFileDeprecated=false",
];

impl<'a> Git<'a> {
    fn bare() -> Self {
        let mut global: Vec<OsString> =
            ["--no-pager", "--no-optional-locks", "--no-replace-objects", "--literal-pathspecs"]
                .map(Into::into)
                .into();
        for setting in CONFIG {
            global.extend(["-c".into(), OsString::from(setting)]);
        }
        Self {
            global,
            args: Vec::new(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            limit: LIMIT,
            cap: CAP,
            truncate: false,
            memory: None,
            background: false,
            input: Input::Nothing,
        }
    }

    /// In the repository whose git directory this is.
    pub fn at(git_dir: &Path) -> Self {
        let mut git = Self::bare();
        git.cwd = git_dir.to_owned();
        git.global.push(joined("--git-dir=", git_dir.as_os_str()));
        git
    }

    /// Wherever git itself finds a repository from `dir` on, with the user's own configuration: for looking up where
    /// the repository is (which honours `safe.directory`) and who the user is. For subcommands that run nothing only.
    pub fn as_user(dir: &Path) -> Self {
        let mut git = Self::bare();
        git.cwd = dir.to_owned();
        for name in ["HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"] {
            if let Some(value) = std::env::var_os(name) {
                git.env.push((name, value));
            }
        }
        if !git.env.iter().any(|(name, _)| *name == "GIT_CONFIG_GLOBAL") {
            git.env.push(("GIT_CONFIG_GLOBAL", OsString::new()));
        }
        git.env.push(("GIT_CONFIG_NOSYSTEM", "0".into()));
        git
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub fn config(mut self, setting: impl AsRef<OsStr>) -> Self {
        self.global.extend(["-c".into(), setting.as_ref().to_owned()]);
        self
    }

    pub fn option(mut self, option: impl AsRef<OsStr>) -> Self {
        self.global.push(option.as_ref().to_owned());
        self
    }

    pub fn work_tree(mut self, root: &Path) -> Self {
        self.global.push(joined("--work-tree=", root.as_os_str()));
        self.cwd = root.to_owned();
        self
    }

    pub fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name, value.as_ref().to_owned()));
        self
    }

    /// Objects are written to `primary` and also read from `alternate`.
    pub fn objects(self, primary: &Path, alternate: &Path) -> Self {
        self.env("GIT_OBJECT_DIRECTORY", primary)
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted_for_path_list(alternate))
    }

    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub fn cap(mut self, bytes: usize) -> Self {
        self.cap = bytes;
        self
    }

    /// Reaching the output limit is an answer, not an error.
    pub fn truncate(mut self, bytes: usize) -> Self {
        self.truncate = true;
        self.cap(bytes)
    }

    /// Address space of the process, for input that may be made to exhaust memory.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Nobody waits for it: it runs when nothing else wants to.
    pub fn background(mut self) -> Self {
        self.background = true;
        self
    }

    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    pub fn stream(self, input: &mut (dyn Read + Send)) -> Git<'_> {
        Git { input: Input::Stream(input), ..self }
    }

    /// Turns off each of these filter drivers; an attribute that names one then means nothing.
    pub fn without_filters(mut self, drivers: &[OsString]) -> Self {
        for driver in drivers {
            for (key, value) in [("smudge", ""), ("clean", ""), ("process", ""), ("required", "false")] {
                let mut setting = OsString::from("filter.");
                setting.push(driver);
                setting.push(format!(".{key}={value}"));
                self = self.config(setting);
            }
        }
        self
    }

    /// Runs it; any exit code is an answer.
    pub fn run(self) -> Result<Output, GitError> {
        check_version()?;
        self.run_unchecked()
    }

    /// Runs it; any exit code but 0 is an error.
    pub fn ok(self) -> Result<Output, GitError> {
        let operation = self.operation();
        let output = self.run()?;
        if output.code == Some(0) || output.truncated {
            return Ok(output);
        }
        Err(GitError::Failed { operation, code: output.code, stderr: output.stderr })
    }

    /// What it printed, without the newline at its end.
    pub fn line(self) -> Result<Vec<u8>, GitError> {
        let mut stdout = self.ok()?.stdout;
        if stdout.last() == Some(&b'\n') {
            stdout.pop();
        }
        Ok(stdout)
    }

    fn operation(&self) -> String {
        self.args.first().map(|arg| clean(arg.as_encoded_bytes())).unwrap_or_default()
    }

    fn run_unchecked(mut self) -> Result<Output, GitError> {
        for _ in 0..HALF_MADE {
            let again = match &self.input {
                Input::Nothing => Input::Nothing,
                Input::Bytes(bytes) => Input::Bytes(bytes.clone()),
                Input::Stream(_) => break,
            };
            let output = self.once()?;
            if !met_half_made(&output) {
                return Ok(output);
            }
            thread::sleep(HALF_MADE_PAUSE);
            self.input = again;
        }
        self.once()
    }

    fn once(&mut self) -> Result<Output, GitError> {
        let operation = self.operation();
        let started = Instant::now();
        let mut command = self.command();
        let child = command.spawn().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound if self.cwd.is_dir() => GitError::Missing(source),
            _ => GitError::Start { operation: operation.clone(), source },
        })?;
        if self.background {
            // Best effort: it is no slower for anybody else if this fails.
            let _ = setpriority_process(Some(Pid::from_child(&child)), LOWEST);
        }
        let Self { ref args, ref cwd, limit, cap, truncate, .. } = *self;
        let input = std::mem::replace(&mut self.input, Input::Nothing);
        let ended = attend(child, input, cap, limit)
            .map_err(|source| GitError::Start { operation: operation.clone(), source })?;
        tracing::debug!(
            target: "offshoot::git",
            argv = %clean(args.join(OsStr::new(" ")).as_encoded_bytes()),
            cwd = %cwd.display(),
            ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            exit = ended.output.code,
            "git"
        );
        if ended.timed_out {
            return Err(GitError::TimedOut { operation, limit });
        }
        if ended.output.truncated && !truncate {
            return Err(GitError::TooMuch { operation, limit: cap });
        }
        Ok(ended.output)
    }

    fn command(&self) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let mut command = match self.memory {
            // By its whole path: only then the standard library need not copy this process to start another.
            None => Command::new(found_on(&path).unwrap_or_else(|| "git".into())),
            Some(bytes) => {
                let mut command = Command::new("sh");
                let script = "ulimit -v \"$1\" 2>/dev/null; shift; exec git \"$@\"";
                command.args(["-c", script, "sh", &(bytes >> 10).to_string()]);
                command
            }
        };
        command
            .args(&self.global)
            .args(&self.args)
            .env_clear()
            .envs([
                ("LANG", "C.UTF-8"),
                ("HOME", "/nonexistent"),
                ("GIT_CONFIG_NOSYSTEM", "1"),
                ("GIT_CONFIG_GLOBAL", "/dev/null"),
                ("GIT_ATTR_NOSYSTEM", "1"),
                ("GIT_TERMINAL_PROMPT", "0"),
                ("GIT_NO_LAZY_FETCH", "1"),
                ("GIT_LFS_SKIP_SMUDGE", "1"),
                ("GIT_GRAFT_FILE", "/dev/null"),
                ("GIT_ASKPASS", "false"),
                ("SSH_ASKPASS", "false"),
                ("GIT_EDITOR", "false"),
                ("GIT_SEQUENCE_EDITOR", "false"),
            ])
            .env("PATH", path)
            .current_dir(&self.cwd)
            .stdin(if matches!(self.input, Input::Nothing) { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        for (name, value) in &self.env {
            if value.is_empty() {
                command.env_remove(name)
            } else {
                command.env(name, value)
            };
        }
        command
    }
}

/// Whether git read what another git was just writing: a worktree in the making has a file `commondir` that is empty for
/// a moment, and whoever goes through all worktrees then gives up. It has changed nothing by then.
fn met_half_made(output: &Output) -> bool {
    output.code == Some(128)
        && output.stderr.contains("failed to read ")
        && output.stderr.contains("/commondir: ")
}

struct Ended {
    output: Output,
    timed_out: bool,
}

/// Feeds, reads, bounds and reaps a process that leads its own group.
fn attend(mut child: Child, input: Input<'_>, cap: usize, limit: Duration) -> std::io::Result<Ended> {
    let pid = Pid::from_child(&child);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let end_group = move || {
        let _ = kill_process_group(pid, Signal::KILL);
    };
    let deadline = Instant::now().checked_add(limit);
    let (output, timed_out) = thread::scope(|scope| {
        if let Some(mut stdin) = stdin {
            scope.spawn(move || match input {
                Input::Nothing => {}
                // A process that does not read to the end says so by its exit code.
                Input::Bytes(bytes) => drop(stdin.write_all(&bytes)),
                Input::Stream(stream) => drop(std::io::copy(stream, &mut stdin)),
            });
        }
        let mut timed_out = false;
        let output = read_both(stdout, stderr, cap, deadline, &end_group, &mut timed_out);
        if output.is_err() {
            end_group();
        }
        // The group is ended only while its leader is not reaped, so its number cannot be somebody else's.
        timed_out |= !await_exit(pid, deadline, &end_group);
        (output, timed_out)
    });
    let status = child.wait()?;
    let (stdout, stderr, truncated) = output?;
    let stderr = clean(stderr.trim_ascii());
    Ok(Ended { output: Output { code: status.code(), stdout, stderr, truncated }, timed_out })
}

/// The first `cap` bytes of one stream, the last few KiB of the other, and whether there was more of the first; then, and
/// when the time is over, whoever writes is ended.
fn read_both(
    mut stdout: Option<ChildStdout>,
    mut stderr: Option<ChildStderr>,
    cap: usize,
    deadline: Option<Instant>,
    end: &impl Fn(),
    timed_out: &mut bool,
) -> std::io::Result<(Vec<u8>, Vec<u8>, bool)> {
    let (mut head, mut tail, mut over) = (Vec::new(), Vec::new(), false);
    let mut chunk = vec![0; CHUNK];
    while stdout.is_some() || stderr.is_some() {
        let mut fds: Vec<_> = [stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)]
            .into_iter()
            .flatten()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let left = deadline.filter(|_| !*timed_out).map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 }));
        match poll(&mut fds, left.as_ref()) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        if !*timed_out && deadline.is_some_and(|at| at <= Instant::now()) {
            *timed_out = true;
            end();
        }
        let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let first = usize::from(stdout.is_some());
        if ready.first() == Some(&true)
            && let Some(from) = &mut stdout
        {
            let n = from.read(&mut chunk)?;
            let room = cap.saturating_sub(head.len());
            head.extend_from_slice(&chunk[..n.min(room)]);
            if n > room && !over {
                over = true;
                end();
            }
            if n == 0 {
                stdout = None;
            }
        }
        if ready.get(first) == Some(&true)
            && let Some(from) = &mut stderr
        {
            let n = from.read(&mut chunk)?;
            tail.extend_from_slice(&chunk[..n]);
            tail.drain(..tail.len().saturating_sub(STDERR));
            if n == 0 {
                stderr = None;
            }
        }
    }
    Ok((head, tail, over))
}

/// Waits, without reaping, for the end of a process that has closed its output; whether it came in time.
fn await_exit(pid: Pid, deadline: Option<Instant>, end: &(impl Fn() + Sync)) -> bool {
    let ended = |options: WaitIdOptions| loop {
        match waitid(WaitId::Pid(pid), options | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(Errno::INTR) => {}
            result => return result.is_ok_and(|status| status.is_some()),
        }
    };
    if ended(WaitIdOptions::NOHANG) {
        return true;
    }
    let (done, wait_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let watchdog = scope.spawn(move || {
            let left = deadline.map_or(LIMIT, |at| at.saturating_duration_since(Instant::now()));
            let timed_out = wait_done.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout);
            if timed_out {
                end();
            }
            timed_out
        });
        ended(WaitIdOptions::empty());
        drop(done);
        !watchdog.join().unwrap_or(false)
    })
}

/// Where the first git of a search path is.
fn found_on(path: &OsStr) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    std::env::split_paths(path).filter(|dir| dir.is_absolute()).map(|dir| dir.join("git")).find(|file| {
        file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

fn joined(prefix: &str, rest: &OsStr) -> OsString {
    let mut joined = OsString::from(prefix);
    joined.push(rest);
    joined
}

/// A path as an entry of a colon-separated list; git undoes C-style quotes there.
pub(crate) fn quoted_for_path_list(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = path.as_os_str().as_bytes();
    if !bytes.iter().any(|b| matches!(b, b':' | b'"' | b'\n')) {
        return path.as_os_str().to_owned();
    }
    let mut quoted = vec![b'"'];
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => quoted.extend([b'\\', byte]),
            b'\n' => quoted.extend(b"\\n"),
            _ => quoted.push(byte),
        }
    }
    quoted.push(b'"');
    OsString::from_vec(quoted)
}

/// Major and minor number of the installed git, looked up once.
pub(crate) fn version() -> Result<(u32, u32), GitError> {
    static VERSION: OnceLock<((u32, u32), String)> = OnceLock::new();
    let ((major, minor), text) = match VERSION.get() {
        Some(known) => known,
        None => {
            let out = Git::bare().arg("version").run_unchecked()?;
            let text = clean(out.stdout.trim_ascii());
            let number = text.trim_start_matches("git version ").to_owned();
            let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
            let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
            VERSION.get_or_init(|| (version, number))
        }
    };
    if (*major, *minor) < (2, 38) {
        return Err(GitError::TooOld { found: text.clone() });
    }
    Ok((*major, *minor))
}

/// Whether there is a git here, and one that is new enough.
pub fn check_version() -> Result<(), GitError> {
    version().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_end_the_process() {
        let child = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.process_group(0).spawn().unwrap()
        };
        // The grandchild holds the pipes; it goes with the group.
        let started = Instant::now();
        let ended =
            attend(child("sleep 300 & sleep 300"), Input::Nothing, 10, Duration::from_millis(50)).unwrap();
        assert!(ended.timed_out && ended.output.code.is_none());
        let ended = attend(child("yes"), Input::Nothing, 1000, Duration::from_secs(60)).unwrap();
        assert!(ended.output.truncated && ended.output.stdout.len() == 1000);
        let ended =
            attend(child("cat >&2"), Input::Bytes(b"a\x1b[1m".into()), 10, Duration::from_secs(60)).unwrap();
        assert_eq!(ended.output.stderr, "a\\u{1b}[1m");
        assert!(started.elapsed() < Duration::from_secs(50));
    }

    #[test]
    fn lists_of_paths_survive_colons() {
        assert_eq!(quoted_for_path_list(Path::new("/a b")), "/a b");
        assert_eq!(quoted_for_path_list(Path::new("/a:\"b\\")), "\"/a:\\\"b\\\\\"");
    }
}
