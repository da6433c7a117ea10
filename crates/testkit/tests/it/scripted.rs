//! Our ACP client against the agent side of the protocol's own crate.

use std::collections::BTreeMap;
use std::path::Path;

use offshoot_agents::Catalog;
use offshoot_agents::conversation::SessionWish;
use offshoot_core::agent::{AgentEvent, AnsweredBy, PermissionPolicy, TurnEnd};
use offshoot_testkit::repo::TestRepo;

use crate::drive::{Agent, dirs};

fn agent() -> (tempfile::TempDir, TestRepo, Agent) {
    let (dir, state, cwd) = dirs();
    let repo = TestRepo::small(&cwd).unwrap();
    let agent = Agent {
        definition: Catalog::shipped().unwrap().get("scripted").unwrap().clone(),
        program: env!("CARGO_BIN_EXE_offshoot-scripted-agent").into(),
        path_dirs: Vec::new(),
        state,
        cwd,
        env: BTreeMap::new(),
        model: None,
        instructions: None,
    };
    (dir, repo, agent)
}

fn read(repo: &TestRepo, path: &str) -> String {
    std::fs::read_to_string(repo.path().join(path)).unwrap()
}

#[test]
fn two_turns_and_a_later_run_in_the_same_session() {
    let (_dir, repo, agent) = agent();
    let prompts = [
        "go\n@write a.txt one\n@plan A | B\n@say first",
        "@edit a.txt one => two\n@shell cat a.txt\n@commit Two",
    ];
    let ended = agent.start(SessionWish::New, PermissionPolicy::Allow, &prompts).finish();
    assert_eq!(ended.turns(), [TurnEnd::Completed, TurnEnd::Completed]);
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.said(), "firstDONE 3");
    assert_eq!(read(&repo, "a.txt"), "two\n");
    assert_eq!(repo.git(&["log", "-1", "--format=%s"]).unwrap(), "Two");
    let session = ended.session.unwrap();

    let again =
        agent.start(SessionWish::Resume(session.clone()), PermissionPolicy::Allow, &["@say third"]).finish();
    // The replay of the old turns is not told again.
    assert_eq!(again.said(), "third");
    assert_eq!(again.session, Some(session));

    let gone = "00000000-0000-4000-8000-000000000000".to_owned();
    let fresh =
        agent.start(SessionWish::Resume(gone.clone()), PermissionPolicy::Allow, &["@say new"]).finish();
    assert!(fresh.events.iter().any(|event| matches!(event, AgentEvent::Trouble { retrying: true, .. })));
    assert_eq!(fresh.said(), "new");
    assert_ne!(fresh.session, Some(gone));
}

#[test]
fn a_prompt_without_steps_leads_to_a_commit() {
    let (_dir, repo, agent) = agent();
    let prompt = "Explain src/greet.sh better.";
    let ended = agent.start(SessionWish::New, PermissionPolicy::Allow, &[prompt]).finish();
    assert_eq!(ended.turns(), [TurnEnd::Completed]);
    assert_eq!(read(&repo, "src/greet.sh"), "echo hello\n# Explain src/greet.sh better.\n");
    assert_eq!(repo.git(&["log", "-1", "--format=%s"]).unwrap(), prompt);
    assert!(ended.calls().contains(&("sh test.sh".to_owned(), true)), "{:?}", ended.calls());
}

#[test]
fn a_person_is_asked_and_a_policy_denies() {
    let (_dir, repo, agent) = agent();
    let mut talk =
        agent.start(SessionWish::New, PermissionPolicy::Ask, &["@shell touch yes\n@shell touch no"]);
    talk.until(|event| matches!(event, AgentEvent::Asked { waits: true, .. }));
    talk.answer(|options| options[0].id.clone());
    talk.until(|event| matches!(event, AgentEvent::Asked { .. }));
    talk.answer(|_| "no".to_owned());
    let ended = talk.finish();
    assert!(repo.path().join("yes").exists() && !repo.path().join("no").exists());
    let by: Vec<_> = ended
        .events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::Answered { option, by, .. } => Some((option.as_str(), *by)),
            _ => None,
        })
        .collect();
    assert_eq!(by, [("yes", AnsweredBy::Person), ("no", AnsweredBy::Person)]);

    let ended = agent.start(SessionWish::New, PermissionPolicy::Deny, &["@shell touch denied"]).finish();
    assert!(!repo.path().join("denied").exists());
    assert!(ended.events.iter().any(|event| matches!(
        event,
        AgentEvent::Answered { by: AnsweredBy::Policy, option, .. } if option == "no"
    )));
}

#[test]
fn a_turn_is_cancelled_with_what_it_runs_and_while_it_asks() {
    let (_dir, repo, agent) = agent();
    let mut talk =
        agent.start(SessionWish::New, PermissionPolicy::Allow, &["@shell echo $$ > pid; sleep 600"]);
    talk.until(|event| matches!(event, AgentEvent::ToolCall { .. }));
    let pid = repo.path().join("pid");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n')) {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    talk.wants.cancel_turn = Some(0);
    talk.until_turn_ends(0);
    let pid = std::fs::read_to_string(pid).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while process.join("cmdline").exists()
        && !std::fs::read(process.join("cmdline")).unwrap_or_default().is_empty()
    {
        assert!(std::time::Instant::now() < deadline, "the command was left running");
        std::thread::yield_now();
    }
    talk.prompt("@say still here");
    let ended = talk.finish();
    assert_eq!(ended.turns(), [TurnEnd::Cancelled, TurnEnd::Completed]);
    assert_eq!(ended.said(), "still here");

    let mut talk = agent.start(SessionWish::New, PermissionPolicy::Ask, &["@write x y"]);
    talk.until(|event| matches!(event, AgentEvent::Asked { .. }));
    talk.wants.cancel_turn = Some(0);
    assert_eq!(talk.finish().turns(), [TurnEnd::Cancelled]);
}

#[test]
fn crashes_floods_and_many_calls() {
    let (_dir, _repo, agent) = agent();
    let ended =
        agent.start(SessionWish::New, PermissionPolicy::Allow, &["@calls 200\n@flood 1000000"]).finish();
    assert_eq!(ended.turns(), [TurnEnd::Completed]);
    assert_eq!(ended.said().len(), 1_000_000);
    assert_eq!(ended.calls().len(), 200);

    let ended = agent.start(SessionWish::New, PermissionPolicy::Allow, &["@say oh\n@crash"]).finish();
    assert_eq!(ended.turns(), [TurnEnd::Failed]);
    assert_eq!(ended.code, Some(101));
}

#[test]
fn instructions_are_in_the_private_directory() {
    let (_dir, _repo, mut agent) = agent();
    agent.instructions = Some("Be brief.".into());
    agent.start(SessionWish::New, PermissionPolicy::Allow, &["@say ok"]).finish();
    assert_eq!(std::fs::read_to_string(agent.state.join("INSTRUCTIONS.md")).unwrap(), "Be brief.");
}
