//! Waiting, with what is being done shown once it takes a while: for an answer, for an environment, for a run.

use std::{future::Future, pin::pin, process::ExitCode, time::Duration};

use offshoot_core::{
    api::TaskView,
    event::{Entry, Event},
    lifecycle::{EnvironmentState, TaskState},
    problem::{Problem, ProblemKind},
};

use crate::{
    client::EntryStream,
    commands::run::will_start,
    failure::{Failure, Outcome},
    presence::{looking, ring},
    render::event,
    screen::Screen,
    session::Session,
    text::escape_line,
};

/// After this time a person wonders what is going on.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// Waits for an answer; says what for if it takes a while.
pub(crate) async fn patiently<T>(
    screen: &Screen,
    what: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut work = pin!(work);
    let result = tokio::select! {
        result = work.as_mut() => return result,
        () = tokio::time::sleep(PATIENCE) => {
            screen.progress(what);
            work.await
        }
    };
    screen.end_progress();
    result
}

/// A task's entries after `after`, opened again where it left off when the daemon is restarted.
pub(crate) struct Following<'s> {
    session: &'s Session,
    path: String,
    after: u64,
    stream: Option<EntryStream>,
}

impl<'s> Following<'s> {
    /// All entries of `path` after `after`.
    pub(crate) fn new(session: &'s Session, path: String, after: u64) -> Self {
        Self { session, path, after, stream: None }
    }

    /// The next entry.
    pub(crate) async fn next(&mut self) -> Result<Entry, Failure> {
        loop {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                none => none.insert(self.session.client.follow(&self.path, self.after).await?),
            };
            // A stream that ends or breaks belongs to a daemon that stopped; the next one has the same log.
            match stream.next().await {
                Ok(Some(entry)) => {
                    self.after = entry.seq;
                    return Ok(entry);
                }
                Ok(None) => self.stream = None,
                Err(Failure::Problem(problem)) if problem.code == "daemon_lost" => self.stream = None,
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// Waits until a task's environment is up and its services are ready, its steps shown as progress.
pub(crate) async fn until_up(session: &Session, view: &TaskView) -> Result<TaskView, Failure> {
    let id = view.task.id;
    let show = format!("/v1/tasks/{id}");
    let mut following = Following::new(session, format!("/v1/tasks/{id}/events"), 0);
    let mut now = view.clone();
    loop {
        let up = now.task.environment.as_ref().is_some_and(|e| e.state == EnvironmentState::Up);
        if up && matches!(now.task.state, TaskState::Idle | TaskState::NeedsAttention) {
            session.screen.end_progress();
            return Ok(now);
        }
        if now.task.state.is_settled() {
            session.screen.end_progress();
            return Err(bad_end(&now).into());
        }
        // Only these can change the answer; everything else is progress.
        loop {
            let entry = following.next().await?;
            match &entry.event {
                Event::AgentResting | Event::RunEnded { .. } | Event::Discarded { .. } => break,
                Event::RunQueued(_) if now.queue_place.is_some() && !will_start(&now) => {
                    session.screen.progress(now.waits_for.as_deref().unwrap_or("waiting for room"));
                }
                Event::Preparing { step } => session.screen.progress(step),
                Event::ServiceStarting { service, .. } => {
                    session.screen.progress(&format!("waiting for {service}"));
                }
                _ => {}
            }
        }
        now = session.client.get(&show).await?;
    }
}

/// Prints a task's events until its newest run is over; the exit code says how it ended.
pub(crate) async fn until_over(session: &Session, view: &TaskView, after: u64) -> Outcome {
    looking(session, &view.task.id.to_string(), follow(session, view, after)).await
}

async fn follow(session: &Session, view: &TaskView, after: u64) -> Outcome {
    let id = view.task.id;
    let mut following = Following::new(session, format!("/v1/tasks/{id}/events"), after);
    let run = view.task.run().map(|run| run.id);
    let mut printer = event::Printer::new(session.screen.colour).of_task(view.task.name.as_str());
    let name = view.task.name.clone();
    loop {
        let entry = tokio::select! {
            entry = following.next() => entry?,
            _ = tokio::signal::ctrl_c() => {
                session.screen.say(&format!("{name} goes on; offshoot logs -f {name} shows it again, offshoot stop {name} stops it"));
                return Err(Failure::Code(130));
            }
        };
        if session.screen.json {
            session.screen.print_json(&entry)?;
        } else if let Some(text) = printer.print(&entry) {
            session.screen.print(&text)?;
        }
        ring(&session.screen, &entry);
        let over = match entry.event {
            Event::RunEnded { .. } => entry.run == run,
            Event::Discarded { .. } => true,
            _ => false,
        };
        if over {
            break;
        }
    }
    let now: TaskView = session.client.get(&format!("/v1/tasks/{id}")).await?;
    if matches!(now.task.state, TaskState::Complete | TaskState::Landed) {
        return Ok(ExitCode::SUCCESS);
    }
    Err(bad_end(&now).into())
}

fn bad_end(view: &TaskView) -> Problem {
    let task = &view.task;
    let (first, rest) =
        task.reason.as_deref().map(|r| r.split_once('\n').unwrap_or((r, ""))).unwrap_or_default();
    let reason = if first.is_empty() { String::new() } else { format!(": {}", escape_line(first)) };
    let mut problem = Problem::new(
        ProblemKind::Failed,
        "run_failed",
        format!("{} is {}{reason}", task.name, task.state.word()),
    )
    .hint(format!("offshoot show {0}; what it left is kept: offshoot diff {0}", task.name));
    if let Some(run) = task.run()
        && run.check_code.is_some_and(|code| code != 0)
    {
        problem.detail.clone_from(&run.check_output);
    } else if !rest.is_empty() {
        problem.detail = Some(rest.to_owned());
    }
    problem
}
