//! The real agent CLIs inside real environments, offline: each talks with the scripted model on this machine's
//! loopback, which its task is allowed to reach. What each is taken through: work and a follow-up that resumes its
//! session; the model that was chosen; work in a worktree with a person answering; the daemon killed in the middle of a turn; a stop and a killed agent, with
//! nobody finishing alone.
//!
//! `OFFSHOOT_TEST_AGENTS` names the agents that are meant (`make test` and none named: claude, codex, gemini; `make
//! test-agents`: all). One that is meant and cannot be installed fails its test; one that is not is named as not run.
//!
//! Aider has no tools, so what others do by a tool it does by a model that is long in answering.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use offshoot_testkit::{agents, model::ScriptedModel};
use serde_json::Value;

use crate::stage::{Ran, Stage};

/// The keys that are let in; none of them may be found in what Offshoot remembers.
const KEYS: [(&str, &str); 3] = [
    ("ANTHROPIC_API_KEY", "dummy-anthropic-5d1f0c7e"),
    ("OPENAI_API_KEY", "dummy-openai-5d1f0c7e"),
    ("GEMINI_API_KEY", "dummy-gemini-5d1f0c7e"),
];

/// Longest wait for an agent to ask its model; the slowest takes 10 s to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

struct Inside {
    stage: Stage,
    model: ScriptedModel,
    agent: &'static str,
    path: String,
}

impl Inside {
    /// `None` if this agent is not meant.
    fn new(agent: &'static str) -> Option<Self> {
        let installed = agents::for_test(agent)?;
        let mut dirs = vec![installed.program.parent().unwrap().to_owned()];
        dirs.extend(installed.path_dirs);
        let dirs: Vec<_> = dirs.iter().map(|d| d.display().to_string()).collect();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", dirs.join(":"));
        let stage = Stage::new();
        // Some look for plugins on the network; that a person would be asked is not what is tested.
        std::fs::write(stage.path().join("config.toml"), "[network]\nunknown = \"refuse\"\n").unwrap();
        Some(Self { stage, model: ScriptedModel::start().unwrap(), agent, path })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let url = format!("http://host.internal:{}", self.port());
        let mut command = self.stage.command(arguments);
        command.env("PATH", &self.path).envs(KEYS);
        command.env("ANTHROPIC_BASE_URL", &url).env("OPENAI_BASE_URL", format!("{url}/v1"));
        command.env("GOOGLE_GEMINI_BASE_URL", &url);
        command
    }

    fn port(&self) -> String {
        self.model.url().rsplit(':').next().unwrap().to_owned()
    }

    fn offshoot(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran(output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// The model that is asked for if the test does not care.
    fn run(&self, name: &str, prompt: &str) {
        let model = match self.agent {
            "opencode" => Some("anthropic/claude-sonnet-4-5"),
            "aider" => Some("openai/fake-model"),
            _ => None,
        };
        self.run_with(name, prompt, model);
    }

    fn run_with(&self, name: &str, prompt: &str, model: Option<&str>) {
        let allow = format!("host:{}", self.port());
        let mut arguments = vec!["run", prompt, "--agent", self.agent, "--name", name, "--allow", &allow];
        arguments.extend(["--instructions", "Remember the word pomegranate."]);
        arguments.extend(model.iter().flat_map(|model| ["--model", *model]));
        let let_in: &[&str] = match self.agent {
            "claude" | "opencode" => &["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"],
            "gemini" => &["GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"],
            _ => &["OPENAI_API_KEY", "OPENAI_BASE_URL"],
        };
        if name == "ask" {
            arguments.extend(["--permission", "ask"]);
        }
        arguments.extend(let_in.iter().flat_map(|name| ["--pass-env", *name]));
        self.offshoot(&arguments).ok();
    }

    /// Waits for the end of the newest run and returns the task.
    fn ended(&self, name: &str) -> Value {
        self.offshoot(&["logs", "-f", name]).ok();
        self.task(name)
    }

    fn completes(&self, name: &str) -> Value {
        let task = self.ended(name);
        assert_eq!(task["state"], "complete", "{task}\n{:#?}", self.model.seen());
        task
    }

    fn task(&self, name: &str) -> Value {
        let list = self.offshoot(&["--json", "ps", "--all"]).json();
        let tasks = list["tasks"].as_array().unwrap().clone();
        tasks.into_iter().find(|view| view["task"]["name"] == name).unwrap()["task"].clone()
    }

    /// Waits until a tool call with this text has begun.
    fn wait_for(&self, name: &str, text: &str) {
        let mut child = self.command(&["logs", "-f", name]).stdout(Stdio::piped()).spawn().unwrap();
        let seen = BufReader::new(child.stdout.take().unwrap()).lines().any(|line| {
            let line = line.unwrap();
            line.trim_start().starts_with('→') && line.contains(text)
        });
        let _ = child.kill();
        child.wait().unwrap();
        assert!(seen, "{text:?} never came");
    }

    /// Waits until the model was asked about this prompt.
    fn wait_for_request(&self, prompt: &str) {
        assert!(self.model.wait_for(prompt, PATIENCE), "{prompt:?} never reached the model");
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output =
            Command::new("git").args(arguments).current_dir(self.stage.repo.path()).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn has_tools(&self) -> bool {
        self.agent != "aider"
    }

    /// Edits, runs a command, commits; then a follow-up in the same session.
    fn works(&self) {
        self.run(
            "work",
            "go\n@write a.txt one\n@shell git add a.txt && git commit -qm 'Add a'\n@say all done",
        );
        let task = self.ended("work");
        assert_eq!(task["state"], "complete", "{task}");
        assert_eq!(self.git(&["show", "offshoot/work:a.txt"]), "one\n");
        assert_eq!(
            self.git(&["diff", "--name-only", "main", "offshoot/work"]),
            "a.txt\n",
            "nothing but the work"
        );
        assert_eq!(self.git(&["status", "--porcelain"]), "", "the checkout is untouched");
        if self.has_tools() {
            let log = self.offshoot(&["logs", "work"]).ok();
            assert!(log.contains("a.txt") && log.contains("git commit"), "{log}");
        }
        let passed = task["runs"][0]["pass_env"].to_string();
        assert!(passed.contains("_API_KEY"), "{passed}");
        let seen = self.model.seen();
        assert!(
            seen.iter().any(|s| s.body.contains("pomegranate")),
            "the instructions never reached the model"
        );

        self.offshoot(&[
            "follow-up",
            "work",
            "more\n@write b.txt two\n@shell git add b.txt && git commit -qm 'Add b'",
        ])
        .ok();
        let again = self.ended("work");
        assert_eq!(again["state"], "complete", "{again}");
        assert_eq!(self.git(&["show", "offshoot/work:b.txt"]), "two\n");
        if ["claude", "codex", "opencode"].contains(&self.agent) {
            assert_eq!(again["session"], task["session"], "the session went on");
        }
        self.nothing_remembered();
        self.asks_for_forgotten_keys();
    }

    /// Waits until the task asks for the `number`th time; returns what it asks.
    fn asked(&self, name: &str, number: u64) -> Value {
        let mut child = self.command(&["--json", "logs", "-f", name]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let events =
            lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()["event"].clone());
        let is_it = |event: &Value| event["type"] == "approval_requested" && event["number"] == number;
        let found = events.into_iter().find(is_it);
        let _ = child.kill();
        child.wait().unwrap();
        found.unwrap_or_else(|| panic!("{name} did not ask: {}", self.task(name)))
    }

    /// A person allows one command and denies the next with a reason, which reaches the model; a standing rule answers
    /// the same command in a follow-up.
    fn asks(&self) {
        self.run("ask", "go\n@shell touch yes.txt\n@shell touch no.txt\n@say over");
        let first = self.asked("ask", 1);
        assert!(first.to_string().contains("touch yes.txt"), "{first}");
        // Gemini does not say its commands in a way that can be compared.
        let rules = self.agent != "gemini";
        let approve: &[&str] = if rules { &["approve", "ask/1", "--for-task"] } else { &["approve", "ask"] };
        self.offshoot(approve).ok();
        self.asked("ask", 2);
        let list = self.offshoot(&["approvals"]).ok();
        assert!(list.contains("ask/2") && list.contains("touch no.txt"), "{list}");
        self.offshoot(&["deny", "ask/2", "--reason", "no more of the quincunx"]).ok();
        let task = self.ended("ask");
        assert_eq!(task["state"], "complete", "{task}");
        let files = self.offshoot(&["exec", "ask", "--", "ls"]).ok();
        assert!(files.contains("yes.txt") && !files.contains("no.txt"), "{files}");
        let seen = self.model.seen();
        assert!(seen.iter().any(|seen| seen.body.contains("quincunx")), "the reason never reached the model");
        if rules {
            self.offshoot(&["follow-up", "ask", "again\n@shell touch yes.txt\n@say over"]).ok();
            let again = self.ended("ask");
            assert_eq!(again["state"], "complete", "{again}");
            let log = self.offshoot(&["logs", "ask"]).ok();
            assert!(log.contains("ask/3 allowed by standing rule ask/1"), "{log}");
        }
    }

    /// In a worktree, as the user's own process with the user's own settings: each command is put to a person.
    fn works_in_a_worktree(&self) {
        let url = format!("http://127.0.0.1:{}", self.port());
        if self.agent == "codex" {
            // As somebody has it who uses a provider of his own.
            let dir = self.stage.path().join(".codex");
            fs::create_dir(&dir).unwrap();
            let provider =
                format!("base_url = \"{url}/v1\"\nenv_key = \"OPENAI_API_KEY\"\nwire_api = \"responses\"\n");
            let text = format!("model_provider = \"own\"\n[model_providers.own]\nname = \"own\"\n{provider}");
            fs::write(dir.join("config.toml"), text).unwrap();
        }
        let prompt = "go\n@write a.txt one\n@shell git add a.txt && git commit -qm 'Add a'\n@say all done";
        let keys = ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"];
        let mut arguments =
            vec!["run", prompt, "--agent", self.agent, "--name", "tree", "--isolation", "worktree"];
        arguments.extend(keys.iter().flat_map(|name| ["--pass-env", *name]));
        let mut command = self.command(&arguments);
        command.env("ANTHROPIC_BASE_URL", &url).env("OPENAI_BASE_URL", format!("{url}/v1"));
        let said = command.output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let mut child =
            self.command(&["--json", "logs", "-f", "tree"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut asked = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let event = serde_json::from_str::<Value>(&line.unwrap()).unwrap()["event"].clone();
            if event["type"] == "approval_requested" {
                self.offshoot(&["approve", &format!("tree/{}", event["number"])]).ok();
                asked.push(event.to_string());
            }
        }
        child.wait().unwrap();
        let task = self.task("tree");
        assert_eq!(task["state"], "complete", "{task}\n{asked:?}\n{:#?}", self.model.seen());
        assert!(asked.iter().any(|asked| asked.contains("git commit")), "{asked:?}");
        assert_eq!(self.git(&["show", "offshoot/tree:a.txt"]), "one\n");
        assert_eq!(self.git(&["log", "-1", "--format=%s", "offshoot/tree"]), "Add a\n", "its own commit");
        assert_eq!(self.git(&["diff", "--name-only", "main", "offshoot/tree"]), "a.txt\n");
        self.offshoot(&["land", "tree"]).ok();
        assert_eq!(self.git(&["worktree", "list"]).lines().count(), 1);
        self.nothing_remembered();
    }

    /// The model that was chosen is the one the server is asked for, also by a follow-up, which may choose another.
    fn asks_the_chosen_model(&self) {
        // Neither is the agent's own default; agents ask for a current model instead of one that has been withdrawn.
        let [first, second] = match self.agent {
            "claude" => ["claude-opus-4-6", "claude-sonnet-4-5"],
            "codex" => ["gpt-5.6-sol", "gpt-5.6-luna"],
            "gemini" => ["gemini-2.5-flash-lite", "gemini-2.5-flash"],
            "opencode" => ["anthropic/claude-opus-4-6", "anthropic/claude-sonnet-4-5"],
            _ => ["openai/one-model", "openai/other-model"],
        };
        let known = |model: &'static str| model.rsplit('/').next().unwrap();
        self.run_with("model", "go first\n@say done", Some(first));
        self.completes("model");
        self.offshoot(&["follow-up", "model", "go second\n@say done"]).ok();
        self.completes("model");
        self.offshoot(&["follow-up", "model", "go third\n@say done", "--model", second]).ok();
        self.completes("model");
        let seen = self.model.seen();
        for (prompt, model) in [("go first", first), ("go second", first), ("go third", second)] {
            let about = seen.iter().filter(|seen| seen.prompt.contains(prompt));
            let asked: Vec<_> = about.map(|seen| seen.model.as_str()).collect();
            // Agents give the same prompt to a small model of their choice, for a title.
            assert!(asked.contains(&known(model)), "{prompt}: {asked:?}, not {model}");
        }
    }

    /// A daemon that was started again does not know the keys; it says so rather than show a login screen.
    fn asks_for_forgotten_keys(&self) {
        self.offshoot(&["daemon", "stop"]).ok();
        self.offshoot(&["ps"]).ok();
        let body = r#"{"rows":24,"cols":80}"#;
        let request = format!(
            "POST /v1/tasks/work/attach HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = self.stage.raw(&request, "");
        assert!(answer.contains("variable_forgotten"), "{answer}");
    }

    /// No key is in what the daemon keeps: log, store, copies, descriptions of environments.
    fn nothing_remembered(&self) {
        let mut pending = vec![self.stage.state_dir()];
        while let Some(dir) = pending.pop() {
            // The kernel's scratch directory of an overlay has no permissions at all.
            let entries = std::fs::read_dir(&dir);
            if entries.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied) {
                continue;
            }
            for entry in entries.unwrap().flatten() {
                let path = entry.path();
                let kind = entry.file_type().unwrap();
                // What the agent itself keeps in its own home is its own affair and goes with the environment.
                if kind.is_dir() && !path.ends_with("home") && !path.ends_with("home-work") {
                    pending.push(path);
                } else if kind.is_file() {
                    let bytes = std::fs::read(&path).unwrap();
                    for (_, key) in KEYS {
                        let found = bytes.windows(key.len()).any(|window| window == key.as_bytes());
                        assert!(!found, "{key} is in {}", path.display());
                    }
                }
            }
        }
    }

    /// The daemon is killed while the agent works; the agent goes on, and nothing is done twice.
    fn outlives_the_daemon(&self) {
        if self.has_tools() {
            self.run(
                "late",
                "go\n@shell sleep 2; echo x >> once.txt\n@shell git add -A && git commit -qm once",
            );
            self.wait_for("late", "sleep 2");
        } else {
            self.run("late", "go\n@sleep 2\n@write once.txt x\n@say done");
            self.wait_for_request("go");
        }
        self.stage.kill_daemon();
        let task = self.ended("late");
        assert_eq!(task["state"], "complete", "{task}");
        assert_eq!(self.git(&["show", "offshoot/late:once.txt"]), "x\n", "once, not twice");
    }

    /// Stopped by a person, or its process killed: nobody finishes the turn.
    fn dies_whole(&self) {
        for how in ["stop", "kill"] {
            if self.has_tools() {
                self.run(
                    how,
                    "go\n@write kept.txt kept\n@shell timeout 47 tail -f /dev/null; echo x > orphan.txt\n\
                     @sleep 20\n@say never",
                );
                self.wait_for(how, "tail -f");
            } else {
                self.run(how, &format!("go {how}\n@sleep 20\n@write late.txt x\n@say never"));
                self.wait_for_request(&format!("go {how}"));
                self.offshoot(&["exec", how, "--", "sh", "-c", "echo kept > kept.txt"]).ok();
            }
            if how == "stop" {
                self.offshoot(&["stop", how]).ok();
            } else {
                // Every process of the agent's but the tool it has started.
                let kill = "for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p -gt 1 ] && [ $p != $$ ] || continue; \
                            grep -qE 'orphan|tail' /proc/$p/cmdline 2>/dev/null || kill -9 $p 2>/dev/null; done; true";
                let _ = self.offshoot(&["exec", how, "--", "sh", "-c", kill]);
            }
            let task = self.ended(how);
            assert_eq!(task["state"], if how == "stop" { "stopped" } else { "failed" }, "{task}");
            assert_ne!(task["reason"], Value::Null);
            assert_eq!(
                self.git(&["show", &format!("offshoot/{how}:kept.txt")]),
                "kept\n",
                "its work is kept"
            );
            let look = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; ls";
            let left = self.offshoot(&["exec", how, "--", "sh", "-c", look]).ok();
            let alive = ["tail -f", "orphan.txt", "late.txt"].iter().any(|part| left.contains(part));
            assert!(!alive, "{how}: somebody goes on: {left}");
        }
    }
}

macro_rules! agents {
    ($($name:ident $agent:literal;)*) => {$(
        mod $name {
            use super::Inside;

            #[test]
            fn works_and_resumes() {
                if let Some(inside) = Inside::new($agent) {
                    inside.works();
                }
            }

            #[test]
            fn asks_the_chosen_model() {
                if let Some(inside) = Inside::new($agent) {
                    inside.asks_the_chosen_model();
                }
            }

            #[test]
            fn asks() {
                if let Some(inside) = Inside::new($agent).filter(Inside::has_tools) {
                    inside.asks();
                }
            }

            #[test]
            fn works_in_a_worktree() {
                let own_log_in = |inside: &Inside| ["claude", "codex"].contains(&inside.agent);
                if let Some(inside) = Inside::new($agent).filter(own_log_in) {
                    inside.works_in_a_worktree();
                }
            }

            #[test]
            fn outlives_the_daemon() {
                if let Some(inside) = Inside::new($agent) {
                    inside.outlives_the_daemon();
                }
            }

            #[test]
            fn dies_whole() {
                if let Some(inside) = Inside::new($agent) {
                    inside.dies_whole();
                }
            }
        }
    )*};
}

agents! {
    real_claude "claude";
    real_codex "codex";
    real_gemini "gemini";
    real_opencode "opencode";
    real_aider "aider";
}
