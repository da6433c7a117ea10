//! A project's own object store: a bare repository that belongs to Offshoot.
//!
//! Two object directories: `base/` has what the user's repositories gave (commits that runs start from); it is what
//! sandboxes see, read-only. `objects/` has what runs brought back and what landing made, and borrows from `base/`; no
//! sandbox sees it, so no run reads another's unlanded work. Refs:
//!
//! | ref | keeps |
//! |---|---|
//! | `refs/offshoot/base/<oid>` | a commit given to runs; everything it reaches is in `base/` |
//! | `refs/offshoot/runs/<run>/…` | what a run brought back, see [`crate::import`] |
//! | `refs/offshoot/keep/…` | commits made here that somebody still works on |
//!
//! Invariant: a ref stands only over complete history (up to the `shallow` boundary), so what a killed process
//! leaves is at most unreferenced files. Nothing is removed but by [`Store::drop_run`] and [`Store::gc`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use offshoot_core::fault;

use crate::{
    branch,
    command::{Git, GitError},
    oid::{ObjectFormat, Oid},
    repository::{Person, Repository, read_shallow},
};

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
    format: ObjectFormat,
}

/// Why a commit cannot be given to runs.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Objects are missing in the repository on purpose; fetching them would need its remote and its credentials.
    #[error(
        "the repository is a partial clone: fetch the missing objects first (git fetch --refetch --no-filter)"
    )]
    PartialClone,
    /// The commit is not in the repository.
    #[error("there is no commit {0} in the repository")]
    NoSuchCommit(Oid),
    /// The store was made for another hash function.
    #[error("the repository uses {} objects, its store was made for {}", repository.as_str(), store.as_str())]
    Format {
        /// The repository's.
        repository: ObjectFormat,
        /// The store's.
        store: ObjectFormat,
    },
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// A ref of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ref {
    /// Its full name.
    pub name: String,
    /// The commit.
    pub oid: Oid,
}

/// Packing a large repository's history for the first time takes minutes.
const EXPORT: Duration = Duration::from_secs(3600);

impl Store {
    /// Opens the store in `dir`, or makes it.
    pub fn open(dir: &Path, format: ObjectFormat) -> Result<Self, GitError> {
        for part in
            ["objects/info", "objects/pack", "base/info", "base/pack", "refs/heads", "quarantine", "landing"]
        {
            let part = dir.join(part);
            fs::create_dir_all(&part).map_err(GitError::io("make", &part))?;
        }
        // A sandbox of another uid reads `base` through a mount; whoever is outside stops at `dir`.
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(GitError::io("open up", path))
        };
        for part in ["base", "base/info", "base/pack"] {
            mode(&dir.join(part), 0o755)?;
        }
        mode(dir, 0o700)?;
        write_if_other(&dir.join("objects/info/alternates"), "../base\n")?;
        write_if_other(&dir.join("HEAD"), "ref: refs/heads/none\n")?;
        let config = dir.join("config");
        let wanted = config_text(format);
        match fs::read_to_string(&config) {
            Ok(text) if text.contains("objectformat = sha256") != (format == ObjectFormat::Sha256) => {
                return Err(GitError::unexpected("init", b"the store is of another object format"));
            }
            _ => write_if_other(&config, &wanted)?,
        }
        Ok(Self { dir: dir.to_owned(), format })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its hash function.
    pub fn object_format(&self) -> ObjectFormat {
        self.format
    }

    /// What a sandbox is given, read-only: the objects of all bases.
    pub fn objects_dir(&self) -> PathBuf {
        self.dir.join("base")
    }

    /// Where all that runs brought back is, and by way of it everything else; for git that only reads.
    pub(crate) fn own_objects_dir(&self) -> PathBuf {
        self.dir.join("objects")
    }

    /// The commits at which history is cut off, to be written into each run's own repository.
    pub fn shallow(&self) -> Vec<Oid> {
        read_shallow(&self.dir.join("shallow"))
    }

    /// Brings `commit` and all it reaches into the store, for runs to start from. Reads the user's repository only.
    /// Says whether anything was to be done.
    pub fn export(&self, from: &Repository, commit: &Oid) -> Result<bool, ExportError> {
        if from.object_format() != self.format {
            return Err(ExportError::Format { repository: from.object_format(), store: self.format });
        }
        if self.has_base(commit)? {
            return Ok(false);
        }
        if from.is_partial()? {
            return Err(ExportError::PartialClone);
        }
        self.pack_base(from.git_dir(), &from.objects_dir(), commit, &from.shallow())?;
        Ok(true)
    }

    /// Makes a commit that a run brought back, or that landing made, a base that other runs may start from.
    pub fn offer(&self, commit: &Oid) -> Result<bool, ExportError> {
        if self.has_base(commit)? {
            return Ok(false);
        }
        self.pack_base(&self.dir, &self.dir.join("objects"), commit, &[])?;
        Ok(true)
    }

    fn has_base(&self, commit: &Oid) -> Result<bool, GitError> {
        // Nobody but this store writes its refs, one file each; git is asked only where somebody packed them.
        let file = fs::read_to_string(self.dir.join(base_ref(commit)));
        if file.is_ok_and(|text| text.trim_end() == commit.as_str()) {
            return Ok(true);
        }
        if !self.dir.join("packed-refs").exists() {
            return Ok(false);
        }
        Ok(self.read_ref(&base_ref(commit))?.is_some())
    }

    fn pack_base(
        &self,
        git_dir: &Path,
        objects: &Path,
        commit: &Oid,
        shallow: &[Oid],
    ) -> Result<(), ExportError> {
        let _one_at_a_time = self.lock("export", true)?;
        let _no_gc = self.lock("gc", false)?;
        if self.has_base(commit)? {
            return Ok(());
        }
        let base = self.objects_dir();
        let kind = Git::at(git_dir).args(["cat-file", "-t", commit.as_str()]).run()?;
        if kind.stdout != b"commit\n" {
            return Err(ExportError::NoSuchCommit(commit.clone()));
        }
        let mut wanted = format!("{commit}\n--not\n");
        for (name, _) in self.refs("refs/offshoot/base/")? {
            wanted.push_str(name.rsplit('/').next().unwrap_or_default());
            wanted.push('\n');
        }
        // The new pack is written, under temporary names, in the primary object directory: the store's. The
        // index is renamed last, so git sees all of the pack or nothing.
        Git::at(git_dir)
            .objects(&base, objects)
            .config("core.sharedRepository=0644")
            .config("core.fsync=all")
            // What is packed is taken over as it is. Loose objects are not worth a search for deltas: 50,000 of them
            // cost 52 s with it and 10 s without (two busy cores).
            .config("pack.compression=1")
            .args(["pack-objects", "--revs", "--non-empty", "-q", "--delta-base-offset", "--window=0"])
            .arg(base.join("pack/pack"))
            .input(wanted)
            .limit(EXPORT)
            .ok()?;
        fault::point("export.pack");
        self.extend_shallow(shallow)?;
        self.git().args(["update-ref", &base_ref(commit), commit.as_str()]).ok()?;
        fault::point("export.ref");
        Ok(())
    }

    /// Adds those of `boundary` whose parents the store does not have.
    fn extend_shallow(&self, boundary: &[Oid]) -> Result<(), GitError> {
        if boundary.is_empty() {
            return Ok(());
        }
        let mut all: BTreeSet<Oid> = self.shallow().into_iter().collect();
        let before = all.len();
        for commit in boundary {
            // The raw object: git itself would leave the parents out by the very file written here.
            let raw = self.git().args(["cat-file", "commit", commit.as_str()]).run()?;
            if raw.code != Some(0) {
                continue;
            }
            let mut parents = String::new();
            for line in raw.stdout.split(|b| *b == b'\n').take_while(|line| !line.is_empty()) {
                if let Some(parent) = line.strip_prefix(b"parent ").and_then(Oid::from_bytes) {
                    parents.push_str(parent.as_str());
                    parents.push('\n');
                }
            }
            let found = self.git().args(["cat-file", "--batch-check"]).input(parents).ok()?.stdout;
            if found.split(|b| *b == b'\n').any(|line| line.ends_with(b" missing")) {
                all.insert(commit.clone());
            }
        }
        if all.len() > before {
            let text: String = all.iter().map(|oid| format!("{oid}\n")).collect();
            write_atomically(&self.dir.join("shallow"), text.as_bytes())?;
        }
        Ok(())
    }

    /// Forgets what a run brought back: the caller has seen to it that it is landed, or that somebody agreed. The
    /// refs that were removed are the answer; their objects stay until [`Store::gc`].
    pub fn drop_run(&self, run: &str) -> Result<Vec<Ref>, GitError> {
        let dropped = self.run_refs(run)?;
        let commands: String = dropped.iter().map(|r| format!("delete {} {}\n", r.name, r.oid)).collect();
        self.git().args(["update-ref", "--stdin"]).input(commands).ok()?;
        Ok(dropped)
    }

    /// The refs of one run.
    pub fn run_refs(&self, run: &str) -> Result<Vec<Ref>, GitError> {
        let refs = self.refs(&format!("{}/", run_ref(run)?))?;
        Ok(refs.into_iter().map(|(name, oid)| Ref { name, oid }).collect())
    }

    /// All runs that brought something back.
    pub fn runs(&self) -> Result<Vec<String>, GitError> {
        let refs = self.refs("refs/offshoot/runs/")?;
        let run =
            |name: &String| Some(name.strip_prefix("refs/offshoot/runs/")?.split('/').next()?.to_owned());
        let runs: BTreeSet<_> = refs.keys().filter_map(run).collect();
        Ok(runs.into_iter().collect())
    }

    /// Keeps a commit made here (a merge to be tested, say) under a name; `None` lets it go.
    pub fn keep(&self, name: &str, commit: Option<&Oid>) -> Result<(), GitError> {
        branch::check(name).map_err(|bad| GitError::unexpected("update-ref", bad.to_string().as_bytes()))?;
        let name = format!("refs/offshoot/keep/{name}");
        match commit {
            Some(commit) => self.git().args(["update-ref", &name, commit.as_str()]).ok()?,
            None => self.git().args(["update-ref", "-d", &name]).ok()?,
        };
        Ok(())
    }

    /// Makes a commit of a tree that is in the store.
    pub fn commit_tree(
        &self,
        tree: &Oid,
        parents: &[Oid],
        message: &str,
        author: &Person,
        committer: &Person,
    ) -> Result<Oid, GitError> {
        let mut git = self.git().args(["commit-tree", tree.as_str()]);
        for parent in parents {
            git = git.args(["-p", parent.as_str()]);
        }
        let line = git
            .env("GIT_AUTHOR_NAME", &author.name)
            .env("GIT_AUTHOR_EMAIL", &author.email)
            .env("GIT_COMMITTER_NAME", &committer.name)
            .env("GIT_COMMITTER_EMAIL", &committer.email)
            .input(message)
            .line()?;
        Oid::from_bytes(&line).ok_or_else(|| GitError::unexpected("commit-tree", &line))
    }

    /// Removes what no ref keeps and what killed processes left, and joins packs. Waits for exports and imports to end.
    /// Sandboxes may go on reading.
    pub fn gc(&self) -> Result<(), GitError> {
        let _export = self.lock("export", true)?;
        let _alone = self.lock("gc", true)?;
        for dir in ["base/pack", "objects/pack", "quarantine"] {
            let dir = self.dir.join(dir);
            for entry in fs::read_dir(&dir).map_err(GitError::io("list", &dir))?.flatten() {
                let temporary = entry.file_name().as_encoded_bytes().starts_with(b"tmp_");
                let path = entry.path();
                if dir.ends_with("quarantine") {
                    let _ = fs::remove_dir_all(path);
                } else if temporary {
                    let _ = fs::remove_file(path);
                }
            }
        }
        // Bases are only joined, never thinned out: a layer may stand on any of them.
        let repack = |git: Git<'static>| git.limit(EXPORT).config("core.sharedRepository=0644");
        repack(self.git())
            .env("GIT_OBJECT_DIRECTORY", self.objects_dir())
            .args(["repack", "-q", "-d", "--geometric=2"])
            .ok()?;
        // A landing that was cut short still needs its commit, which no ref keeps.
        let landing = self.dir.join("landing");
        if fs::read_dir(&landing).map_err(GitError::io("list", &landing))?.next().is_some() {
            return Ok(());
        }
        repack(self.git()).args(["repack", "-q", "-a", "-d", "-l"]).ok()?;
        repack(self.git()).args(["prune", "--expire=now"]).ok()?;
        Ok(())
    }

    /// A run of git in the store.
    pub(crate) fn git(&self) -> Git<'static> {
        Git::at(&self.dir)
    }

    /// The refs whose names start with `prefix` (a folder with its slash).
    pub(crate) fn refs(&self, prefix: &str) -> Result<BTreeMap<String, Oid>, GitError> {
        let out = self.git().args(["for-each-ref", "--format=%(objectname) %(refname)", prefix]).ok()?.stdout;
        let entry = |line: &[u8]| {
            let space = line.iter().position(|b| *b == b' ')?;
            Some((String::from_utf8(line[space + 1..].to_vec()).ok()?, Oid::from_bytes(&line[..space])?))
        };
        Ok(out.split(|b| *b == b'\n').filter_map(entry).collect())
    }

    pub(crate) fn read_ref(&self, name: &str) -> Result<Option<Oid>, GitError> {
        let out = self.git().args(["rev-parse", "--verify", "-q", name]).run()?;
        Ok(Oid::from_bytes(out.stdout.trim_ascii_end()))
    }

    /// Whether the store has this commit.
    pub fn has_commit(&self, commit: &Oid) -> Result<bool, GitError> {
        Ok(self.git().args(["cat-file", "-t", commit.as_str()]).run()?.stdout == b"commit\n")
    }

    /// Holds the named lock as long as the answer lives; the kernel lets go of it with the process.
    pub(crate) fn lock(&self, name: &'static str, alone: bool) -> Result<File, GitError> {
        let path = self.dir.join(format!("{name}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(GitError::io("open", &path))?;
        if alone { file.lock() } else { file.lock_shared() }.map_err(GitError::io("lock", &path))?;
        Ok(file)
    }
}

fn base_ref(commit: &Oid) -> String {
    format!("refs/offshoot/base/{commit}")
}

/// The folder of a run's refs, without a slash at its end.
pub(crate) fn run_ref(run: &str) -> Result<String, GitError> {
    if run.contains('/') || branch::check(run).is_err() {
        return Err(GitError::unexpected("update-ref", format!("{run:?} is no run's name").as_bytes()));
    }
    Ok(format!("refs/offshoot/runs/{run}"))
}

fn config_text(format: ObjectFormat) -> String {
    let (version, extension) = match format {
        ObjectFormat::Sha1 => (0, ""),
        ObjectFormat::Sha256 => (1, "[extensions]\n\tobjectformat = sha256\n"),
    };
    format!(
        "[core]\n\trepositoryformatversion = {version}\n\tbare = true\n\tfilemode = true\n\tlogAllRefUpdates = false\n\
         \thooksPath = /dev/null\n\tfsync = all\n{extension}[gc]\n\tauto = 0\n[transfer]\n\tfsckObjects = true\n\
         [uploadpack]\n\tallowAnySHA1InWant = true\n"
    )
}

fn write_if_other(path: &Path, text: &str) -> Result<(), GitError> {
    if fs::read(path).is_ok_and(|now| now == text.as_bytes()) {
        return Ok(());
    }
    write_atomically(path, text.as_bytes())
}

/// Replaces a file: after a crash it has its old content or the new.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), GitError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(GitError::io("write", path))
}
