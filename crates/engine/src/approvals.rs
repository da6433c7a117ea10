//! Approvals: raised, answered, withdrawn. Everything that waits for a person goes through here, whoever asks.
//!
//! Invariants: what is asked is recorded together with the news of it, an answer before it is handed over; whoever wants
//! the answer follows the log. All decisions about approvals are made under one lock, so that of a person, a rule, a
//! deadline and a withdrawal one comes first and the others see it.
//!
//! The conversation raises and withdraws, people answer over the API. What an answer does to the agent is not decided
//! here: it becomes a part of what `converse` wants.

use std::{
    collections::HashMap,
    path::Path,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use offshoot_core::{
    agent::AgentEvent,
    api::{AnswerParams, ApprovalList, ApprovalView, RuleList, RuleView},
    approval::{ApprovalAnswered, ApprovalRecord, ApprovalRequested, ApprovalSource, ApprovalState, Verdict},
    event::Event,
    fault,
    id::{ApprovalId, ProjectId, RunId, TaskId},
    lifecycle::TaskState,
    problem::{Problem, ProblemKind},
    record::TaskRecord,
    rule::{RuleMatch, RuleRecord, RuleScope},
    time::{Span, Timestamp},
};

use crate::{
    answers, clock,
    engine::{Engine, TaskRef},
    ledger::store_problem,
    project,
};

/// How long a request waits if nobody says otherwise: whoever goes home in the evening can answer in the morning.
const WAIT: Duration = Duration::from_secs(24 * 3600);
/// How often deadlines are looked at. Costs one question to an index.
const LOOK: Duration = Duration::from_secs(1);
/// Longest text of a prompt that is shown beside an approval, in characters.
const PROMPT: usize = 400;
/// Fewest characters that are taken for the beginning of an approval's id.
const SHORTEST_ID: usize = 8;

impl Engine {
    /// Held while it is decided what becomes of approvals.
    pub(crate) fn deciding(&self) -> MutexGuard<'_, ()> {
        self.inner.deciding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records what an agent's conversation gave rise to. A question that a person has to answer is an approval from
    /// the same moment on (answered at once, if a rule does), and one that is not asked any more is withdrawn.
    pub(crate) fn record_talk(
        &self,
        task: TaskId,
        run: RunId,
        exec: &str,
        told: Vec<Event>,
    ) -> Result<(), Problem> {
        let about = |event: &Event| {
            matches!(
                event,
                Event::Agent { agent: AgentEvent::Asked { .. } | AgentEvent::Answered { .. }, .. }
            )
        };
        if !told.iter().any(about) {
            return self.inner.ledger.append(task, Some(run), told);
        }
        let _deciding = self.deciding();
        let record = self.inner.ledger.task(task)?;
        let mut number = record.approvals_asked;
        let mut waiting: Vec<_> = record.waiting().map(|one| (one.id, one.source.clone())).collect();
        let mut events = Vec::with_capacity(told.len());
        let mut raised = false;
        for event in told {
            let Event::Agent { agent, .. } = &event else {
                events.push(event);
                continue;
            };
            match agent {
                AgentEvent::Asked { id, title, options, waits: true, detail, subject } => {
                    number += 1;
                    let asked = ApprovalRequested {
                        approval: ApprovalId(clock::id()),
                        number,
                        source: ApprovalSource::Agent { exec: exec.to_owned(), question: id.clone() },
                        title: title.clone(),
                        detail: detail.clone(),
                        subject: subject.clone(),
                        options: options.clone(),
                        deadline: after(clock::now(), self.approval_timeout(&record)),
                    };
                    let answered = self.by_rule(&record, &asked)?;
                    if answered.is_none() {
                        waiting.push((asked.approval, asked.source.clone()));
                    }
                    events.extend([event, Event::ApprovalRequested(asked)]);
                    events.extend(answered.map(Event::ApprovalAnswered));
                    raised = true;
                }
                AgentEvent::Answered { id, .. } => {
                    let source = ApprovalSource::Agent { exec: exec.to_owned(), question: id.clone() };
                    let gone = waiting.iter().position(|(_, other)| *other == source);
                    events.extend(gone.map(|index| Event::ApprovalWithdrawn {
                        approval: waiting.remove(index).0,
                        reason: "the agent does not ask any more".to_owned(),
                    }));
                    events.push(event);
                }
                _ => events.push(event),
            }
        }
        self.inner.ledger.append(task, Some(run), events)?;
        if raised {
            fault::point("approval.asked");
        }
        Ok(())
    }

    /// Records events after which nobody waits for what the task's run asked: that is withdrawn first.
    pub(crate) fn record_without_approvals(
        &self,
        task: TaskId,
        run: Option<RunId>,
        reason: &str,
        events: Vec<Event>,
    ) -> Result<(), Problem> {
        let _deciding = self.deciding();
        let record = self.inner.ledger.task(task)?;
        let of_run = record.waiting().filter(|approval| Some(approval.run) == run);
        let withdrawn =
            of_run.map(|one| Event::ApprovalWithdrawn { approval: one.id, reason: reason.to_owned() });
        let all = withdrawn.chain(events).collect();
        self.inner.ledger.append(task, run, all)
    }

    /// What waits for a person, the longest first: of a task, of the project that `path` lies in, or of all.
    pub async fn approvals(
        &self,
        path: Option<&Path>,
        task: Option<&TaskRef>,
    ) -> Result<ApprovalList, Problem> {
        let store = self.inner.ledger.store();
        let seq = store.last_seq();
        let project = self.project_at(path)?;
        let task = task.map(|task| self.find(task)).transpose()?.map(|record| record.id);
        let mut approvals = Vec::new();
        for record in self.active()? {
            if project.is_none_or(|id| id == record.project) && task.is_none_or(|id| id == record.id) {
                approvals.extend(record.waiting().map(|approval| view(&record, approval)));
            }
        }
        approvals.sort_by_key(|view| (view.approval.asked_at, view.approval.id));
        Ok(ApprovalList { approvals, next: None, seq, now: clock::now() })
    }

    /// A person's answer. `which` is `TASK/NUMBER`, a task of which one approval waits, or the id of an approval.
    pub async fn answer(&self, which: &TaskRef, params: AnswerParams) -> Result<ApprovalView, Problem> {
        let (answered, rule) = {
            let _deciding = self.deciding();
            let (record, mut approval) = self.find_approval(which)?;
            let answered = answers::by_person(&record, &approval, params)?;
            let event = Event::ApprovalAnswered(answered.clone());
            self.inner.ledger.append(record.id, Some(approval.run), vec![event])?;
            approval.state = match answered.verdict {
                Verdict::Allow => ApprovalState::Allowed,
                Verdict::Deny => ApprovalState::Denied,
            };
            let rule = answered.rule.is_some();
            approval.settled_at = Some(clock::now());
            approval.answer = Some(answered);
            (view(&record, &approval), rule)
        };
        fault::point("approval.answered");
        if rule {
            self.answer_by_rules()?;
        }
        Ok(answered)
    }

    /// Standing rules, the newest first: of the project that `path` lies in, or of all.
    pub async fn rules(&self, path: Option<&Path>) -> Result<RuleList, Problem> {
        let project = self.project_at(path)?;
        let records = self.inner.ledger.store().tasks_with_rules(project).map_err(|e| store_problem(&e))?;
        let answers = self.inner.ledger.store().answers_of_rules().map_err(|e| store_problem(&e))?;
        let mut rules: Vec<_> = records
            .iter()
            .flat_map(|record| record.rules.iter().map(|rule| rule_view(record, rule, &answers)))
            .collect();
        rules.sort_by_key(|view| std::cmp::Reverse((view.rule.made_at, view.rule.id)));
        Ok(RuleList { rules })
    }

    /// Takes a rule back. `which` is `TASK/NUMBER` or an id, as `rules` shows them.
    pub async fn remove_rule(&self, which: &TaskRef) -> Result<RuleView, Problem> {
        let _deciding = self.deciding();
        let project = self.project_at(which.path.as_deref()).ok().flatten();
        let records = self.inner.ledger.store().tasks_with_rules(None).map_err(|e| store_problem(&e))?;
        let all = records.iter().flat_map(|record| record.rules.iter().map(move |rule| (record, rule)));
        let wanted = which.task.as_str();
        let mut found: Vec<_> = all
            .filter(|(record, rule)| {
                let id = rule.id.to_string();
                name(record, rule.number) == wanted || wanted.len() >= SHORTEST_ID && id.starts_with(wanted)
            })
            .collect();
        if found.len() > 1 && found.iter().any(|(record, _)| Some(record.project) == project) {
            found.retain(|(record, _)| Some(record.project) == project);
        }
        match found.as_slice() {
            [(record, rule)] => {
                let event = Event::RuleRemoved { rule: rule.id };
                self.inner.ledger.append(record.id, None, vec![event])?;
                let answers = self.inner.ledger.store().answers_of_rules().map_err(|e| store_problem(&e))?;
                Ok(rule_view(record, rule, &answers))
            }
            [] => Err(Problem::new(
                ProblemKind::NotFound,
                "no_such_rule",
                format!("there is no standing rule {wanted:?}"),
            )
            .hint("`offshoot rules` lists them")),
            many => {
                let list: Vec<_> =
                    many.iter().map(|(r, rule)| format!("{} in {}", rule.id, r.root)).collect();
                Err(Problem::new(
                    ProblemKind::Conflict,
                    "ambiguous_rule",
                    format!("{wanted:?} can mean {} rules", many.len()),
                )
                .hint("name one by its id")
                .detail(list.join("\n")))
            }
        }
    }

    /// Answers what waits and is answered by a standing rule by now.
    pub(crate) fn answer_by_rules(&self) -> Result<(), Problem> {
        for task in self.active()? {
            self.answer_waiting(task.id, |engine, record, approval| {
                engine.by_rule(record, &approval.clone().into())
            })?;
        }
        Ok(())
    }

    /// Ends the waiting of what nobody answered in time, for as long as the engine lives.
    pub(crate) async fn keep_deadlines(&self) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(problem) = self.expire() {
                tracing::warn!(%problem, "could not look at deadlines");
            }
        }
    }

    fn expire(&self) -> Result<(), Problem> {
        let now = clock::now();
        for task in self.active()? {
            if task.waiting().any(|approval| approval.deadline <= now) {
                self.answer_waiting(task.id, |_, _, approval| {
                    Ok((approval.deadline <= now).then(|| answers::by_deadline(approval)))
                })?;
            }
        }
        Ok(())
    }

    /// Records the answers that `decide` gives to what waits of a task.
    fn answer_waiting(
        &self,
        task: TaskId,
        decide: impl Fn(&Self, &TaskRecord, &ApprovalRecord) -> Result<Option<ApprovalAnswered>, Problem>,
    ) -> Result<(), Problem> {
        let _deciding = self.deciding();
        let record = self.inner.ledger.task(task)?;
        for approval in record.waiting() {
            if let Some(answered) = decide(self, &record, approval)? {
                let event = Event::ApprovalAnswered(answered);
                self.inner.ledger.append(task, Some(approval.run), vec![event])?;
            }
        }
        Ok(())
    }

    /// The answer of a standing rule; a no counts more than a yes.
    pub(crate) fn by_rule(
        &self,
        record: &TaskRecord,
        asked: &ApprovalRequested,
    ) -> Result<Option<ApprovalAnswered>, Problem> {
        // Most of what is asked can be compared with nothing, or there are no rules: an index says so at once.
        if RuleMatch::exactly(&asked.subject).is_none() {
            return Ok(None);
        }
        let store = self.inner.ledger.store();
        let makers = store.tasks_with_rules(Some(record.project)).map_err(|e| store_problem(&e))?;
        let rules = makers.iter().flat_map(|maker| maker.rules.iter().map(move |rule| (maker.id, rule)));
        let holding: Vec<&RuleRecord> = rules
            .filter(|(maker, rule)| rule.scope == RuleScope::Project || *maker == record.id)
            .map(|(_, rule)| rule)
            .filter(|rule| rule.matches.matches(&asked.subject))
            .collect();
        let no = holding.iter().find(|rule| rule.verdict == Verdict::Deny);
        Ok(no.or(holding.first()).and_then(|rule| answers::by_rule(rule, asked)))
    }

    /// The approval that is meant; it waits.
    fn find_approval(&self, which: &TaskRef) -> Result<(TaskRecord, ApprovalRecord), Problem> {
        let wanted = which.task.as_str();
        let none = || {
            Problem::new(
                ProblemKind::NotFound,
                "no_such_approval",
                format!("nothing called {wanted:?} waits"),
            )
            .hint("`offshoot approvals` lists what waits for you")
        };
        if let Some((task, number)) = wanted.split_once('/') {
            let number: u32 = number.parse().map_err(|_| none())?;
            let record = self.find(&TaskRef { task: task.to_owned(), path: which.path.clone() })?;
            let found = record.waiting().find(|approval| approval.number == number).cloned();
            return match found {
                Some(approval) => Ok((record, approval)),
                None if number == 0 || number > record.approvals_asked => Err(none()),
                None => Err(settled(&record, number)),
            };
        }
        if wanted.len() >= SHORTEST_ID {
            let by_id = |record: &TaskRecord| -> Vec<ApprovalRecord> {
                record
                    .approvals
                    .iter()
                    .filter(|one| one.id.to_string().starts_with(wanted))
                    .cloned()
                    .collect()
            };
            let mut found = Vec::new();
            for record in self.active()? {
                found.extend(by_id(&record).into_iter().map(|approval| (record.clone(), approval)));
            }
            match found.len() {
                0 => {}
                1 => {
                    let (record, approval) = found.remove(0);
                    if approval.state != ApprovalState::Waiting {
                        return Err(settled(&record, approval.number));
                    }
                    return Ok((record, approval));
                }
                _ => return Err(several(wanted, found.iter().map(|(record, one)| name(record, one.number)))),
            }
        }
        let record = self
            .find(which)
            .map_err(|problem| if problem.code == "no_such_task" { none() } else { problem })?;
        let waiting: Vec<_> = record.waiting().cloned().collect();
        match waiting.as_slice() {
            [one] => Ok((record, one.clone())),
            [] => Err(none()),
            many => Err(several(wanted, many.iter().map(|one| name(&record, one.number)))),
        }
    }

    pub(crate) fn active(&self) -> Result<Vec<TaskRecord>, Problem> {
        let active = [TaskState::Running, TaskState::NeedsAttention, TaskState::Idle];
        let mut tasks = self.inner.ledger.store().tasks_in_states(&active).map_err(|e| store_problem(&e))?;
        tasks.retain(|task| task.waiting().next().is_some());
        Ok(tasks)
    }

    pub(crate) fn project_at(&self, path: Option<&Path>) -> Result<Option<ProjectId>, Problem> {
        let Some(path) = path else { return Ok(None) };
        let repository = project::discover(path)?;
        Ok(Some(self.inner.projects.of(&repository, self.inner.ledger.store())?.id))
    }

    fn approval_timeout(&self, record: &TaskRecord) -> Duration {
        let project = project::config(Path::new(&record.root)).ok().and_then(|c| c.agent.approval_timeout);
        let user = || self.user_config().ok().and_then(|user| user.agent.approval_timeout);
        project.or_else(user).map_or(WAIT, |Span(wait)| wait)
    }
}

pub(crate) fn after(now: Timestamp, wait: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
}

/// What people call an approval or a rule.
pub(crate) fn name(record: &TaskRecord, number: u32) -> String {
    format!("{}/{number}", record.name)
}

pub(crate) fn view(record: &TaskRecord, approval: &ApprovalRecord) -> ApprovalView {
    let prompt = record.runs.iter().find(|run| run.id == approval.run).map(|run| run.prompt.as_str());
    ApprovalView {
        name: name(record, approval.number),
        approval: approval.clone(),
        task: record.id,
        task_name: record.name.clone(),
        root: record.root.clone(),
        agent: record.agent.clone(),
        prompt: prompt.unwrap_or_default().chars().take(PROMPT).collect(),
        can_be_rule: RuleMatch::exactly(&approval.subject).is_some(),
    }
}

fn rule_view(
    record: &TaskRecord,
    rule: &RuleRecord,
    answers: &HashMap<ApprovalId, (u64, Timestamp)>,
) -> RuleView {
    let answers = answers.get(&rule.id);
    RuleView {
        answered: answers.map_or(0, |(count, _)| *count),
        last_answered: answers.map(|(_, last)| *last),
        name: name(record, rule.number),
        rule: rule.clone(),
        task: record.id,
        root: record.root.clone(),
    }
}

fn settled(record: &TaskRecord, number: u32) -> Problem {
    let what = name(record, number);
    Problem::new(ProblemKind::Conflict, "not_waiting", format!("{what} does not wait any more"))
        .hint(format!("`offshoot show {}` tells what became of it", record.name))
}

fn several(wanted: &str, names: impl Iterator<Item = String>) -> Problem {
    let names: Vec<_> = names.collect();
    Problem::new(
        ProblemKind::Conflict,
        "ambiguous_approval",
        format!("{wanted:?} can mean {} approvals", names.len()),
    )
    .hint(format!("name one: {}", names.join(", ")))
}
