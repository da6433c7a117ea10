//! `offshoot devices`.

use std::process::ExitCode;

use offshoot_core::device::{DeviceList, DeviceView};

use crate::{
    failure::Outcome,
    session::{Session, encode},
    text::{escape_line, moment},
};

/// List the browsers that may use the dashboard, or send one away
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Send one away: it is logged out, and what it has open is cut
    Revoke {
        /// Its name or id
        device: String,
    },
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    if let Some(Command::Revoke { device }) = &args.command {
        let path = format!("/v1/devices/{}/revoke", encode(device));
        let gone: DeviceView = session.client.post(&path, &serde_json::json!({})).await?;
        if session.screen.json {
            session.screen.print_json(&gone)?;
        } else {
            session.screen.say(&format!("{} was sent away", escape_line(&gone.name)));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let list: DeviceList = session.client.get("/v1/devices").await?;
    if session.screen.json {
        session.screen.print_json(&list)?;
    } else {
        session.screen.print(&text(&list))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(list: &DeviceList) -> String {
    let mut lines = Vec::new();
    if list.devices.is_empty() {
        lines.push("no browser is let in; offshoot dashboard and offshoot pair do that".to_owned());
    }
    let width = list.devices.iter().map(|device| device.name.chars().count()).max().unwrap_or_default();
    for device in &list.devices {
        lines.push(format!(
            "{:width$}  {}  last seen {}, since {}",
            escape_line(&device.name),
            escape_line(&device.address),
            moment(device.last_seen_at),
            moment(device.since),
        ));
    }
    if let Some(network) = &list.network {
        let fingerprint = list.fingerprint.as_deref().unwrap_or_default();
        lines.push(format!("\n{network} shows the certificate with SHA-256\n  {fingerprint}"));
    }
    lines.join("\n")
}
