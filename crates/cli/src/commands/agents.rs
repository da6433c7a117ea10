//! `offshoot agents`.

use std::process::ExitCode;

use offshoot_core::api::AgentView;

use crate::{
    failure::{Failure, Outcome},
    session::{Session, encode, search_path},
    text::{escape_line, pad},
};

/// List the agents Offshoot knows, whether they can ask you for permission, and where each was found
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, session: &Session) -> Outcome {
    let agents = list(session).await?;
    if session.screen.json {
        session.screen.print_json(&agents)?;
    } else {
        session.screen.print(&table(&agents, session.screen.columns()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The agents, found on the caller's PATH.
pub(crate) async fn list(session: &Session) -> Result<Vec<AgentView>, Failure> {
    let query = search_path().map(|path| format!("?search_path={}", encode(&path))).unwrap_or_default();
    session.client.get(&format!("/v1/agents{query}")).await
}

fn table(agents: &[AgentView], columns: usize) -> String {
    let mut text = String::from("AGENT       PROTOCOL            ASKS  WHERE\n");
    for agent in agents {
        let place = match &agent.program {
            Some(program) => program.clone(),
            None => format!("not installed: {}", agent.install),
        };
        let line = format!(
            "{}  {}  {}  {}",
            pad(&escape_line(&agent.name), 10),
            pad(&escape_line(&agent.protocol), 18),
            if agent.asks { "yes " } else { "no  " },
            escape_line(&place)
        );
        text.push_str(&crate::text::cut(&line, columns));
        text.push('\n');
    }
    text
}
