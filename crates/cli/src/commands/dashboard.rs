//! `offshoot dashboard`.

use std::process::ExitCode;

use offshoot_core::device::{DashboardParams, LoginView};

use crate::{browser, failure::Outcome, session::Session};

/// Open the dashboard in your browser
///
/// The address lets one browser in, once, within a minute; it stays logged in. Without a display the address is printed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only print the address
    #[arg(long)]
    print: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let login: LoginView = session.client.post("/v1/dashboard", &DashboardParams {}).await?;
    if session.screen.json {
        session.screen.print_json(&login)?;
    } else if args.print || !browser::show(&login.url) {
        session.screen.print(&login.url)?;
    } else {
        let address = login.url.split("/login").next().unwrap_or_default();
        session.screen.say(&format!("{address} opens in your browser"));
    }
    Ok(ExitCode::SUCCESS)
}
