//! Connections to hosts that no rule names: asked about as approvals like all others, held until somebody answers.
//!
//! Invariants: one approval for each host and port of a run, however many connections wait; nothing is let through
//! before the answer is in the log; what was answered is not asked again: a yes for this time holds for what waits and for
//! [`BURST`], a no of a person for the run, one of a deadline for [`AGAIN`]. A standing rule's answer is in the log once for
//! each run, not for each connection.
//!
//! The gateway asks ([`Asks`]) and holds. Which answer it is, by whom, is decided in `approvals`; here the log is
//! followed until there is one. After a restart the connections are gone: the approvals wait on, and those who come again
//! find them. What nobody comes back for in half the time that it may wait at all is withdrawn.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use offshoot_core::{
    agent::{AskOption, AskOptionKind},
    approval::{
        Answerer, ApprovalAnswered, ApprovalRecord, ApprovalRequested, ApprovalSource, ApprovalState,
        Subject, Verdict,
    },
    egress::HostName,
    event::{Entry, Event},
    fault,
    id::{ApprovalId, EnvironmentId, RunId, TaskId},
    lifecycle::TaskState,
    problem::Problem,
    record::{RunRecord, TaskRecord},
    time::Span,
};
use offshoot_gateway::{Ask, Asked, Said};
use tokio::sync::{mpsc, watch};

use crate::{
    approvals::{after, name},
    clock,
    engine::{Engine, Inner},
    project,
};

/// How long connections are held if nobody says otherwise. Within it pip (six times 15 s, with pauses), cargo (four times
/// 30 s) and npm (300 s) have not given up, and an agent's tool call (two minutes in Claude Code) hardly has.
const DEADLINE: Duration = Duration::from_secs(120);
/// For how long a yes for this time lets through what comes after it: the connections that one command makes.
const BURST: Duration = Duration::from_secs(60);
/// After how long one is asked again about a host that nobody answered about.
const AGAIN: Duration = Duration::from_secs(600);
/// Hosts that one run asks a person about; beyond, they are refused as if nobody could be asked.
const HOSTS: usize = 32;

/// What connections wait for.
#[derive(Default)]
pub struct Hosts(Mutex<HashMap<ApprovalId, Arc<Held>>>);

/// Connections that wait for one answer.
struct Held {
    task: TaskId,
    approval: ApprovalId,
    grace: Duration,
    host: HostName,
    port: u16,
    connections: watch::Sender<usize>,
    said: watch::Sender<Option<Said>>,
}

/// One of them; dropped when it waits no longer.
struct Place(Arc<Held>);

impl Place {
    fn take(held: &Arc<Held>) -> Self {
        held.connections.send_modify(|number| *number += 1);
        Self(Arc::clone(held))
    }

    async fn said(&self) -> Said {
        let mut said = self.0.said.subscribe();
        let said = said.wait_for(Option::is_some).await.map(|said| said.clone());
        said.ok().flatten().unwrap_or(Said::Unasked)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.send_modify(|number| *number = number.saturating_sub(1));
    }
}

/// Asks about the connections of one environment.
struct Asks {
    // Its proxy is a part of the engine.
    engine: Weak<Inner>,
    task: TaskId,
    environment: EnvironmentId,
    /// Rules whose answer is in the log already.
    told: Mutex<HashSet<(RunId, ApprovalId)>>,
}

impl Ask for Asks {
    fn ask<'a>(&'a self, host: &'a HostName, port: u16) -> Asked<'a> {
        Box::pin(async move {
            let decided = match self.engine.upgrade() {
                Some(inner) => Engine { inner }.decide_host(self, host, port),
                None => return Said::Unasked,
            };
            match decided {
                Ok(Decided::Said(said)) => said,
                Ok(Decided::Waits(place)) => {
                    fault::point("host.held");
                    let said = place.said().await;
                    fault::point("host.said");
                    said
                }
                Err(problem) => {
                    tracing::warn!(%problem, "could not ask about a host");
                    Said::Unasked
                }
            }
        })
    }
}

enum Decided {
    Said(Said),
    Waits(Place),
}

impl Engine {
    /// Who is asked about the connections of an environment.
    pub(crate) fn asks(&self, task: TaskId, environment: EnvironmentId) -> Arc<dyn Ask> {
        Arc::new(Asks { engine: Arc::downgrade(&self.inner), task, environment, told: Mutex::default() })
    }

    /// Whether a person is asked about hosts that no rule names.
    pub(crate) fn others_asked(&self, record: &TaskRecord) -> Result<bool, Problem> {
        let project = project::config(Path::new(&record.root))?;
        Ok(project.network.asks(&self.user_config()?.network))
    }

    /// What is said about a host, or a place among those that wait for it.
    fn decide_host(&self, from: &Asks, host: &HostName, port: u16) -> Result<Decided, Problem> {
        let wait = self.user_config()?.approvals.host_deadline.map_or(DEADLINE, |Span(wait)| wait);
        let _deciding = self.deciding();
        let record = self.inner.ledger.task(from.task)?;
        if !self.others_asked(&record)? {
            return Ok(Decided::Said(Said::Unasked));
        }
        let subject = Subject::Host { host: host.clone(), port };
        let asked = ApprovalRequested {
            approval: ApprovalId(clock::id()),
            number: record.approvals_asked + 1,
            source: ApprovalSource::Host { environment: from.environment },
            title: format!("network access to {host}:{port}"),
            detail: None,
            subject,
            options: options(),
            deadline: after(clock::now(), wait),
        };
        let run = record.run().filter(|run| can_wait(&record, run));
        if let Some(answered) = self.by_rule(&record, &asked)? {
            let said = self.said(host, port, &answered);
            if let Some(run) = run {
                self.tell_rule(from, run.id, asked, answered)?;
            }
            return Ok(Decided::Said(said));
        }
        let Some(run) = run else { return Ok(Decided::Said(Said::Unasked)) };
        let of_run = || record.approvals.iter().filter(|one| one.run == run.id && is_of_host(one));
        let known = of_run().rfind(|one| one.subject == asked.subject);
        if let Some(known) = known {
            if known.state == ApprovalState::Waiting {
                return Ok(Decided::Waits(Place::take(&self.held_for(from.task, known, host, port))));
            }
            if let Some(said) = still_holds(known).map(|answered| self.said(host, port, answered)) {
                return Ok(Decided::Said(said));
            }
        } else if of_run().count() >= HOSTS {
            return Ok(Decided::Said(Said::Unasked));
        }
        let approval = asked.clone().record(run.id, clock::now());
        self.inner.ledger.append(record.id, Some(run.id), vec![Event::ApprovalRequested(asked)])?;
        Ok(Decided::Waits(Place::take(&self.held_for(from.task, &approval, host, port))))
    }

    /// Records that a rule answers, once for each run.
    fn tell_rule(
        &self,
        from: &Asks,
        run: RunId,
        asked: ApprovalRequested,
        answered: ApprovalAnswered,
    ) -> Result<(), Problem> {
        let Answerer::Rule { rule } = answered.by else { return Ok(()) };
        if lock(&from.told).contains(&(run, rule)) {
            return Ok(());
        }
        let events = vec![Event::ApprovalRequested(asked), Event::ApprovalAnswered(answered)];
        self.inner.ledger.append(from.task, Some(run), events)?;
        lock(&from.told).insert((run, rule));
        Ok(())
    }

    /// An answer as the connection hears it.
    fn said(&self, host: &HostName, port: u16, answered: &ApprovalAnswered) -> Said {
        if answered.verdict == Verdict::Allow {
            return Said::Allowed;
        }
        let (code, who) = match answered.by {
            Answerer::Deadline => {
                let why = format!(
                    "host {host}, port {port}, is not on the allow-list, and nobody answered in time whether it may be \
                     reached; go on without it, or ask the person to allow it: offshoot run --allow {host}:{port}"
                );
                return Said::Refused { code: "unanswered", why };
            }
            Answerer::Person => ("denied", "a person".to_owned()),
            Answerer::Rule { rule } => {
                ("denied", format!("the person's standing rule {}", self.rule_name(rule)))
            }
        };
        let reason = answered.text.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
        let why =
            format!("access to host {host}, port {port}, was denied by {who}{reason}; go on without it");
        Said::Refused { code, why }
    }

    fn rule_name(&self, rule: ApprovalId) -> String {
        let makers = self.inner.ledger.store().tasks_with_rules(None).unwrap_or_default();
        let mut rules = makers.iter().flat_map(|maker| maker.rules.iter().map(move |rule| (maker, rule)));
        rules.find(|(_, one)| one.id == rule).map_or_else(|| rule.to_string(), |(m, one)| name(m, one.number))
    }

    /// Those who wait for an approval. The log is followed for them from now on, so what it says has to be known to wait
    /// still, under the lock of those who decide.
    fn held_for(&self, task: TaskId, approval: &ApprovalRecord, host: &HostName, port: u16) -> Arc<Held> {
        let mut all = lock(&self.inner.hosts.0);
        let held = all.entry(approval.id).or_insert_with(|| {
            let held = Arc::new(Held {
                task,
                approval: approval.id,
                // Clients that try again pause for up to a minute (npm).
                grace: Duration::from_millis(approval.deadline.since(approval.asked_at) / 2),
                host: host.clone(),
                port,
                connections: watch::Sender::new(0),
                said: watch::Sender::new(None),
            });
            let entries = self.inner.ledger.follow(self.inner.ledger.store().last_seq(), Some(task));
            tokio::spawn(follow(Arc::downgrade(&self.inner), Arc::clone(&held), entries));
            held
        });
        Arc::clone(held)
    }

    /// After a start: what connections wait for is waited for again, in case they come back.
    pub(crate) fn keep_waiting_hosts(&self) -> Result<(), Problem> {
        let _deciding = self.deciding();
        for task in self.active()? {
            for approval in task.waiting() {
                if let Subject::Host { host, port } = &approval.subject {
                    self.held_for(task.id, approval, host, *port);
                }
            }
        }
        Ok(())
    }

    /// Withdraws what nobody waits for, unless somebody does by now.
    fn withdraw_host(&self, held: &Held) -> Result<(), Problem> {
        let _deciding = self.deciding();
        let record = self.inner.ledger.task(held.task)?;
        let waiting = record.waiting().find(|one| one.id == held.approval);
        let Some(waiting) = waiting.filter(|_| *held.connections.borrow() == 0) else { return Ok(()) };
        let reason = "nothing waits for it any more".to_owned();
        let event = Event::ApprovalWithdrawn { approval: held.approval, reason };
        self.inner.ledger.append(held.task, Some(waiting.run), vec![event])
    }
}

/// Tells those who wait what the log says about their approval, and withdraws it when nobody does for too long.
async fn follow(engine: Weak<Inner>, held: Arc<Held>, mut entries: mpsc::Receiver<Entry>) {
    let mut connections = held.connections.subscribe();
    let said = loop {
        let nobody = *connections.borrow_and_update() == 0;
        let entry = tokio::select! {
            entry = entries.recv() => entry,
            _ = connections.changed() => continue,
            () = tokio::time::sleep(held.grace), if nobody => {
                let Some(inner) = engine.upgrade() else { return };
                if let Err(problem) = (Engine { inner }).withdraw_host(&held) {
                    tracing::warn!(%problem, "could not withdraw what nobody waits for");
                }
                continue;
            }
        };
        let (Some(entry), Some(inner)) = (entry, engine.upgrade()) else { break Said::Unasked };
        match entry.event {
            Event::ApprovalAnswered(answered) if answered.approval == held.approval => {
                break Engine { inner }.said(&held.host, held.port, &answered);
            }
            Event::ApprovalWithdrawn { approval, .. } if approval == held.approval => break Said::Unasked,
            Event::RunEnded { .. } => break Said::Unasked,
            _ => {}
        }
    };
    if let Some(inner) = engine.upgrade() {
        lock(&inner.hosts.0).remove(&held.approval);
    }
    held.said.send_replace(Some(said));
}

/// The answer that was given before, if it holds for connections of now.
fn still_holds(known: &ApprovalRecord) -> Option<&ApprovalAnswered> {
    let answered = known.answer.as_ref()?;
    let age = Duration::from_millis(clock::now().since(known.settled_at?));
    let holds = match known.state {
        ApprovalState::Allowed => age < BURST,
        ApprovalState::Denied => true,
        ApprovalState::Expired => age < AGAIN,
        ApprovalState::Waiting | ApprovalState::Withdrawn => false,
    };
    holds.then_some(answered)
}

fn is_of_host(approval: &ApprovalRecord) -> bool {
    matches!(approval.source, ApprovalSource::Host { .. })
}

/// Whether a task's run can wait for a person now.
fn can_wait(record: &TaskRecord, run: &RunRecord) -> bool {
    let at_work = [TaskState::Running, TaskState::NeedsAttention, TaskState::Idle].contains(&record.state);
    at_work && !run.state.is_over() && !run.stop_requested
}

fn options() -> Vec<AskOption> {
    [("allow", "Allow", AskOptionKind::AllowOnce), ("deny", "Deny", AskOptionKind::RejectOnce)]
        .map(|(id, label, kind)| AskOption { id: id.to_owned(), label: label.to_owned(), kind })
        .to_vec()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
