//! The daemons connected to a shim: normally one, two while one replaces another.
//!
//! Nothing here waits for a peer: what does not fit its socket is queued, and a peer that lets [`MAX_QUEUED`]
//! messages pile up is cut off. Growth of journals is told as the latest offset only.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    os::fd::OwnedFd,
};

use rustix::net::{SendFlags, sockopt};

use crate::message::{self, Encoded, Event, FromShim, Refusal, Reply};

/// Messages waiting for one peer: more than it can have questions and exits outstanding in honest use.
const MAX_QUEUED: usize = 1024;
/// Connected peers.
const MAX_PEERS: usize = 16;

/// One connected daemon.
pub(super) struct Peer {
    pub token: u64,
    pub socket: OwnedFd,
    queue: VecDeque<Encoded>,
    subscribed: bool,
    grown: BTreeMap<String, u64>,
    broken: bool,
}

impl Peer {
    /// Whether the socket has to be watched for room.
    pub fn wants_room(&self) -> bool {
        !self.queue.is_empty() || !self.grown.is_empty()
    }

    fn push(&mut self, message: &FromShim, fds: Vec<OwnedFd>) {
        match message::encode(message, &[], fds) {
            Ok(encoded) if self.queue.len() < MAX_QUEUED => self.queue.push_back(encoded),
            _ => self.broken = true,
        }
    }

    fn flush(&mut self) {
        loop {
            if self.queue.is_empty() {
                let Some((exec, end_offset)) = self.grown.pop_first() else { return };
                self.push(&FromShim::Event(Event::Output { exec, end_offset }), Vec::new());
            }
            let Some(first) = self.queue.front() else { return };
            match message::send_encoded(&self.socket, first, SendFlags::DONTWAIT) {
                Ok(()) => {
                    self.queue.pop_front();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.broken = true;
                    return;
                }
            }
        }
    }
}

/// All connected daemons.
#[derive(Default)]
pub(super) struct Peers {
    all: Vec<Peer>,
    next: u64,
}

impl Peers {
    /// Adds a connected socket, unless another user is at its other end.
    pub fn add(&mut self, socket: OwnedFd) {
        let own = rustix::process::geteuid();
        let known = sockopt::socket_peercred(&socket).is_ok_and(|c| c.uid == own || c.uid.is_root());
        if !known || self.all.len() >= MAX_PEERS {
            return;
        }
        self.next += 1;
        let (queue, grown) = (VecDeque::new(), BTreeMap::new());
        self.all.push(Peer { token: self.next, socket, queue, subscribed: false, grown, broken: false });
    }

    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.all.iter()
    }

    pub fn get(&self, token: u64) -> Option<&Peer> {
        self.all.iter().find(|p| p.token == token)
    }

    fn get_mut(&mut self, token: u64) -> Option<&mut Peer> {
        self.all.iter_mut().find(|p| p.token == token)
    }

    pub fn cut(&mut self, token: u64) {
        self.all.retain(|p| p.token != token);
    }

    pub fn subscribe(&mut self, token: u64) {
        if let Some(peer) = self.get_mut(token) {
            peer.subscribed = true;
        }
    }

    /// Answers one question.
    pub fn answer(&mut self, token: u64, n: u64, reply: Result<Reply, Refusal>, fds: Vec<OwnedFd>) {
        if let Some(peer) = self.get_mut(token) {
            peer.push(&FromShim::Answer { n, reply }, fds);
        }
    }

    /// Tells an event to whoever wants events.
    pub fn tell(&mut self, event: &Event) {
        for peer in self.all.iter_mut().filter(|p| p.subscribed) {
            if let Event::Output { exec, end_offset } = event {
                peer.grown.insert(exec.clone(), *end_offset);
            } else {
                while let Some((exec, end_offset)) = peer.grown.pop_first() {
                    peer.push(&FromShim::Event(Event::Output { exec, end_offset }), Vec::new());
                }
                peer.push(&FromShim::Event(event.clone()), Vec::new());
            }
        }
    }

    /// Sends what there is room for, and drops who is gone.
    pub fn flush(&mut self) {
        self.all.iter_mut().for_each(Peer::flush);
        self.all.retain(|p| !p.broken);
    }
}
