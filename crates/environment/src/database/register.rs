//! What was begun on shared servers: one small file for each environment, template and half-made template, there before
//! anything exists on the server and gone only when it is known that nothing does any more. Names no login.
//!
//! It outlives environments: a server that is away when an environment goes is asked again later.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::address::Kind;
use crate::layout::Layout;

/// What was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A database and its user.
    Database,
    /// A schema and its user.
    Schema,
    /// A database that others are copied from.
    Template,
}

/// One thing on a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    /// The name of the server.
    pub server: String,
    /// What that is.
    pub kind: Kind,
    /// What was begun.
    pub what: What,
    /// Its name, and its user's.
    pub name: String,
}

impl std::fmt::Display for Leased {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.what {
            What::Database => "database",
            What::Schema => "schema",
            What::Template => "template",
        };
        write!(f, "{what} {} on {}", self.name, self.server)
    }
}

/// The directory of those files.
#[derive(Clone, Debug)]
pub struct Register {
    dir: PathBuf,
    /// Half-made templates that this process is at work on.
    held: Arc<Mutex<BTreeSet<String>>>,
}

/// Somebody is at work on it, for as long as this is kept.
#[derive(Debug)]
pub struct Held {
    register: Register,
    owner: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.register.at_work().remove(&self.owner);
    }
}

impl Register {
    /// The one of a state directory.
    pub fn new(layout: &Layout) -> Self {
        Self { dir: layout.databases(), held: Arc::default() }
    }

    fn at_work(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody is at work on what `owner` has.
    pub fn hold(&self, owner: &str) -> Held {
        self.at_work().insert(owner.to_owned());
        Held { register: self.clone(), owner: owner.to_owned() }
    }

    /// Whether somebody is.
    pub fn is_held(&self, owner: &str) -> bool {
        self.at_work().contains(owner)
    }

    fn file(&self, owner: &str) -> PathBuf {
        self.dir.join(format!("{owner}.json"))
    }

    /// Notes what `owner` (an environment's id, a template's name) is about to have. On disk when this returns.
    pub fn note(&self, owner: &str, leased: &[Leased]) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let new = self.dir.join(format!("{owner}.new"));
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(leased)?)?;
        file.sync_all()?;
        fs::rename(&new, self.file(owner))
    }

    /// Everything that is noted, by its owner.
    pub fn all(&self) -> Vec<(String, Vec<Leased>)> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let owner = entry.file_name().to_str()?.strip_suffix(".json")?.to_owned();
                Some((owner, self.of(entry.file_name().to_str()?.strip_suffix(".json")?)))
            })
            .collect()
    }

    /// What `owner` has.
    pub fn of(&self, owner: &str) -> Vec<Leased> {
        let text = fs::read(self.file(owner)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Nothing of it is left.
    pub fn forget(&self, owner: &str) -> io::Result<()> {
        match fs::remove_file(self.file(owner)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
