//! However the bytes are cut, and wherever the driver is killed (also in the middle of a write), the same is sent:
//! nothing is lost, nothing is sent twice.

use offshoot_agents::conversation::{Conversation, Direction, Prompt, Send, Wants, Wire};
use offshoot_core::agent::{AgentEvent, TurnEnd};
use proptest::prelude::*;

use crate::peers::{answer, setup};

struct World {
    wire: Wire,
    journal: Vec<(Direction, Vec<u8>)>,
    conversation: Conversation,
    /// What the peer has written and nobody has read.
    unread: Vec<u8>,
    /// What the peer has read of a line.
    partial: Vec<u8>,
    sent: Vec<u8>,
    events: Vec<AgentEvent>,
}

impl World {
    fn new(wire: Wire) -> Self {
        Self {
            wire,
            journal: Vec::new(),
            conversation: Conversation::new(setup(wire)),
            unread: Vec::new(),
            partial: Vec::new(),
            sent: Vec::new(),
            events: Vec::new(),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
        self.journal.push((Direction::Sent, bytes.to_vec()));
        self.events.extend(self.conversation.observe(Direction::Sent, bytes));
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            for message in answer(self.wire, &line) {
                self.unread.extend_from_slice(message.to_string().as_bytes());
                self.unread.push(b'\n');
            }
        }
    }

    fn read(&mut self, length: usize) {
        let bytes: Vec<u8> = self.unread.drain(..length.min(self.unread.len())).collect();
        self.events.extend(self.conversation.observe(Direction::Received, &bytes));
        self.journal.push((Direction::Received, bytes));
    }

    /// The driver is killed and started again: all it has is the journal, in other pieces than before.
    fn crash(&mut self, cut: usize) {
        let mut replayed = Conversation::new(setup(self.wire));
        let mut events = Vec::new();
        for (direction, bytes) in &self.journal {
            for piece in bytes.chunks(cut.max(1)) {
                events.extend(replayed.observe(*direction, piece));
            }
        }
        assert_eq!(replayed.state(), self.conversation.state());
        assert_eq!(replayed.session(), self.conversation.session());
        self.conversation = replayed;
        self.events = events;
    }
}

fn wants() -> Wants {
    let prompt = |text: &str| Prompt { id: text.into(), text: text.into() };
    Wants { prompts: vec![prompt("eins"), prompt("zwei\n\"drei\"")], finish: true, ..Wants::default() }
}

/// Plays to the end. Each step is (bytes to write or read at most, whether to crash afterwards).
fn play(wire: Wire, steps: impl Iterator<Item = (usize, bool)>) -> World {
    let (mut world, wants) = (World::new(wire), wants());
    for (length, crash) in steps.take(1_000_000) {
        match world.conversation.next(&wants) {
            Some(Send::CloseInput) => return world,
            Some(Send::Bytes(bytes)) if crash => world.write(&bytes[..length.min(bytes.len())]),
            Some(Send::Bytes(bytes)) => world.write(&bytes),
            None => world.read(length),
        }
        if crash {
            world.crash(length);
        }
    }
    panic!("no end: {:#?}\n{}", world.events, String::from_utf8_lossy(&world.sent));
}

const WIRES: [Wire; 3] = [Wire::Acp, Wire::ClaudeStreamJson, Wire::CodexAppServer];

#[test]
fn two_turns() {
    for wire in WIRES {
        let world = play(wire, std::iter::repeat((usize::MAX, false)));
        let ends: Vec<_> = world
            .events
            .iter()
            .filter_map(|event| match event {
                AgentEvent::TurnEnded { turn, reason, .. } => Some((*turn, *reason)),
                _ => None,
            })
            .collect();
        assert_eq!(ends, [(0, TurnEnd::Completed), (1, TurnEnd::Completed)], "{wire:?}");
        assert_eq!(world.conversation.session(), Some("s"));
        let sent = String::from_utf8(world.sent).unwrap();
        assert_eq!(sent.matches("Be brief.").count(), 1, "{sent}");
        // Claude Code has it in its arguments. The app-server hears it when the session is opened.
        assert_eq!(sent.matches("\"large\"").count(), usize::from(wire != Wire::ClaudeStreamJson), "{sent}");
        let at = |text: &str| sent.find(text).unwrap_or(usize::MAX);
        assert!(wire != Wire::Acp || at("set_config_option") < at("session/prompt"), "{sent}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn crashes_and_cuts_change_nothing(steps in prop::collection::vec((1usize..200, prop::bool::weighted(0.2)), 1..200)) {
        for wire in WIRES {
            let straight = play(wire, std::iter::repeat((usize::MAX, false)));
            let rough = play(wire, steps.iter().copied().chain(std::iter::repeat((usize::MAX, false))));
            prop_assert_eq!(String::from_utf8_lossy(&straight.sent), String::from_utf8_lossy(&rough.sent));
        }
    }
}
