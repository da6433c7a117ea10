//! `offshoot layers`.

use std::process::ExitCode;

use offshoot_core::api::{LayerKind, LayerList, LayerView};

use crate::{
    failure::Outcome,
    session::Session,
    text::{count, cut, escape_line, pad, size},
};

/// Say what is kept on disk, who stands on it, and what `prune` would free
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, session: &Session) -> Outcome {
    let list: LayerList = session.client.get("/v1/layers").await?;
    if session.screen.json {
        session.screen.print_json(&list)?;
    } else {
        session.screen.print(&text(&list, session.screen.columns()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(list: &LayerList, columns: usize) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, value: String| text.push_str(&format!("{name:<14}{value}\n"));
    fact(
        "layers",
        format!("{}, {} of it used by no environment", size(list.layers_bytes), size(list.unused_bytes)),
    );
    fact("environments", size(list.environments_bytes));
    fact("images", size(list.images_bytes));
    fact("git objects", size(list.objects_bytes));
    fact("free", size(list.free_bytes));
    if !list.layers.is_empty() {
        text.push_str("\n  DISK  KIND   USED BY    LAYER\n");
    }
    for layer in &list.layers {
        text.push_str(&cut(&line(layer), columns));
        text.push('\n');
    }
    text
}

fn line(layer: &LayerView) -> String {
    let users = match layer.tasks.as_slice() {
        [] => "nobody".to_owned(),
        tasks => count(tasks.len() as u64, "task"),
    };
    format!(
        "{:>6}  {}  {}  {}  {}",
        size(layer.bytes),
        pad(layer.kind.map_or("other", LayerKind::word), 5),
        pad(&users, 9),
        escape_line(&layer.id),
        escape_line(&layer.root),
    )
}
