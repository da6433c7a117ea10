//! The commented `offshoot.toml` for what was found. Whatever stands in the repository is quoted: nothing of it can become
//! a key or end a comment.

use super::{Composed, Survey};

/// The text. `agents` are those on PATH.
pub(crate) fn configuration(survey: &Survey, composed: Option<&Composed>, agents: &[String]) -> String {
    let mut text = String::from(
        "# Offshoot: how coding agents work on this repository. Every key is in docs/reference/configuration.md.\n\
         # It is read from your checkout when a task starts. Commit it, so that everybody has it.\n\n[agent]\n",
    );
    match agents.first() {
        Some(agent) => {
            text.push_str(&format!("# Found here: {}.\ndefault = {}\n", agents.join(", "), quoted(agent)));
        }
        None => text.push_str(
            "# No agent was found on PATH; offshoot agents lists those it knows.\n# default = \"claude\"\n",
        ),
    }
    text.push_str(
        "# model = \"…\"\n# What an agent's own permission requests get. The sandbox is the boundary, so: allow.\n\
         permission = \"allow\"\n# What every agent here is told, without it entering the diff.\n\
         # instructions = \"Run the tests before you finish.\"\n\n",
    );
    setups(survey, &mut text);
    text.push_str("# What must succeed at the end of a run before it counts as complete.\n");
    match survey.checks.split_first() {
        None => text.push_str("# [check]\n# command = \"make test\"\n\n"),
        Some((first, rest)) => {
            text.push_str(&format!("[check]\ncommand = {}\n", quoted(first)));
            for other in rest {
                text.push_str(&format!("# command = {}\n", quoted(other)));
            }
            text.push_str("timeout = \"15m\"\n\n");
        }
    }
    text.push_str(
        "# Hosts that can be reached from inside; no others. What an agent itself needs comes with the agent.\n[egress]\n",
    );
    text.push_str(&format!("allow = {}\n\n", list(&survey.hosts())));
    apps(composed, &mut text);
    text.push_str("# For each environment's whole process tree.\n# [limits]\n# memory = \"4g\"\n# processes = 1024\n# disk = \"20g\"\n\n");
    let env = survey.env();
    if env.is_empty() {
        text.push_str("# Variables every process inside has. Not for secrets: use offshoot run --pass-env NAME.\n# [environment]\n# env = { CI = \"1\" }\n");
    } else {
        let pairs: Vec<String> = env.iter().map(|(k, v)| format!("{k} = {}", quoted(v))).collect();
        text.push_str(
            "# Variables every process inside has (these are for the setups). Not for secrets: use offshoot run --pass-env NAME.\n",
        );
        text.push_str(&format!("[environment]\nenv = {{ {} }}\n", pairs.join(", ")));
    }
    text
}

fn setups(survey: &Survey, text: &mut String) {
    if survey.setups.is_empty() {
        text.push_str(
            "# No lockfile was found. If something must be installed before anybody can work, say how:\n# [setup.deps]\n\
             # commands = [\"make deps\"]\n# key = [\"deps.lock\"]\n\n",
        );
        return;
    }
    text.push_str(
        "# Each is run once per content of its key files; every environment then shares the result.\n",
    );
    for setup in &survey.setups {
        text.push_str(&format!("# {}\n[setup.{}]\n", setup.title, setup.name));
        text.push_str(&format!("commands = {}\nkey = {}\n\n", list(&setup.commands), list(&setup.key)));
    }
}

fn apps(composed: Option<&Composed>, text: &mut String) {
    let apps = composed.map(|c| c.apps.as_slice()).unwrap_or_default();
    if apps.is_empty() {
        text.push_str(
            "# What is built here and can be started and looked at.\n# [apps.web]\n# command = \"npm run dev\"\n# port = 3000\n\n",
        );
        return;
    }
    text.push_str(
        "# What your compose file builds from this repository. Say how each is started without an image.\n",
    );
    for app in apps {
        text.push_str(&format!("# [apps.{}]\n", app.name));
        let command = app.command.as_deref().unwrap_or("…");
        text.push_str(&format!("# command = {}\n", quoted(command)));
        if let Some(port) = app.port {
            text.push_str(&format!("# port = {port}\n"));
        }
        if let Some(cwd) = &app.cwd {
            text.push_str(&format!("# cwd = {}\n", quoted(cwd)));
        }
        if !app.env.is_empty() {
            let pairs: Vec<String> = app.env.iter().map(|(k, v)| format!("{k} = {}", quoted(v))).collect();
            text.push_str(&format!("# env = {{ {} }}\n", pairs.join(", ")));
        }
    }
    text.push('\n');
}

fn list(items: &[String]) -> String {
    let one = format!("[{}]", items.iter().map(|i| quoted(i)).collect::<Vec<_>>().join(", "));
    if one.len() <= 100 {
        return one;
    }
    let lines: String = items.iter().map(|i| format!("    {},\n", quoted(i))).collect();
    format!("[\n{lines}]")
}

/// A basic string of TOML, on one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            // Directions of text would show something else than there is.
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}') =>
            {
                quoted.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
