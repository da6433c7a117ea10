//! `offshoot approvals` and `offshoot rules`.

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
pub(crate) struct Args {
    /// Only those of this task
    task: Option<String>,
    /// All there ever were, the newest first: who answered what, when, by which rule
    #[arg(long, conflicts_with = "watch")]
    all: bool,
    /// With --all: at most so many
    #[arg(long, value_name = "NUMBER", requires = "all", default_value_t = 100)]
    limit: usize,
    /// Only those of this repository
    #[arg(long)]
    here: bool,
    /// Keep the list on the screen and up to date; q ends it
    #[arg(long, short = 'w')]
    watch: bool,
}

/// List the standing rules with what they decided, or take one back
#[derive(Debug, clap::Args)]
pub(crate) struct RulesArgs {
    /// Take this one back: TASK/NUMBER, or its id
    #[arg(long, value_name = "RULE")]
    remove: Option<String>,
    /// Only those of this repository
    #[arg(long)]
    here: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    if args.all {
        return all(&args, session).await;
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

/// Page by page, until there are enough.
async fn all(args: &Args, session: &Session) -> Outcome {
    let mut query = query(args, session)?;
    query.push("state=all".to_owned());
    let mut before: Option<u64> = None;
    let mut found: Option<ApprovalList> = None;
    loop {
        let left = args.limit.saturating_sub(found.as_ref().map_or(0, |list| list.approvals.len()));
        let page = before.map(|before| format!("before={before}"));
        let asked: Vec<_> =
            query.iter().cloned().chain(page).chain([format!("limit={}", left.max(1))]).collect();
        let list: ApprovalList = session.client.get(&format!("/v1/approvals?{}", asked.join("&"))).await?;
        before = list.next;
        let known = found.get_or_insert_with(|| ApprovalList { approvals: Vec::new(), ..list.clone() });
        known.approvals.extend(list.approvals);
        known.next = before;
        if before.is_none() || known.approvals.len() >= args.limit {
            break;
        }
    }
    let Some(list) = found else { return Ok(ExitCode::SUCCESS) };
    if session.screen.json {
        session.screen.print_json(&list)?;
    } else {
        session.screen.print(&approval::past(&list))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: &Args, session: &Session) -> Result<ApprovalList, Failure> {
    let query = query(args, session)?;
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    session.client.get(&format!("/v1/approvals{query}")).await
}

fn query(args: &Args, session: &Session) -> Result<Vec<String>, Failure> {
    let mut query = Vec::new();
    // With a task the directory only says which one is meant.
    if args.here || args.task.is_some() {
        query.push(format!("path={}", encode(&session.directory()?.to_string_lossy())));
    }
    query.extend(args.task.as_ref().map(|task| format!("task={}", encode(task))));
    Ok(query)
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

pub(crate) async fn rules(args: RulesArgs, session: &Session) -> Outcome {
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
