//! Our protocol clients against the real agent CLIs, offline, with the scripted model.
//!
//! `OFFSHOOT_TEST_AGENTS` names those that are meant; claude, codex and gemini if it is not set. What is meant is
//! installed, and a failure to do so is a failure.

use std::collections::BTreeMap;
use std::path::Path;

use offshoot_agents::Catalog;
use offshoot_agents::conversation::SessionWish;
use offshoot_core::agent::{AgentEvent, AnsweredBy, PermissionPolicy, TurnEnd};
use offshoot_testkit::agents;
use offshoot_testkit::model::ScriptedModel;
use offshoot_testkit::repo::TestRepo;

use crate::drive::{Agent, dirs};

struct Bench {
    _dir: tempfile::TempDir,
    repo: TestRepo,
    model: ScriptedModel,
    agent: Agent,
}

fn bench(name: &'static str, own: Option<&str>) -> Option<Bench> {
    let installed = agents::for_test(name)?;
    let (dir, state, cwd) = dirs();
    let repo = TestRepo::small(&cwd).unwrap();
    let model = ScriptedModel::start().unwrap();
    let url = model.url();
    let env = [
        ("ANTHROPIC_API_KEY", "dummy-anthropic".to_owned()),
        ("ANTHROPIC_BASE_URL", url.clone()),
        ("OPENAI_API_KEY", "dummy-openai".to_owned()),
        ("OPENAI_BASE_URL", format!("{url}/v1")),
        ("GEMINI_API_KEY", "dummy-gemini".to_owned()),
        ("GOOGLE_GEMINI_BASE_URL", url),
    ];
    let texts = own.map(|text| ("own.toml", text));
    let agent = Agent {
        definition: Catalog::with(texts).unwrap().get(name).unwrap().clone(),
        program: installed.program,
        path_dirs: installed.path_dirs,
        state,
        cwd,
        env: env.map(|(name, value)| (name.to_owned(), value)).into_iter().collect::<BTreeMap<_, _>>(),
        model: None,
        instructions: Some("Remember the word pomegranate.".into()),
    };
    Some(Bench { _dir: dir, repo, model, agent })
}

/// Two turns without a question; a later run in the same session; the instructions reach the model.
fn works_and_resumes(bench: &Bench) {
    let Bench { agent, repo, model, .. } = bench;
    let prompts =
        ["go\n@write a.txt one\n@shell echo two > b.txt\n@say first done", "go on\n@say second done"];
    let ended = agent.start(SessionWish::New, PermissionPolicy::Allow, &prompts).finish();
    let told = format!("{:#?}\n{}", ended.events, ended.journal);
    assert_eq!(ended.turns(), [TurnEnd::Completed, TurnEnd::Completed], "{told}");
    assert!(!ended.events.iter().any(|event| matches!(event, AgentEvent::Asked { .. })), "{told}");
    assert!(ended.said().contains("first done") && ended.said().contains("second done"), "{told}");
    assert_eq!(std::fs::read_to_string(repo.path().join("a.txt")).unwrap(), "one\n", "{told}");
    assert_eq!(std::fs::read_to_string(repo.path().join("b.txt")).unwrap(), "two\n", "{told}");
    assert!(ended.calls().iter().filter(|(_, fine)| *fine).count() >= 2, "{told}");
    assert!(ended.events.iter().any(|event| matches!(event, AgentEvent::Usage { .. })), "{told}");
    let seen = model.seen();
    assert!(seen.iter().any(|seen| format!("{seen:?}").contains("first done")));

    let session = ended.session.expect(&told);
    age_gemini_sessions(&agent.state);
    let wish = SessionWish::Resume(session.clone());
    let again = agent
        .start(wish, PermissionPolicy::Allow, &["more\n@shell echo three > c.txt\n@say third done"])
        .finish();
    let told = format!("{:#?}\n{}", again.events, again.journal);
    assert_eq!(again.turns(), [TurnEnd::Completed], "{told}");
    assert!(again.said().contains("third done") && !again.said().contains("first done"), "{told}");
    assert_eq!(again.session.as_deref(), Some(session.as_str()), "{told}");
    assert_eq!(std::fs::read_to_string(repo.path().join("c.txt")).unwrap(), "three\n", "{told}");
}

/// Gemini 0.61 names a session's file by id and minute, and begins it anew when it loads the session: within the
/// minute in which it was made that overwrites it. So let it be older.
fn age_gemini_sessions(state: &Path) {
    for project in std::fs::read_dir(state.join(".gemini/tmp")).into_iter().flatten().flatten() {
        for chat in std::fs::read_dir(project.path().join("chats")).into_iter().flatten().flatten() {
            let name = chat.file_name().into_string().unwrap();
            let (_, id) = name.rsplit_once('-').unwrap();
            std::fs::rename(
                chat.path(),
                chat.path().with_file_name(format!("session-2026-01-01T00-00-{id}")),
            )
            .unwrap();
        }
    }
}

/// A person allows one command and refuses the next.
fn asks(bench: &Bench) {
    let Bench { agent, repo, .. } = bench;
    let prompt = "go\n@shell touch yes.txt\n@shell touch no.txt\n@say over";
    let mut talk = agent.start(SessionWish::New, PermissionPolicy::Ask, &[prompt]);
    talk.until(|event| matches!(event, AgentEvent::Asked { waits: true, .. }));
    talk.answer(|options| {
        use offshoot_core::agent::AskOptionKind::AllowOnce;
        options.iter().find(|option| option.kind == AllowOnce).unwrap().id.clone()
    });
    talk.until(|event| matches!(event, AgentEvent::Asked { waits: true, .. }));
    talk.answer(|options| {
        use offshoot_core::agent::AskOptionKind::RejectOnce;
        options.iter().find(|option| option.kind == RejectOnce).unwrap().id.clone()
    });
    let ended = talk.finish();
    let told = format!("{:#?}\n{}", ended.events, ended.journal);
    assert_eq!(ended.turns().len(), 1, "{told}");
    assert!(repo.path().join("yes.txt").exists() && !repo.path().join("no.txt").exists(), "{told}");
    let people = ended
        .events
        .iter()
        .filter(|event| matches!(event, AgentEvent::Answered { by: AnsweredBy::Person, .. }));
    assert_eq!(people.count(), 2, "{told}");
}

/// A turn that would take ten minutes is cancelled; the conversation goes on.
fn cancels(bench: &Bench) {
    let Bench { agent, repo, .. } = bench;
    // Claude Code refuses a bare sleep.
    let prompt = "go\n@shell touch begun; python3 -c 'import time; time.sleep(600)'";
    let mut talk = agent.start(SessionWish::New, PermissionPolicy::Allow, &[prompt]);
    talk.until(|event| matches!(event, AgentEvent::ToolCall { .. }));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !repo.path().join("begun").exists() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    talk.wants.cancel_turn = Some(0);
    talk.until_turn_ends(0);
    talk.prompt("go on\n@say still here");
    let ended = talk.finish();
    let told = format!("{:#?}\n{}", ended.events, ended.journal);
    assert_eq!(ended.turns(), [TurnEnd::Cancelled, TurnEnd::Completed], "{told}");
    assert!(ended.said().contains("still here"), "{told}");
}

const OPENCODE: &str = r#"
name = "opencode"
[[files]]
path = "config/opencode/opencode.json"
content = '''
{
  "autoupdate": false, "share": "disabled", "model": "fake/fake-model", "small_model": "fake/fake-model",
  "provider": {"fake": {
    "npm": "@ai-sdk/openai-compatible",
    "options": {"baseURL": "{env:OPENAI_BASE_URL}", "apiKey": "{env:OPENAI_API_KEY}"},
    "models": {"fake-model": {"tool_call": true, "limit": {"context": 200000, "output": 8000}}}
  }}
}
'''
"#;

macro_rules! real {
    ($($test:ident: $check:ident($name:literal, $own:expr);)*) => {$(
        #[test]
        fn $test() {
            if let Some(bench) = bench($name, $own) {
                $check(&bench);
            }
        }
    )*};
}

real! {
    claude_works_and_resumes: works_and_resumes("claude", None);
    claude_asks: asks("claude", None);
    claude_cancels: cancels("claude", None);
    codex_works_and_resumes: works_and_resumes("codex", None);
    codex_asks: asks("codex", None);
    codex_cancels: cancels("codex", None);
    gemini_works_and_resumes: works_and_resumes("gemini", None);
    gemini_asks: asks("gemini", None);
    gemini_cancels: cancels("gemini", None);
    opencode_works_and_resumes: works_and_resumes("opencode", Some(OPENCODE));
    opencode_asks: asks("opencode", Some(OPENCODE));
    opencode_cancels: cancels("opencode", Some(OPENCODE));
}

#[test]
fn aider_works() {
    let Some(mut bench) = bench("aider", None) else { return };
    bench.agent.model = Some("openai/fake-model".into());
    let prompt = "go\n@write a.txt one\n@say first done";
    let ended = bench.agent.start(SessionWish::New, PermissionPolicy::Allow, &[prompt]).finish();
    let told = format!("{:#?}\n{}", ended.events, ended.journal);
    assert_eq!(ended.turns(), [TurnEnd::Completed], "{told}");
    assert!(ended.said().contains("first done"), "{told}");
    assert_eq!(std::fs::read_to_string(bench.repo.path().join("a.txt")).unwrap(), "one\n", "{told}");
    let log = bench.repo.git(&["log", "--format=%s"]).unwrap();
    assert!(log.lines().count() >= 2, "aider did not commit: {log}");
}

/// It has no way to be interrupted but the end of its process: nothing is done after that, and the next run works.
#[test]
fn aider_cancels() {
    let Some(mut bench) = bench("aider", None) else { return };
    bench.agent.model = Some("openai/fake-model".into());
    let prompt = "go\n@sleep 600\n@write a.txt one\n@say never";
    let talk = bench.agent.start(SessionWish::New, PermissionPolicy::Allow, &[prompt]);
    assert!(bench.model.wait_for("@sleep 600", std::time::Duration::from_secs(90)));
    let ended = talk.kill();
    let told = format!("{:#?}\n{}", ended.events, ended.journal);
    assert_eq!(ended.turns(), [TurnEnd::Failed], "{told}");
    assert!(!ended.said().contains("never") && !bench.repo.path().join("a.txt").exists(), "{told}");
    let again =
        bench.agent.start(SessionWish::New, PermissionPolicy::Allow, &["more\n@write b.txt two"]).finish();
    assert_eq!(again.turns(), [TurnEnd::Completed], "{:#?}\n{}", again.events, again.journal);
    assert_eq!(std::fs::read_to_string(bench.repo.path().join("b.txt")).unwrap(), "two\n");
}

#[test]
fn the_installed_agents_are_located_with_what_they_need() {
    for name in agents::ALL {
        let Some(program) = agents::for_test(name) else { continue };
        let mut dirs = vec![program.program.parent().unwrap().to_owned()];
        dirs.extend(program.path_dirs);
        dirs.extend(["/usr/bin".into(), "/bin".into()]);
        let path = std::env::join_paths(dirs).unwrap();
        let home = std::env::home_dir().unwrap();
        let located = offshoot_agents::locate(name, &path, &home).unwrap();
        eprintln!("{located:#?}");
        let covered = |path: &Path| located.binds.iter().any(|bind| path.starts_with(bind));
        assert!(covered(&located.program), "{located:#?}");
        assert!(!located.binds.iter().any(|bind| home.starts_with(bind)), "{located:#?}");
    }
}
