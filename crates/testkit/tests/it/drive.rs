//! Runs an agent by its definition and talks with it, as the engine does, but on plain pipes. After every step the
//! conversation is rebuilt from its journal and has to want the same.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use offshoot_agents::conversation::{
    Answer, Conversation, Direction, Prompt, Send, SessionWish, Setup, Wants,
};
use offshoot_agents::{AgentDefinition, LaunchParams};
use offshoot_core::agent::{AgentEvent, AskOption, PermissionPolicy, Role, ToolStatus, TurnEnd};

/// Longest wait for the next bytes; the slowest agent takes 10 s to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Agent {
    pub definition: AgentDefinition,
    pub program: PathBuf,
    pub path_dirs: Vec<PathBuf>,
    pub state: PathBuf,
    pub cwd: PathBuf,
    pub env: BTreeMap<String, String>,
    pub model: Option<String>,
    pub instructions: Option<String>,
}

pub struct Talk {
    pub wants: Wants,
    conversation: Conversation,
    setup: Setup,
    journal: Vec<(Direction, Vec<u8>)>,
    child: Child,
    received: Receiver<Vec<u8>>,
    pub events: Vec<AgentEvent>,
    looked_at: usize,
}

impl Agent {
    pub fn start(&self, session: SessionWish, permission: PermissionPolicy, prompts: &[&str]) -> Talk {
        let launch = self
            .definition
            .resolve(&LaunchParams {
                executable: self.program.clone(),
                state_dir: self.state.clone(),
                own_settings: false,
                cwd: self.cwd.clone(),
                model: self.model.clone(),
                session,
                new_session_id: new_uuid(),
                permission,
                instructions: self.instructions.clone(),
                prompt: prompts.first().copied().unwrap_or_default().to_owned(),
                env: self.env.clone(),
            })
            .unwrap();
        for file in &launch.files {
            if !(file.keep && file.path.exists()) {
                std::fs::create_dir_all(file.path.parent().unwrap()).unwrap();
                std::fs::write(&file.path, &file.text).unwrap();
            }
        }
        let mut dirs = self.path_dirs.clone();
        dirs.extend(["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from));
        let mut child = Command::new(&launch.argv[0])
            .args(&launch.argv[1..])
            .current_dir(&self.cwd)
            .env_clear()
            .env("PATH", std::env::join_paths(dirs).unwrap())
            .env("HOME", &self.state)
            .envs(&self.env)
            .envs(&launch.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(self.state.join("stderr.log")).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (sender, received) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut talk = Talk {
            wants: Wants::default(),
            conversation: Conversation::new(launch.setup.clone()),
            setup: launch.setup,
            journal: Vec::new(),
            child,
            received,
            events: Vec::new(),
            looked_at: 0,
        };
        for prompt in prompts {
            talk.prompt(prompt);
        }
        talk
    }
}

fn new_uuid() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned()
}

impl Talk {
    pub fn prompt(&mut self, text: &str) {
        let id = format!("p{}", self.wants.prompts.len());
        self.wants.prompts.push(Prompt { id, text: text.to_owned() });
    }

    /// Sends what is due.
    fn send(&mut self) {
        while let Some(send) = self.conversation.next(&self.wants) {
            let replayed = self.replay();
            assert_eq!(replayed.next(&self.wants), Some(send.clone()), "a replay wants something else");
            match send {
                Send::Bytes(bytes) => {
                    // An agent that has just exited does not read any more.
                    let _ = self.child.stdin.as_mut().unwrap().write_all(&bytes);
                    self.events.extend(self.conversation.observe(Direction::Sent, &bytes));
                    self.journal.push((Direction::Sent, bytes));
                }
                Send::CloseInput => {
                    self.child.stdin = None;
                    self.conversation.observe_input_closed();
                }
            }
        }
    }

    fn replay(&self) -> Conversation {
        let mut replayed = Conversation::new(self.setup.clone());
        for (direction, bytes) in &self.journal {
            replayed.observe(*direction, bytes);
        }
        replayed
    }

    /// Goes on until an event that was not looked at before is as wanted.
    pub fn until(&mut self, mut wanted: impl FnMut(&AgentEvent) -> bool) {
        loop {
            self.send();
            while self.looked_at < self.events.len() {
                self.looked_at += 1;
                if wanted(&self.events[self.looked_at - 1]) {
                    return;
                }
            }
            let Ok(bytes) = self.received.recv_timeout(PATIENCE) else {
                panic!("silence or exit after {:#?}\n{}", self.events, self.journal_text());
            };
            self.events.extend(self.conversation.observe(Direction::Received, &bytes));
            self.journal.push((Direction::Received, bytes));
        }
    }

    pub fn until_turn_ends(&mut self, wanted: u32) {
        self.until(|event| matches!(event, AgentEvent::TurnEnded { turn, .. } if *turn == wanted));
    }

    /// Finishes: everything prompted is answered, the input closed, the process ends by itself.
    pub fn finish(mut self) -> Ended {
        self.wants.finish = true;
        self.send();
        while let Ok(bytes) = self.received.recv_timeout(PATIENCE) {
            self.events.extend(self.conversation.observe(Direction::Received, &bytes));
            self.journal.push((Direction::Received, bytes));
            self.send();
        }
        let code = self.child.wait().unwrap().code();
        self.events.extend(self.conversation.observe_exit(code));
        let session = self.conversation.session().map(str::to_owned);
        Ended { events: std::mem::take(&mut self.events), session, code, journal: self.journal_text() }
    }

    /// Ends the process at once and takes what it had said.
    pub fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.finish()
    }

    pub fn answer(&mut self, choose: impl Fn(&[AskOption]) -> String) {
        let asked = self.events.iter().rev().find_map(|event| match event {
            AgentEvent::Asked { id, options, .. } => Some((id.clone(), choose(options))),
            _ => None,
        });
        let (id, option) = asked.unwrap();
        self.wants.answers.insert(id, Answer { option, text: None });
    }

    fn journal_text(&self) -> String {
        let lines = self.journal.iter().map(|(direction, bytes)| {
            let text = String::from_utf8_lossy(bytes);
            format!("{direction:?}: {}", text.chars().take(3000).collect::<String>())
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Ended {
    pub events: Vec<AgentEvent>,
    pub session: Option<String>,
    pub code: Option<i32>,
    pub journal: String,
}

impl Ended {
    pub fn turns(&self) -> Vec<TurnEnd> {
        let ends = self.events.iter().filter_map(|event| match event {
            AgentEvent::TurnEnded { reason, .. } => Some(*reason),
            _ => None,
        });
        ends.collect()
    }

    pub fn said(&self) -> String {
        let texts = self.events.iter().filter_map(|event| match event {
            AgentEvent::Message { role: Role::Assistant, text } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// Titles of the tool calls that came to an end, with whether they succeeded.
    pub fn calls(&self) -> Vec<(String, bool)> {
        let calls = self.events.iter().filter_map(|event| match event {
            AgentEvent::ToolCall { title, status: ToolStatus::Completed, .. } => Some((title.clone(), true)),
            AgentEvent::ToolCall { title, status: ToolStatus::Failed, .. } => Some((title.clone(), false)),
            _ => None,
        });
        calls.collect()
    }
}

pub fn dirs() -> (tempfile::TempDir, PathBuf, PathBuf) {
    // Codex refuses a state directory under the directory for temporary files.
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = tempfile::tempdir_in(base).unwrap();
    let (state, cwd) = (dir.path().join("state"), dir.path().join("repo"));
    std::fs::create_dir(&state).unwrap();
    (dir, state, cwd)
}
