//! `offshoot approve` and `offshoot deny`.

use std::process::ExitCode;

use offshoot_core::{
    api::{AnswerParams, ApprovalView},
    approval::Verdict,
    rule::RuleScope,
};

use crate::{
    failure::Outcome,
    render::approval,
    session::{Session, encode},
};

/// Say yes to what waits for you
#[derive(Debug, clap::Args)]
pub(crate) struct ApproveArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    rule: Rule,
    /// One of the offered answers, where a mere yes does not do
    #[arg(long, value_name = "ANSWER")]
    option: Option<String>,
    /// An answer to a question in your own words
    #[arg(long)]
    text: Option<String>,
}

/// Say no to what waits for you
#[derive(Debug, clap::Args)]
pub(crate) struct DenyArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    rule: Rule,
    /// Why, for the agent
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// TASK/NUMBER, a task of which one thing waits, or an id
    approval: String,
}

#[derive(Debug, clap::Args)]
struct Rule {
    /// And so for the same whenever this task asks for it
    #[arg(long, conflicts_with = "always")]
    for_task: bool,
    /// And so for the same whenever any task of the project asks for it
    #[arg(long)]
    always: bool,
    /// With --for-task or --always: for all commands that begin with these words
    #[arg(long, value_name = "WORDS", conflicts_with = "below")]
    prefix: Option<String>,
    /// With --for-task or --always: for all files below this directory, as the agent sees it
    #[arg(long, value_name = "DIRECTORY")]
    below: Option<String>,
}

pub(crate) async fn approve(args: ApproveArgs, session: &Session) -> Outcome {
    answer(args.which, args.rule, Verdict::Allow, args.option, args.text, session).await
}

pub(crate) async fn deny(args: DenyArgs, session: &Session) -> Outcome {
    answer(args.which, args.rule, Verdict::Deny, None, args.reason, session).await
}

async fn answer(
    which: Which,
    rule: Rule,
    verdict: Verdict,
    option: Option<String>,
    text: Option<String>,
    session: &Session,
) -> Outcome {
    let scope = match (rule.for_task, rule.always) {
        (true, _) => Some(RuleScope::Task),
        (_, true) => Some(RuleScope::Project),
        _ => None,
    };
    let params = AnswerParams { verdict, option, text, rule: scope, prefix: rule.prefix, below: rule.below };
    let path = session.approval_path(&encode(&which.approval))?;
    let view: ApprovalView = session.client.post(&path, &params).await?;
    if session.screen.json {
        session.screen.print_json(&view)?;
    } else {
        session.screen.say(&approval::answered(&view));
    }
    Ok(ExitCode::SUCCESS)
}
