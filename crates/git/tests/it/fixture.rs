//! Repositories to test on, and a workspace that is a plain directory instead of a sandbox.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{Seek, Write},
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use offshoot_git::{
    import::{ImportError, Imported, Limits},
    inside::{self, Base, Checkpointed, Finished},
    oid::{ObjectFormat, Oid},
    repository::{Person, Repository},
    store::Store,
};

pub const BRANCH: &str = "offshoot/fix";

pub fn person() -> Person {
    Person { name: "Ada \"L\" \\ X".into(), email: "ada@example.org".into() }
}

pub struct Fixture {
    pub tmp: tempfile::TempDir,
    pub repo: PathBuf,
}

impl Fixture {
    /// A user's repository with one commit on `main`.
    pub fn new() -> Self {
        Self::with(ObjectFormat::Sha1)
    }

    pub fn with(format: ObjectFormat) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let repo = tmp.path().join("user repo");
        fs::create_dir(&repo).unwrap();
        let it = Self { tmp, repo };
        it.git(&["init", "-q", "-b", "main", "--object-format", format.as_str()]);
        it.git(&["config", "user.name", "User"]);
        it.git(&["config", "user.email", "user@example.org"]);
        it.write("a.txt", "one\ntwo\nthree\n");
        it.write("src/lib.rs", "pub fn f() {}\n");
        symlink("a.txt", it.repo.join("link")).unwrap();
        it.commit("first");
        it
    }

    pub fn git(&self, args: &[&str]) -> String {
        git(&self.repo, args)
    }

    pub fn write(&self, path: &str, text: &str) {
        write(&self.repo, path, text);
    }

    pub fn commit(&self, message: &str) -> Oid {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
        self.git(&["rev-parse", "HEAD"]).parse().unwrap()
    }

    pub fn repository(&self) -> Repository {
        Repository::discover(&self.repo).unwrap()
    }

    pub fn store(&self) -> Store {
        Store::open(&self.tmp.path().join("store.git"), self.repository().object_format()).unwrap()
    }

    /// A workspace on the repository's HEAD.
    pub fn workspace(&self, name: &str) -> Workspace {
        let (repo, store) = (self.repository(), self.store());
        let commit = repo.head().unwrap().commit.unwrap();
        store.export(&repo, &commit).unwrap();
        Workspace::new(&self.tmp.path().join(name), &store, &commit)
    }
}

/// What stands for a sandbox's workspace.
pub struct Workspace {
    pub dir: PathBuf,
    pub base: Oid,
    pub store: Store,
}

impl Workspace {
    pub fn new(dir: &Path, store: &Store, commit: &Oid) -> Self {
        fs::create_dir(dir).unwrap();
        let it = Self { dir: dir.into(), base: commit.clone(), store: store.clone() };
        it.script(&inside::base_checkout(&it.base_of(commit)));
        it.start(commit);
        it
    }

    pub fn base_of(&self, commit: &Oid) -> Base {
        Base {
            commit: commit.clone(),
            branch: Some("main".into()),
            objects: self.store.objects_dir().to_str().unwrap().into(),
            person: person(),
            shallow: self.store.shallow(),
        }
    }

    pub fn start(&self, commit: &Oid) {
        for (path, bytes) in inside::run_files(BRANCH, commit).unwrap() {
            let path = self.dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    pub fn git(&self, args: &[&str]) -> String {
        git(&self.dir, args)
    }

    pub fn write(&self, path: &str, text: &str) {
        write(&self.dir, path, text);
    }

    pub fn try_script(&self, argv: &[String]) -> Result<Vec<u8>, String> {
        let mut command = Command::new(&argv[0]);
        command
            .args(&argv[1..])
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", "/nonexistent");
        let out = command.output().unwrap();
        if out.status.success() {
            Ok(out.stdout)
        } else {
            Err(String::from_utf8_lossy(&out.stderr).into_owned())
        }
    }

    pub fn script(&self, argv: &[String]) -> Vec<u8> {
        self.try_script(argv).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn checkpoint(&self, n: u32) -> Checkpointed {
        Checkpointed::read(&self.script(&inside::checkpoint(n, &format!("step {n}")))).unwrap()
    }

    pub fn finish(&self) -> Finished {
        Finished::read(&self.script(&inside::finish(BRANCH, &self.base, &person(), "what was left", true)))
            .unwrap()
    }

    pub fn bundle(&self) -> Vec<u8> {
        self.script(&inside::bundle(self.base.format(), &self.base, BRANCH))
    }

    pub fn import(&self, run: &str) -> Imported {
        import(&self.store, &self.bundle(), run, &Limits::default()).unwrap()
    }
}

pub fn import(store: &Store, bundle: &[u8], run: &str, limits: &Limits) -> Result<Imported, ImportError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bundle).unwrap();
    file.rewind().unwrap();
    store.import(&file, run, limits)
}

pub fn git(dir: &Path, args: &[impl AsRef<OsStr>]) -> String {
    try_git(dir, args).unwrap_or_else(|error| panic!("{error}"))
}

pub fn try_git(dir: &Path, args: &[impl AsRef<OsStr>]) -> Result<String, String> {
    let out = git_command(dir).args(args).output().unwrap();
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim_end().to_owned())
}

pub fn git_command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.args(["-c", "protocol.file.allow=always"]).current_dir(dir);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/nonexistent");
    for (name, value) in [("NAME", "Agent"), ("EMAIL", "agent@example.org")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    command
}

pub fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Every file below `dir` with its mode and content (links: where they point), but for `except`.
pub fn snapshot(dir: &Path, except: &[&str]) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_owned();
            if except.iter().any(|part| name.starts_with(part)) {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_dir() {
                dirs.push(path);
                Vec::new()
            } else if meta.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            all.insert(name, (meta.mode(), content));
        }
    }
    all
}
