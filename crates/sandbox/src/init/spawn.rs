//! Starts one process inside: own session, clean signal state, the environment it was given and nothing else. One that
//! gets a root of its own is started in a role that changes there first (`enter`); one that is kept together with what it
//! starts, by its keeper (`keep`).

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Command, Stdio},
};

use rustix::{
    fs::OFlags,
    net::{AddressFamily, SocketFlags, SocketType},
    pipe::PipeFlags,
    pty::OpenptFlags,
    termios::{Winsize, tcsetwinsize},
};

use super::keep;
use crate::{
    enter::Entering,
    message::{ExecRoot, Refusal, Start, Tree},
    sys::{self, Cloned},
};

/// What to start.
pub(super) struct Program {
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: String,
    pub terminal: Option<(u16, u16)>,
    pub root: Option<ExecRoot>,
    pub tree: Option<Tree>,
}

impl Program {
    /// In `workdir` if nothing else was said and it has no root of its own.
    pub fn new(start: Start, terminal: Option<(u16, u16)>, workdir: &str) -> Self {
        let Start { argv, env, cwd, root, tree } = start;
        let usual = if root.is_some() || workdir.is_empty() { "/" } else { workdir };
        Self { argv, env, cwd: cwd.unwrap_or_else(|| usual.to_owned()), terminal, root, tree }
    }

    /// The command that is, or becomes, this program. `tell` is what it says on why it did not become it.
    pub fn command(&self, exe: Option<&OwnedFd>, tell: Option<OwnedFd>) -> io::Result<Command> {
        let (name, arguments) = self.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let cwd = &self.cwd;
        if let (Some(root), Some(tell)) = (&self.root, tell) {
            let gone = || io::Error::other("this version of offshoot is not installed any more");
            let (argv, env, cwd) = (self.argv.clone(), self.env.clone(), cwd.into());
            return Entering { root: root.clone(), argv, env, cwd }.command(exe.ok_or_else(gone)?, tell);
        }
        if !Path::new(cwd).is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no directory {cwd} inside")));
        }
        let mut command = Command::new(name);
        command.args(arguments).env_clear().envs(&self.env).current_dir(cwd);
        Ok(command)
    }

    /// Why it was not started.
    pub fn refusal(&self, error: &io::Error) -> Refusal {
        let text = format!("{}: {error}", self.argv.first().map_or("", String::as_str));
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Refusal::NotFound(text),
            _ => Refusal::System(text),
        }
    }
}

/// A started process.
pub(super) struct Started {
    pub pid: u32,
    /// The master side of its terminal.
    pub master: Option<OwnedFd>,
    /// Ends when the program runs, or says why it does not. None when it runs already.
    pub tell: Option<OwnedFd>,
    /// The line to its keeper.
    pub line: Option<OwnedFd>,
}

/// Starts a program on the given standard descriptors, or on a new terminal.
pub(super) fn spawn(program: &Program, fds: Vec<OwnedFd>, exe: Option<&OwnedFd>) -> io::Result<Started> {
    let (master, fds) = match program.terminal {
        None => (None, fds),
        Some((rows, cols)) => {
            let (master, slave) = open_terminal(rows, cols)?;
            (Some(master), vec![slave.try_clone()?, slave.try_clone()?, slave])
        }
    };
    let standard: [OwnedFd; 3] = fds
        .try_into()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "three descriptors expected"))?;
    let (mut hear, mut tell) = (None, None);
    if program.root.is_some() || program.tree.is_some() {
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let flags = rustix::fs::fcntl_getfl(&ours)?;
        rustix::fs::fcntl_setfl(&ours, flags | OFlags::NONBLOCK)?;
        (hear, tell) = (Some(ours), Some(theirs));
    }
    if let (Some(tree), Some(tell)) = (program.tree, tell.take_if(|_| program.tree.is_some())) {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (ours, line) = rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
        return match sys::clone_into(0, None)? {
            Cloned::Child => keep::run(program, tree, standard, exe, tell, &line),
            Cloned::Parent { pid, .. } => {
                Ok(Started { pid: pid as u32, master, tell: hear, line: Some(ours) })
            }
        };
    }
    let mut command = program.command(exe, tell)?;
    connect(&mut command, standard);
    sys::own_session(&mut command, program.terminal.is_some());
    // Reaped with everybody else, by number; the handle is not needed.
    Ok(Started { pid: command.spawn()?.id(), master, tell: hear, line: None })
}

/// Gives a command its standard descriptors.
pub(super) fn connect(command: &mut Command, [stdin, stdout, stderr]: [OwnedFd; 3]) {
    command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
}

fn open_terminal(rows: u16, cols: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = OwnedFd::from(File::options().read(true).write(true).open("/dev/ptmx")?);
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    tcsetwinsize(slave.as_fd(), Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 })?;
    Ok((master, slave))
}
