//! Starts one process inside: own session, clean signal state, the environment it was given and nothing else. One that
//! gets a root of its own, or a keeper, is started in a role that sees to that first (`enter`).

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Command, Stdio},
};

use rustix::{
    pty::OpenptFlags,
    termios::{Winsize, tcsetwinsize},
};

use crate::{
    enter::{Entering, Lines},
    message::{ExecRoot, Start, Tree},
    sys,
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

    /// Whether it can simply be executed.
    pub fn directly(&self) -> bool {
        self.root.is_none() && self.tree.is_none()
    }
}

/// A started process's number, and the master side of its terminal.
type Started = (u32, Option<OwnedFd>);

/// Starts a program on the given standard descriptors, or on a new terminal.
pub(super) fn directly(program: &Program, fds: Vec<OwnedFd>) -> io::Result<Started> {
    let (name, arguments) = program.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let cwd = &program.cwd;
    if !Path::new(cwd).is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("no directory {cwd} inside")));
    }
    let mut command = Command::new(name);
    command.args(arguments).env_clear().envs(&program.env).current_dir(cwd);
    connected(command, program.terminal, fds)
}

/// Starts a program by way of the role that becomes it. The third value are the lines to that.
pub(super) fn by_entering(
    program: &Program,
    fds: Vec<OwnedFd>,
    exe: &OwnedFd,
) -> io::Result<(u32, Option<OwnedFd>, Option<Lines>)> {
    let Program { argv, env, cwd, root, tree, .. } = program;
    let entering =
        Entering { argv: argv.clone(), env: env.clone(), cwd: cwd.into(), root: root.clone(), tree: *tree };
    let (command, lines) = entering.command(exe)?;
    let (pid, master) = connected(command, program.terminal, fds)?;
    Ok((pid, master, Some(lines)))
}

fn connected(mut command: Command, terminal: Option<(u16, u16)>, fds: Vec<OwnedFd>) -> io::Result<Started> {
    let (master, fds) = match terminal {
        None => (None, fds),
        Some((rows, cols)) => {
            let (master, slave) = open_terminal(rows, cols)?;
            (Some(master), vec![slave.try_clone()?, slave.try_clone()?, slave])
        }
    };
    let [stdin, stdout, stderr]: [OwnedFd; 3] = fds
        .try_into()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "three descriptors expected"))?;
    command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    sys::own_session(&mut command, terminal.is_some());
    // Reaped with everybody else, by number; the handle is not needed.
    Ok((command.spawn()?.id(), master))
}

fn open_terminal(rows: u16, cols: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = OwnedFd::from(File::options().read(true).write(true).open("/dev/ptmx")?);
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    tcsetwinsize(slave.as_fd(), Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 })?;
    Ok((master, slave))
}
