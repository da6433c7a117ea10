//! The desktop's own notifications, by `notify-send` (libnotify), which says them over the session's bus.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::sink::SendError;

/// For the program to hand it over: it waits for the bus.
const TIME: Duration = Duration::from_secs(5);
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Shows a title and a body. Blocks.
pub(crate) fn show(title: &str, body: &str) -> Result<(), SendError> {
    let mut child = Command::new("notify-send")
        .args(["--app-name=Offshoot", "--", title, body])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| SendError::Program(error.kind().to_string()))?;
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(SendError::Program(status.to_string())),
            Ok(None) if begun.elapsed() < TIME => std::thread::sleep(LOOK),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(SendError::Timeout);
            }
        }
    }
}
