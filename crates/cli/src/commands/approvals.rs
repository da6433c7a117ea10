//! `offshoot approvals`.

use std::process::ExitCode;

use offshoot_core::api::{ApprovalList, ApprovalView, RuleList, RuleView};

use crate::{
    commands::ps::redraw,
    failure::{Failure, Outcome},
    render::approval,
    session::{Session, encode},
};

/// List what waits for you in all tasks, the longest first
///
/// `offshoot approve` and `offshoot deny` answer. What you do not answer goes on waiting until its deadline.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only those of this repository
    #[arg(long)]
    here: bool,
    /// Keep the list on the screen and up to date; q ends it
    #[arg(long, short = 'w')]
    watch: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Rules(RulesArgs),
}

/// List the standing rules, or take one back
#[derive(Debug, clap::Args)]
struct RulesArgs {
    /// Take this one back: TASK/NUMBER, or its id
    #[arg(long, value_name = "RULE")]
    remove: Option<String>,
    /// Only those of this repository
    #[arg(long)]
    here: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    if let Some(Command::Rules(args)) = &args.command {
        return rules(args, session).await;
    }
    let first = list(&args, session).await?;
    if !args.watch {
        session.screen.print(&text(&first, session)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let on_screen = session.screen.stdout_tty && !session.screen.json;
    let mut shown: Option<Vec<ApprovalView>> = None;
    redraw(session, first.seq, async || {
        let list = list(&args, session).await?;
        // A screen also shows how long they wait; whoever reads line by line wants to know what is new.
        if !on_screen && shown.as_ref() == Some(&list.approvals) {
            return Ok(None);
        }
        let text = text(&list, session)?;
        shown = Some(list.approvals);
        Ok(Some(text))
    })
    .await
}

async fn list(args: &Args, session: &Session) -> Result<ApprovalList, Failure> {
    session.client.get(&format!("/v1/approvals{}", scope(args.here, session)?)).await
}

fn scope(here: bool, session: &Session) -> Result<String, Failure> {
    if !here {
        return Ok(String::new());
    }
    Ok(format!("?path={}", encode(&session.directory()?.to_string_lossy())))
}

fn text(list: &ApprovalList, session: &Session) -> Result<String, Failure> {
    if session.screen.json {
        return Ok(serde_json::to_string(list).map_err(std::io::Error::from)?);
    }
    Ok(approval::list(list, session.screen.colour))
}

async fn rules(args: &RulesArgs, session: &Session) -> Outcome {
    if let Some(rule) = &args.remove {
        let path = session.approval_path(&format!("rules/{}/remove", encode(rule)))?;
        let removed: RuleView = session.client.post(&path, &serde_json::json!({})).await?;
        if session.screen.json {
            session.screen.print_json(&removed)?;
        } else {
            session.screen.say(&format!("{} answers nothing any more", removed.name));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let path = format!("/v1/approvals/rules{}", scope(args.here, session)?);
    let list: RuleList = session.client.get(&path).await?;
    if session.screen.json {
        session.screen.print_json(&list)?;
    } else {
        session.screen.print(&approval::rules(&list))?;
    }
    Ok(ExitCode::SUCCESS)
}
