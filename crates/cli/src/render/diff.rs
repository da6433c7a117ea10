//! Diffs.

use offshoot_core::api::{DiffView, FileView};

use super::colour::Paint;
use crate::text::{count, escape_block, escape_line, pad, short, size, width};

/// Commits and files.
pub(crate) fn stat(view: &DiffView) -> String {
    let mut text = String::new();
    for commit in &view.commits {
        let of =
            commit.repository.as_deref().map(|name| format!("{}: ", escape_line(name))).unwrap_or_default();
        text.push_str(&format!("{} {of}{}\n", short(&commit.commit), escape_line(&commit.subject)));
    }
    if view.files.is_empty() {
        text.push_str("no files changed\n");
        return text;
    }
    let names: Vec<String> = view.files.iter().map(name).collect();
    let longest = names.iter().map(|n| width(n)).max().unwrap_or(0).min(80);
    for (file, name) in view.files.iter().zip(&names) {
        let lines = match (file.added, file.deleted) {
            (Some(added), Some(deleted)) => format!("+{added} −{deleted}"),
            _ => match (file.old_bytes, file.new_bytes) {
                (Some(old), Some(new)) => format!("binary, {} → {}", size(old), size(new)),
                (Some(bytes), None) | (None, Some(bytes)) => format!("binary, {}", size(bytes)),
                (None, None) => "binary".to_owned(),
            },
        };
        text.push_str(&format!("{} {}  {lines}\n", escape_line(&file.status), pad(name, longest)));
        if file.outside_scope {
            text.push_str("    ! outside of the task's scope\n");
        }
        for found in &file.runs_on_host {
            text.push_str(&format!("    ! {}\n", escape_line(&found.why)));
        }
    }
    let (added, deleted) =
        view.files.iter().fold((0, 0), |(a, d), f| (a + f.added.unwrap_or(0), d + f.deleted.unwrap_or(0)));
    text.push_str(&format!("{}, +{added} −{deleted}\n", count(view.files.len() as u64, "file")));
    text
}

fn name(file: &FileView) -> String {
    match &file.old_path {
        Some(old) => format!("{} → {}", escape_line(old), escape_line(&file.path)),
        None => escape_line(&file.path),
    }
}

/// The patch for a terminal.
pub(crate) fn patch(patch: &str, colour: bool) -> String {
    let paint = Paint(colour);
    let mut text = String::with_capacity(patch.len());
    for line in escape_block(patch).lines() {
        let line = match line.as_bytes() {
            [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => paint.bold(line),
            [b'd', b'i', b'f', b'f', b' ', ..] => paint.bold(line),
            [b'+', ..] => paint.green(line),
            [b'-', ..] => paint.red(line),
            [b'@', b'@', ..] => paint.cyan(line),
            _ => line.to_owned(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_sums() {
        let file = |path: &str, old: Option<&str>, status: &str, lines: Option<(u64, u64)>| FileView {
            path: path.into(),
            old_path: old.map(Into::into),
            status: status.into(),
            added: lines.map(|l| l.0),
            deleted: lines.map(|l| l.1),
            ..FileView::default()
        };
        let view = DiffView {
            base: "a".into(),
            head: "b".into(),
            files: vec![
                file("src/a.rs", None, "M", Some((3, 1))),
                file("b\x1b[31m", Some("old"), "R", Some((0, 0))),
                file("logo.png", None, "A", None),
            ],
            commits: vec![],
            repositories: vec![],
            patch: String::new(),
            truncated: false,
        };
        assert_eq!(
            stat(&view),
            "M src/a.rs      +3 −1\nR old → b␛[31m  +0 −0\nA logo.png      binary\n3 files, +3 −1\n"
        );
    }
}
