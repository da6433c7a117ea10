//! `offshoot doctor`.

use std::process::ExitCode;

use offshoot_core::{
    api::AgentView,
    problem::{Problem, ProblemKind},
};
use offshoot_sandbox::doctor::{Check, Report, State, Tier};
use serde::Serialize;

use crate::{
    commands::agents,
    failure::{Failure, Outcome, describe},
    render::colour::Paint,
    session::Session,
    text::{escape_line, size},
    watching::patiently,
};

/// Say what this machine allows, the isolation that results, and how to mend what is missing
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// What `--json` prints.
#[derive(Serialize)]
struct Examination {
    /// What was looked at for the boundary, and the tier of isolation.
    sandbox: Report,
    /// What else is needed: the state directory, the daemon.
    tools: Vec<Check>,
    /// The agents, and where each was found.
    agents: Vec<AgentView>,
}

/// Below this, a base layer of a larger repository does not fit.
const LOW_DISK: u64 = 2 << 30;

pub(crate) async fn run(_: Args, session: &Session) -> Outcome {
    let place = session.place.clone();
    let examine = async {
        tokio::task::spawn_blocking(move || {
            let prepared = place.prepare().map_err(|e| e.to_string());
            (prepared, offshoot_sandbox::examine(&place.state_dir))
        })
        .await
        .map_err(|e| Failure::from(Problem::internal("cannot examine this machine", &e)))
    };
    let (prepared, sandbox) = patiently(&session.screen, "examining this machine", examine).await?;
    let mut tools = vec![state(session, prepared)];
    let found = patiently(&session.screen, "asking the daemon", agents::list(session)).await;
    let agents = match found {
        Ok(agents) => {
            tools.push(check("daemon", State::Ok, "answers", None));
            agents
        }
        Err(Failure::Problem(problem)) => {
            tools.push(check("daemon", State::Missing, &problem.message, problem.hint.as_deref()));
            Vec::new()
        }
        Err(failure) => return Err(failure),
    };
    let examination = Examination { sandbox, tools, agents };
    let screen = &session.screen;
    if screen.json {
        screen.print_json(&examination)?;
    } else {
        screen.print(&page(&examination, Paint(screen.colour)))?;
    }
    let lacks =
        examination.sandbox.checks.iter().chain(&examination.tools).any(|c| c.state == State::Missing);
    if lacks || examination.sandbox.tier == Tier::None {
        let problem =
            Problem::new(ProblemKind::Unavailable, "machine_lacks", "this machine lacks what Offshoot needs");
        if !screen.json {
            screen.say(&describe(&problem, screen.stderr_colour));
        }
        return Err(Failure::Code(problem.kind.exit_code()));
    }
    Ok(ExitCode::SUCCESS)
}

fn check(name: &str, state: State, found: &str, remedy: Option<&str>) -> Check {
    Check { name: name.into(), state, found: found.into(), remedy: remedy.map(Into::into) }
}

fn state(session: &Session, prepared: Result<(), String>) -> Check {
    const NAME: &str = "state directory";
    let dir = &session.place.state_dir;
    let elsewhere = "set OFFSHOOT_STATE_DIR to a directory on a local disk with room";
    if let Err(why) = prepared {
        return check(NAME, State::Missing, &why, Some(elsewhere));
    }
    match rustix::fs::statvfs(dir) {
        Err(error) => check(NAME, State::Missing, &format!("{}: {error}", dir.display()), Some(elsewhere)),
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let found = format!("{}, {} free", dir.display(), size(free));
            if free < LOW_DISK {
                check(NAME, State::Soft, &found, Some("offshoot prune, or free some disk"))
            } else {
                check(NAME, State::Ok, &found, None)
            }
        }
    }
}

fn page(examination: &Examination, paint: Paint) -> String {
    let mut text = String::new();
    let tier = match examination.sandbox.tier {
        Tier::Sandbox => {
            paint.green("sandbox: namespaces, overlay, a network of its own for each environment")
        }
        Tier::None => paint.red("none: environments cannot be made here"),
    };
    text.push_str(&format!("isolation  {tier}\n\n"));
    for check in examination.sandbox.checks.iter().chain(&examination.tools) {
        let mark = match check.state {
            State::Ok => paint.green("✓"),
            State::Soft => paint.bold("~"),
            State::Missing => paint.red("✗"),
        };
        text.push_str(&format!("{mark} {}: {}\n", escape_line(&check.name), escape_line(&check.found)));
        if let Some(remedy) = &check.remedy {
            text.push_str(&format!("    {}\n", escape_line(remedy)));
        }
    }
    if !examination.agents.is_empty() {
        text.push_str("\nagents\n");
    }
    for agent in &examination.agents {
        match &agent.program {
            Some(program) => {
                text.push_str(&format!(
                    "{} {}: {}\n",
                    paint.green("✓"),
                    escape_line(&agent.name),
                    escape_line(program)
                ));
            }
            None => text.push_str(&format!(
                "{} {}: not installed; {}\n",
                paint.faint("-"),
                escape_line(&agent.name),
                escape_line(&agent.install)
            )),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lack_has_its_remedy() {
        let examination = Examination {
            sandbox: Report {
                tier: Tier::None,
                checks: vec![check("user namespaces", State::Missing, "forbidden", Some("sysctl -w x=1"))],
            },
            tools: vec![check("daemon", State::Ok, "answers", None)],
            agents: vec![],
        };
        assert_eq!(
            page(&examination, Paint(false)),
            "isolation  none: environments cannot be made here\n\n✗ user namespaces: forbidden\n    sysctl -w x=1\n\
             ✓ daemon: answers\n"
        );
    }
}
