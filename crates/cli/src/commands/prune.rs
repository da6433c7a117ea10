//! `offshoot prune`.

use std::process::ExitCode;

use offshoot_core::api::PruneView;

use crate::{
    failure::{Failure, Outcome},
    session::Session,
    text::{escape_line, size},
    watching::patiently,
};

/// Take away what nobody needs any more, and say why each thing went or stayed. Never unlanded work
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, session: &Session) -> Outcome {
    let nothing = serde_json::json!({});
    let work = session.client.post("/v1/prune", &nothing);
    let view: PruneView = patiently(&session.screen, "pruning", work).await?;
    show(&view, session)?;
    Ok(ExitCode::SUCCESS)
}

/// What went, what stayed, and why.
pub(crate) fn show(view: &PruneView, session: &Session) -> Result<(), Failure> {
    if session.screen.json {
        session.screen.print_json(view)?;
    } else {
        session.screen.print(&describe(view))?;
    }
    Ok(())
}

fn describe(view: &PruneView) -> String {
    let mut text = String::new();
    for (word, things) in [("removed", &view.removed), ("kept", &view.kept)] {
        for thing in things {
            text.push_str(&format!("{word} {}: {}\n", escape_line(&thing.what), escape_line(&thing.reason)));
        }
    }
    if view.removed.is_empty() {
        text.push_str("nothing to remove\n");
    } else if view.freed_bytes > 0 {
        text.push_str(&format!("{} of disk freed\n", size(view.freed_bytes)));
    }
    text
}

#[cfg(test)]
mod tests {
    use offshoot_core::api::Reasoned;

    use super::*;

    #[test]
    fn each_thing_has_its_reason() {
        let thing = |what: &str, reason: &str| Reasoned { what: what.into(), reason: reason.into() };
        let view = PruneView {
            removed: vec![thing("layer 4f2a", "no environment stands on it")],
            kept: vec![thing("environment of x", "its work is not landed")],
            freed_bytes: 5 << 20,
        };
        assert_eq!(
            describe(&view),
            "removed layer 4f2a: no environment stands on it\nkept environment of x: its work is not landed\n\
             5M of disk freed\n"
        );
        assert_eq!(describe(&PruneView::default()), "nothing to remove\n");
    }
}
