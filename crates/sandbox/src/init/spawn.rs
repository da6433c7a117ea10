//! Starts one process inside: own session, clean signal state, the environment it was given and nothing else. One that
//! gets a root of its own is started in a role that changes there first (`enter`).

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

use crate::{enter::Entering, message::ExecRoot, sys};

/// What to start.
pub(super) struct Program {
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: String,
    pub terminal: Option<(u16, u16)>,
}

/// Starts a program on the given standard descriptors, or on a new terminal whose master side is returned.
pub(super) fn spawn(program: &Program, fds: Vec<OwnedFd>) -> io::Result<(u32, Option<OwnedFd>)> {
    let (name, arguments) = program.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let cwd = if program.cwd.is_empty() { "/" } else { &program.cwd };
    if !Path::new(cwd).is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("no directory {cwd} inside")));
    }
    let mut command = Command::new(name);
    command.args(arguments).env_clear().envs(&program.env).current_dir(cwd);
    connected(command, program.terminal, fds)
}

/// Starts a program that changes into a root of its own first. The third value is a pipe that ends when it runs, or says
/// why it does not.
pub(super) fn spawn_in(
    root: &ExecRoot,
    program: &Program,
    fds: Vec<OwnedFd>,
    exe: &OwnedFd,
) -> io::Result<(u32, Option<OwnedFd>, OwnedFd)> {
    let Program { argv, env, cwd, terminal } = program;
    let (argv, env, cwd) = (argv.clone(), env.clone(), cwd.into());
    let (command, entering) = Entering { root: root.clone(), argv, env, cwd }.command(exe)?;
    let (pid, master) = connected(command, *terminal, fds)?;
    Ok((pid, master, entering))
}

fn connected(
    mut command: Command,
    terminal: Option<(u16, u16)>,
    fds: Vec<OwnedFd>,
) -> io::Result<(u32, Option<OwnedFd>)> {
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
