//! `offshoot pair`.

use std::{net::IpAddr, process::ExitCode};

use offshoot_core::{
    device::{LoginView, PairParams},
    problem::Problem,
};
use qrcode::{Color, EcLevel, QrCode};

use crate::{
    failure::{Failure, Outcome},
    session::Session,
    text::moment,
};

/// Let a phone or another machine use the dashboard
///
/// Shows a code to point its camera at, good for one device and five minutes. Over your network the daemon listens with TLS and
/// a certificate of its own: compare the fingerprint before you accept it. `offshoot devices revoke` sends a device away.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the device is to be called
    #[arg(long, default_value = "phone")]
    name: String,
    /// The address of this machine to listen at; the one that leads to other networks if not given
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, conflicts_with = "url")]
    lan: Option<Option<IpAddr>>,
    /// Where your own tunnel to the dashboard's port on this machine begins
    #[arg(long, value_name = "https://HOST")]
    url: Option<String>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let params = PairParams {
        name: Some(args.name),
        address: args.lan.flatten().map(|address| address.to_string()),
        url: args.url,
    };
    let login: LoginView = session.client.post("/v1/devices", &params).await?;
    if session.screen.json {
        session.screen.print_json(&login)?;
        return Ok(ExitCode::SUCCESS);
    }
    if session.screen.stdout_tty {
        session.screen.print(&drawn(&login.url)?)?;
    }
    session.screen.print(&login.url)?;
    if let Some(fingerprint) = &login.fingerprint {
        session
            .screen
            .say("The browser will warn that nobody vouches for this certificate. Its SHA-256 has to be");
        session.screen.say(&format!("  {fingerprint}"));
    }
    session.screen.say(&format!("Good for one device, until {}.", moment(login.expires_at)));
    Ok(ExitCode::SUCCESS)
}

/// The code as half blocks, two rows of it in one of text: dark on light on every terminal, with the quiet zone that cameras
/// need.
fn drawn(url: &str) -> Result<String, Failure> {
    const QUIET: usize = 2;
    let code = QrCode::with_error_correction_level(url, EcLevel::L)
        .map_err(|e| Problem::internal("cannot draw a code", &e))?;
    let width = code.width();
    let is_dark = |x: usize, y: usize| {
        let inside = (QUIET..QUIET + width).contains(&x) && (QUIET..QUIET + width).contains(&y);
        inside && code[(x - QUIET, y - QUIET)] == Color::Dark
    };
    let mut text = String::new();
    for y in (0..width + 2 * QUIET).step_by(2) {
        // Black on white, whatever the terminal's own colours are.
        text.push_str("\u{1b}[30;107m");
        for x in 0..width + 2 * QUIET {
            text.push(match (is_dark(x, y), is_dark(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        text.push_str("\u{1b}[0m\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_as_wide_as_a_terminal_has_room_for() {
        let text = drawn(&format!("https://192.168.178.121:7443/login#code={}", "x".repeat(43))).unwrap();
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest < 80 && text.lines().count() < 30, "{widest}");
        assert!(text.contains("█▀▀▀▀▀█"), "the corners that cameras look for");
    }
}
