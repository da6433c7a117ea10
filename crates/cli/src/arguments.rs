//! What can be typed. The doc comments are the help texts.

use clap::{Parser, Subcommand};

use crate::commands::{
    adopt, agents, app, approval, approvals, attach, capacity, check, comment, completions, daemon,
    dashboard, devices, diff, discard, doctor, env, exec, follow_up, init, land, layers, logs, notify, open,
    pair, prune, ps, restore, run, schema, scope, service, shell, show, stop, worktree,
};

/// Run many coding agents at once, each in an environment of its own.
///
/// A task is dispatched with `run`, seen with `ps`, looked into with `show`, `diff` and `shell`, continued with
/// `follow-up`, and ends with `land` or `discard`.
#[derive(Debug, Parser)]
#[command(name = "offshoot", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: docs/reference/exit-codes.md. Terminals: Ctrl-\\ twice detaches.")]
pub(crate) struct Cli {
    /// Print JSON on standard output; problems as JSON on standard error
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Args),
    Doctor(doctor::Args),
    Run(run::Args),
    Ps(ps::Args),
    Show(show::Args),
    Logs(logs::Args),
    Attach(attach::Args),
    Shell(shell::Args),
    Exec(exec::Args),
    Approvals(approvals::Args),
    Approve(approval::ApproveArgs),
    Deny(approval::DenyArgs),
    Rules(approvals::RulesArgs),
    App(app::Args),
    Service(service::Args),
    Open(open::Args),
    Diff(diff::Args),
    Scope(scope::Args),
    Check(check::Args),
    Comment(comment::Args),
    Comments(comment::ListArgs),
    Restore(restore::Args),
    FollowUp(follow_up::Args),
    Land(land::Args),
    Discard(discard::Args),
    Prune(prune::Args),
    Stop(stop::Args),
    Env(env::Args),
    Adopt(adopt::Args),
    Worktree(worktree::Args),
    Dashboard(dashboard::Args),
    Pair(pair::Args),
    Devices(devices::Args),
    Daemon(daemon::Args),
    Notify(notify::Args),
    Capacity(capacity::Args),
    Layers(layers::Args),
    Agents(agents::Args),
    Schema(schema::Args),
    Completions(completions::Args),
}
