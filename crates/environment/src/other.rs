//! The other repositories of an environment: workspaces beside the main one, each over layers of its own project.
//!
//! Each has a writable layer in `others/<name>/` of the environment's directory, its own git directory in it, and its
//! objects at a place of their own. One that is only shown has a writable layer, too (git would not work without), but is
//! mounted once more on top, for reading only.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use offshoot_core::id::ProjectId;
use offshoot_git::{inside, oid::Oid};
use offshoot_sandbox::Mount;
use serde::{Deserialize, Serialize};

use crate::{
    layers::{Layers, Stack},
    machine::Machine,
    written::{Written, untouched, written},
};

/// Another repository, as a lease has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// Its name, unique in the environment.
    pub name: String,
    /// Its project.
    pub project: ProjectId,
    /// Where its workspace appears inside.
    pub workspace: PathBuf,
    /// The commit it starts from.
    pub base: String,
    /// The branch that is checked out; none if it is only shown.
    pub branch: Option<String>,
    /// Names of its layers, top first.
    pub layers: Vec<String>,
    /// Variables of its own apps, besides those of every process inside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Where another repository's layers and objects are; in the order of [`crate::lease::Terms::others`].
pub struct Source {
    /// Its project's layers.
    pub layers: Layers,
    /// Its project's objects.
    pub objects: PathBuf,
}

impl Other {
    fn dir(&self, environment: &Path) -> PathBuf {
        environment.join("others").join(&self.name)
    }

    fn upper(&self, environment: &Path) -> PathBuf {
        self.dir(environment).join("upper")
    }

    /// The files that its writable layer begins with; `None` if its terms make no sense.
    fn files(&self) -> Option<Vec<(String, Vec<u8>)>> {
        let commit = self.base.parse::<Oid>().ok()?;
        match &self.branch {
            Some(branch) => inside::run_files_of(&self.name, branch, &commit).ok(),
            None => Some(inside::shown_files(&self.name)),
        }
    }

    /// Makes its directories, below those of the environment.
    pub(crate) fn create(&self, machine: &Machine, environment: &Path) -> io::Result<()> {
        let dir = self.dir(environment);
        machine.make_dir(&environment.join("others"))?;
        for path in [dir.clone(), dir.join("upper"), dir.join("work")] {
            machine.make_dir(&path)?;
        }
        let files = self.files().ok_or_else(|| io::Error::other("its terms make no sense"))?;
        write_files(machine, &dir.join("upper"), files)
    }

    /// What is mounted for it.
    pub(crate) fn mounts(&self, environment: &Path, stack: &Stack, objects: &Path) -> Vec<Mount> {
        let mut mounts = vec![
            Mount::Bind {
                source: objects.to_owned(),
                target: PathBuf::from(inside::objects_of(&self.name)),
                writable: false,
                optional: false,
            },
            Mount::Overlay {
                target: self.workspace.clone(),
                lowers: stack.workspace.clone(),
                upper: self.upper(environment),
                work: self.dir(environment).join("work"),
                root: false,
            },
        ];
        if self.branch.is_none() {
            let (source, target) = (self.workspace.clone(), self.workspace.clone());
            mounts.push(Mount::Share { source, target, writable: false });
        }
        mounts
    }

    pub(crate) fn written(&self, environment: &Path) -> Written {
        written(&self.upper(environment))
    }

    pub(crate) fn is_untouched(&self, environment: &Path) -> bool {
        self.files().is_some_and(|files| untouched(&self.upper(environment), &files))
    }
}

/// Writes files into a writable layer, with the directories on their way.
pub(crate) fn write_files(machine: &Machine, upper: &Path, files: Vec<(String, Vec<u8>)>) -> io::Result<()> {
    for (path, content) in files {
        let mut made = upper.to_owned();
        for part in Path::new(&path).parent().into_iter().flat_map(Path::components) {
            made.push(part);
            if !made.is_dir() {
                machine.make_dir(&made)?;
            }
        }
        let file = upper.join(path);
        fs::write(&file, content)?;
        machine.identity.own(&file)?;
    }
    Ok(())
}
