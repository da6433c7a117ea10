//! `offshoot logs`.

use std::process::ExitCode;

use offshoot_core::{
    api::TaskView,
    event::Event,
    problem::{Problem, ProblemKind},
};

use crate::{
    commands::show::entries,
    failure::Outcome,
    presence::{looking, ring},
    render::event::Printer,
    session::{Session, encode},
    watching::Following,
    wire::{Collected, Mode, carry},
};

/// Show what a task's agent says and does
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, or beginning of an id
    task: String,
    /// Go on with what happens from now on, until its run is over
    #[arg(long, short = 'f')]
    follow: bool,
    /// The agent's own output of the newest run, byte by byte, until it ends
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let view: TaskView = session.client.get(&session.task_path(&args.task, "")?).await?;
    if args.raw {
        return raw(&args, &view, session).await;
    }
    let id = view.task.id.to_string();
    let mut printer = Printer::new(session.screen.colour).of_task(view.task.name.as_str());
    let mut after = 0;
    for entry in entries(session, &id).await? {
        after = entry.seq;
        if session.screen.json {
            session.screen.print_json(&entry)?;
        } else if let Some(text) = printer.print(&entry) {
            session.screen.print(&text)?;
        }
    }
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    if view.task.state.is_settled() {
        return Ok(ExitCode::SUCCESS);
    }
    looking(session, &id, follow(session, &id, after, printer)).await
}

/// What happens from now on, until the run is over.
async fn follow(session: &Session, id: &str, after: u64, mut printer: Printer) -> Outcome {
    let mut following = Following::new(session, format!("/v1/tasks/{id}/events"), after);
    loop {
        let entry = tokio::select! {
            entry = following.next() => entry?,
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        };
        if session.screen.json {
            session.screen.print_json(&entry)?;
        } else if let Some(text) = printer.print(&entry) {
            session.screen.print(&text)?;
        }
        ring(&session.screen, &entry);
        if matches!(entry.event, Event::RunEnded { .. } | Event::Discarded { .. }) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

async fn raw(args: &Args, view: &TaskView, session: &Session) -> Outcome {
    let Some(exec) = view.task.run().and_then(|run| run.exec.clone()) else {
        return Err(Problem::new(
            ProblemKind::NotFound,
            "no_output",
            format!("no agent of {} has started yet", view.task.name),
        )
        .hint("without --raw you see what has happened so far")
        .into());
    };
    let path = session.task_path(&args.task, &format!("/exec/{}/stream", encode(&exec)))?;
    let socket = session.client.socket(&path).await?;
    // Only looking: nothing may be handed in, not even that there is nothing.
    carry(socket, Mode::Look, &session.screen, &mut Collected::default()).await?;
    Ok(ExitCode::SUCCESS)
}
