//! What a run brings back: a bundle, written inside by [`crate::inside::bundle`], which is hostile input.
//!
//! The header is read here, byte by byte, within limits; the pack is streamed into `git index-pack --strict` in a
//! quarantine directory of its own. Only when every object has passed fsck, all history is complete and the sizes are
//! within the limits do the objects move to the store and the refs appear, in one transaction. A failed import leaves
//! nothing. Refs:
//!
//! | in the bundle | in the store, below `refs/offshoot/runs/<run>/` |
//! |---|---|
//! | `HEAD` | `head` |
//! | `refs/offshoot/checkpoints/<n>` | `checkpoints/<n>` |
//! | `refs/offshoot/elsewhere` | `elsewhere`: where HEAD was when it had left the task's branch |
//! | `refs/heads/<name>` | `branches/<name>`: the run's other branches |
//! | `refs/stash` | `stash` |
//! | (a branch of an earlier import whose name is in the way) | `earlier/<oid>` |

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::Path,
    time::Duration,
};

use offshoot_core::fault;

use crate::{
    branch,
    command::{Git, GitError},
    oid::{ObjectFormat, Oid},
    path::clean,
    store::{Store, run_ref},
};

/// The most that one import may bring.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Size of the bundle.
    pub bytes: u64,
    /// Seconds that git may work on it.
    pub secs: u64,
    /// Refs in it.
    pub refs: usize,
    /// Objects in its pack.
    pub objects: u32,
    /// Size of one file in it; it will be written to the user's disk when landed.
    pub file_bytes: u64,
    /// Size of all its objects unpacked.
    pub unpacked_bytes: u64,
    /// Address space of the process that unpacks it.
    pub memory: u64,
}

impl Default for Limits {
    /// Far above an afternoon's work of an agent, far below what hurts the machine.
    fn default() -> Self {
        Self {
            bytes: 2 << 30,
            secs: 300,
            refs: 4096,
            objects: 1_000_000,
            file_bytes: 1 << 30,
            unpacked_bytes: 16 << 30,
            memory: 8 << 30,
        }
    }
}

/// What an import brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The tip of the task's branch.
    pub head: Oid,
    /// Checkpoints by number.
    pub checkpoints: Vec<(u32, Oid)>,
    /// The run's other branches.
    pub branches: Vec<(String, Oid)>,
    /// Where HEAD was when it had left the task's branch.
    pub elsewhere: Option<Oid>,
    /// The latest stash.
    pub stash: Option<Oid>,
    /// New objects.
    pub objects: u32,
    /// Refs of the bundle that have no place in the store.
    pub ignored: usize,
    /// `head` shares no history with anything known before.
    pub unrelated: bool,
}

/// Why a bundle was refused. The store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is not a bundle as the run was asked to write it.
    #[error("this is no bundle: {0}")]
    NotABundle(&'static str),
    /// A limit was exceeded.
    #[error("the bundle has too many {what}: more than {limit}")]
    TooBig {
        /// Bytes, objects, refs …
        what: &'static str,
        /// How many may be.
        limit: u64,
    },
    /// It builds on a commit that the store does not have.
    #[error("the bundle builds on {0}, which is not known here")]
    UnknownBase(Oid),
    /// Git's checks refused an object, or something it refers to is missing.
    #[error("git refused what the bundle has: {0}")]
    Refused(String),
    /// The bundle could not be read.
    #[error("the bundle cannot be read")]
    Read(#[source] std::io::Error),
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

struct Header {
    prerequisites: Vec<Oid>,
    refs: Vec<(String, Oid)>,
}

impl Store {
    /// Imports the bundle in `bundle` (a regular file, read from where it stands) as the result of `run`. May be
    /// called again for a later state of the same run.
    pub fn import(&self, bundle: &File, run: &str, limits: &Limits) -> Result<Imported, ImportError> {
        let folder = run_ref(run)?;
        let meta = bundle.metadata().map_err(ImportError::Read)?;
        if !meta.is_file() {
            return Err(ImportError::NotABundle("it is not a regular file"));
        }
        if meta.len() > limits.bytes {
            return Err(ImportError::TooBig { what: "bytes", limit: limits.bytes });
        }
        // Whoever wrote it may still change it: it is read once, in order, and what was checked is what is used.
        let mut reader = BufReader::new(bundle.take(limits.bytes));
        let header = read_header(&mut reader, self.object_format(), limits.refs)?;
        self.check_prerequisites(&header.prerequisites)?;
        let _no_gc = self.lock("gc", false)?;
        let quarantine = self.dir().join("quarantine");
        let quarantine =
            tempfile::Builder::new().prefix(run).tempdir_in(&quarantine).map_err(ImportError::Read)?;
        let objects = self.read_pack(reader, quarantine.path(), limits)?;
        fault::point("import.quarantine");
        let mut imported = sort_refs(&header.refs)?;
        imported.objects = objects;
        self.check_complete(&header.refs, quarantine.path(), limits)?;
        imported.unrelated = !self.shares_history(&imported.head, quarantine.path())?;
        self.promote(quarantine.path())?;
        fault::point("import.objects");
        self.write_refs(&folder, &imported)?;
        Ok(imported)
    }

    fn check_prerequisites(&self, prerequisites: &[Oid]) -> Result<(), ImportError> {
        let asked: String = prerequisites.iter().map(|oid| format!("{oid}\n")).collect();
        let found = self.git().args(["cat-file", "--batch-check=%(objecttype)"]).input(asked).ok()?.stdout;
        for (oid, line) in prerequisites.iter().zip(found.split(|b| *b == b'\n')) {
            if line != b"commit" {
                return Err(ImportError::UnknownBase(oid.clone()));
            }
        }
        Ok(())
    }

    fn quarantined(&self, quarantine: &Path, limits: &Limits) -> Git<'static> {
        self.git()
            .objects(quarantine, &self.dir().join("objects"))
            .limit(Duration::from_secs(limits.secs))
            .memory(limits.memory)
            // Address space is limited, so packs are mapped in small windows.
            .config("core.packedGitWindowSize=32m")
            .config("core.packedGitLimit=512m")
            .config("core.bigFileThreshold=32m")
            .config("pack.threads=2")
    }

    /// Unpacks and checks; says how many objects there were.
    fn read_pack(
        &self,
        mut reader: impl Read + Send,
        quarantine: &Path,
        limits: &Limits,
    ) -> Result<u32, ImportError> {
        let mut head = [0; 12];
        let mut got = 0;
        while got < head.len() {
            match reader.read(&mut head[got..]).map_err(ImportError::Read)? {
                0 => break,
                n => got += n,
            }
        }
        if got == 0 {
            return Ok(0);
        }
        let objects = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        if got < head.len() || &head[..4] != b"PACK" {
            return Err(ImportError::NotABundle("its pack does not start as one"));
        }
        if objects > limits.objects {
            return Err(ImportError::TooBig { what: "objects", limit: limits.objects.into() });
        }
        if objects == 0 {
            return Ok(0);
        }
        let mut pack = head.chain(reader);
        let result = self
            .quarantined(quarantine, limits)
            .args(["index-pack", "--stdin", "--fix-thin", "--strict"])
            .arg(format!("--max-input-size={}", limits.bytes))
            .stream(&mut pack)
            .ok();
        refused(result)?;
        self.check_sizes(quarantine, limits)?;
        Ok(objects)
    }

    /// What the pack unpacks to. (Sizes are in the objects' headers; nothing is unpacked to learn them.)
    fn check_sizes(&self, quarantine: &Path, limits: &Limits) -> Result<(), ImportError> {
        let dir = quarantine.join("pack");
        let mut names = String::new();
        for entry in fs::read_dir(&dir).map_err(ImportError::Read)?.flatten() {
            if entry.path().extension().is_some_and(|ext| ext == "idx") {
                let index = fs::read(entry.path()).map_err(ImportError::Read)?;
                let list = self
                    .git()
                    .arg("show-index")
                    .arg(format!("--object-format={}", self.object_format().as_str()));
                for line in list.input(index).ok()?.stdout.split(|b| *b == b'\n') {
                    if let Some(oid) = line.split(|b| *b == b' ').nth(1).and_then(Oid::from_bytes) {
                        let _ = writeln!(names, "{oid}");
                    }
                }
            }
        }
        let check = ["cat-file", "--batch-check=%(objectsize)", "--buffer"];
        let sizes = self.quarantined(quarantine, limits).args(check).input(names).ok()?.stdout;
        let mut total = 0u64;
        for line in sizes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let size = std::str::from_utf8(line).ok().and_then(|text| text.parse::<u64>().ok());
            let size = size.ok_or_else(|| GitError::unexpected("cat-file", line))?;
            if size > limits.file_bytes {
                return Err(ImportError::TooBig { what: "bytes in one file", limit: limits.file_bytes });
            }
            total = total.saturating_add(size);
        }
        if total > limits.unpacked_bytes {
            return Err(ImportError::TooBig { what: "unpacked bytes", limit: limits.unpacked_bytes });
        }
        Ok(())
    }

    /// Every ref is a commit, and all that they reach is there.
    fn check_complete(
        &self,
        refs: &[(String, Oid)],
        quarantine: &Path,
        limits: &Limits,
    ) -> Result<(), ImportError> {
        let names: String = refs.iter().map(|(_, oid)| format!("{oid}\n")).collect();
        let check = ["cat-file", "--batch-check=%(objecttype)"];
        let kinds = self.quarantined(quarantine, limits).args(check).input(names.clone()).ok()?.stdout;
        if let Some(line) = kinds.split(|b| *b == b'\n').find(|line| !line.is_empty() && *line != b"commit") {
            return Err(ImportError::Refused(format!("a ref is no commit ({})", clean(line))));
        }
        let walk = ["rev-list", "--objects", "--stdin", "--not", "--all", "--quiet"];
        let result = self.quarantined(quarantine, limits).args(walk).input(names).ok();
        refused(result)
    }

    fn shares_history(&self, head: &Oid, quarantine: &Path) -> Result<bool, ImportError> {
        let bases = self.refs("refs/offshoot/base/")?;
        if bases.is_empty() {
            return Ok(false);
        }
        if bases.values().any(|base| base == head) {
            return Ok(true);
        }
        // `--boundary` names a commit marked `-` where the walk meets known history.
        let asked: String = std::iter::once(format!("{head}\n"))
            .chain(bases.values().map(|oid| format!("^{oid}\n")))
            .collect();
        let args = ["rev-list", "--boundary", "--stdin"];
        let git = self.git().objects(quarantine, &self.dir().join("objects"));
        let out = git.args(args).input(asked).truncate(64 << 20).ok()?.stdout;
        // Empty: head itself is known history.
        Ok(out.is_empty() || out.split(|b| *b == b'\n').any(|line| line.starts_with(b"-")))
    }

    /// Moves what the quarantine has to the store, each pack's index last.
    fn promote(&self, quarantine: &Path) -> Result<(), ImportError> {
        let from = quarantine.join("pack");
        let Ok(entries) = fs::read_dir(&from) else { return Ok(()) };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort_by_key(|name| Path::new(name).extension().is_some_and(|ext| ext == "idx"));
        let to = self.dir().join("objects/pack");
        for name in names {
            fs::rename(from.join(&name), to.join(&name)).map_err(GitError::io("move a pack to", &to))?;
        }
        File::open(&to).and_then(|dir| dir.sync_all()).map_err(GitError::io("sync", &to))?;
        Ok(())
    }

    fn write_refs(&self, folder: &str, imported: &Imported) -> Result<(), ImportError> {
        let mut wanted = BTreeMap::from([("head".to_owned(), &imported.head)]);
        wanted.extend(imported.checkpoints.iter().map(|(n, oid)| (format!("checkpoints/{n}"), oid)));
        wanted.extend(imported.branches.iter().map(|(name, oid)| (format!("branches/{name}"), oid)));
        wanted.extend(imported.elsewhere.iter().map(|oid| ("elsewhere".to_owned(), oid)));
        wanted.extend(imported.stash.iter().map(|oid| ("stash".to_owned(), oid)));
        let mut commands = String::from("start\n");
        // A branch of an earlier import that is a folder now, or the other way round, gives way.
        for (name, oid) in self.refs(&format!("{folder}/branches/"))? {
            let rest = &name[folder.len() + 1..];
            if !wanted.contains_key(rest) && wanted.keys().any(|new| !branch::can_coexist(new, rest)) {
                let _ = write!(commands, "delete {name} {oid}\nupdate {folder}/earlier/{oid} {oid}\n");
            }
        }
        if commands.len() > 6 {
            // Git does not delete and create clashing names in one transaction.
            commands.push_str("prepare\ncommit\n");
            self.git().args(["update-ref", "--stdin"]).input(commands).ok()?;
            commands = String::from("start\n");
        }
        for (name, oid) in wanted {
            let _ = writeln!(commands, "update {folder}/{name} {oid}");
        }
        commands.push_str("prepare\ncommit\n");
        self.git().args(["update-ref", "--stdin"]).input(commands).ok()?;
        Ok(())
    }
}

/// A failure of git on hostile objects is a refusal; running out of time or memory is one too.
fn refused<T>(result: Result<T, GitError>) -> Result<(), ImportError> {
    match result {
        Ok(_) => Ok(()),
        Err(GitError::Failed { stderr, .. }) => Err(ImportError::Refused(stderr)),
        Err(GitError::TimedOut { limit, .. }) => {
            Err(ImportError::TooBig { what: "seconds of work", limit: limit.as_secs() })
        }
        Err(error) => Err(error.into()),
    }
}

/// For `fuzz/`: how many prerequisites and refs the header of these bytes has, if it is one.
#[cfg(fuzzing)]
#[doc(hidden)]
#[must_use]
pub fn header(mut bytes: &[u8], max_refs: usize) -> Option<(usize, usize)> {
    let header = read_header(&mut bytes, ObjectFormat::Sha1, max_refs).ok()?;
    let _ = sort_refs(&header.refs);
    Some((header.prerequisites.len(), header.refs.len()))
}

/// gitformat-bundle(5), versions 2 and 3.
fn read_header(
    reader: &mut impl BufRead,
    format: ObjectFormat,
    max_refs: usize,
) -> Result<Header, ImportError> {
    let mut header = Header { prerequisites: Vec::new(), refs: Vec::new() };
    let first = read_line(reader)?;
    let mut found = ObjectFormat::Sha1;
    if first != b"# v2 git bundle" && first != b"# v3 git bundle" {
        return Err(ImportError::NotABundle("its first line is another"));
    }
    loop {
        let line = read_line(reader)?;
        match line.first() {
            None => break,
            Some(b'@') => match &line[..] {
                b"@object-format=sha1" => found = ObjectFormat::Sha1,
                b"@object-format=sha256" => found = ObjectFormat::Sha256,
                _ => return Err(ImportError::NotABundle("it needs something unknown of its reader")),
            },
            Some(b'-') => {
                let oid = line[1..].split(|b| *b == b' ').next().and_then(Oid::from_bytes);
                header
                    .prerequisites
                    .push(oid.ok_or(ImportError::NotABundle("a prerequisite is no object name"))?);
            }
            Some(_) => {
                let mut parts = line.splitn(2, |b| *b == b' ');
                let oid = parts.next().and_then(Oid::from_bytes);
                let oid = oid.ok_or(ImportError::NotABundle("a ref has no object name"))?;
                // A name that is no text finds no place anyway.
                header
                    .refs
                    .push((String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned(), oid));
            }
        }
        if header.refs.len() > max_refs || header.prerequisites.len() > max_refs {
            return Err(ImportError::TooBig { what: "refs", limit: max_refs as u64 });
        }
    }
    let names = header.prerequisites.iter().chain(header.refs.iter().map(|(_, oid)| oid));
    if found != format || names.into_iter().any(|oid| oid.format() != format) {
        return Err(ImportError::NotABundle("it is of another object format"));
    }
    Ok(header)
}

/// One line without its newline, of at most 4 KiB.
fn read_line(reader: &mut impl BufRead) -> Result<Vec<u8>, ImportError> {
    let mut line = Vec::new();
    reader.by_ref().take(4096).read_until(b'\n', &mut line).map_err(ImportError::Read)?;
    if line.pop() == Some(b'\n') {
        Ok(line)
    } else {
        Err(ImportError::NotABundle("a line of its header does not end"))
    }
}

fn sort_refs(refs: &[(String, Oid)]) -> Result<Imported, ImportError> {
    let (mut head, mut elsewhere, mut stash, mut ignored) = (None, None, None, 0);
    let mut checkpoints = BTreeMap::new();
    let mut branches: BTreeMap<String, Oid> = BTreeMap::new();
    for (name, oid) in refs {
        let oid = oid.clone();
        if name == "HEAD" {
            head = Some(oid);
        } else if name == "refs/offshoot/elsewhere" {
            elsewhere = Some(oid);
        } else if name == "refs/stash" {
            stash = Some(oid);
        } else if let Some(n) =
            name.strip_prefix("refs/offshoot/checkpoints/").and_then(|n| n.parse::<u32>().ok())
        {
            checkpoints.insert(n, oid);
        } else if let Some(name) = name.strip_prefix("refs/heads/").filter(|name| branch::check(name).is_ok())
        {
            if branches.keys().all(|other| branch::can_coexist(other, name)) {
                branches.insert(name.to_owned(), oid);
            } else {
                ignored += 1;
            }
        } else {
            ignored += 1;
        }
    }
    Ok(Imported {
        head: head.ok_or(ImportError::NotABundle("it has no HEAD"))?,
        checkpoints: checkpoints.into_iter().collect(),
        branches: branches.into_iter().collect(),
        elsewhere,
        stash,
        objects: 0,
        ignored,
        unrelated: false,
    })
}
