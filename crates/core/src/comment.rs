//! Comments of a person on lines of a task's work, and how their lines are found again when the work goes on.
//!
//! A comment holds on to the text of its line and of those around it (its [`Anchor`]), not to a number: [`follow`] looks
//! for it in another version of the file. Pure; whoever calls brings the file's text.
//!
//! Lines come from an agent and are hostile: bounded here, escaped where they are shown.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// Longest text of a comment, in bytes: some paragraphs.
pub const MAX_TEXT: usize = 4_000;
/// Most drafts of a task: what one follow-up can carry, and more than one reads in a sitting.
pub const MAX_DRAFTS: usize = 100;
/// Most comments that a record keeps; of those that were sent the oldest go first. The log has them all.
pub const MAX_KEPT: usize = 200;
/// Lines that are remembered before and after.
const AROUND: usize = 3;
/// Characters that are remembered of a line.
const LINE: usize = 300;

/// Which state of a file a line belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Before the change.
    Old,
    /// After it.
    #[default]
    New,
}

/// What a line is found again by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Anchor {
    /// Its text, shortened.
    pub text: String,
    /// The lines before it, the nearest last.
    pub before: Vec<String>,
    /// The lines after it, the nearest first.
    pub after: Vec<String>,
}

/// A comment was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommentAdded {
    /// Number within the task, from 1.
    pub number: u32,
    /// The repository's name; empty if the task has one only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repository: String,
    /// The file in that repository, as diffs name it.
    pub path: String,
    /// The line, from 1, in that commit's file.
    pub line: u32,
    /// Whether it is a line of before or of after the change.
    pub side: Side,
    /// The commit whose file it is a line of.
    pub commit: String,
    /// What it says.
    pub text: String,
    /// What the line is found again by.
    pub anchor: Anchor,
}

/// A comment, as the log tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommentRecord {
    /// Number within the task, from 1.
    pub number: u32,
    /// The repository's name; empty if the task has one only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repository: String,
    /// The file in that repository, as diffs name it.
    pub path: String,
    /// The line, from 1, in that commit's file.
    pub line: u32,
    /// Whether it is a line of before or of after the change.
    pub side: Side,
    /// The commit whose file it is a line of.
    pub commit: String,
    /// What it says.
    pub text: String,
    /// What the line is found again by.
    pub anchor: Anchor,
    /// When it was made or last changed.
    pub at: Timestamp,
    /// Number of the run it was sent with; `None` for a draft.
    pub sent: Option<u32>,
}

impl CommentRecord {
    /// What a comment starts as.
    pub fn new(added: CommentAdded, at: Timestamp) -> Self {
        let CommentAdded { number, repository, path, line, side, commit, text, anchor } = added;
        Self { number, repository, path, line, side, commit, text, anchor, at, sent: None }
    }
}

impl Anchor {
    /// Of line `line`, from 1, of a file; `None` if it has no such line.
    pub fn of(file: &str, line: u32) -> Option<Self> {
        let lines: Vec<&str> = file.lines().collect();
        let at = usize::try_from(line).ok()?.checked_sub(1)?;
        let text = short(lines.get(at)?);
        let own = |lines: &[&str]| lines.iter().map(|line| short(line).to_owned()).collect();
        let after = lines.get(at + 1..(at + 1 + AROUND).min(lines.len())).unwrap_or_default();
        Some(Self {
            text: text.to_owned(),
            before: own(&lines[at.saturating_sub(AROUND)..at]),
            after: own(after),
        })
    }

    /// Whether the text of the line says anything by itself: a lone brace is everywhere.
    fn speaks(&self) -> bool {
        self.text.chars().filter(|c| c.is_alphanumeric()).count() >= 3
    }
}

/// Where the line of a comment is in another version of its file: the line of the same text with the most of the same
/// lines around it, and of several such the nearest to where it was. `None` if there is none, or if it says so little
/// that only its neighbours could tell it, and they are gone.
pub fn follow(anchor: &Anchor, was: u32, file: &str) -> Option<u32> {
    let lines: Vec<&str> = file.lines().map(short).collect();
    let alone = anchor.before.is_empty() && anchor.after.is_empty();
    let mut best: Option<(usize, u64, u32)> = None;
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| **line == anchor.text) {
        let before = anchor.before.iter().rev().zip(lines[..at].iter().rev());
        let after = anchor.after.iter().zip(&lines[at + 1..]);
        let near = before.enumerate().chain(after.enumerate());
        let same: usize =
            near.filter(|(_, (known, line))| known == line).map(|(n, (line, _))| weight(n, line)).sum();
        if same == 0 && !alone && !anchor.speaks() {
            continue;
        }
        let line = u32::try_from(at + 1).ok()?;
        let far = u64::from(line.abs_diff(was));
        if best.is_none_or(|(most, nearest, _)| {
            (same, std::cmp::Reverse(far)) > (most, std::cmp::Reverse(nearest))
        }) {
            best = Some((same, far, line));
        }
    }
    best.map(|(_, _, line)| line)
}

/// What it counts that the `n`th neighbour is the same: the nearer and the less like any other, the more.
fn weight(n: usize, line: &str) -> usize {
    (AROUND - n.min(AROUND - 1)) * if line.contains(char::is_alphanumeric) { 4 } else { 1 }
}

fn short(line: &str) -> &str {
    line.char_indices().nth(LINE).map_or(line, |(end, _)| &line[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn follows(old: &str, line: u32, new: &str) -> Option<u32> {
        follow(&Anchor::of(old, line).unwrap(), line, new)
    }

    #[test]
    fn a_line_is_found_where_it_went() {
        let old = "fn a() {\n    one();\n}\n\nfn b() {\n    one();\n}\n";
        for (line, new, want) in [
            (2, old.to_owned(), Some(2)),
            (6, old.to_owned(), Some(6)),
            (6, format!("// head\n{old}"), Some(7)),
            // Both calls are the same text: their neighbours tell which is meant.
            (6, "fn b() {\n    one();\n}\n\nfn a() {\n    one();\n}\n".to_owned(), Some(2)),
            (6, "fn a() {\n    one();\n}\n".to_owned(), Some(2)),
            (2, "fn a() {\n    two();\n}\n".to_owned(), None),
            (2, String::new(), None),
            // A brace alone says nothing.
            (7, "x\n}\ny\n".to_owned(), None),
            (3, "fn z() {\n    one();\n}\n".to_owned(), Some(3)),
        ] {
            assert_eq!(follows(old, line, &new), want, "{line} in {new:?}");
        }
    }

    #[test]
    fn odd_files() {
        assert_eq!(Anchor::of("", 1), None);
        assert_eq!(Anchor::of("a\n", 0), None);
        assert_eq!(Anchor::of("a\n", 2), None);
        assert_eq!(Anchor::of("a", 1).unwrap(), Anchor { text: "a".into(), ..Anchor::default() });
        assert_eq!(follows("}", 1, "}\n"), Some(1), "the only line there is");
        let long = "é".repeat(10_000);
        let anchor = Anchor::of(&long, 1).unwrap();
        assert_eq!(anchor.text.chars().count(), LINE);
        assert_eq!(follow(&anchor, 1, &long), Some(1));
        assert_eq!(follows("a\r\nbcd\r\n", 2, "bcd\n"), Some(1), "line ends do not count");
    }

    proptest! {
        #[test]
        fn what_is_written_elsewhere_moves_it_and_no_more(
            lines in proptest::collection::vec("[a-c]{0,2}", 1..20),
            at in 0_usize..20,
            before in proptest::collection::vec("[x-z]{1,3}", 0..6),
            after in proptest::collection::vec("[x-z]{1,3}", 0..6),
        ) {
            let at = at % lines.len();
            // Told from all others, so that there is one right answer.
            let mut lines = lines;
            lines[at] = "the line".into();
            let old = lines.join("\n");
            let new: Vec<_> = before.iter().chain(&lines).chain(&after).map(String::as_str).collect();
            let line = u32::try_from(at + 1).unwrap();
            let moved = line + u32::try_from(before.len()).unwrap();
            prop_assert_eq!(follows(&format!("{old}\n"), line, &new.join("\n")), Some(moved));
        }

        #[test]
        fn what_is_found_is_the_line(old in "[ab}\n]{1,40}", new in "[ab}\n]{0,40}", line in 1_u32..20) {
            if let Some(anchor) = Anchor::of(&old, line) {
                prop_assert_eq!(follow(&anchor, line, &old), Some(line));
                if let Some(found) = follow(&anchor, line, &new) {
                    let found = usize::try_from(found).unwrap();
                    prop_assert_eq!(new.lines().nth(found - 1), Some(anchor.text.as_str()));
                }
            }
        }
    }
}
