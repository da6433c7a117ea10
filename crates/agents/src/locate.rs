//! Where an agent is installed, and what of the file system it needs to run. Reads the file system, starts nothing.
//!
//! Agents are installed in many ways: a native binary, a node package behind a link, a script of a Python virtual
//! environment, a shim. What comes out is the real program and the smallest set of directories that make it run,
//! to be bound read-only at the same paths.
//!
//! Invariant: no directory comes out that is, or contains, the user's home, a directory of settings or credentials,
//! or the root. Where the natural directory would, only the file itself is given.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// Where an agent is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Located {
    /// What to execute.
    pub program: PathBuf,
    /// What has to be visible read-only, at the same path; nothing below the system directories.
    pub binds: Vec<PathBuf>,
    /// Directories to put on the `PATH`, the first first.
    pub path_dirs: Vec<PathBuf>,
}

/// Why an agent was not found.
#[derive(Debug, Error)]
pub enum LocateError {
    /// No such program.
    #[error("`{program}` is not on the PATH")]
    NotFound {
        /// What was looked for.
        program: String,
    },
    /// A file could not be read.
    #[error("cannot read {path:?}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A shim whose target is not known.
    #[error("{path:?} is a shim of {tool}, and what it stands for could not be found out")]
    Shim {
        /// Which.
        path: PathBuf,
        /// Whose.
        tool: &'static str,
    },
    /// It is in a place that is never shown to agents.
    #[error("{path:?} is in a directory of credentials or settings and will not be shown to an agent")]
    Forbidden {
        /// Where.
        path: PathBuf,
    },
    /// Interpreters of interpreters without end.
    #[error("{path:?} has too many interpreters")]
    TooDeep {
        /// Where it was given up.
        path: PathBuf,
    },
}

/// Always there inside.
const SYSTEM: [&str; 5] = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];
/// In a home: never shown, and nothing in them.
const CREDENTIALS: [&str; 12] = [
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".netrc",
    ".password-store",
    ".config/gh",
    ".config/gcloud",
    ".mozilla",
    ".git-credentials",
];
/// In a home: not shown as a whole, but programs do live in them.
const SETTINGS: [&str; 9] =
    [".config", ".local", ".local/share", ".local/state", ".cache", ".claude", ".codex", ".gemini", ".npm"];
/// A script's interpreter's interpreter; the longest seen is script, env, python, base python.
const DEPTH: usize = 8;

/// Finds a program on a `PATH` and what it needs. `home` is the user's.
pub fn locate(program: &str, path: &OsStr, home: &Path) -> Result<Located, LocateError> {
    let home = home.canonicalize().unwrap_or_else(|_| home.to_owned());
    let mut search = Search { path, home, binds: BTreeSet::new(), path_dirs: Vec::new() };
    let program = search.program(program, 0)?;
    let mut binds: Vec<PathBuf> = Vec::new();
    for bind in search.binds {
        // Sorted, so what contains others comes before them.
        if !binds.iter().any(|outer| bind.starts_with(outer)) {
            binds.push(bind);
        }
    }
    Ok(Located { program, binds, path_dirs: search.path_dirs })
}

struct Search<'a> {
    path: &'a OsStr,
    home: PathBuf,
    binds: BTreeSet<PathBuf>,
    path_dirs: Vec<PathBuf>,
}

impl Search<'_> {
    /// Finds a program by name, and everything it needs; returns what to execute.
    fn program(&mut self, name: &str, depth: usize) -> Result<PathBuf, LocateError> {
        let found = self.find(name)?;
        let found = self.through_shim(found, name)?;
        self.file(&found, depth)
    }

    fn find(&self, name: &str) -> Result<PathBuf, LocateError> {
        if name.contains('/') {
            return Ok(PathBuf::from(name));
        }
        std::env::split_paths(self.path)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join(name))
            .find(|candidate| is_executable(candidate))
            .ok_or_else(|| LocateError::NotFound { program: name.to_owned() })
    }

    /// pyenv and asdf put a script in the place of each program, which asks them which one is meant.
    fn through_shim(&self, found: PathBuf, name: &str) -> Result<PathBuf, LocateError> {
        let real = found.canonicalize().unwrap_or_else(|_| found.clone());
        let file = real.file_name().and_then(OsStr::to_str).unwrap_or_default();
        match file {
            "volta-shim" => return Err(LocateError::Shim { path: found, tool: "volta" }),
            "mise" if name != "mise" => return Err(LocateError::Shim { path: found, tool: "mise" }),
            _ => {}
        }
        if found.parent().and_then(Path::file_name) != Some(OsStr::new("shims")) {
            return Ok(found);
        }
        let head = head(&real)?;
        if head.contains("pyenv\" exec") || head.contains("pyenv exec") {
            let root = found.ancestors().nth(2).unwrap_or(Path::new("/"));
            return pyenv(root, name).ok_or(LocateError::Shim { path: found, tool: "pyenv" });
        }
        if head.contains("asdf exec") {
            return Err(LocateError::Shim { path: found, tool: "asdf" });
        }
        Ok(found)
    }

    /// A file that is to be executed.
    fn file(&mut self, found: &Path, depth: usize) -> Result<PathBuf, LocateError> {
        if depth > DEPTH {
            return Err(LocateError::TooDeep { path: found.to_owned() });
        }
        if let Some(python) = self.in_venv(found, depth)? {
            return Ok(python);
        }
        let real =
            found.canonicalize().map_err(|source| LocateError::Read { path: found.to_owned(), source })?;
        self.bind(root_of(&real, depth > 0), &real)?;
        self.interpreter(&real, depth)?;
        Ok(real)
    }

    /// A virtual environment knows itself by the path it is started by, so its links are not followed.
    fn in_venv(&mut self, found: &Path, depth: usize) -> Result<Option<PathBuf>, LocateError> {
        for candidate in links(found) {
            let Some(venv) = candidate.parent().and_then(Path::parent) else { continue };
            let Ok(config) = std::fs::read_to_string(venv.join("pyvenv.cfg")) else { continue };
            self.bind(venv.to_owned(), &candidate)?;
            let base = config.lines().find_map(|line| {
                let (key, value) = line.split_once('=')?;
                (key.trim() == "home").then(|| PathBuf::from(value.trim()))
            });
            if let Some(prefix) = base.as_deref().and_then(Path::parent) {
                let real = prefix.canonicalize().unwrap_or_else(|_| prefix.to_owned());
                self.bind(real.clone(), &real)?;
                if real != prefix {
                    self.bind(prefix.to_owned(), prefix)?;
                }
            }
            if candidate.symlink_metadata().is_ok_and(|metadata| !metadata.is_symlink()) {
                self.interpreter(&candidate, depth)?;
            }
            return Ok(Some(candidate));
        }
        Ok(None)
    }

    fn interpreter(&mut self, script: &Path, depth: usize) -> Result<(), LocateError> {
        let head = head(script)?;
        let Some(line) = head.strip_prefix("#!").and_then(|rest| rest.lines().next()) else { return Ok(()) };
        let mut words = line.split_whitespace();
        let Some(interpreter) = words.next() else { return Ok(()) };
        if Path::new(interpreter).file_name() == Some(OsStr::new("env")) {
            let name = words.find(|word| !word.starts_with('-') && !word.contains('='));
            let Some(name) = name else { return Ok(()) };
            let name = name.to_owned();
            let real = self.program(&name, depth + 1)?;
            // `env` will look for it by its name.
            if let Some(dir) = real.parent()
                && real.file_name() == Some(OsStr::new(&name))
                && !self.path_dirs.iter().any(|one| one == dir)
            {
                self.path_dirs.push(dir.to_owned());
            }
            return Ok(());
        }
        if is_system(Path::new(interpreter)) {
            return Ok(());
        }
        self.file(Path::new(interpreter), depth + 1).map(|_| ())
    }

    /// Wants a directory visible, or else the file in it that is needed.
    fn bind(&mut self, dir: PathBuf, file: &Path) -> Result<(), LocateError> {
        if is_system(&dir) {
            return Ok(());
        }
        let hidden = CREDENTIALS.iter().any(|name| file.starts_with(self.home.join(name)));
        if hidden {
            return Err(LocateError::Forbidden { path: file.to_owned() });
        }
        if self.is_too_much(&dir) {
            if self.is_too_much(file) {
                return Err(LocateError::Forbidden { path: file.to_owned() });
            }
            self.binds.insert(file.to_owned());
        } else {
            self.binds.insert(dir);
        }
        Ok(())
    }

    fn is_too_much(&self, path: &Path) -> bool {
        let depth = path.components().filter(|component| matches!(component, Component::Normal(_))).count();
        depth < 2
            || self.home.starts_with(path)
            || SETTINGS.iter().chain(&CREDENTIALS).any(|name| self.home.join(name).starts_with(path))
            || path.starts_with("/proc")
            || path.starts_with("/sys")
            || path.starts_with("/dev")
    }
}

fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|system| path.starts_with(system))
}

/// What belongs to an executable file: all packages beside its node package, the installation of an interpreter, or
/// nothing but itself.
fn root_of(real: &Path, is_interpreter: bool) -> PathBuf {
    let modules = real.ancestors().filter(|dir| dir.file_name() == Some(OsStr::new("node_modules"))).last();
    if let Some(modules) = modules {
        return modules.to_owned();
    }
    let bin = real.parent().filter(|dir| dir.file_name() == Some(OsStr::new("bin")));
    match bin.and_then(Path::parent) {
        Some(prefix) if is_interpreter => prefix.to_owned(),
        _ => real.to_owned(),
    }
}

/// A path and what it links to, one step at a time.
fn links(path: &Path) -> Vec<PathBuf> {
    let mut chain = vec![path.to_owned()];
    // Linux follows at most 40.
    while chain.len() < 40 {
        let Some(last) = chain.last() else { break };
        let Ok(target) = std::fs::read_link(last) else { break };
        let dir = last.parent().and_then(|dir| dir.canonicalize().ok()).unwrap_or_default();
        chain.push(normal(&dir.join(target)));
    }
    chain
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            component => normal.push(component),
        }
    }
    normal
}

/// The version pyenv would choose without a project: of those set globally the first that has the program, else the
/// last that has it.
fn pyenv(root: &Path, name: &str) -> Option<PathBuf> {
    let global = std::fs::read_to_string(root.join("version")).unwrap_or_default();
    let versions = root.join("versions");
    let program = |version: &str| versions.join(version).join("bin").join(name);
    if let Some(found) = global.split_whitespace().map(program).find(|path| is_executable(path)) {
        return Some(found);
    }
    let mut all: Vec<String> = std::fs::read_dir(&versions)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    all.sort();
    all.iter().rev().map(|version| program(version)).find(|path| is_executable(path))
}

/// The beginning of a file, as text.
fn head(path: &Path) -> Result<String, LocateError> {
    use std::io::Read;
    let error = |source| LocateError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(error)?;
    let mut bytes = Vec::new();
    // Shims are short scripts.
    file.take(1024).read_to_end(&mut bytes).map_err(error)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
