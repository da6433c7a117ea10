//! Bringing a work tree along when the branch it has checked out moves. Called by
//! [`crate::land`] and [`crate::prepared`] only.
//!
//! While it works it holds git's own `index.lock` (so nobody commits meanwhile), marked as Offshoot's, and works on a
//! private copy of the index. Order: files and private index by a two-tree `read-tree`, index, ref, lock. A dry run
//! comes first: what would overwrite a local change is refused before a byte is written. Whatever a killed process
//! leaves is recognised by the lock's mark, and completed by running it again.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use offshoot_core::fault;

use crate::{
    command::{Git, GitError, quoted_for_path_list},
    land::LandError,
    oid::Oid,
    path::escape,
    publish::swap,
    repository::{DiscoverError, Repository},
    view::os,
};

pub(crate) enum CheckoutError {
    /// Paths, escaped.
    LocalChanges(Vec<String>),
    Busy(&'static str),
    Git(GitError),
}

impl From<GitError> for CheckoutError {
    fn from(error: GitError) -> Self {
        Self::Git(error)
    }
}

impl CheckoutError {
    /// The same as a landing says it.
    pub fn about(self, worktree: PathBuf) -> LandError {
        match self {
            Self::LocalChanges(paths) => LandError::LocalChanges { worktree, paths },
            Self::Busy(what) => LandError::Busy { worktree, what },
            Self::Git(error) => error.into(),
        }
    }
}

pub(crate) struct Advance<'a> {
    pub branch: &'a str,
    pub old: &'a Oid,
    pub new: &'a Oid,
    /// An earlier attempt may have written some files already.
    pub resumed: bool,
}

/// What stands in an `index.lock` that is ours.
const MARK: &[u8] = b"offshoot is landing here\n";
/// What stands against everything as long as it is there.
const LOCKED: &str = "another git command (there is an index.lock)";
/// What git calls a merge, rebase … that has been begun.
const UNDER_WAY: &[(&str, &str)] = &[
    ("MERGE_HEAD", "a merge"),
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
];
/// Writing the files of a large change.
const CHECKOUT: Duration = Duration::from_secs(600);

/// Moves the work tree at `root` and its branch from `old` to `new`. False if the branch was no longer at `old`; then
/// everything is as it was.
pub(crate) fn advance(root: &Path, step: &Advance<'_>) -> Result<bool, CheckoutError> {
    with_index(root, |work| work.advance(step))
}

/// The same as [`check`] for somebody who only asks: without git's lock, and with `objects` of a store beside the
/// repository's own, so that nothing is brought there. What is written meanwhile may make the answer wrong.
pub(crate) fn foretell(root: &Path, step: &Advance<'_>, objects: &Path) -> Result<(), CheckoutError> {
    let repo = open(root)?;
    refuse_under_way(&repo)?;
    if repo.git_dir().join("index.lock").exists() {
        return Err(CheckoutError::Busy(LOCKED));
    }
    let own = tempfile::tempdir().map_err(GitError::io("make a directory in", &std::env::temp_dir()))?;
    let index = own.path().join("index");
    Work { filters: repo.filter_drivers()?, repo: &repo, index, objects: Some(objects) }.begin(step)
}

/// Says what would stand against moving the work tree now, and writes nothing in it.
pub(crate) fn check(root: &Path, step: &Advance<'_>) -> Result<(), CheckoutError> {
    with_index(root, |work| work.begin(step))
}

fn with_index<T>(
    root: &Path,
    act: impl FnOnce(&Work<'_>) -> Result<T, CheckoutError>,
) -> Result<T, CheckoutError> {
    let repo = open(root)?;
    refuse_under_way(&repo)?;
    let Some(lock) = IndexLock::take(repo.git_dir())? else { return Err(CheckoutError::Busy(LOCKED)) };
    let index = repo.git_dir().join("offshoot-index");
    let work = Work { filters: repo.filter_drivers()?, repo: &repo, index, objects: None };
    let outcome = act(&work);
    work.remove_index();
    drop(lock);
    outcome
}

fn refuse_under_way(repo: &Repository) -> Result<(), CheckoutError> {
    let begun = UNDER_WAY.iter().find(|(file, _)| repo.git_dir().join(file).exists());
    begun.map_or(Ok(()), |(_, what)| Err(CheckoutError::Busy(what)))
}

/// Removes what a killed landing left beside a work tree's index.
pub(crate) fn clear_leftovers(root: &Path) -> Result<(), GitError> {
    let Ok(repo) = open(root) else { return Ok(()) };
    let lock = repo.git_dir().join("index.lock");
    if !lock.exists() {
        return Ok(());
    }
    if let Some(lock) = IndexLock::take(repo.git_dir())? {
        let index = repo.git_dir().join("offshoot-index");
        let work = Work { filters: Vec::new(), repo: &repo, index, objects: None };
        work.remove_index();
        drop(lock);
    }
    Ok(())
}

fn open(root: &Path) -> Result<Repository, GitError> {
    Repository::discover(root).map_err(|error| match error {
        DiscoverError::Git(error) => error,
        other => GitError::unexpected("rev-parse", other.to_string().as_bytes()),
    })
}

struct Work<'a> {
    repo: &'a Repository,
    filters: Vec<std::ffi::OsString>,
    /// The private copy.
    index: PathBuf,
    /// Where objects are read besides.
    objects: Option<&'a Path>,
}

impl Work<'_> {
    fn git(&self) -> Git<'static> {
        let git = self
            .repo
            .git()
            .work_tree(self.repo.root())
            .without_filters(&self.filters)
            .env("GIT_INDEX_FILE", &self.index)
            .limit(CHECKOUT);
        match self.objects {
            Some(objects) => git.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted_for_path_list(objects)),
            None => git,
        }
    }

    fn remove_index(&self) {
        let _ = fs::remove_file(&self.index);
        let _ = fs::remove_file(self.index.with_extension("lock"));
    }

    fn two_trees(&self, dry: &[&str], step: &Advance<'_>) -> Git<'static> {
        let args = ["read-tree", "-m", "-u"];
        self.git().args(args).args(dry).args([step.old.as_str(), step.new.as_str()])
    }

    /// Copies the index, and refuses what would overwrite a local change.
    fn begin(&self, step: &Advance<'_>) -> Result<(), CheckoutError> {
        let real = self.repo.git_dir().join("index");
        self.remove_index();
        match fs::copy(&real, &self.index) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(GitError::io("copy", &real)(error).into());
            }
            _ => {}
        }
        if step.resumed {
            self.adopt_what_is_written(step)?;
        }
        // Time stamps that changed without the content are no change.
        self.git().args(["update-index", "-q", "--refresh"]).run()?;
        if let Err(GitError::Failed { stderr, .. }) = self.two_trees(&["-n"], step).ok() {
            let mut paths = self.overlap(step)?;
            paths.extend(self.untracked_in_the_way(step)?);
            paths.sort();
            paths.dedup();
            return Err(CheckoutError::LocalChanges(if paths.is_empty() { vec![stderr] } else { paths }));
        }
        let hidden = self.untracked_in_the_way(step)?;
        if !hidden.is_empty() {
            return Err(CheckoutError::LocalChanges(hidden));
        }
        Ok(())
    }

    fn advance(&self, step: &Advance<'_>) -> Result<bool, CheckoutError> {
        self.begin(step)?;
        let real = self.repo.git_dir().join("index");
        self.two_trees(&[], step).ok()?;
        fault::point("land.files");
        fs::rename(&self.index, &real).map_err(GitError::io("replace", &real))?;
        fault::point("land.index");
        let swapped = swap(self.repo, step.branch, Some(step.new), Some(step.old), "offshoot: land")?;
        if !swapped {
            fs::copy(&real, &self.index).map_err(GitError::io("copy", &real))?;
            self.git().args(["read-tree", "-m", "-u", step.new.as_str(), step.old.as_str()]).ok()?;
            fs::rename(&self.index, &real).map_err(GitError::io("replace", &real))?;
        }
        fault::point("land.ref");
        Ok(swapped)
    }

    /// Paths that landing would write and that are not as `old` has them.
    fn overlap(&self, step: &Advance<'_>) -> Result<Vec<String>, GitError> {
        let names = |out: Vec<u8>| -> BTreeSet<Vec<u8>> {
            out.split(|b| *b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
        };
        let diff =
            ["diff-tree", "-r", "-z", "--no-renames", "--name-only", step.old.as_str(), step.new.as_str()];
        let wanted = names(self.git().args(diff).ok()?.stdout);
        let changed =
            ["diff-index", "-z", "--no-renames", "--name-only", "--no-ext-diff", step.old.as_str(), "--"];
        let mut changed = names(self.git().args(changed).ok()?.stdout);
        let untracked = self.git().args(["ls-files", "-z", "--others"]).truncate(64 << 20).ok()?.stdout;
        changed.extend(names(untracked));
        Ok(wanted.intersection(&changed).take(100).map(|name| escape(name)).collect())
    }

    /// Untracked paths where landing would put something new. Git itself overwrites them if they are ignored.
    fn untracked_in_the_way(&self, step: &Advance<'_>) -> Result<Vec<String>, GitError> {
        let added = ["diff-tree", "-r", "-z", "--no-renames", "--name-only", "--diff-filter=A"];
        let added = self.git().args(added).args([step.old.as_str(), step.new.as_str()]).ok()?.stdout;
        let mut there = BTreeSet::new();
        for path in added.split(|b| *b == 0).filter(|path| !path.is_empty()) {
            // From the top, so that no link is followed: the file that stands where a directory of the name should,
            // or what is there under the name itself.
            let parts: Vec<&Path> = Path::new(os(path)).ancestors().collect();
            for part in parts.iter().rev().filter(|part| !part.as_os_str().is_empty()) {
                let Ok(meta) = fs::symlink_metadata(self.repo.root().join(part)) else { break };
                if !meta.is_dir() || part.as_os_str() == os(path) {
                    there.insert((part.as_os_str().as_encoded_bytes().to_vec(), meta.is_dir()));
                    break;
                }
            }
        }
        if there.is_empty() {
            return Ok(Vec::new());
        }
        let index = self.git().args(["ls-files", "-z", "--cached"]).ok()?.stdout;
        let tracked: BTreeSet<&[u8]> = index.split(|b| *b == 0).collect();
        let mut hidden = Vec::new();
        for (path, is_dir) in there.iter().filter(|(path, _)| !tracked.contains(&path[..])) {
            let others = ["ls-files", "-z", "--others", "--"];
            if !is_dir || !self.git().args(others).arg(os(path)).truncate(4096).ok()?.stdout.is_empty() {
                hidden.push(escape(path));
            }
        }
        hidden.truncate(100);
        Ok(hidden)
    }

    /// Files that an earlier attempt has written already are entered into the index as they are, so that they do not
    /// count as local changes.
    fn adopt_what_is_written(&self, step: &Advance<'_>) -> Result<(), GitError> {
        let out = self
            .git()
            .args(["diff-tree", "-r", "-z", "--no-renames", step.old.as_str(), step.new.as_str()])
            .ok()?;
        let mut fields = out.stdout.split(|b| *b == 0);
        let mut entries = Vec::new();
        while let (Some(meta), Some(path)) = (fields.next(), fields.next()) {
            let parts: Vec<&[u8]> = meta.strip_prefix(b":").unwrap_or(meta).split(|b| *b == b' ').collect();
            let [_, mode, _, oid, _] = parts[..] else { continue };
            let file = self.repo.root().join(os(path));
            let there = fs::symlink_metadata(&file).ok();
            let same = match (mode, &there) {
                (b"000000", None) => true,
                (b"100644" | b"100755", Some(meta)) if meta.is_file() => {
                    let hash = self.git().args(["hash-object", "--no-filters", "--"]).arg(&file).line()?;
                    let plain = hash == oid;
                    // Line endings may have been converted on the way out.
                    plain || self.git().arg("hash-object").arg("--").arg(os(path)).line()? == oid
                }
                (b"120000", Some(meta)) if meta.is_symlink() => {
                    let link = fs::read_link(&file).map_err(GitError::io("read", &file))?;
                    let hash = self
                        .git()
                        .args(["hash-object", "--stdin"])
                        .input(link.as_os_str().as_encoded_bytes());
                    hash.line()? == oid
                }
                _ => false,
            };
            if same {
                entries.extend([mode, b" ", oid, b"\t", path, b"\0"].concat());
            }
        }
        self.git().args(["update-index", "-z", "--index-info"]).input(entries).ok()?;
        Ok(())
    }
}

/// Git's `index.lock`, held and marked.
struct IndexLock {
    path: PathBuf,
    /// Also locked, so that a lock whose holder is gone can be told from one that is held.
    _file: File,
}

impl IndexLock {
    /// `None` if somebody else has it.
    fn take(git_dir: &Path) -> Result<Option<Self>, GitError> {
        let path = git_dir.join("index.lock");
        // Written and locked under another name first: an `index.lock` of ours always has its mark.
        let mut file = tempfile::Builder::new()
            .prefix("offshoot-lock-")
            .tempfile_in(git_dir)
            .map_err(GitError::io("make a file in", git_dir))?;
        file.as_file().lock().map_err(GitError::io("lock", &path))?;
        file.write_all(MARK).map_err(GitError::io("write", &path))?;
        match fs::hard_link(file.path(), &path) {
            Ok(()) => {
                let (file, _removed) = file.into_parts();
                Ok(Some(Self { path, _file: file }))
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let file = match File::options().read(true).open(&path) {
                    Ok(file) => file,
                    Err(_) => return Ok(None),
                };
                let mut text = Vec::new();
                (&file).take(100).read_to_end(&mut text).map_err(GitError::io("read", &path))?;
                match file.try_lock() {
                    Ok(()) if text == MARK => Ok(Some(Self { path, _file: file })),
                    Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
                    Err(TryLockError::Error(error)) => Err(GitError::io("lock", &path)(error)),
                }
            }
            Err(error) => Err(GitError::io("make", &path)(error)),
        }
    }
}

impl Drop for IndexLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
