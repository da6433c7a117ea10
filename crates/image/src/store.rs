//! What lies where below the directory of images, and what is remembered there.
//!
//! ```text
//! layers/<digest of the unpacked tar>/   the layer itself
//! layers/<the same>.json                 there once the layer is whole; says whether it is known to be on disk
//! images/<digest of the manifest>.json   its layers and its configuration
//! references/<digest of the name>.json   what a name was resolved to
//! building/                              layers being unpacked or deleted; swept at start
//! blobs/                                 where downloads have their files without a name
//! lock                                   held by the one process that works here
//! ```
//!
//! Everything is written aside and renamed; what cannot be read is as if it were not there, and is got anew. A layer
//! that was not known to be on disk when the machine went down is not trusted afterwards: waiting for the disk each
//! time would cost more than the unpacking.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
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
    boot: String,
    /// Held while a layer's file is written anew, and while a layer is taken away.
    sealing: Mutex<()>,
}

/// That nobody else works in the directory, while it is held.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// What is known of a layer.
#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    /// The boot during which it was unpacked.
    boot: String,
    /// Whether it was seen to be on disk since.
    durable: bool,
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
    pub fn open(root: &Path, owner: Option<Owner>) -> Result<(Self, Lock), StoreError> {
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
        let boot =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let store = Self { root: root.to_owned(), owner, boot, sealing: Mutex::default() };
        for dir in [store.building(), store.blobs()] {
            for entry in fs::read_dir(&dir).map_err(io_error("list", &dir))?.flatten() {
                delete(&entry.path()).map_err(io_error("delete", &entry.path()))?;
            }
        }
        let here: Vec<_> = store.layers()?;
        for path in store.list("layers")? {
            let diff = path.file_stem().and_then(|it| Digest::from_hex(it.to_str()?).ok());
            let whole = diff.is_some_and(|diff| here.contains(&diff) && store.has(diff));
            if !whole {
                delete(&path).map_err(io_error("delete", &path))?;
            }
        }
        Ok((store, Lock { _file: lock }))
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

    fn sealed(&self, diff: Digest) -> PathBuf {
        self.root.join("layers").join(format!("{}.json", diff.hex()))
    }

    /// Whether a layer is here, and to be trusted.
    pub fn has(&self, diff: Digest) -> bool {
        let sealed = read::<Sealed>(&self.sealed(diff));
        sealed.is_some_and(|it| it.durable || it.boot == self.boot) && self.layer(diff).is_dir()
    }

    /// Gives a layer that was unpacked at `aside` its name.
    pub fn seal(&self, aside: &Path, diff: Digest) -> Result<(), StoreError> {
        let to = self.layer(diff);
        // One that is not trusted may be there.
        delete(&self.sealed(diff)).map_err(io_error("delete", &to))?;
        delete(&to).map_err(io_error("delete", &to))?;
        fs::rename(aside, &to).map_err(io_error("name", &to))?;
        fault::point("image.placed");
        self.write(&self.sealed(diff), &Sealed { boot: self.boot.clone(), durable: false })
    }

    /// Layers that are here and not known to be on disk.
    pub fn unsettled(&self) -> Vec<Digest> {
        let unsettled = |diff: &Digest| read::<Sealed>(&self.sealed(*diff)).is_some_and(|it| !it.durable);
        self.layers().unwrap_or_default().into_iter().filter(unsettled).collect()
    }

    /// Where `settle` waits for the disk.
    pub fn root(&self) -> Result<File, StoreError> {
        File::open(&self.root).map_err(io_error("open", &self.root))
    }

    /// Notes that these layers are on disk by now.
    pub fn settled(&self, layers: &[Digest]) -> Result<(), StoreError> {
        for diff in layers {
            let _lock = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
            if self.has(*diff) {
                self.write(&self.sealed(*diff), &Sealed { boot: self.boot.clone(), durable: true })?;
            }
        }
        Ok(())
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
        let whole = record.digest == digest && record.layers.iter().all(|diff| self.has(*diff));
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
        let _lock = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        delete(&to).map_err(io_error("delete", &to))?;
        delete(&self.sealed(diff)).map_err(io_error("delete", &from))?;
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

/// A file or a directory, if it is there.
pub(crate) fn delete(path: &Path) -> io::Result<()> {
    let gone = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    gone.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
