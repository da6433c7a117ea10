//! Where things lie below the state directory. Nothing else in the workspace spells these paths.
//!
//! ```text
//! <state>/
//!   environments/<id>/   environment.json, upper/, work/, home/, home-work/, others/, journal/, monitor, lock, shim.sock, …
//!   projects/<id>/
//!     store.git/         Offshoot's own objects of the project
//!     layers/<layer>/    workspace/, home/, layer.json: immutable once layer.json is there
//!     stacks/<commit>    which layers make up a commit's files
//!     caches/<setup>     which layers the next setup of that name finds in its home directory
//!     building/<uuid>/   a layer being made; swept at start
//!   databases/<owner>    what was begun on shared database servers
//!   images/              images of services, unpacked
//!   ports/<first>        who has a block of the host's ports
//!   trash/<uuid>/        renamed here first, then deleted
//! ```

use std::path::{Path, PathBuf};

use offshoot_core::id::{EnvironmentId, ProjectId};

/// The state directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The state directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All environments.
    pub fn environments(&self) -> PathBuf {
        self.root.join("environments")
    }

    /// One environment.
    pub fn environment(&self, id: EnvironmentId) -> PathBuf {
        self.environments().join(id.to_string())
    }

    /// All projects.
    pub fn projects(&self) -> PathBuf {
        self.root.join("projects")
    }

    /// One project.
    pub fn project(&self, id: ProjectId) -> PathBuf {
        self.projects().join(id.to_string())
    }

    /// A project's own object store.
    pub fn store(&self, id: ProjectId) -> PathBuf {
        self.project(id).join("store.git")
    }

    /// A project's layers.
    pub fn layers(&self, id: ProjectId) -> PathBuf {
        self.project(id).join("layers")
    }

    /// What makes up the files of a project's commits.
    pub fn stacks(&self, id: ProjectId) -> PathBuf {
        self.project(id).join("stacks")
    }

    /// What a project's setups find of earlier downloads, a file for each setup.
    pub fn caches(&self, id: ProjectId) -> PathBuf {
        self.project(id).join("caches")
    }

    /// Layers being made.
    pub fn building(&self, id: ProjectId) -> PathBuf {
        self.project(id).join("building")
    }

    /// Images of services.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Ports of the host that environments hold, a file for each block.
    pub fn ports(&self) -> PathBuf {
        self.root.join("ports")
    }

    /// What was begun on shared database servers, a file for each owner.
    pub fn databases(&self) -> PathBuf {
        self.root.join("databases")
    }

    /// What is being deleted.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }
}
