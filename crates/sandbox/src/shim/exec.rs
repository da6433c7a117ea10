//! One executed process as the shim sees it: its pipes or terminal, its journal, and what still has to be written
//! to it.
//!
//! Invariants: everything is in the journal before anyone else sees it; what was read and could not be journaled (the
//! disk is full) is held and nothing more is read; the exit record follows all that the process itself had written.

use std::{collections::VecDeque, io, os::fd::OwnedFd};

use rustix::io::Errno;

use crate::{
    exec_group::Group,
    journal::{Kind, MAX_RECORD, Writer},
    message::{ExecState, Exit},
};

/// Input that waits for the process to read it; whoever sends more waits for an answer.
const MAX_QUEUED: usize = 1 << 20;
/// Reads in one go after the process has ended: what a pipe can hold at most (1 MiB), and some.
const DRAIN: usize = 32;

/// An executed process.
pub(super) struct Exec {
    pub id: String,
    pub pid: u32,
    /// The control group of it and all it starts.
    pub group: Option<Group>,
    journal: Writer,
    outputs: [Option<(OwnedFd, Kind)>; 2],
    input: Option<OwnedFd>,
    terminal: bool,
    queue: VecDeque<u8>,
    closing: bool,
    /// Questions to answer once there is room again.
    waiting: Vec<(u64, u64)>,
    ended: Option<Exit>,
    exit: Option<Exit>,
    held: Option<(Kind, Vec<u8>)>,
}

enum Read {
    Some,
    Nothing,
    Blocked,
}

impl Exec {
    /// A process that is about to be started.
    pub fn new(id: String, journal: Writer) -> Self {
        Self {
            id,
            pid: 0,
            group: None,
            journal,
            outputs: [None, None],
            input: None,
            terminal: false,
            queue: VecDeque::new(),
            closing: false,
            waiting: Vec::new(),
            ended: None,
            exit: None,
            held: None,
        }
    }

    /// Connects pipes.
    pub fn with_pipes(mut self, input: OwnedFd, stdout: OwnedFd, stderr: OwnedFd) -> io::Result<Self> {
        for fd in [&input, &stdout, &stderr] {
            unblock(fd)?;
        }
        self.input = Some(input);
        self.outputs = [Some((stdout, Kind::Stdout)), Some((stderr, Kind::Stderr))];
        Ok(self)
    }

    /// Connects a terminal's master side.
    pub fn attach(&mut self, master: OwnedFd) -> io::Result<()> {
        unblock(&master)?;
        self.input = Some(master.try_clone()?);
        self.outputs = [Some((master, Kind::Terminal)), None];
        self.terminal = true;
        Ok(())
    }

    pub fn end(&self) -> u64 {
        self.journal.end()
    }

    pub fn state(&self) -> ExecState {
        ExecState { id: self.id.clone(), pid: self.pid, exit: self.exit, journal_end: self.end() }
    }

    pub fn over(&self) -> bool {
        self.exit.is_some() && self.outputs.iter().all(Option::is_none)
    }

    pub fn running(&self) -> bool {
        self.ended.is_none()
    }

    /// Output descriptors to wait on; none while nothing can be taken.
    pub fn readable(&self) -> impl Iterator<Item = (usize, &OwnedFd)> {
        let taking = self.held.is_none() && !self.journal.full();
        let outputs = self.outputs.iter().enumerate().filter(move |_| taking);
        outputs.filter_map(|(i, output)| output.as_ref().map(|(fd, _)| (i, fd)))
    }

    /// The input descriptor, while something waits to be written.
    pub fn writable(&self) -> Option<&OwnedFd> {
        self.input.as_ref().filter(|_| !self.queue.is_empty())
    }

    /// Whether the journal could not be written and has to be tried again.
    pub fn stuck(&self) -> bool {
        self.held.is_some()
    }

    /// Reads once from an output.
    pub fn read(&mut self, output: usize, buffer: &mut [u8]) {
        self.read_once(output, buffer);
        self.settle(buffer);
    }

    fn read_once(&mut self, output: usize, buffer: &mut [u8]) -> Read {
        if self.held.is_some() || self.journal.full() {
            return Read::Blocked;
        }
        let Some((fd, kind)) = &self.outputs[output] else { return Read::Nothing };
        let kind = *kind;
        let length = buffer.len().min(MAX_RECORD);
        match rustix::io::read(fd, &mut buffer[..length]) {
            // A terminal whose other side nobody has open any more says EIO.
            Ok(0) | Err(Errno::IO) => {
                self.outputs[output] = None;
                Read::Nothing
            }
            Ok(n) => {
                self.append(kind, &buffer[..n]);
                Read::Some
            }
            Err(Errno::INTR) => Read::Some,
            Err(_) => Read::Nothing,
        }
    }

    fn append(&mut self, kind: Kind, bytes: &[u8]) {
        if let Err(e) = self.journal.append(kind, bytes) {
            if self.held.is_none() {
                eprintln!("shim: journal of {}: {e}", self.id);
            }
            self.held = Some((kind, bytes.to_vec()));
        }
    }

    /// Tries again what could not be journaled.
    pub fn retry(&mut self, buffer: &mut [u8]) {
        if let Some((kind, bytes)) = self.held.take() {
            self.append(kind, &bytes);
        }
        self.settle(buffer);
    }

    /// Notes that the process has ended.
    pub fn ended(&mut self, exit: Exit, buffer: &mut [u8]) {
        self.ended = Some(exit);
        self.input = None;
        self.queue.clear();
        self.settle(buffer);
    }

    /// Writes the exit record as soon as everything before it is in the journal.
    fn settle(&mut self, buffer: &mut [u8]) {
        let Some(exit) = self.ended.filter(|_| self.exit.is_none()) else { return };
        for output in 0..2 {
            for _ in 0..DRAIN {
                match self.read_once(output, buffer) {
                    Read::Some => {}
                    Read::Nothing => break,
                    Read::Blocked => return,
                }
            }
        }
        if self.held.is_none() && self.journal.append_exit(exit).is_ok() {
            self.exit = Some(exit);
        }
    }

    /// The exit, once it is in the journal.
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// Takes input: journals it, writes what the process takes now. `Ok(true)` when the sender may go on at once.
    pub fn input(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if self.input.is_none() || self.closing {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let kind = if self.terminal { Kind::TerminalInput } else { Kind::Stdin };
        self.journal.append(kind, bytes)?;
        self.queue.extend(bytes);
        self.write();
        Ok(self.queue.len() < MAX_QUEUED)
    }

    /// Remembers who waits for room.
    pub fn wait_for_room(&mut self, peer: u64, n: u64) {
        self.waiting.push((peer, n));
    }

    /// Who can be told that there is room again.
    pub fn room(&mut self) -> Vec<(u64, u64)> {
        if self.queue.len() < MAX_QUEUED { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }

    /// Writes queued input as far as the process takes it.
    pub fn write(&mut self) {
        while !self.queue.is_empty() {
            let Some(fd) = &self.input else { break };
            let (front, _) = self.queue.as_slices();
            match rustix::io::write(fd, front) {
                Ok(n) => drop(self.queue.drain(..n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.input = None;
                    self.queue.clear();
                }
            }
        }
        if self.closing {
            self.input = None;
        }
    }

    /// Ends the input once what is queued has been written; on a terminal, as if Ctrl-D was typed.
    pub fn close_input(&mut self) -> io::Result<()> {
        const END_OF_TRANSMISSION: u8 = 4;
        if self.terminal {
            self.input(&[END_OF_TRANSMISSION]).map(|_| ())
        } else {
            self.closing = true;
            self.write();
            Ok(())
        }
    }

    /// Changes the terminal's size.
    pub fn resize(&mut self, rows: u16, cols: u16) -> io::Result<()> {
        let Some((fd, Kind::Terminal)) = &self.outputs[0] else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(fd, size)?;
        self.note_size(rows, cols)
    }

    /// Journals the terminal's size.
    pub fn note_size(&mut self, rows: u16, cols: u16) -> io::Result<()> {
        let [[a, b], [c, d]] = [rows.to_le_bytes(), cols.to_le_bytes()];
        self.journal.append(Kind::Resize, &[a, b, c, d])
    }

    /// The daemon has read up to here.
    pub fn acknowledge(&mut self, offset: u64) {
        self.journal.acknowledge(offset);
    }
}

fn unblock(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}
