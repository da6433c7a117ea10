//! The pages of docs/reference, made from what the program really takes. A test fails when the committed ones differ;
//! `UPDATE=1` writes them anew.

use clap::{Command, CommandFactory};
use offshoot_core::problem::ProblemKind;

use crate::arguments::Cli;

/// A key of a configuration file: name, form, meaning.
pub type Key = (&'static str, &'static str, &'static str);

/// All keys of `offshoot.toml`.
pub const PROJECT_KEYS: &[Key] = &[
    (
        "project.name",
        "name",
        "What this repository is called beside others; its directory's name if not given",
    ),
    (
        "repos.name",
        "name",
        "In `[[repos]]`: what another repository is called that tasks may be about; see docs/repositories.md",
    ),
    ("repos.path", "path", "Where it is, seen from this repository's root: `../front`"),
    (
        "repos.branch",
        "branch",
        "What its shared apps run at; the branch that is checked out there if not said",
    ),
    ("agent.default", "name", "The agent that `run` takes if none is named"),
    ("agent.model", "text", "The model it is given if none is named, as the agent calls it"),
    (
        "agent.permission",
        "`allow`, `deny`, `ask`",
        "What an agent's own permission requests get inside the sandbox; `ask`: see docs/approvals.md",
    ),
    (
        "agent.approval-timeout",
        "time, as in `24h`",
        "How long a permission request waits for a person; then it counts as denied",
    ),
    (
        "agent.instructions",
        "text",
        "What every agent here is told, placed where it reads it, never in the diff",
    ),
    (
        "setup.NAME.commands",
        "list of commands",
        "What installs dependencies; run once per content of the key files",
    ),
    (
        "setup.NAME.key",
        "list of files",
        "Files whose content decides whether the setup must run again (lockfiles)",
    ),
    (
        "setup.NAME.after",
        "list of names",
        "Setups whose results this one needs; others are built at the same time",
    ),
    ("check.command", "command", "What must succeed at the end of a run, given to `sh -c` inside"),
    ("check.timeout", "time, as in `15m`", "How long the check may take"),
    (
        "egress.allow",
        "list of hosts",
        "Hosts that may be reached: `example.org`, `example.org:8443`, `*.example.org`",
    ),
    (
        "network.unknown",
        "`ask`, `refuse`",
        "What becomes of a connection to another host: it is held and you are asked, or it is refused; see docs/network.md",
    ),
    ("limits.memory", "size, as in `4g`", "Memory of an environment's whole process tree"),
    ("limits.processes", "number", "Processes and threads of an environment"),
    ("limits.cpu", "percent of one core", "CPU of an environment"),
    ("limits.disk", "size, as in `20g`", "Disk for what an environment writes"),
    (
        "environment.env",
        "table of texts",
        "Variables every process inside has. Not for secrets: the file is committed",
    ),
    (
        "environment.suspend-after",
        "time, as in `30m`",
        "After how long without activity the processes are frozen",
    ),
    (
        "environment.isolation",
        "`sandbox` or `worktree`",
        "What kind of environment; `worktree` takes the user's word (see docs/worktrees.md)",
    ),
    (
        "worktree.path",
        "path with `{repo}` and `{task}`",
        "Where worktrees go; `../{repo}.worktrees/{task}` if not named; a folder beside the checkout",
    ),
    (
        "worktree.env-file",
        "path in the worktree",
        "The generated file with `PORT` and the like; `.env.local` if not named, empty for none",
    ),
    ("apps.NAME.command", "command", "What starts the app, given to `sh -c` inside"),
    ("apps.NAME.port", "number", "The port it listens at; every environment may use the same"),
    ("apps.NAME.start", "true or false", "Whether it is started with the environment (false)"),
    ("apps.NAME.env", "table of texts", "Its variables, besides those of the environment"),
    ("apps.NAME.cwd", "directory", "Where it runs, relative to the repository"),
    (
        "apps.NAME.shared",
        "true or false",
        "Whether environments that do not change it use one instance together (false)",
    ),
    (
        "ports.count",
        "number",
        "How many ports of your machine each environment has; else as many as the variables need",
    ),
    ("ports.variables", "table of numbers", "Variables that hold one of those ports each, counted from 0"),
];

/// The keys that only the user's `config.toml` has.
pub const USER_KEYS: &[Key] = &[
    (
        "environment.isolation",
        "`sandbox` or `worktree`",
        "What kind of environment, where neither the command line nor the project says otherwise",
    ),
    (
        "worktree.path",
        "path with `{repo}` and `{task}`",
        "Where worktrees go, instead of the project's; anywhere outside the checkout",
    ),
    ("worktree.env-file", "path in the worktree", "Instead of the project's"),
    (
        "worktree.from-project",
        "true or false",
        "Whether a project's `isolation = \"worktree\"` counts without being asked for on the command line",
    ),
    (
        "repositories.show",
        "true or false",
        "Whether repositories of `[[repos]]` that a task does not name are shown to it, for reading only",
    ),
    (
        "repositories.serve",
        "true or false",
        "Whether tasks reach the `shared = true` apps of repositories of `[[repos]]` that they do not name",
    ),
    (
        "approvals.host-deadline",
        "time, as in `2m`",
        "How long connections to a host on no list are held for you; then they are refused",
    ),
    (
        "notifications.kinds",
        "list of `approval`, `attention`, `complete`, `failed`",
        "What you are told when you do not look; the first three if not given. See docs/notifications.md",
    ),
    ("notifications.link", "URL", "Where the dashboard is reached by whoever reads a notification"),
    ("notifications.desktop", "true or false", "Whether this machine's desktop shows them (`notify-send`)"),
    (
        "notifications.webhook",
        "table: `url`, `token-file`, `token-env`",
        "A program that takes JSON; the token is a bearer token",
    ),
    (
        "notifications.ntfy",
        "table: `url`, `topic`, `token-file`, `token-env`",
        "An ntfy server and topic, for a phone",
    ),
    ("notifications.slack", "table: `url`", "A webhook of Slack, or of what understands the same"),
    ("machine.max-runs", "number", "Runs at a time; the rest waits"),
    ("machine.memory", "size, as in `12g`", "Memory that runs together may count on; the rest waits"),
    ("machine.suspend-after", "time, as in `30m`", "After how long without activity processes are frozen"),
    (
        "tools.directories",
        "list of directories",
        "Tools to show inside, read-only, besides those found on PATH",
    ),
    (
        "servers.NAME.url",
        "address",
        "A database server on which environments may have a database or schema of their own, with the login of somebody \
         who may make them; it never enters an environment",
    ),
    ("preview.port", "number", "The port of this machine under which all apps are found by host name"),
    (
        "dashboard.port",
        "number",
        "The port of this machine's loopback at which the dashboard is found; without it the one that was free first",
    ),
    (
        "dashboard.forget-after",
        "time, as in `30d`",
        "After how long without use a browser has to log in anew",
    ),
    ("agents", "tables by name", "Agents of your own, or changes to the shipped ones; see docs/agents.md"),
];

/// `docs/reference/cli.md`.
pub fn cli_page() -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut page = String::from(
        "# Commands\n\nMade from the program itself; `offshoot COMMAND --help` says the same.\n\n\
         Every command takes `--json`: its data is then JSON on standard output, one value a line (shapes: the schemas of \
         `openapi/v1.json`), and a problem is JSON on standard error. Data goes to standard output, words to standard error. \
         Nothing ever asks a question without a terminal. Exit codes: [exit-codes.md](exit-codes.md).\n",
    );
    section(&mut command, "offshoot", &mut page);
    page
}

fn section(command: &mut Command, name: &str, page: &mut String) {
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    page.push_str(&format!("\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
    for sub in command.get_subcommands_mut() {
        if sub.get_name() == "help" {
            continue;
        }
        let name = format!("{name} {}", sub.get_name());
        section(sub, &name, page);
    }
}

/// `docs/reference/exit-codes.md`.
pub fn exit_codes_page() -> String {
    let mut page = String::from(
        "# Exit codes\n\n| code | kind | HTTP status | meaning |\n|---|---|---|---|\n| 0 | | 2xx | it was done |\n",
    );
    for kind in ProblemKind::ALL {
        let name = serde_json::to_value(kind).unwrap_or_default();
        page.push_str(&format!(
            "| {} | `{}` | {} | {} |\n",
            kind.exit_code(),
            name.as_str().unwrap_or_default(),
            kind.http_status(),
            kind.meaning()
        ));
    }
    page.push_str(
        "\nExceptions, where a code belongs to somebody else:\n\n\
         - `exec`, `env exec`, `shell` and `attach` end with the code of the command inside, or 128 and the number of the \
         signal that ended it. `exec --json` says in `code` and `signal` which it was.\n\
         - `run --follow` and `follow-up --follow` end with 1 if the run failed or was stopped, and with 130 if you stopped \
         following (the run goes on).\n\
         - A command whose output nobody reads any more (`offshoot ps | head -1`) ends quietly with 0.\n\n\
         Every problem has a `code` besides, stable and searchable, shown with `--json` and by the API.\n",
    );
    page
}

/// `docs/reference/services.schema.json`.
pub fn services_schema() -> String {
    // Serialising a value that was built here cannot fail.
    let text = serde_json::to_string_pretty(&offshoot_core::service::json_schema()).unwrap_or_default();
    format!("{text}\n")
}

/// `docs/reference/configuration.md`.
pub fn configuration_page() -> String {
    let mut page = String::from(
        "# Configuration\n\nTwo files, both TOML, both optional. Unknown keys are refused, so that a typing error never becomes a \
         silent default.\n\n## `offshoot.toml`, in the repository\n\nWhat the project needs. `offshoot init` writes a commented \
         one.\n\n",
    );
    table(PROJECT_KEYS, &mut page);
    page.push_str(
        "\n`egress.allow` here cannot open a port of your own machine (`host:8080`): only your own file and `--allow` can.\n\n\
         ## `config.toml`, your own\n\n`$OFFSHOOT_CONFIG`, else `$XDG_CONFIG_HOME/offshoot/config.toml`, else \
         `~/.config/offshoot/config.toml`. It takes `agent`, `egress`, `network` and `limits` as above (in `agent` the project wins where both \
         speak, `egress` adds up, `network.unknown = \"refuse\"` counts wherever it stands, and no limit of a project goes above yours), and:\n\n",
    );
    table(USER_KEYS, &mut page);
    page.push_str(
        "\n## Environment variables\n\n| variable | meaning |\n|---|---|\n\
         | `OFFSHOOT_STATE_DIR` | where everything is kept; else `/var/lib/offshoot` for root, `$XDG_STATE_HOME/offshoot` or \
         `~/.local/state/offshoot` for others |\n\
         | `OFFSHOOT_CONFIG` | your configuration file |\n\
         | `OFFSHOOT_LOG` | what the daemon writes to its log, as in `debug` or `offshoot_engine=trace` |\n\
         | `NO_COLOR` | no colour |\n",
    );
    page
}

fn table(keys: &[Key], page: &mut String) {
    page.push_str("| key | form | meaning |\n|---|---|---|\n");
    for (name, form, meaning) in keys {
        page.push_str(&format!("| `{name}` | {form} | {meaning} |\n"));
    }
}
