//! Reading what is in a store, for people and for decisions: commits, diffs, files, ancestry.
//!
//! Everything shown comes from runs: names are escaped ([`crate::path`]), subjects cleaned, patches are raw bytes that
//! whoever shows them must escape. Every list has a limit. Attributes and drivers play no part.

use serde::Serialize;

use crate::{
    command::GitError,
    oid::Oid,
    path::{clean, escape},
    store::Store,
};

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommitView {
    /// Its name.
    pub oid: Oid,
    /// The commits it follows.
    pub parents: Vec<Oid>,
    /// The first line of its message, cleaned.
    pub subject: String,
    /// The author's name and address, cleaned.
    pub author: String,
    /// When it was written, in seconds since 1970.
    pub at: i64,
}

/// What a diff shows.
#[derive(Clone, Debug)]
pub struct DiffOptions {
    /// Only these paths and what is below them, in bytes; empty for all.
    pub paths: Vec<Vec<u8>>,
    /// Lines around a change.
    pub context: u32,
    /// Lines that differ in whitespace only are the same.
    pub ignore_whitespace: bool,
    /// Where the patch is cut off.
    pub max_bytes: usize,
    /// What stands before every path, with its slash; empty for nothing.
    pub prefix: String,
}

impl Default for DiffOptions {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            context: 3,
            ignore_whitespace: false,
            max_bytes: 4 << 20,
            prefix: String::new(),
        }
    }
}

/// A patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// In git's format, without colours.
    pub patch: Vec<u8>,
    /// It is cut off.
    pub truncated: bool,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
    /// Its content or its mode differs.
    Modified,
    /// It has another name, and perhaps other content.
    Renamed,
    /// File, link and submodule took each other's place.
    TypeChanged,
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A plain file.
    File,
    /// A file with its executable bit set.
    Executable,
    /// A symbolic link; its content is where it points.
    Symlink,
    /// A commit of another repository.
    Submodule,
    /// A directory.
    Directory,
}

/// One changed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Its (new) name, escaped.
    pub path: String,
    /// Its former name, if it was renamed.
    pub old_path: Option<String>,
    /// What happened.
    pub status: Status,
    /// What it is now, or was if it is gone.
    pub kind: FileKind,
    /// What it was before, if that differs.
    pub old_kind: Option<FileKind>,
    /// Its mode and content before; `None` if it is new.
    pub old: Option<(String, Oid)>,
    /// Its mode and content now; `None` if it is gone.
    pub new: Option<(String, Oid)>,
    /// Lines added.
    pub added: u64,
    /// Lines removed.
    pub deleted: u64,
    /// It has no lines.
    pub binary: bool,
}

/// The content of a path in a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// What it is.
    pub kind: FileKind,
    /// Its mode, as git writes it.
    pub mode: String,
    /// Its size, in bytes.
    pub size: u64,
    /// Its content; of a link, where it points; of a directory or submodule, nothing.
    pub bytes: Vec<u8>,
    /// It is cut off.
    pub truncated: bool,
}

/// The most commits that one answer lists.
pub const MAX_COMMITS: usize = 10_000;

impl Store {
    /// The commits that `head` has and `base` has not, the latest first, at most [`MAX_COMMITS`].
    pub fn commits(&self, base: &Oid, head: &Oid) -> Result<Vec<CommitView>, GitError> {
        let git = self.git().args(["rev-list", "--no-commit-header", "--topo-order"]);
        let git = git
            .args(["--format=tformat:%H%x00%P%x00%at%x00%an <%ae>%x00%s%x00", &format!("-n{MAX_COMMITS}")]);
        let out = git.args([head.as_str(), &format!("^{base}"), "--"]).ok()?.stdout;
        // NUL cannot stand in a commit message that fsck has passed; a field more or less would be seen here.
        let mut fields = out.split(|b| *b == 0).map(|field| field.strip_prefix(b"\n").unwrap_or(field));
        let mut commits = Vec::new();
        while let Some(oid) = fields.next().filter(|oid| !oid.is_empty()) {
            let (parents, at, author, subject) = (fields.next(), fields.next(), fields.next(), fields.next());
            let bad = || GitError::unexpected("rev-list", oid);
            let parents =
                parents.ok_or_else(bad)?.split(|b| *b == b' ').filter_map(Oid::from_bytes).collect();
            let at = at.and_then(|at| std::str::from_utf8(at).ok()?.parse().ok()).unwrap_or(0);
            commits.push(CommitView {
                oid: Oid::from_bytes(oid).ok_or_else(bad)?,
                parents,
                subject: one_line(subject.ok_or_else(bad)?),
                author: one_line(author.ok_or_else(bad)?),
                at,
            });
        }
        Ok(commits)
    }

    /// The whole message of a commit, cleaned, at most 64 KiB.
    pub fn message(&self, commit: &Oid) -> Result<String, GitError> {
        let git =
            self.git().args(["rev-list", "-n1", "--no-commit-header", "--format=%B", commit.as_str(), "--"]);
        Ok(clean(git.truncate(64 << 10).ok()?.stdout.trim_ascii_end()))
    }

    /// The patch that makes `head` of `base`.
    pub fn diff(&self, base: &Oid, head: &Oid, options: &DiffOptions) -> Result<Diff, GitError> {
        let out = self
            .git()
            .args([
                "diff-tree",
                "-r",
                "-p",
                "-M",
                "-l1000",
                "--no-color",
                "--no-ext-diff",
                "--no-textconv",
                "--full-index",
            ])
            .args([
                format!("--src-prefix=a/{0}", options.prefix),
                format!("--dst-prefix=b/{0}", options.prefix),
            ])
            .arg(format!("-U{}", options.context))
            .args(options.ignore_whitespace.then_some("-w"))
            .args([base.as_str(), head.as_str(), "--"])
            .args(options.paths.iter().map(|path| os(path)))
            .truncate(options.max_bytes)
            .ok()?;
        Ok(Diff { patch: out.stdout, truncated: out.truncated })
    }

    /// The files that differ, with the number of lines.
    pub fn files(&self, base: &Oid, head: &Oid) -> Result<Vec<FileChange>, GitError> {
        let out = self
            .git()
            .args([
                "diff-tree",
                "-r",
                "-z",
                "-M",
                "-l1000",
                "--raw",
                "--numstat",
                "--no-ext-diff",
                "--no-textconv",
            ])
            .args([base.as_str(), head.as_str(), "--"])
            .ok()?
            .stdout;
        parse_files(&out).ok_or_else(|| GitError::unexpected("diff-tree", &out))
    }

    /// How many files differ.
    pub fn changed_count(&self, base: &Oid, head: &Oid) -> Result<usize, GitError> {
        let git = self.git().args([
            "diff-tree",
            "-r",
            "-z",
            "--no-renames",
            "--name-only",
            base.as_str(),
            head.as_str(),
        ]);
        Ok(git.ok()?.stdout.iter().filter(|b| **b == 0).count())
    }

    /// What stands at `path` (in bytes) in a commit; `None` if nothing does.
    pub fn blob(&self, commit: &Oid, path: &[u8], max: usize) -> Result<Option<Blob>, GitError> {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        // Git refuses these, and nothing can stand there.
        if path.split(|b| *b == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
            return Ok(None);
        }
        let out = self
            .git()
            .args(["ls-tree", "-z", "-l", "--full-tree", commit.as_str(), "--"])
            .arg(os(path))
            .ok()?
            .stdout;
        let Some((mode, oid, size)) = out.split(|b| *b == 0).find_map(|entry| {
            let tab = entry.iter().position(|b| *b == b'\t').filter(|tab| &entry[tab + 1..] == path)?;
            let mut fields = entry[..tab].split(|b| *b == b' ').filter(|field| !field.is_empty());
            Some((fields.next()?, fields.nth(1).and_then(Oid::from_bytes)?, fields.next()?))
        }) else {
            return Ok(None);
        };
        let kind = kind(mode).ok_or_else(|| GitError::unexpected("ls-tree", mode))?;
        let mode = clean(mode);
        let size = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok()).unwrap_or(0);
        if matches!(kind, FileKind::Directory | FileKind::Submodule) {
            return Ok(Some(Blob { kind, mode, size, bytes: Vec::new(), truncated: false }));
        }
        let (bytes, truncated) = self.content(&oid, max)?;
        Ok(Some(Blob { kind, mode, size, bytes, truncated }))
    }

    /// The content of a file by its object, and whether it was cut off.
    pub fn content(&self, blob: &Oid, max: usize) -> Result<(Vec<u8>, bool), GitError> {
        let out = self.git().args(["cat-file", "blob", blob.as_str()]).truncate(max).ok()?;
        Ok((out.stdout, out.truncated))
    }

    /// The sizes of objects, in bytes; `None` for those that are not in the store.
    pub fn sizes(&self, objects: &[Oid]) -> Result<Vec<Option<u64>>, GitError> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = objects.iter().map(|oid| format!("{oid}\n")).collect();
        let git = self.git().args(["cat-file", "--batch-check=%(objectsize)"]).input(names.concat());
        let out = git.ok()?.stdout;
        let mut lines = out.split(|b| *b == b'\n');
        let size = |line: Option<&[u8]>| std::str::from_utf8(line?).ok()?.parse().ok();
        Ok(objects.iter().map(|_| size(lines.next())).collect())
    }

    /// How many commits `a` has that `b` has not, and the other way round.
    pub fn ahead_behind(&self, a: &Oid, b: &Oid) -> Result<(u64, u64), GitError> {
        let range = format!("{a}...{b}");
        let line = self.git().args(["rev-list", "--left-right", "--count", &range, "--"]).line()?;
        let text = String::from_utf8_lossy(&line);
        let numbers = text.split_once('\t').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        numbers.ok_or_else(|| GitError::unexpected("rev-list", &line))
    }

    /// The tree without files: what the first commit of a history is compared with.
    pub fn empty_tree(&self) -> Result<Oid, GitError> {
        let line = self.git().args(["hash-object", "-t", "tree", "--stdin"]).input(Vec::new()).line()?;
        Oid::from_bytes(&line).ok_or_else(|| GitError::unexpected("hash-object", &line))
    }

    /// The tree of a commit.
    pub fn tree_of(&self, commit: &Oid) -> Result<Oid, GitError> {
        let line = self.git().args(["rev-parse", "--verify", "-q", &format!("{commit}^{{tree}}")]).line()?;
        Oid::from_bytes(&line).ok_or_else(|| GitError::unexpected("rev-parse", &line))
    }

    /// Whether `descendant` has `ancestor` in its history, or is it.
    pub fn is_ancestor(&self, ancestor: &Oid, descendant: &Oid) -> Result<bool, GitError> {
        let git = self.git().args(["merge-base", "--is-ancestor", ancestor.as_str(), descendant.as_str()]);
        let out = git.run()?;
        match out.code {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            code => Err(GitError::Failed { operation: "merge-base".into(), code, stderr: out.stderr }),
        }
    }

    /// The best common ancestor.
    pub fn merge_base(&self, a: &Oid, b: &Oid) -> Result<Option<Oid>, GitError> {
        let out = self.git().args(["merge-base", a.as_str(), b.as_str()]).run()?;
        match out.code {
            Some(0 | 1) => Ok(Oid::from_bytes(out.stdout.trim_ascii_end())),
            code => Err(GitError::Failed { operation: "merge-base".into(), code, stderr: out.stderr }),
        }
    }
}

pub(crate) fn os(bytes: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

/// Cleaned, without line breaks, at most 500 characters.
fn one_line(bytes: &[u8]) -> String {
    clean(&bytes[..bytes.len().min(2000)])
        .chars()
        .map(|c| if c == '\n' || c == '\t' { ' ' } else { c })
        .take(500)
        .collect()
}

fn kind(mode: &[u8]) -> Option<FileKind> {
    match mode {
        b"100644" | b"100664" => Some(FileKind::File),
        b"100755" => Some(FileKind::Executable),
        b"120000" => Some(FileKind::Symlink),
        b"160000" => Some(FileKind::Submodule),
        b"040000" => Some(FileKind::Directory),
        _ => None,
    }
}

/// The output of `diff-tree -z --raw --numstat`: all raw records, then all numbers, in the same order.
fn parse_files(out: &[u8]) -> Option<Vec<FileChange>> {
    let mut fields = out.split(|b| *b == 0).peekable();
    let mut files = Vec::new();
    while let Some(meta) = fields.next_if(|field| field.starts_with(b":")) {
        let parts: Vec<_> = meta[1..].split(|b| *b == b' ').collect();
        let [old_mode, new_mode, old_oid, new_oid, letter] = parts[..] else { return None };
        let status = match letter.first()? {
            b'A' | b'C' => Status::Added,
            b'D' => Status::Deleted,
            b'M' => Status::Modified,
            b'R' => Status::Renamed,
            b'T' => Status::TypeChanged,
            _ => return None,
        };
        let first = escape(fields.next()?);
        let (path, old_path) = match letter[0] {
            b'R' => (escape(fields.next()?), Some(first)),
            b'C' => (escape(fields.next()?), None),
            _ => (first, None),
        };
        let (old_kind, new_kind) = (kind(old_mode), kind(new_mode));
        let side = |mode: &[u8], oid| (mode != b"000000").then(|| Some((clean(mode), Oid::from_bytes(oid)?)));
        files.push(FileChange {
            path,
            old_path,
            status,
            kind: new_kind.or(old_kind)?,
            old_kind: old_kind.filter(|old| new_kind.is_some_and(|new| new != *old)),
            old: side(old_mode, old_oid).flatten(),
            new: side(new_mode, new_oid).flatten(),
            added: 0,
            deleted: 0,
            binary: false,
        });
    }
    for file in &mut files {
        let numbers = fields.next()?;
        let mut parts = numbers.splitn(3, |b| *b == b'\t');
        let (added, deleted, path) = (parts.next()?, parts.next()?, parts.next()?);
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
        (file.binary, file.added, file.deleted) =
            (added == b"-", number(added).unwrap_or(0), number(deleted).unwrap_or(0));
        if path.is_empty() {
            fields.nth(1)?;
        }
    }
    Some(files)
}
