//! One file a command: `Args` is what can be typed after it, `run` what it does.

pub(crate) mod adopt;
pub(crate) mod agents;
pub(crate) mod app;
pub(crate) mod approval;
pub(crate) mod approvals;
pub(crate) mod attach;
pub(crate) mod capacity;
pub(crate) mod check;
pub(crate) mod comment;
pub(crate) mod completions;
pub(crate) mod daemon;
pub(crate) mod dashboard;
pub(crate) mod devices;
pub(crate) mod diff;
pub(crate) mod discard;
pub(crate) mod doctor;
pub(crate) mod env;
pub(crate) mod exec;
pub(crate) mod follow_up;
pub(crate) mod init;
pub(crate) mod land;
pub(crate) mod layers;
pub(crate) mod logs;
pub(crate) mod notify;
pub(crate) mod open;
pub(crate) mod pair;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod scope;
pub(crate) mod service;
pub(crate) mod shell;
pub(crate) mod show;
pub(crate) mod stop;
pub(crate) mod worktree;

use crate::{arguments::Command, failure::Outcome, session::Session};

/// Runs a command.
pub(crate) async fn run(command: Command, session: &Session) -> Outcome {
    match command {
        Command::Init(args) => init::run(args, session).await,
        Command::Doctor(args) => doctor::run(args, session).await,
        Command::Run(args) => run::run(args, session).await,
        Command::Ps(args) => ps::run(args, session).await,
        Command::Show(args) => show::run(args, session).await,
        Command::Logs(args) => logs::run(args, session).await,
        Command::Attach(args) => attach::run(args, session).await,
        Command::App(args) => app::run(args, session).await,
        Command::Service(args) => service::run(args, session).await,
        Command::Open(args) => open::run(args, session).await,
        Command::Shell(args) => shell::run(args, session).await,
        Command::Exec(args) => exec::run(args, session).await,
        Command::Approvals(args) => approvals::run(args, session).await,
        Command::Approve(args) => approval::approve(args, session).await,
        Command::Deny(args) => approval::deny(args, session).await,
        Command::Rules(args) => approvals::rules(args, session).await,
        Command::Diff(args) => diff::run(args, session).await,
        Command::Scope(args) => scope::run(args, session).await,
        Command::Check(args) => check::run(args, session).await,
        Command::Comment(args) => comment::run(args, session).await,
        Command::Comments(args) => comment::list(args, session).await,
        Command::Restore(args) => restore::run(args, session).await,
        Command::FollowUp(args) => follow_up::run(args, session).await,
        Command::Land(args) => land::run(args, session).await,
        Command::Discard(args) => discard::run(args, session).await,
        Command::Prune(args) => prune::run(args, session).await,
        Command::Stop(args) => stop::run(args, session).await,
        Command::Env(args) => env::run(args, session).await,
        Command::Adopt(args) => adopt::run(args, session).await,
        Command::Worktree(args) => worktree::run(args, session).await,
        Command::Dashboard(args) => dashboard::run(args, session).await,
        Command::Pair(args) => pair::run(args, session).await,
        Command::Devices(args) => devices::run(args, session).await,
        Command::Notify(args) => notify::run(args, session).await,
        Command::Daemon(args) => daemon::run(args, session).await,
        Command::Capacity(args) => capacity::run(args, session).await,
        Command::Layers(args) => layers::run(args, session).await,
        Command::Agents(args) => agents::run(args, session).await,
        Command::Schema(args) => schema::run(args, session),
        Command::Completions(args) => completions::run(args, session),
    }
}
