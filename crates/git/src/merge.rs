//! Would it merge, and where does it clash: `git merge-tree` in a store, without a work tree.
//!
//! Asked for two running tasks (forecast), for a task and its target (plan), and by [`crate::land`]. Uses git's own
//! merge only: no merge driver, no rerere. Writes objects to the store, no refs.

use serde::Serialize;

use crate::{
    command::{GitError, version},
    oid::Oid,
    path::{clean, escape},
    store::Store,
    view::os,
};

/// The outcome of merging two commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// It merges; this is the tree.
    Clean {
        /// The merged tree.
        tree: Oid,
    },
    /// It does not.
    Conflicts {
        /// At most [`MAX_CONFLICTS`] of them.
        files: Vec<Conflict>,
    },
    /// They have no common history.
    Unrelated,
}

/// A path that does not merge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// The path, escaped.
    pub path: String,
    /// Git's word for it: `contents`, `modify/delete`, `rename/rename` …
    pub kind: String,
    /// Git's sentence about it, cleaned.
    pub message: String,
    /// The clashing lines with conflict markers and some around, cleaned, at most 16 KiB.
    pub hunks: String,
}

/// The most conflicts that one answer lists.
pub const MAX_CONFLICTS: usize = 200;
const MAX_HUNKS: usize = 16 << 10;

impl Store {
    /// Merges `theirs` into `ours`, both in the store.
    pub fn merge(&self, ours: &Oid, theirs: &Oid) -> Result<Merge, GitError> {
        let mut git = self.git().config("merge.conflictStyle=merge").config("merge.renameLimit=5000");
        if version()? >= (2, 43) {
            // Which files are merged as binary or by union is for the target to say.
            git = git.option(format!("--attr-source={ours}"));
        }
        let args =
            ["merge-tree", "--write-tree", "-z", "--name-only", "--messages", ours.as_str(), theirs.as_str()];
        let out = git.args(args).run()?;
        let mut fields = out.stdout.split(|b| *b == 0);
        let tree = fields.next().and_then(Oid::from_bytes);
        match (out.code, tree) {
            (Some(0), Some(tree)) => Ok(Merge::Clean { tree }),
            (Some(1), Some(tree)) => {
                let paths: Vec<_> = fields.by_ref().take_while(|field| !field.is_empty()).collect();
                let messages = parse_messages(fields);
                let mut files = Vec::new();
                for path in paths.into_iter().take(MAX_CONFLICTS) {
                    files.push(self.conflict(&tree, path, &messages)?);
                }
                Ok(Merge::Conflicts { files })
            }
            _ if out.stderr.contains("unrelated histories") => Ok(Merge::Unrelated),
            (code, _) => Err(GitError::Failed { operation: "merge-tree".into(), code, stderr: out.stderr }),
        }
    }

    fn conflict(&self, tree: &Oid, path: &[u8], messages: &[Message<'_>]) -> Result<Conflict, GitError> {
        let about = messages.iter().find(|m| m.kind.starts_with("CONFLICT") && m.paths.contains(&path));
        let kind = about.map_or("unknown", |m| {
            m.kind.trim_start_matches("CONFLICT").trim_start_matches([' ', '(']).trim_end_matches(')')
        });
        let entry =
            self.git().args(["ls-tree", "-z", "--full-tree", tree.as_str(), "--"]).arg(os(path)).ok()?.stdout;
        let mut hunks = String::new();
        if let Some(rest) = entry.strip_prefix(b"100") {
            let oid = rest.split(|b| *b == b' ' || *b == b'\t').nth(2).and_then(Oid::from_bytes);
            if let Some(oid) = oid {
                let file = self.git().args(["cat-file", "blob", oid.as_str()]).truncate(4 << 20).ok()?.stdout;
                hunks = clashing_lines(&file);
            }
        }
        let message = about.map(|m| clean(m.text.trim_ascii_end())).unwrap_or_default();
        Ok(Conflict { path: escape(path), kind: kind.to_owned(), message, hunks })
    }
}

struct Message<'a> {
    paths: Vec<&'a [u8]>,
    kind: String,
    text: &'a [u8],
}

/// `<number of paths> NUL <path> NUL … <kind> NUL <text> NUL`, as often as there is something to say.
fn parse_messages<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Vec<Message<'a>> {
    let mut messages = Vec::new();
    while let Some(count) = fields.next().and_then(|n| std::str::from_utf8(n).ok()?.parse::<usize>().ok()) {
        let paths = fields.by_ref().take(count).collect();
        let (Some(kind), Some(text)) = (fields.next(), fields.next()) else { break };
        messages.push(Message { paths, kind: clean(kind), text });
    }
    messages
}

/// The regions between conflict markers with three lines around each.
fn clashing_lines(file: &[u8]) -> String {
    if file.contains(&0) {
        return String::new();
    }
    let lines: Vec<&[u8]> = file.split_inclusive(|b| *b == b'\n').collect();
    let mut wanted = vec![false; lines.len()];
    let mut start = None;
    for (i, line) in lines.iter().enumerate() {
        if line.starts_with(b"<<<<<<< ") {
            start = Some(i);
        } else if line.starts_with(b">>>>>>> ")
            && let Some(from) = start.take()
        {
            let to = (i + 4).min(lines.len());
            wanted[from.saturating_sub(3)..to].fill(true);
        }
    }
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate().filter(|(i, _)| wanted[*i]) {
        if i > 0 && !wanted[i - 1] {
            text.push_str(&format!("@@ line {} @@\n", i + 1));
        }
        text.push_str(&clean(&line[..line.len().min(2000)]));
        if text.len() > MAX_HUNKS {
            text.truncate(text.floor_char_boundary(MAX_HUNKS));
            text.push_str("\n…\n");
            break;
        }
    }
    text
}
