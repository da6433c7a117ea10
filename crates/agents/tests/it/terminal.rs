//! The guesses about terminals.

use offshoot_agents::conversation::{Conversation, ConversationState, Direction, Prompt, Send, Wants, Wire};
use offshoot_core::agent::{AgentEvent, TurnEnd};

use crate::peers::setup;

fn start() -> (Conversation, Wants) {
    let setup = offshoot_agents::Setup { preamble: None, ..setup(Wire::Terminal) };
    let prompt = Prompt { id: "p".into(), text: "do\x1b[201~ this\nand that".into() };
    (Conversation::new(setup), Wants { prompts: vec![prompt], ..Wants::default() })
}

fn send(conversation: &mut Conversation, wants: &Wants) -> (String, Vec<AgentEvent>) {
    let Some(Send::Bytes(bytes)) = conversation.next(wants) else { panic!("nothing to send") };
    let events = conversation.observe(Direction::Sent, &bytes);
    (String::from_utf8(bytes).unwrap(), events)
}

#[test]
fn a_prompt_is_pasted_when_idle_and_return_follows_the_reaction() {
    let (mut conversation, wants) = start();
    conversation.observe(Direction::Received, b"\x1b[?2004hWelcome\r\n> ");
    assert_eq!(conversation.next(&wants), None);
    assert_eq!(conversation.quiet(4), []);
    assert_eq!(conversation.quiet(5), [AgentEvent::Idle]);
    // Control characters that would end the paste are not sent.
    let (pasted, _) = send(&mut conversation, &wants);
    assert_eq!(pasted, "\x1b[200~do[201~ this\nand that\x1b[201~");
    assert_eq!(conversation.next(&wants), None);
    conversation.observe(Direction::Received, b"do this");
    let (pressed, events) = send(&mut conversation, &wants);
    assert_eq!(pressed, "\r");
    assert!(matches!(&events[..], [AgentEvent::TurnStarted { turn: 0, .. }]), "{events:?}");
    assert_eq!(conversation.state(), ConversationState::InTurn(0));
    assert_eq!(conversation.next(&wants), None);
    conversation.observe(Direction::Received, b"working...");
    let events = conversation.quiet(6);
    assert!(matches!(
        events[..],
        [AgentEvent::Idle, AgentEvent::TurnEnded { reason: TurnEnd::Completed, .. }]
    ));
    assert_eq!(conversation.next(&wants), None);
}

#[test]
fn without_marked_paste_it_is_typed_as_one_line() {
    let (mut conversation, wants) = start();
    conversation.observe(Direction::Received, b"> ");
    conversation.quiet(5);
    assert_eq!(send(&mut conversation, &wants).0, "do[201~ this and that\r");
    assert_eq!(conversation.next(&wants), None);
}

#[test]
fn questions_bells_and_notifications_want_attention() {
    let (mut conversation, wants) = start();
    conversation
        .observe(Direction::Received, b"Do you want to create a.txt?\r\n\xe2\x9d\xaf 1. Yes\r\n  2. No\r\n");
    let events = conversation.quiet(5);
    assert_eq!(events, [AgentEvent::Attention { reason: "Do you want to create a.txt?".into() }]);
    assert_eq!(conversation.state(), ConversationState::Asking);
    // No prompt is typed into a question.
    assert_eq!(conversation.next(&wants), None);
    conversation.observe(Direction::Sent, b"1");
    assert_ne!(conversation.state(), ConversationState::Asking);
    assert_eq!(
        conversation.observe(Direction::Received, b"\x07\x1b]9;4;1;50\x07\x1b]777;notify;T;done\x1b\\"),
        [
            AgentEvent::Attention { reason: "the bell rang".into() },
            AgentEvent::Attention { reason: "T: done".into() },
        ]
    );
}

#[test]
fn queries_are_answered_once_unless_somebody_else_does() {
    let (mut conversation, mut wants) = start();
    conversation.observe(Direction::Received, b"ab\x1b[6n\x1b[c\x1b]11;?\x1b\\");
    assert_eq!(send(&mut conversation, &wants).0, "\x1b[1;3R");
    assert_eq!(send(&mut conversation, &wants).0, "\x1b[?62;22c");
    wants.attached = true;
    assert_eq!(conversation.next(&wants), None);
    conversation.observe(Direction::Sent, b"\x1b]11;rgb:1/2/3\x1b\\");
    wants.attached = false;
    assert_eq!(conversation.next(&wants), None);
}

/// Found by fuzzing: a bell behind the beginning of a character was heard or not, as the bytes were cut.
#[test]
fn a_bell_is_heard_however_the_bytes_are_cut() {
    let bytes = b"\xf9\xbd\xeb\xe9\xc3\xbd\xc3\xbd\x07\xc3";
    let heard = |size: usize| {
        let (mut conversation, _) = start();
        for piece in bytes.chunks(size) {
            conversation.observe(Direction::Received, piece);
        }
        conversation.state()
    };
    for size in 1..bytes.len() {
        assert_eq!(heard(size), heard(bytes.len()), "in pieces of {size}");
    }
}
