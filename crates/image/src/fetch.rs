//! One layer, from where its bytes are to its directory.
//!
//! Invariants: what a registry sends is unpacked only once its digest is known to be right, so that who pins a digest has
//! only its author's bytes unpacked; a directory gets its name only when the digest of the unpacked tar is right. Killed at any moment, this leaves a directory below `building/` and nothing else: what is
//! downloaded is a file without a name.
//!
//! Blocking; called on a thread for such things, one for each layer at a time.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use offshoot_core::fault;
use rustix::fs::{Mode, OFlags};

use crate::{
    archive::ArchiveError,
    compression::decompress,
    digest::{Digest, Hashing, TooLong},
    limits::Limits,
    network::Cancel,
    registry::RegistryError,
    source::{Blob, Layer, unless},
    store::{Store, StoreError, delete},
    unpack::{UnpackError, unpack},
};

/// Why a layer could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The registry did not give it.
    #[error("could not get it")]
    Registry(#[from] RegistryError),
    /// The archive does not have it.
    #[error("could not read it")]
    Archive(#[from] ArchiveError),
    /// It is larger than [`Limits`] allow, or than its manifest says. The image is hostile or broken; take another.
    #[error("it is larger than {0} bytes")]
    TooLong(u64),
    /// It is not what the manifest says. The registry or the archive is broken or hostile; take another.
    #[error("{what} is not {wanted} but {found}")]
    Digest {
        /// Compressed or unpacked.
        what: &'static str,
        /// As announced.
        wanted: Digest,
        /// As found.
        found: Digest,
    },
    /// It could not be unpacked.
    #[error("could not unpack it")]
    Unpack(#[source] UnpackError),
    /// This machine's file system refused: most likely it is full.
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
    /// The directory of images cannot be used.
    #[error("it could not be kept")]
    Store(#[from] StoreError),
    /// Not wanted any more.
    #[error("the work was interrupted")]
    Interrupted,
}

fn io_error<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LayerError + 'a {
    move |source| LayerError::Io { operation, path: path.to_owned(), source }
}

/// Bytes that are written between two looks at the progress.
const BUFFER: usize = 256 << 10;

/// Gets and unpacks a layer that is not here. `done` counts its bytes as they come.
pub(crate) fn layer(
    store: &Store,
    layer: &Layer,
    limits: &Limits,
    cancel: &Cancel,
    done: &AtomicU64,
) -> Result<(), LayerError> {
    if layer.size > limits.blob_bytes {
        return Err(LayerError::TooLong(limits.blob_bytes));
    }
    done.store(0, Ordering::Relaxed);
    let result = match &layer.blob {
        Blob::Remote { registry, digest } => {
            let blob = registry.blob(*digest, layer.size);
            let file = download(store, blob, *digest, layer.size, cancel, done)?;
            fault::point("image.downloaded");
            place(store, file, layer, None, limits, cancel)
        }
        Blob::Local { files, name, digest } => {
            let (part, _) = files.read(name)?;
            place(store, Counting { inner: part, done }, layer, *digest, limits, cancel)
        }
    };
    match (result, unless(cancel)) {
        (Err(_), Err(_)) => Err(LayerError::Interrupted),
        (result, _) => result,
    }
}

fn download(
    store: &Store,
    from: impl Read,
    wanted: Digest,
    size: u64,
    cancel: &Cancel,
    done: &AtomicU64,
) -> Result<File, LayerError> {
    let dir = store.blobs();
    let mut file = tempfile::tempfile_in(&dir).map_err(io_error("make a file in", &dir))?;
    let mut from = Hashing::new(from, size);
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) if cancel.cancelled() => return Err(LayerError::Interrupted),
            Err(error) if error.get_ref().is_some_and(|it| it.is::<TooLong>()) => {
                return Err(LayerError::TooLong(size));
            }
            Err(error) => {
                return Err(match error.downcast::<RegistryError>() {
                    Ok(error) => LayerError::Registry(error),
                    Err(error) => {
                        LayerError::Registry(RegistryError::Broken("the registry".to_owned(), error))
                    }
                });
            }
        };
        file.write_all(&buffer[..count]).map_err(io_error("write to a file in", &dir))?;
        done.fetch_add(count as u64, Ordering::Relaxed);
        fault::point("image.download");
    }
    match from.finish() {
        (_, found) if found != wanted => {
            Err(LayerError::Digest { what: "the compressed layer", wanted, found })
        }
        _ => {
            file.rewind().map_err(io_error("read from a file in", &dir))?;
            Ok(file)
        }
    }
}

/// Unpacks into a directory aside, and gives it its name when all is right.
fn place(
    store: &Store,
    from: impl Read,
    layer: &Layer,
    compressed: Option<Digest>,
    limits: &Limits,
    cancel: &Cancel,
) -> Result<(), LayerError> {
    let aside = store.building().join(layer.diff.hex());
    let made = delete(&aside).and_then(|()| fs::create_dir(&aside));
    made.map_err(io_error("make", &aside))?;
    let placed = fill(store, &aside, from, layer, compressed, limits, cancel);
    if placed.is_err() {
        let _ = fs::remove_dir_all(&aside);
    }
    placed
}

fn fill(
    store: &Store,
    aside: &Path,
    from: impl Read,
    layer: &Layer,
    compressed: Option<Digest>,
    limits: &Limits,
    cancel: &Cancel,
) -> Result<(), LayerError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(aside, flags, Mode::empty())
        .map_err(|error| io_error("open", aside)(error.into()))?;
    let mut from = Hashing::new(from, layer.size);
    let plain = decompress(&mut from).map_err(|source| LayerError::Unpack(read_error(source)))?;
    let mut plain = Hashing::new(plain, limits.unpacked(layer.size));
    unpack(&mut plain, &root, store.owner(), limits, &|| !cancel.cancelled()).map_err(LayerError::Unpack)?;
    let (_, found) = plain.finish();
    io::copy(&mut from, &mut io::sink()).map_err(|source| LayerError::Unpack(read_error(source)))?;
    let (_, came) = from.finish();
    if let Some(wanted) = compressed.filter(|wanted| *wanted != came) {
        return Err(LayerError::Digest { what: "the compressed layer", wanted, found: came });
    }
    if found != layer.diff {
        return Err(LayerError::Digest { what: "the unpacked layer", wanted: layer.diff, found });
    }
    fault::point("image.unpacked");
    Ok(store.seal(aside, layer.diff)?)
}

fn read_error(source: io::Error) -> UnpackError {
    UnpackError::Tar(crate::tar::TarError::Read { entry: 0, source })
}

/// Counts what goes by.
struct Counting<'a, R> {
    inner: R,
    done: &'a AtomicU64,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.done.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
