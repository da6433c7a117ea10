//! What an agent writes, in every protocol: nothing unbounded comes out, and a replay of the same bytes, cut otherwise, comes
//! to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offshoot_agents::{
    Setup,
    conversation::{Conversation, Direction, Prompt, Send, SessionWish, Wants, Wire},
};
use offshoot_core::agent::PermissionPolicy;

fn setup(wire: Wire) -> Setup {
    Setup {
        wire,
        session: SessionWish::New,
        cwd: "/repo".into(),
        permission: PermissionPolicy::Ask,
        mode: Some("yolo".into()),
        model: Some("large".into()),
        approval: None,
        preamble: None,
        prompt: Some("go".into()),
        idle_after_s: 5,
        silence_s: 60,
    }
}

fuzz_target!(|input: (u8, Vec<Vec<u8>>)| {
    let (wire, pieces) = input;
    let wires = [Wire::Acp, Wire::ClaudeStreamJson, Wire::CodexAppServer, Wire::Terminal, Wire::Oneshot];
    let wire = wires[usize::from(wire) % wires.len()];
    let wants = Wants {
        prompts: vec![Prompt { id: "a".into(), text: "b".into() }; 3],
        finish: true,
        ..Wants::default()
    };
    let (mut conversation, mut journal) = (Conversation::new(setup(wire)), Vec::new());
    for piece in pieces {
        for event in conversation.observe(Direction::Received, &piece) {
            assert!(serde_json::to_string(&event).unwrap().len() < 500_000);
        }
        journal.push((Direction::Received, piece));
        if let Some(Send::Bytes(bytes)) = conversation.next(&wants) {
            conversation.observe(Direction::Sent, &bytes);
            journal.push((Direction::Sent, bytes));
        }
    }
    let mut again = Conversation::new(setup(wire));
    for (direction, bytes) in &journal {
        for piece in bytes.chunks(7) {
            again.observe(*direction, piece);
        }
    }
    assert_eq!(again.state(), conversation.state());
    assert_eq!(again.session(), conversation.session());
    assert_eq!(again.next(&wants), conversation.next(&wants));
});
