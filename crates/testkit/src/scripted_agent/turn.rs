//! One turn: the steps of a prompt, or, for a prompt without steps, something sensible and visible.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    ContentBlock, ContentChunk, Diff, PermissionOption, PermissionOptionKind, Plan, PlanEntry,
    PlanEntryPriority, PlanEntryStatus, PromptRequest, PromptResponse, RequestPermissionOutcome,
    RequestPermissionRequest, SessionId, SessionNotification, SessionUpdate, StopReason, ToolCall,
    ToolCallContent, ToolCallLocation, ToolCallStatus, ToolCallUpdate, ToolCallUpdateFields, ToolKind,
    UsageUpdate,
};
use agent_client_protocol::{Client, Error, Result};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::ASK;
use super::sessions::{Said, Session};
use crate::script::{Step, parse};

/// What the end of a step means for the turn.
enum Flow {
    Go,
    Cancelled,
}

pub(super) struct Turn {
    connection: ConnectionTo<Client>,
    session: Session,
    id: SessionId,
    cancel: CancellationToken,
    calls: u32,
    said: String,
}

impl Turn {
    pub(super) fn new(connection: ConnectionTo<Client>, session: Session, cancel: CancellationToken) -> Self {
        let id = SessionId::new(session.id.clone());
        Self { connection, session, id, cancel, calls: 0, said: String::new() }
    }

    pub(super) fn into_session(self) -> Session {
        self.session
    }

    pub(super) async fn play(&mut self, request: &PromptRequest) -> Result<PromptResponse> {
        let texts = request.prompt.iter().filter_map(|block| match block {
            ContentBlock::Text(text) => Some(text.text.as_str()),
            _ => None,
        });
        let prompt = texts.collect::<Vec<_>>().join("\n");
        self.session.history.push(Said::Person(prompt.clone()));
        let mut steps = parse(&prompt);
        if steps.is_empty() {
            steps = sensible(&self.session.cwd, &prompt);
        }
        let mut reason = StopReason::EndTurn;
        for step in steps {
            if let Flow::Cancelled = self.step(step).await? {
                reason = StopReason::Cancelled;
                break;
            }
        }
        if self.said.is_empty() && reason == StopReason::EndTurn {
            self.say(&format!("DONE {}", self.calls))?;
        }
        let used = 100 + 10 * u64::from(self.calls);
        self.update(SessionUpdate::UsageUpdate(UsageUpdate::new(used, 200_000)))?;
        self.session.history.push(Said::Agent(std::mem::take(&mut self.said)));
        Ok(PromptResponse::new(reason))
    }

    fn update(&self, update: SessionUpdate) -> Result<()> {
        self.connection.send_notification(SessionNotification::new(self.id.clone(), update))
    }

    fn say(&mut self, text: &str) -> Result<()> {
        self.said.push_str(text);
        self.update(SessionUpdate::AgentMessageChunk(ContentChunk::new(ContentBlock::from(text.to_owned()))))
    }

    async fn sleep(&self, time: Duration) -> Flow {
        tokio::select! {
            () = tokio::time::sleep(time) => Flow::Go,
            () = self.cancel.cancelled() => Flow::Cancelled,
        }
    }

    async fn step(&mut self, step: Step) -> Result<Flow> {
        if self.cancel.is_cancelled() {
            return Ok(Flow::Cancelled);
        }
        match step {
            Step::Shell(command) => return self.shell(&command).await,
            Step::Both(commands) => {
                for command in commands {
                    if let Flow::Cancelled = self.shell(&command).await? {
                        return Ok(Flow::Cancelled);
                    }
                }
            }
            Step::Commit(message) => return self.shell(&commit_command(&message)).await,
            Step::Write(path, text) => {
                let file = self.session.cwd.join(&path);
                let old = std::fs::read_to_string(&file).ok();
                return self.edit(&path, old, Ok(text)).await;
            }
            Step::Edit(path, old, new) => {
                let text = std::fs::read_to_string(self.session.cwd.join(&path)).unwrap_or_default();
                let edited = if text.contains(&old) {
                    Ok(text.replacen(&old, &new, 1))
                } else {
                    Err(format!("{path} does not contain {old:?}"))
                };
                return self.edit(&path, Some(text), edited).await;
            }
            Step::Read(path) => {
                let id = self.begin(&format!("Read {path}"), ToolKind::Read, Some(&path))?;
                let text =
                    std::fs::read_to_string(self.session.cwd.join(&path)).map_err(|error| error.to_string());
                self.end(&id, text.map(|text| vec![text.into()]))?;
            }
            Step::Plan(parts) => {
                let entries = parts.into_iter().enumerate().map(|(index, part)| {
                    let status =
                        if index == 0 { PlanEntryStatus::InProgress } else { PlanEntryStatus::Pending };
                    PlanEntry::new(part, PlanEntryPriority::Medium, status)
                });
                self.update(SessionUpdate::Plan(Plan::new(entries.collect())))?;
            }
            Step::Ask(question, options) => {
                let id = self.begin(&question, ToolKind::Think, None)?;
                let options: Vec<PermissionOption> = options
                    .iter()
                    .map(|option| {
                        PermissionOption::new(option.clone(), option.clone(), PermissionOptionKind::AllowOnce)
                    })
                    .collect();
                let fields = ToolCallUpdateFields::new().title(question);
                let Some(chosen) = self.ask(&id, fields, options).await? else {
                    return Ok(Flow::Cancelled);
                };
                self.end(&id, Ok(vec![chosen.clone().into()]))?;
                self.say(&format!("You chose {chosen}. "))?;
            }
            Step::Say(text) => self.say(&text)?,
            Step::Tokens(count, gap) => {
                for number in 0..count {
                    self.say(&format!("word{number} "))?;
                    if gap > 0
                        && let Flow::Cancelled = self.sleep(Duration::from_millis(gap)).await
                    {
                        return Ok(Flow::Cancelled);
                    }
                }
            }
            Step::Sleep(seconds) => {
                let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
                return Ok(self.sleep(time).await);
            }
            Step::Calls(count) => {
                for number in 0..count {
                    let id = self.begin(&format!("Look at thing {number}"), ToolKind::Search, None)?;
                    self.end(&id, Ok(Vec::new()))?;
                    tokio::task::yield_now().await;
                    if self.cancel.is_cancelled() {
                        return Ok(Flow::Cancelled);
                    }
                }
            }
            Step::Crash => std::process::exit(101),
            Step::Hang => std::future::pending::<()>().await,
            Step::Orphan(command) => {
                let line = format!("({command}) </dev/null >/dev/null 2>&1 &");
                let spawned = Command::new("setsid")
                    .args(["-f", "sh", "-c", &line])
                    .current_dir(&self.session.cwd)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .spawn();
                spawned
                    .map_err(Error::into_internal_error)?
                    .wait()
                    .await
                    .map_err(Error::into_internal_error)?;
            }
            Step::Flood(bytes) => {
                let piece = "flood ".repeat(680);
                let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
                while left > 0 {
                    let part = &piece[..piece.len().min(left)];
                    left -= part.len();
                    self.update(SessionUpdate::AgentMessageChunk(ContentChunk::new(ContentBlock::from(
                        part.to_owned(),
                    ))))?;
                    tokio::task::yield_now().await;
                }
                self.said.push_str("flood");
            }
            Step::Tool(..) | Step::Error(..) => {}
        }
        Ok(Flow::Go)
    }

    /// Announces a tool call.
    fn begin(&mut self, title: &str, kind: ToolKind, path: Option<&str>) -> Result<String> {
        self.calls += 1;
        let id = format!("call-{}-{}", self.session.history.len(), self.calls);
        let locations = path.map(|path| ToolCallLocation::new(self.session.cwd.join(path)));
        let call = ToolCall::new(id.clone(), title)
            .kind(kind)
            .status(ToolCallStatus::InProgress)
            .locations(locations.into_iter().collect::<Vec<_>>());
        self.update(SessionUpdate::ToolCall(call))?;
        Ok(id)
    }

    fn end(&self, id: &str, result: Result<Vec<ToolCallContent>, String>) -> Result<()> {
        let (status, content) = match result {
            Ok(content) => (ToolCallStatus::Completed, content),
            Err(error) => (ToolCallStatus::Failed, vec![error.into()]),
        };
        let fields = ToolCallUpdateFields::new().status(status).content(content);
        self.update(SessionUpdate::ToolCallUpdate(ToolCallUpdate::new(id.to_owned(), fields)))
    }

    /// Asks; `None` if the turn was cancelled meanwhile.
    async fn ask(
        &self,
        id: &str,
        fields: ToolCallUpdateFields,
        options: Vec<PermissionOption>,
    ) -> Result<Option<String>> {
        let call = ToolCallUpdate::new(id.to_owned(), fields);
        let request = RequestPermissionRequest::new(self.id.clone(), call, options);
        let response = self.connection.send_request(request).block_task().await?;
        Ok(match response.outcome {
            RequestPermissionOutcome::Selected(selected) => Some(selected.option_id.0.to_string()),
            _ => None,
        })
    }

    /// Whether a tool call may go on. `None`: the turn was cancelled.
    async fn permitted(&self, id: &str, fields: ToolCallUpdateFields) -> Result<Option<bool>> {
        if self.session.mode != ASK {
            return Ok(Some(true));
        }
        let options = vec![
            PermissionOption::new("yes", "Yes", PermissionOptionKind::AllowOnce),
            PermissionOption::new("always", "Yes, always", PermissionOptionKind::AllowAlways),
            PermissionOption::new("no", "No", PermissionOptionKind::RejectOnce),
        ];
        Ok(self.ask(id, fields, options).await?.map(|chosen| chosen != "no"))
    }

    async fn edit(&mut self, path: &str, old: Option<String>, new: Result<String, String>) -> Result<Flow> {
        let title = format!("Edit {path}");
        let id = self.begin(&title, ToolKind::Edit, Some(path))?;
        let text = match new {
            Ok(text) => text,
            Err(error) => {
                self.end(&id, Err(error))?;
                return Ok(Flow::Go);
            }
        };
        let change = Diff::new(self.session.cwd.join(path), text.clone()).old_text(old.clone());
        let fields = ToolCallUpdateFields::new().title(title).content(vec![ToolCallContent::Diff(change)]);
        match self.permitted(&id, fields).await? {
            None => return Ok(Flow::Cancelled),
            Some(false) => {
                self.end(&id, Err("not permitted".to_owned()))?;
                return Ok(Flow::Go);
            }
            Some(true) => {}
        }
        let file = self.session.cwd.join(path);
        let written = file
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&file, &text))
            .map(|()| vec![ToolCallContent::Diff(Diff::new(file, text).old_text(old))])
            .map_err(|error| format!("{path}: {error}"));
        self.end(&id, written)?;
        Ok(Flow::Go)
    }

    async fn shell(&mut self, command: &str) -> Result<Flow> {
        let id = self.begin(command, ToolKind::Execute, None)?;
        let input = serde_json::json!({ "command": command });
        let fields = ToolCallUpdateFields::new().title(command.to_owned()).raw_input(input);
        match self.permitted(&id, fields).await? {
            None => return Ok(Flow::Cancelled),
            Some(false) => {
                self.end(&id, Err("not permitted".to_owned()))?;
                return Ok(Flow::Go);
            }
            Some(true) => {}
        }
        let spawned = Command::new("sh")
            .args(["-c", command])
            .current_dir(&self.session.cwd)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) => {
                self.end(&id, Err(error.to_string()))?;
                return Ok(Flow::Go);
            }
        };
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        let output = tokio::select! {
            output = child.wait_with_output() => output,
            () = self.cancel.cancelled() => {
                if let Some(group) = group {
                    // It may just have ended by itself.
                    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                }
                self.end(&id, Err("cancelled".to_owned()))?;
                return Ok(Flow::Cancelled);
            }
        };
        let result = output.map_err(|error| error.to_string()).and_then(|output| {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&output.stderr));
            if output.status.success() {
                Ok(vec![text.into()])
            } else {
                Err(format!("{text}{}", output.status))
            }
        });
        self.end(&id, result)?;
        Ok(Flow::Go)
    }
}

/// Commits everything, in the name of the agent if nobody else's is configured.
fn commit_command(message: &str) -> String {
    let message = message.replace('\'', "'\\''");
    format!(
        "git add -A && if git config user.email >/dev/null; then git commit -q -m '{message}'; else \
         git -c user.name='Scripted Agent' -c user.email=agent@example.com commit -q -m '{message}'; fi"
    )
}

/// Steps for a prompt that has none: change the file it names (or a note named after it), run the tests there are,
/// commit.
fn sensible(cwd: &Path, prompt: &str) -> Vec<Step> {
    let subject: String = prompt.lines().next().unwrap_or_default().chars().take(72).collect();
    let words = prompt.split(|c: char| c.is_whitespace() || "\"'`,;:!?()".contains(c));
    let words: Vec<&str> =
        words.map(|word| word.trim_end_matches('.')).filter(|word| !word.is_empty()).collect();
    let named = words.iter().find(|word| {
        let path = Path::new(word);
        path.is_relative() && path.extension().is_some() && !word.contains("..") && cwd.join(word).is_file()
    });
    let path = named.map_or_else(|| note(&words), PathBuf::from);
    let mut text = std::fs::read_to_string(cwd.join(&path)).unwrap_or_default();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!("{} {subject}", comment(&path)));
    let path = path.display().to_string();
    let mut steps = vec![
        Step::Plan(vec![format!("Change {path}"), "Run the tests".into(), "Commit".into()]),
        Step::Write(path.clone(), format!("{}\n", text.trim_start())),
    ];
    steps.extend(tests(cwd).map(Step::Shell));
    steps.push(Step::Commit(subject));
    steps.push(Step::Say(format!("Changed {path} and committed it.")));
    steps
}

fn note(words: &[&str]) -> PathBuf {
    let letters =
        |word: &&str| word.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_lowercase();
    let name: Vec<String> = words.iter().map(letters).filter(|word| !word.is_empty()).take(5).collect();
    let name = if name.is_empty() { "note".to_owned() } else { name.join("-") };
    PathBuf::from(format!("notes/{name}.md"))
}

/// What begins a comment in a file.
fn comment(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "rs" | "js" | "ts" | "tsx" | "go" | "c" | "h" | "java" => "//",
        "py" | "sh" | "toml" | "yaml" | "yml" | "rb" => "#",
        "md" | "txt" => "-",
        _ => "",
    }
}

fn tests(cwd: &Path) -> Option<String> {
    let contains = |file: &str, words: &str| {
        std::fs::read_to_string(cwd.join(file)).is_ok_and(|text| text.contains(words))
    };
    let known = [
        (cwd.join("test.sh").is_file(), "sh test.sh"),
        (contains("Makefile", "\ntest:"), "make test"),
        (contains("package.json", "\"test\":"), "npm test"),
        (cwd.join("Cargo.toml").is_file(), "cargo test"),
    ];
    known.into_iter().find(|(there, _)| *there).map(|(_, command)| command.to_owned())
}
