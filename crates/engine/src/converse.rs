//! Talking with a run's agent: its journal is folded into a conversation, what it says becomes events, and what is
//! yet to be said is sent. State lives in the journal and the log only, so this can be cut off anywhere and begun
//! again: nothing is recorded twice, nothing is sent twice.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use offshoot_agents::{
    Answer, Conversation, Direction, Prompt, Send, SessionWish, Wants, conversation::Wire,
};
use offshoot_core::{
    agent::{AgentEvent, ToolStatus, TurnEnd},
    approval::ApprovalSource,
    event::Event,
    fault,
    id::RunId,
    lifecycle::TaskState,
    problem::Problem,
    record::{RunRecord, TaskRecord},
};
use offshoot_sandbox::{
    Event as SandboxEvent, Exit,
    journal::{HEADER, Kind, Reader},
};
use tokio::sync::{broadcast::error::RecvError, mpsc};

use crate::{engine::Engine, environments::Live, snapshot::Snapshots};

/// Bytes of a journal read at a time.
const READ: usize = 256 * 1024;
/// How often silence is looked at while nothing happens; more often where silence is all that tells.
const TICK: Duration = Duration::from_secs(5);
const TERMINAL_TICK: Duration = Duration::from_secs(1);
/// How long an agent may take to end by itself after its last turn.
const GRACE: Duration = Duration::from_secs(8);
/// How long it may take to end a turn that a person stopped. What it has started may go on meanwhile.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How much of the end of its standard error is kept for the reason of a failure.
const STDERR: usize = 2000;

/// How the agent's work ended.
#[derive(Debug)]
pub enum Outcome {
    /// Its turn is complete.
    Done,
    /// It is not, and why.
    Failed(String),
    /// It ended without a word: its session is not known any more.
    SessionLost,
}

/// What has been seen of one process of an agent.
struct Talk {
    conversation: Conversation,
    at: u64,
    stored: u64,
    state: TaskState,
    begun: bool,
    /// The turn under way, or the last one.
    turn: Option<u32>,
    turn_end: Option<(TurnEnd, Option<String>)>,
    trouble: Option<String>,
    stderr: Vec<u8>,
    exit: Option<Exit>,
}

impl Engine {
    /// Talks with the run's agent until it has ended.
    pub(crate) async fn converse(&self, record: &TaskRecord, run: &RunRecord) -> Result<Outcome, Problem> {
        let live = self.ready(record.id).await?;
        if run.exec.is_none() {
            self.services_ready(&live).await?;
        }
        let mut happened = live.sandbox.events();
        let (exec, recorded) = self.agent_started(record, run, &live).await?;
        let known =
            live.sandbox.execs().await.map_err(|e| Problem::internal("the sandbox does not answer", &e))?;
        let alive = known.iter().any(|state| state.id == exec);
        let reader = Reader::open(&live.lease.journal(&exec))
            .map_err(|e| Problem::internal("could not read the agent's journal", &e))?;
        let record = self.inner.ledger.task(record.id)?;
        let resumed = matches!(recorded.setup.session, SessionWish::Resume(_));
        let terminal = recorded.setup.wire == Wire::Terminal;
        let reasons_travel = recorded.setup.wire == Wire::ClaudeStreamJson;
        let tick = if terminal { TERMINAL_TICK } else { TICK };
        let mut talk = Talk {
            conversation: Conversation::new(recorded.setup),
            at: 0,
            stored: record.run().map_or(0, |run| run.offset),
            // What needs attention because of an approval follows from that alone.
            state: if record.waiting().next().is_some() { TaskState::Running } else { record.state },
            begun: false,
            turn: None,
            turn_end: None,
            trouble: None,
            stderr: Vec::new(),
            exit: None,
        };
        let mut wants = Wants {
            prompts: vec![Prompt { id: run.id.to_string(), text: recorded.prompt }],
            // Silence in a terminal does not tell that nothing more is wanted: a person ends such a run.
            finish: !terminal,
            ..Wants::default()
        };
        let snapshots = Snapshots::start(self.clone(), record.id, run.id, live.clone());
        let mut newest = self.inner.ledger.watch();
        let mut last_bytes = Instant::now();
        let mut deadline: Option<Instant> = None;
        let (mut closed, mut stopping, mut killed) = (false, false, false);
        loop {
            if self.listen(&record, run, &reader, &exec, &live, &mut talk, snapshots.sender()).await? {
                last_bytes = Instant::now();
                self.inner.environments.touch(live.lease.terms().environment);
            }
            if talk.exit.is_some() {
                break;
            }
            if !alive {
                snapshots.finish().await;
                return Ok(Outcome::Failed(
                    "its process is gone: the environment had to be started again".to_owned(),
                ));
            }
            let now = self.inner.ledger.task(record.id)?;
            wants.answers = answers(&now, run.id, &exec);
            if let Some(run) = now.run().filter(|_| !reasons_travel) {
                // Where an answer carries no words, they are said in a turn of their own.
                let said = (wants.prompts.len()..).zip(run.denials.iter().skip(wants.prompts.len() - 1));
                let more = said.map(|(n, text)| Prompt { id: format!("denial-{n}"), text: text.clone() });
                let more: Vec<_> = more.collect();
                wants.prompts.extend(more);
            }
            if now.run().is_some_and(|r| r.stop_requested) {
                wants.cancel_turn = talk.turn;
                if !stopping {
                    stopping = true;
                    // It may be frozen; only what runs can be asked to stop.
                    self.ready(record.id).await?;
                    deadline = Some(Instant::now() + STOP_GRACE);
                }
                if talk.turn_end.is_some() && !killed {
                    // Some agents leave a cancelled tool running: nothing is waited for any more.
                    deadline = Some(Instant::now());
                }
            } else if closed && talk.turn_end.is_some() {
                deadline.get_or_insert_with(|| Instant::now() + GRACE);
            }
            match talk.conversation.next(&wants) {
                Some(Send::Bytes(bytes)) => {
                    fault::point("run.send");
                    let answers = !wants.answers.is_empty();
                    if answers {
                        // While nobody answered it may have been frozen.
                        self.ready(record.id).await?;
                        fault::point("approval.send");
                    }
                    // It comes back through the journal; only then has it happened.
                    if live.sandbox.input(&exec, &bytes).await.is_ok() {
                        if answers {
                            fault::point("approval.sent");
                        }
                        continue;
                    }
                }
                Some(Send::CloseInput) if !closed => {
                    closed = true;
                    let _ = live.sandbox.close_input(&exec).await;
                    talk.conversation.observe_input_closed();
                    continue;
                }
                Some(Send::CloseInput) | None => {}
            }
            if deadline.is_some_and(|at| Instant::now() >= at) {
                deadline = Some(Instant::now() + GRACE);
                killed = true;
                let _ = live.sandbox.signal(&exec, 9).await;
            }
            let wait = deadline.map_or(tick, |at| at.saturating_duration_since(Instant::now()).min(tick));
            tokio::select! {
                event = happened.recv() => if matches!(event, Ok(SandboxEvent::InitGone) | Err(RecvError::Closed)) {
                    self.listen(&record, run, &reader, &exec, &live, &mut talk, snapshots.sender()).await?;
                    if talk.exit.is_none() {
                        snapshots.finish().await;
                        return Ok(Outcome::Failed("its sandbox ended: killed, or out of memory".to_owned()));
                    }
                    break;
                },
                _ = newest.changed() => {},
                () = tokio::time::sleep(wait) => {
                    let events = talk.conversation.quiet(last_bytes.elapsed().as_secs());
                    let (at, mut out) = (talk.at, Vec::new());
                    for event in events {
                        talk.told(event, at, &mut out);
                    }
                    if !out.is_empty() {
                        self.record_talk(record.id, run.id, &exec, out)?;
                    }
                }
            }
        }
        snapshots.finish().await;
        let failed = !matches!(talk.turn_end, Some((TurnEnd::Completed | TurnEnd::Cancelled, _)));
        if resumed && failed && !talk.begun && matches!(talk.exit, Some(Exit::Code(_))) {
            return Ok(Outcome::SessionLost);
        }
        Ok(talk.outcome())
    }

    /// Reads what is new in the journal. Returns whether anything was.
    #[expect(clippy::too_many_arguments, reason = "the parts of one conversation")]
    async fn listen(
        &self,
        record: &TaskRecord,
        run: &RunRecord,
        reader: &Reader,
        exec: &str,
        live: &Live,
        talk: &mut Talk,
        snapshots: &mpsc::Sender<String>,
    ) -> Result<bool, Problem> {
        let mut any = false;
        loop {
            let (records, next) = reader
                .read_from(talk.at, READ)
                .map_err(|e| Problem::internal("could not read the agent's journal", &e))?;
            if records.is_empty() {
                return Ok(any);
            }
            any = true;
            let mut out = Vec::new();
            for entry in records {
                let end = entry.offset + (HEADER + entry.bytes.len()) as u64;
                let events = match entry.kind {
                    Kind::Stdin | Kind::TerminalInput => {
                        talk.conversation.observe(Direction::Sent, &entry.bytes)
                    }
                    Kind::Stdout | Kind::Terminal => {
                        talk.conversation.observe(Direction::Received, &entry.bytes)
                    }
                    Kind::Stderr => {
                        talk.stderr.extend_from_slice(&entry.bytes);
                        let surplus = talk.stderr.len().saturating_sub(STDERR);
                        talk.stderr.drain(..surplus);
                        Vec::new()
                    }
                    Kind::Exit => {
                        talk.exit = entry.exit();
                        talk.conversation.observe_exit(match talk.exit {
                            Some(Exit::Code(code)) => Some(code),
                            _ => None,
                        })
                    }
                    _ => Vec::new(),
                };
                // What was recorded before the restart is only taken note of again.
                let recorded = end <= talk.stored;
                let mut told = Vec::new();
                for event in events {
                    if let AgentEvent::ToolCall { status: ToolStatus::Completed, title, .. } = &event {
                        // Full means that a snapshot is due anyway.
                        let _ = snapshots.try_send(title.clone());
                    }
                    talk.told(event, end, &mut told);
                }
                if !recorded {
                    out.extend(told);
                }
            }
            talk.at = next;
            if !out.is_empty() {
                self.record_talk(record.id, run.id, exec, out)?;
                fault::point("run.heard");
            }
            let _ = live.sandbox.ack(exec, next).await;
        }
    }
}

/// The answers that the process `exec` of a run was given and may not have yet, by its questions.
fn answers(record: &TaskRecord, run: RunId, exec: &str) -> BTreeMap<String, Answer> {
    let of_run = record.approvals.iter().filter(|approval| approval.run == run);
    of_run
        .filter_map(|approval| {
            let ApprovalSource::Agent { exec: asking, question } = &approval.source else { return None };
            let answered = approval.answer.as_ref().filter(|_| asking == exec)?;
            let answer = Answer { option: answered.option.clone(), text: answered.text.clone() };
            Some((question.clone(), answer))
        })
        .collect()
}

impl Talk {
    /// Takes note of one event; what is to be recorded of it goes to `out`.
    fn told(&mut self, event: AgentEvent, offset: u64, out: &mut Vec<Event>) {
        match &event {
            AgentEvent::SessionOpened { .. } | AgentEvent::Message { .. } | AgentEvent::ToolCall { .. } => {
                self.begun = true;
            }
            AgentEvent::TurnStarted { turn, .. } => {
                self.turn = Some(*turn);
                self.turn_end = None;
            }
            AgentEvent::TurnEnded { reason, text, .. } => self.turn_end = Some((*reason, text.clone())),
            AgentEvent::Trouble { text, .. } => self.trouble = Some(text.clone()),
            _ => {}
        }
        let (wanted, change) = match &event {
            AgentEvent::Idle => (TaskState::Idle, Some(Event::AgentResting)),
            AgentEvent::Attention { reason } => {
                (TaskState::NeedsAttention, Some(Event::AttentionNeeded { reason: reason.clone() }))
            }
            AgentEvent::TurnStarted { .. }
            | AgentEvent::Message { .. }
            | AgentEvent::ToolCall { .. }
            | AgentEvent::Answered { .. } => (TaskState::Running, Some(Event::AttentionSettled)),
            _ => (self.state, None),
        };
        out.push(Event::Agent { agent: event, offset });
        if let Some(change) = change
            && wanted != self.state
        {
            self.state = wanted;
            out.push(change);
        }
    }

    fn outcome(self) -> Outcome {
        let stderr = String::from_utf8_lossy(&self.stderr).trim().to_owned();
        let with_stderr =
            |reason: String| if stderr.is_empty() { reason } else { format!("{reason}: {stderr}") };
        match (self.turn_end, self.exit) {
            (Some((TurnEnd::Completed | TurnEnd::Cancelled, _)), _) => Outcome::Done,
            (Some((TurnEnd::Refused, text)), _) => {
                Outcome::Failed(format!("the agent refused: {}", text.unwrap_or_default()))
            }
            (Some((TurnEnd::Limit, text)), _) => {
                Outcome::Failed(format!("the agent met a limit: {}", text.unwrap_or_default()))
            }
            (Some((TurnEnd::Failed, text)), _) => {
                let text = text.or(self.trouble).unwrap_or_else(|| "it did not say why".to_owned());
                Outcome::Failed(with_stderr(format!("the agent failed: {text}")))
            }
            (None, Some(Exit::Signal(signal))) => {
                Outcome::Failed(format!("the agent was killed by signal {signal}"))
            }
            (None, Some(Exit::Code(code))) => {
                let trouble = self.trouble.map(|t| format!(" ({t})")).unwrap_or_default();
                Outcome::Failed(with_stderr(format!(
                    "the agent ended with exit code {code} before its turn did{trouble}"
                )))
            }
            (None, None) => Outcome::Failed("the agent is gone".to_owned()),
        }
    }
}
