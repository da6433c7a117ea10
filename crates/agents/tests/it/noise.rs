//! Whatever an agent writes, the client neither panics nor passes on anything unbounded.

use offshoot_agents::conversation::{Answer, Conversation, Direction, Prompt, Wants, Wire};
use offshoot_core::agent::{AgentEvent, PermissionPolicy};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::peers::setup;

const WIRES: [Wire; 5] =
    [Wire::Acp, Wire::ClaudeStreamJson, Wire::CodexAppServer, Wire::Terminal, Wire::Oneshot];

fn check(events: &[AgentEvent]) {
    for event in events {
        let size = serde_json::to_string(event).unwrap().len();
        // A text of 64 KiB of control characters, six bytes each in JSON, and a little.
        assert!(size < 500_000, "an event of {size} bytes");
    }
}

/// Messages that have the right words in wrong places.
fn nearly_right() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "session/update",
        "session/request_permission",
        "tool_call",
        "agent_message_chunk",
        "usage_update",
        "assistant",
        "user",
        "system",
        "result",
        "control_request",
        "can_use_tool",
        "AskUserQuestion",
        "init",
        "api_retry",
        "control_cancel_request",
        "turn/completed",
        "item/started",
        "item/completed",
        "commandExecution",
        "error",
        "item/tool/requestUserInput",
        "item/commandExecution/requestApproval",
        "serverRequest/resolved",
        "s",
        "ä",
    ]);
    let key = prop::sample::select(vec![
        "id",
        "method",
        "params",
        "update",
        "sessionUpdate",
        "content",
        "type",
        "message",
        "subtype",
        "request",
        "request_id",
        "tool_name",
        "input",
        "questions",
        "options",
        "label",
        "optionId",
        "kind",
        "toolCall",
        "toolCallId",
        "title",
        "status",
        "item",
        "threadId",
        "itemId",
        "text",
        "result",
        "error",
        "sessionId",
        "turn",
        "session_id",
        "modelUsage",
        "inputTokens",
        "usage",
        "cost",
        "locations",
        "path",
        "changes",
        "delta",
    ]);
    let leaf = prop_oneof![
        word.prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0u64..110).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(|map| Value::Object(
                map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

fn survives(pieces: &[(bool, Vec<u8>)], permission: PermissionPolicy) {
    let wants = Wants {
        prompts: vec![Prompt { id: "a".into(), text: "b".into() }; 3],
        cancel_turn: Some(0),
        answers: [("ask-1".to_owned(), Answer { option: "yes".into(), text: Some("x".into()) })].into(),
        finish: true,
        attached: false,
    };
    for wire in WIRES {
        let mut conversation = Conversation::new(offshoot_agents::Setup { permission, ..setup(wire) });
        for (sent, bytes) in pieces {
            let direction = if *sent { Direction::Sent } else { Direction::Received };
            check(&conversation.observe(direction, bytes));
            if let Some(offshoot_agents::Send::Bytes(bytes)) = conversation.next(&wants) {
                check(&conversation.observe(Direction::Sent, &bytes));
            }
            check(&conversation.quiet(10));
            let _ = (conversation.state(), conversation.session());
        }
        check(&conversation.observe_exit(Some(1)));
        assert_eq!(conversation.next(&wants), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn bytes(pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20)) {
        survives(&pieces, PermissionPolicy::Ask);
    }

    #[test]
    fn escape_sequences(text in "(\\x1b[\\[\\]OP(78=>cM][0-9;?><$ ]{0,6}[A-Za-z~@`\\x07\\\\]?|[a-z\\n\\r€]){0,60}") {
        survives(&[(false, text.clone().into_bytes()), (true, text.into_bytes())], PermissionPolicy::Allow);
    }

    #[test]
    fn messages(messages in prop::collection::vec(nearly_right(), 0..20)) {
        let pieces: Vec<_> = messages.iter().map(|message| (false, format!("{message}\n").into_bytes())).collect();
        survives(&pieces, PermissionPolicy::Allow);
        survives(&pieces, PermissionPolicy::Ask);
    }
}

#[test]
fn an_old_answer_is_not_the_answer_to_a_new_question_with_the_same_id() {
    let mut conversation = Conversation::new(offshoot_agents::Setup {
        permission: PermissionPolicy::Ask,
        ..setup(Wire::ClaudeStreamJson)
    });
    let ask = |command: &str| {
        let request = json!({"type": "control_request", "request_id": "same", "request": {
            "subtype": "can_use_tool", "tool_name": "Bash", "description": command, "input": {"command": command},
        }});
        format!("{request}\n").into_bytes()
    };
    let mut wants = Wants::default();
    conversation.observe(Direction::Received, &ask("ls"));
    wants.answers.insert("ask-1".into(), Answer { option: "allow".into(), text: None });
    let Some(offshoot_agents::Send::Bytes(answer)) = conversation.next(&wants) else { panic!() };
    conversation.observe(Direction::Sent, &answer);
    let events = conversation.observe(Direction::Received, &ask("rm -rf ."));
    assert!(matches!(&events[0], AgentEvent::Asked { id, .. } if id == "ask-2"), "{events:?}");
    assert_eq!(conversation.next(&wants), None);
}
