//! Reads what [`super::checkpoint`] and [`super::finish`] write: `offshoot 1`, lines of `key value`, `end`. Names are in
//! hexadecimal there. Hostile input: bounded, and unknown keys are passed over.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{oid::Oid, path::escape};

/// A checkpoint was made, or was not needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checkpointed {
    /// The workspace's tree.
    pub tree: Oid,
    /// A commit with that tree: a new one, HEAD, or the previous checkpoint.
    pub commit: Oid,
    /// It is a new one.
    pub created: bool,
    /// Files that differ from HEAD.
    pub changed: u64,
    /// Files that could not be read.
    pub unreadable: u64,
    /// Repositories in the workspace.
    pub embedded: Vec<Embedded>,
}

/// A run's work is on its branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finished {
    /// The tip of the task's branch.
    pub head: Oid,
    /// There was something uncommitted; it is committed now.
    pub leftovers: bool,
    /// Files that differ from the base.
    pub changed: u64,
    /// Index entries in conflict that were committed as they stood.
    pub unmerged: u64,
    /// Submodules whose commits or files are not in the result.
    pub submodules: u64,
    /// Files that could not be read.
    pub unreadable: u64,
    /// HEAD had left the task's branch for something that does not follow from it; kept beside it.
    pub elsewhere: Option<Oid>,
    /// The branch HEAD is on, escaped; `None` if detached.
    pub on: Option<String>,
    /// Repositories in the workspace.
    pub embedded: Vec<Embedded>,
}

/// A repository within the workspace that the project does not know as a submodule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Embedded {
    /// Where, escaped.
    pub path: String,
    /// What became of it.
    pub kind: EmbeddedKind,
}

/// What became of a repository within the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddedKind {
    /// Its files were taken as files of the project; its own history is not in the result.
    Files,
    /// A clean clone of something that is elsewhere: left out.
    Clone,
    /// Not all of its files could be taken.
    Unreadable,
}

/// What a script wrote is no report: it did not come to its end, or something else wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the report of the workspace's git cannot be read: {0}")]
pub struct BadReport(&'static str);

/// A report is a few hundred bytes; repositories within are counted up to this.
const MAX_LINES: usize = 10_000;

struct Report<'a> {
    values: BTreeMap<&'a str, &'a str>,
    embedded: Vec<Embedded>,
}

fn read(stdout: &[u8]) -> Result<Report<'_>, BadReport> {
    let text = std::str::from_utf8(stdout).map_err(|_| BadReport("it is no text"))?;
    let mut lines = text.lines();
    if lines.next() != Some("offshoot 1") {
        return Err(BadReport("its first line is another"));
    }
    let mut report = Report { values: BTreeMap::new(), embedded: Vec::new() };
    for line in lines.take(MAX_LINES) {
        if line == "end" {
            return Ok(report);
        }
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let kind = match key {
            "embedded" => EmbeddedKind::Files,
            "clone" => EmbeddedKind::Clone,
            "unreadable" if value.len() > 20 || value.parse::<u64>().is_err() => EmbeddedKind::Unreadable,
            _ => {
                report.values.insert(key, value);
                continue;
            }
        };
        report.embedded.push(Embedded { path: name(value)?, kind });
    }
    Err(BadReport("it does not end"))
}

fn name(hex: &str) -> Result<String, BadReport> {
    let bad = BadReport("a name in it is no hexadecimal number");
    if !hex.len().is_multiple_of(2) || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad);
    }
    let bytes: Option<Vec<u8>> =
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).ok()).collect();
    Ok(escape(&bytes.ok_or(bad)?))
}

impl Report<'_> {
    fn oid(&self, key: &str) -> Option<Oid> {
        self.values.get(key)?.parse().ok()
    }

    fn number(&self, key: &str) -> u64 {
        self.values.get(key).and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

impl Checkpointed {
    /// Reads what the script wrote.
    pub fn read(stdout: &[u8]) -> Result<Self, BadReport> {
        let report = read(stdout)?;
        Ok(Self {
            tree: report.oid("tree").ok_or(BadReport("it has no tree"))?,
            commit: report.oid("commit").ok_or(BadReport("it has no commit"))?,
            created: report.number("created") == 1,
            changed: report.number("changed"),
            unreadable: report.number("unreadable"),
            embedded: report.embedded,
        })
    }
}

impl Finished {
    /// Reads what the script wrote.
    pub fn read(stdout: &[u8]) -> Result<Self, BadReport> {
        let report = read(stdout)?;
        let on = name(report.values.get("on").copied().unwrap_or_default())?;
        // `symbolic-ref` ends its answer with a newline.
        let on = on.strip_suffix("\\x0a").unwrap_or(&on).strip_prefix("refs/heads/").map(str::to_owned);
        Ok(Self {
            head: report.oid("head").ok_or(BadReport("it has no head"))?,
            leftovers: report.number("leftovers") == 1,
            changed: report.number("changed"),
            unmerged: report.number("unmerged"),
            submodules: report.number("submodules"),
            unreadable: report.number("unreadable"),
            elsewhere: report.oid("elsewhere"),
            on,
            embedded: report.embedded,
        })
    }
}
