//! What lies where below the directory of images, and what is remembered there.
//!
//! ```text
//! layers/<digest of the unpacked tar>/   the layer itself; there means whole
//! images/<digest of the manifest>.json   its layers and its configuration
//! references/<digest of the name>.json   what a name was resolved to
//! building/                              layers being unpacked or deleted; swept at start
//! blobs/                                 where downloads have their files without a name
//! lock                                   held by the one process that works here
//! ```
//!
//! Everything is written aside and renamed; what cannot be read is as if it were not there, and is got anew.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use offshoot_core::fault;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{digest::Digest, document::ImageConfig, images::Owner, reference::Reference};

/// Why the directory of images cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused: look at its free space, and at whom the directory belongs to.
    #[error("could not {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process works there. There is one daemon for one state directory; end the other.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
}

fn io_error<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { operation, path: path.to_owned(), source }
}

/// The directory of images.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    owner: Option<Owner>,
    _lock: File,
}

/// What is known of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub digest: Digest,
    /// Digests of the unpacked tars, the lowest first.
    pub layers: Vec<Digest>,
    pub config: ImageConfig,
}

/// What a name was resolved to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub reference: Reference,
    pub digest: Digest,
    /// Of the file it was read from.
    pub stamp: Option<String>,
}

impl Store {
    /// Opens, and sweeps what a killed process left.
    pub fn open(root: &Path, owner: Option<Owner>) -> Result<Self, StoreError> {
        for name in ["", "layers", "images", "references", "building", "blobs"] {
            let dir = root.join(name);
            fs::create_dir_all(&dir).map_err(io_error("make", &dir))?;
        }
        let path = root.join("lock");
        let lock = File::create(&path).map_err(io_error("make", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::InUse(root.to_owned())),
            Err(fs::TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
        }
        let store = Self { root: root.to_owned(), owner, _lock: lock };
        for dir in [store.building(), store.blobs()] {
            for entry in fs::read_dir(&dir).map_err(io_error("list", &dir))?.flatten() {
                let path = entry.path();
                let is_dir = entry.file_type().is_ok_and(|it| it.is_dir());
                let gone = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                gone.map_err(io_error("delete", &path))?;
            }
        }
        Ok(store)
    }

    pub fn owner(&self) -> Option<Owner> {
        self.owner
    }

    pub fn building(&self) -> PathBuf {
        self.root.join("building")
    }

    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub fn layer(&self, diff: Digest) -> PathBuf {
        self.root.join("layers").join(diff.hex())
    }

    fn image(&self, digest: Digest) -> PathBuf {
        self.root.join("images").join(format!("{}.json", digest.hex()))
    }

    fn name(&self, reference: &Reference) -> PathBuf {
        let name = Digest::of(reference.to_string().as_bytes()).hex();
        self.root.join("references").join(format!("{name}.json"))
    }

    /// An image, if all of it is here.
    pub fn record(&self, digest: Digest) -> Option<Record> {
        let record: Record = read(&self.image(digest))?;
        let whole = record.digest == digest && record.layers.iter().all(|diff| self.layer(*diff).is_dir());
        whole.then_some(record)
    }

    pub fn put_record(&self, record: &Record) -> Result<(), StoreError> {
        self.write(&self.image(record.digest), record)
    }

    pub fn known(&self, reference: &Reference) -> Option<Known> {
        read::<Known>(&self.name(reference)).filter(|known| known.reference == *reference)
    }

    pub fn put_known(&self, known: &Known) -> Result<(), StoreError> {
        self.write(&self.name(&known.reference), known)
    }

    /// All images that are remembered.
    pub fn records(&self) -> Result<Vec<Record>, StoreError> {
        Ok(self.list("images")?.iter().filter_map(|path| read(path)).collect())
    }

    /// Forgets an image and the names that led to it. Its layers stay.
    pub fn forget(&self, digest: Digest) -> Result<(), StoreError> {
        let path = self.image(digest);
        fs::remove_file(&path).map_err(io_error("delete", &path))?;
        for path in self.list("references")? {
            if read::<Known>(&path).is_none_or(|known| known.digest == digest) {
                fs::remove_file(&path).map_err(io_error("delete", &path))?;
            }
        }
        Ok(())
    }

    /// The layers that are here.
    pub fn layers(&self) -> Result<Vec<Digest>, StoreError> {
        let paths = self.list("layers")?;
        Ok(paths.iter().filter_map(|it| Digest::from_hex(it.file_name()?.to_str()?).ok()).collect())
    }

    /// Takes a layer away from its name. What it returns is to be deleted.
    pub fn unplace(&self, diff: Digest) -> Result<PathBuf, StoreError> {
        let (from, to) = (self.layer(diff), self.building().join(format!("gone-{}", diff.hex())));
        let _ = fs::remove_dir_all(&to);
        fs::rename(&from, &to).map_err(io_error("take away", &from))?;
        Ok(to)
    }

    fn list(&self, name: &str) -> Result<Vec<PathBuf>, StoreError> {
        let dir = self.root.join(name);
        Ok(fs::read_dir(&dir).map_err(io_error("list", &dir))?.flatten().map(|it| it.path()).collect())
    }

    fn write(&self, path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
        let failed = |error| io_error("write", path)(error);
        let mut file = tempfile::NamedTempFile::new_in(self.building()).map_err(failed)?;
        let text = serde_json::to_vec_pretty(value).map_err(|error| io_error("write", path)(error.into()))?;
        file.write_all(&text).map_err(|error| io_error("write", path)(error))?;
        fault::point("image.record");
        file.persist(path).map_err(|error| io_error("write", path)(error.error))?;
        Ok(())
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
