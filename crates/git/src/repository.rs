//! The user's repository: where it is, what it has, what state its checkout is in. Nothing here writes to it.
//!
//! Called by the engine before a task starts and by [`crate::store`], [`crate::publish`], [`crate::land`]. What a
//! commit contains (submodules, LFS) is read here too, because it is asked before the commit enters a store.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    command::{Git, GitError},
    oid::{ObjectFormat, Oid},
    path::{clean, escape},
};

/// A repository on this machine that belongs to the user.
#[derive(Clone, Debug)]
pub struct Repository {
    root: PathBuf,
    git_dir: PathBuf,
    common_dir: PathBuf,
    bare: bool,
    format: ObjectFormat,
}

/// Why a directory cannot be used as a repository.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// Neither the directory nor one above it is a repository.
    #[error("{} is not in a git repository", path.display())]
    NotARepository {
        /// The directory asked about.
        path: PathBuf,
    },
    /// It belongs to another user and is not named in the user's `safe.directory`.
    #[error("the repository at {} belongs to another user", path.display())]
    OtherOwner {
        /// The directory asked about.
        path: PathBuf,
    },
    /// Git cannot tell.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Why a revision names no commit.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The repository has no commit yet.
    #[error("the repository has no commit yet")]
    NoCommit,
    /// There is no such branch, tag or commit.
    #[error("there is no commit called {rev:?}")]
    UnknownRevision {
        /// What was asked for.
        rev: String,
        /// Up to three names of branches that look like it.
        near: Vec<String>,
    },
    /// Git cannot tell.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// What `HEAD` stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    /// The branch, unless detached.
    pub branch: Option<String>,
    /// The commit; none if the branch is unborn.
    pub commit: Option<Oid>,
}

/// How far the checkout is from its commit, in numbers of paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dirty {
    /// Differ between index and commit.
    pub staged: usize,
    /// Differ between file and index.
    pub modified: usize,
    /// Neither tracked nor ignored; a new directory counts as one.
    pub untracked: usize,
    /// In conflict.
    pub unmerged: usize,
}

impl Dirty {
    /// Nothing differs.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

/// A name and a mail address, as they stand in a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    /// `user.name`
    pub name: String,
    /// `user.email`
    pub email: String,
}

/// A work tree of the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Worktree {
    /// Its directory.
    pub path: PathBuf,
    /// The branch checked out in it, or being rebased there.
    pub branch: Option<String>,
    /// The directory is there.
    pub present: bool,
}

/// What a commit has that a plain checkout does not bring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Extras {
    /// Paths of submodules, escaped.
    pub submodules: Vec<String>,
    /// Some path is stored by Git LFS.
    pub lfs: bool,
}

impl Repository {
    /// The repository `path` is in: its root, any directory below, a linked worktree, or a bare repository.
    pub fn discover(path: &Path) -> Result<Self, DiscoverError> {
        if !path.is_dir() {
            return Err(DiscoverError::NotARepository { path: path.to_owned() });
        }
        let ask = |question: &[&str]| Git::as_user(path).arg("rev-parse").args(question);
        let facts = [
            "--is-bare-repository",
            "--show-object-format",
            "--absolute-git-dir",
            "--path-format=absolute",
            "--git-common-dir",
            "--show-toplevel",
        ];
        // A place without a work tree makes the last question fail; the others are answered by then.
        let out = ask(&facts).run()?;
        if out.code != Some(0) {
            if out.stderr.contains("not a git repository") {
                return Err(DiscoverError::NotARepository { path: path.to_owned() });
            }
            if out.stderr.contains("dubious ownership") {
                return Err(DiscoverError::OtherOwner { path: path.to_owned() });
            }
        }
        let answers: Vec<_> = out.stdout.split(|b| *b == b'\n').collect();
        let [bare, format, places @ ..] = &answers[..] else {
            return Err(GitError::unexpected("rev-parse", &out.stdout).into());
        };
        let bare = *bare == b"true";
        let format = match *format {
            b"sha1" => ObjectFormat::Sha1,
            b"sha256" => ObjectFormat::Sha256,
            _ => return Err(GitError::unexpected("rev-parse", &out.stdout).into()),
        };
        let dir = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_owned()));
        // A newline in a path makes more lines, and each place is asked for by itself.
        let whole = |question: &[&str]| ask(question).line().map(|bytes| dir(&bytes));
        let (git_dir, common_dir, root) = match *places {
            [git_dir, common, root, b""] if out.code == Some(0) => {
                (dir(git_dir), dir(common), Some(dir(root)))
            }
            [git_dir, common, b""] => (dir(git_dir), dir(common), None),
            _ => (
                whole(&["--absolute-git-dir"])?,
                whole(&["--path-format=absolute", "--git-common-dir"])?,
                whole(&["--show-toplevel"]).ok(),
            ),
        };
        let root = match root {
            _ if bare => git_dir.clone(),
            Some(root) => root,
            // Asked from within the git directory.
            None if git_dir.ends_with(".git") => git_dir.parent().unwrap_or(&git_dir).to_owned(),
            None => whole(&["--show-toplevel"])?,
        };
        Ok(Self { root, git_dir, common_dir, bare, format })
    }

    /// A work tree whose git directory is known: nothing is searched for, and nothing in the work tree is believed.
    pub(crate) fn at(root: &Path, git_dir: &Path) -> Result<Self, GitError> {
        let out = Git::at(git_dir)
            .args(["rev-parse", "--show-object-format", "--path-format=absolute", "--git-common-dir"])
            .ok()?
            .stdout;
        let mut answers = out.splitn(2, |b| *b == b'\n');
        let format = match answers.next() {
            Some(b"sha1") => ObjectFormat::Sha1,
            Some(b"sha256") => ObjectFormat::Sha256,
            _ => return Err(GitError::unexpected("rev-parse", &out)),
        };
        let common = answers.next().unwrap_or_default();
        let common_dir =
            PathBuf::from(OsString::from_vec(common.strip_suffix(b"\n").unwrap_or(common).to_vec()));
        Ok(Self { root: root.to_owned(), git_dir: git_dir.to_owned(), common_dir, bare: false, format })
    }

    /// The top of the work tree, or the git directory of a bare repository. Absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The git directory of this work tree. Absolute.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// The git directory that all work trees share. Absolute.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// There is no work tree.
    pub fn is_bare(&self) -> bool {
        self.bare
    }

    /// This is a worktree made by `git worktree add`.
    pub fn is_linked_worktree(&self) -> bool {
        self.git_dir != self.common_dir
    }

    /// Its hash function.
    pub fn object_format(&self) -> ObjectFormat {
        self.format
    }

    /// History is cut off somewhere.
    pub fn is_shallow(&self) -> bool {
        !self.shallow().is_empty()
    }

    /// The commits at which history is cut off.
    pub fn shallow(&self) -> Vec<Oid> {
        read_shallow(&self.common_dir.join("shallow"))
    }

    /// Objects are missing on purpose, to be fetched when needed (`git clone --filter`).
    pub fn is_partial(&self) -> Result<bool, GitError> {
        let keys = r"^(extensions\.partialclone|remote\..*\.(promisor|partialclonefilter))$";
        Ok(self.git().args(["config", "--get-regexp", keys]).run()?.code == Some(0))
    }

    /// What is checked out.
    pub fn head(&self) -> Result<Head, GitError> {
        let both =
            self.git().args(["rev-parse", "-q", "HEAD^{commit}", "--symbolic-full-name", "HEAD"]).run()?;
        if both.code == Some(0)
            && let [commit, name] =
                both.stdout.trim_ascii_end().split(|b| *b == b'\n').collect::<Vec<_>>()[..]
        {
            let branch = name.strip_prefix(b"refs/heads/").map(clean);
            return Ok(Head { branch, commit: Oid::from_bytes(commit) });
        }
        // Unborn.
        let name = self.git().args(["symbolic-ref", "-q", "HEAD"]).run()?.stdout;
        let branch = name.trim_ascii_end().strip_prefix(b"refs/heads/").map(clean);
        Ok(Head { branch, commit: None })
    }

    /// The commit that a branch, a tag, a commit's name or any other revision stands for.
    pub fn resolve(&self, rev: &str) -> Result<Oid, ResolveError> {
        if !rev.is_empty() && !rev.contains(['\0', '\n']) {
            let spec = format!("{rev}^{{commit}}");
            let out = self.git().args(["rev-parse", "--verify", "-q", "--end-of-options", &spec]).run()?;
            if let Some(oid) = Oid::from_bytes(out.stdout.trim_ascii_end()) {
                return Ok(oid);
            }
        }
        let head = self.head()?;
        if head.commit.is_none() && (rev == "HEAD" || head.branch.as_deref() == Some(rev)) {
            return Err(ResolveError::NoCommit);
        }
        let mut names: Vec<_> = self.branches()?.into_iter().map(|(name, _)| name).collect();
        names.extend(self.refs_under("refs/remotes")?.into_iter().map(|(name, _)| name));
        Err(ResolveError::UnknownRevision { rev: rev.to_owned(), near: near(rev, &names) })
    }

    /// All branches with their commits, the latest first, at most 10,000.
    pub fn branches(&self) -> Result<Vec<(String, Oid)>, GitError> {
        self.refs_under("refs/heads")
    }

    fn refs_under(&self, folder: &str) -> Result<Vec<(String, Oid)>, GitError> {
        let strip = "--format=%(objectname) %(refname:lstrip=2)";
        let args = ["for-each-ref", "--count=10000", "--sort=-committerdate", strip, folder];
        let out = self.git().args(args).ok()?.stdout;
        let entry = |line: &[u8]| {
            let space = line.iter().position(|b| *b == b' ')?;
            Some((clean(&line[space + 1..]), Oid::from_bytes(&line[..space])?))
        };
        Ok(out.split(|b| *b == b'\n').filter_map(entry).collect())
    }

    /// The commit of one branch.
    pub fn branch_commit(&self, name: &str) -> Result<Option<Oid>, GitError> {
        let name = format!("refs/heads/{name}");
        let out = self.git().args(["rev-parse", "--verify", "-q", "--end-of-options", &name]).run()?;
        Ok(Oid::from_bytes(out.stdout.trim_ascii_end()))
    }

    /// How far the checkout is from its commit. Filters are off: a file of Git LFS counts as modified once its time
    /// stamp has changed. A bare repository is clean.
    pub fn dirty(&self) -> Result<Dirty, GitError> {
        let mut dirty = Dirty::default();
        if self.bare {
            return Ok(dirty);
        }
        let mut git = self.git().work_tree(&self.root).without_filters(&self.filter_drivers()?);
        if let Some(ignore) = self.user_ignore_file() {
            let mut setting = OsString::from("core.excludesFile=");
            setting.push(ignore);
            git = git.config(setting);
        }
        // A submodule is looked into with its own configuration, so only its commit is compared.
        let out = git
            .background()
            .config("core.preloadIndex=false")
            .args(["status", "--porcelain=v1", "-z", "--no-renames", "--ignore-submodules=dirty"])
            .truncate(16 << 20)
            .ok()?;
        for entry in out.stdout.split(|b| *b == 0).filter(|entry| entry.len() > 3) {
            match (entry[0], entry[1]) {
                (b'?', _) => dirty.untracked += 1,
                (b'U', _) | (_, b'U') | (b'A', b'A') | (b'D', b'D') => dirty.unmerged += 1,
                (x, y) => {
                    dirty.staged += usize::from(x != b' ');
                    dirty.modified += usize::from(y != b' ');
                }
            }
        }
        Ok(dirty)
    }

    /// The user's own list of ignored files: `core.excludesFile` of their configuration, or its default place.
    pub fn user_ignore_file(&self) -> Option<OsString> {
        let asked = Git::as_user(&self.root).args(["config", "--type=path", "core.excludesFile"]).line();
        if let Ok(path) = asked {
            return Some(OsString::from_vec(path));
        }
        let config = std::env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let config = config.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".config")))?;
        Some(config.join("git/ignore").into_os_string())
    }

    /// Who the user is, by their own configuration; none if either half is missing.
    pub fn identity(&self) -> Result<Option<Person>, GitError> {
        let keys = r"^user\.(name|email)$";
        let out = Git::as_user(&self.root).args(["config", "-z", "--get-regexp", keys]).run()?.stdout;
        // The last one counts.
        let value = |key: &[u8]| {
            let entry = out.split(|b| *b == 0).rev().find_map(|entry| entry.strip_prefix(key))?;
            Some(clean(entry.trim_ascii())).filter(|text| !text.is_empty())
        };
        Ok(value(b"user.name\n").zip(value(b"user.email\n")).map(|(name, email)| Person { name, email }))
    }

    /// All work trees, the main one first.
    pub fn worktrees(&self) -> Result<Vec<Worktree>, GitError> {
        let out = self.git().args(["worktree", "list", "--porcelain", "-z"]).ok()?.stdout;
        let mut worktrees = Vec::new();
        for record in split_records(&out) {
            let field =
                |name: &[u8]| record.iter().find_map(|line| line.strip_prefix(name)).map(<[u8]>::to_vec);
            let Some(path) = field(b"worktree ") else { continue };
            if record.contains(&&b"bare"[..]) {
                continue;
            }
            let path = PathBuf::from(OsString::from_vec(path));
            let branch = field(b"branch refs/heads/").map(|name| clean(&name));
            let branch = branch.or_else(|| branch_being_rebased(&path));
            worktrees.push(Worktree { present: path.is_dir(), path, branch });
        }
        Ok(worktrees)
    }

    /// What the commit has that a plain checkout does not bring.
    pub fn extras(&self, commit: &Oid) -> Result<Extras, GitError> {
        let out = self.git().args(["ls-tree", "-r", "-z", commit.as_str()]).ok()?.stdout;
        let mut extras = Extras::default();
        let mut attributes = Vec::new();
        for entry in out.split(|b| *b == 0) {
            let Some(tab) = entry.iter().position(|b| *b == b'\t') else { continue };
            let (head, path) = (&entry[..tab], &entry[tab + 1..]);
            if head.starts_with(b"160000 ") {
                extras.submodules.push(escape(path));
            } else if head.starts_with(b"100")
                && (path == b".gitattributes" || path.ends_with(b"/.gitattributes"))
            {
                attributes.extend(head.rsplit(|b| *b == b' ').next().and_then(Oid::from_bytes));
            }
        }
        // The attributes of a repository with Git LFS stand at its top or near it.
        for blob in attributes.iter().take(100) {
            let text = self.git().args(["cat-file", "blob", blob.as_str()]).truncate(1 << 20).ok()?.stdout;
            extras.lfs |= text.windows(10).any(|window| window == b"filter=lfs");
        }
        Ok(extras)
    }

    /// The filter drivers that the repository's own configuration defines. (The user's own and the system's are
    /// not read by any run of git here.)
    pub(crate) fn filter_drivers(&self) -> Result<Vec<OsString>, GitError> {
        let out =
            self.git().args(["config", "--name-only", "-z", "--get-regexp", r"^filter\."]).run()?.stdout;
        let driver = |key: &[u8]| {
            let rest = key.strip_prefix(b"filter.")?;
            let dot = rest.iter().rposition(|b| *b == b'.')?;
            Some(OsStr::from_bytes(&rest[..dot]).to_owned())
        };
        let drivers: BTreeSet<_> = out.split(|b| *b == 0).filter_map(driver).collect();
        Ok(drivers.into_iter().collect())
    }

    /// Where its objects are.
    pub(crate) fn objects_dir(&self) -> PathBuf {
        self.common_dir.join("objects")
    }

    /// A run of git in this repository.
    pub(crate) fn git(&self) -> Git<'static> {
        Git::at(&self.git_dir)
    }
}

/// The commits named in a `shallow` file; none if there is no such file.
pub(crate) fn read_shallow(file: &Path) -> Vec<Oid> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

pub(crate) fn split_records(out: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut records = vec![Vec::new()];
    for line in out.split(|b| *b == 0) {
        if line.is_empty() {
            records.push(Vec::new());
        } else if let Some(record) = records.last_mut() {
            record.push(line);
        }
    }
    records
}

/// A rebase detaches HEAD; the branch it will move at its end is written down in the git directory.
pub(crate) fn branch_being_rebased(work_tree: &Path) -> Option<String> {
    let dot_git = work_tree.join(".git");
    let git_dir = match std::fs::read_to_string(&dot_git) {
        Ok(text) => work_tree.join(text.strip_prefix("gitdir: ")?.trim_end()),
        Err(_) => dot_git,
    };
    ["rebase-merge/head-name", "rebase-apply/head-name"].iter().find_map(|file| {
        let name = std::fs::read_to_string(git_dir.join(file)).ok()?;
        Some(name.trim_end().strip_prefix("refs/heads/")?.to_owned())
    })
}

/// Up to three of `names` that are a slip of the pen away from `wanted`, or end or begin with it.
fn near(wanted: &str, names: &[String]) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let mut scored: Vec<(usize, &String)> = names
        .iter()
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let last = lower.rsplit('/').next().unwrap_or(&lower);
            let part =
                wanted.len() >= 3 && (lower.contains(&wanted) || wanted.contains(last) && last.len() >= 3);
            let distance = distance(&wanted, &lower).min(distance(&wanted, last));
            (part || distance <= 1 + wanted.chars().count() / 4).then_some((distance, name))
        })
        .collect();
    scored.sort();
    scored.into_iter().take(3).map(|(_, name)| name.clone()).collect()
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(ca != *cb)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_recognised() {
        let names: Vec<String> = ["main", "origin/main", "develop", "feature/login"].map(String::from).into();
        assert_eq!(near("mian", &names), ["main", "origin/main"]);
        assert_eq!(near("mai", &names), ["main", "origin/main"]);
        assert_eq!(near("login", &names), ["feature/login"]);
        assert_eq!(near("devlop", &names), ["develop"]);
        assert_eq!(near("xyzzy", &names), [] as [&str; 0]);
    }
}
