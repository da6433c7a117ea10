//! `offshoot notify`.

use std::process::ExitCode;

use offshoot_core::{
    api::NotificationTest,
    problem::{Problem, ProblemKind},
};

use crate::{failure::Outcome, session::Session, text::escape_line};

/// Send a test message to everything that [notifications] in your config.toml names
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Say what became of it; there is nothing else to do here
    #[arg(long, required = true)]
    test: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    debug_assert!(args.test, "required");
    let path = "/v1/notifications/test";
    let test: NotificationTest = session.client.post(path, &serde_json::json!({})).await?;
    if session.screen.json {
        session.screen.print_json(&test)?;
    } else {
        for sent in &test.sent {
            let to = sent.host.as_deref().map(|host| format!(" ({})", escape_line(host))).unwrap_or_default();
            let how = match &sent.error {
                None => "sent".to_owned(),
                Some(error) => format!("not sent: {}", escape_line(error)),
            };
            session.screen.print(&format!("{}{to}: {how}, {} ms", sent.to, sent.took_ms))?;
        }
    }
    if test.sent.is_empty() {
        let problem =
            Problem::new(ProblemKind::NotFound, "no_notifications", "nothing is configured to be notified");
        return Err(problem.hint("[notifications] in your config.toml; see docs/notifications.md").into());
    }
    let failed = test.sent.iter().any(|sent| sent.error.is_some());
    Ok(if failed { ExitCode::from(ProblemKind::Failed.exit_code()) } else { ExitCode::SUCCESS })
}
