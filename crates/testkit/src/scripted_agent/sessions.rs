//! What was said in a session, kept in a file so that it can be loaded again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ALLOW;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) cwd: PathBuf,
    pub(super) mode: String,
    pub(super) history: Vec<Said>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    Person(String),
    Agent(String),
}

impl Session {
    pub(super) fn new(home: &Path, cwd: PathBuf) -> Self {
        let id = uuid::Uuid::new_v4().to_string();
        let session = Self { id, cwd, mode: ALLOW.to_owned(), history: Vec::new() };
        session.save(home);
        session
    }

    pub(super) fn load(home: &Path, id: &str) -> Option<Self> {
        // The id comes from outside and becomes a file name.
        uuid::Uuid::parse_str(id).ok()?;
        let text = std::fs::read_to_string(file(home, id)).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub(super) fn save(&self, home: &Path) {
        let path = file(home, &self.id);
        let written = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&path, serde_json::to_string(self)?));
        if let Err(error) = written {
            eprintln!("cannot save {}: {error}", path.display());
        }
    }
}

fn file(home: &Path, id: &str) -> PathBuf {
    home.join("sessions").join(format!("{id}.json"))
}
