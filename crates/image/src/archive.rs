//! Images in files: an OCI image layout as a directory or tar, and what `docker save` and `podman save` write, in their
//! old form (a file for each layer, `manifest.json`) and their new one (a layout that has a `manifest.json` too).
//!
//! A tar is read once to learn where its files lie; a compressed one is unpacked into a file without a name first.
//! Nothing of an archive is ever written under a name that it chose.

use std::{
    cell::Cell,
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    compression::decompress,
    digest::{Digest, TooLong},
    limits::Limits,
    tar::{Kind, Reader, TarError},
};

/// Why a file is not an image that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read. Is it there?
    #[error("could not read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no tar, or a broken one. Save the image again.
    #[error("{} is not a tar of an image", path.display())]
    Tar {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: TarError,
    },
    /// Something that an image has is not in it. Was it copied whole?
    #[error("{} has no {what}", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// What is missing, shortened.
        what: String,
    },
    /// There are several images in it, or none of that name: write one of these behind it, after a colon.
    #[error("{} has these images: {}", path.display(), if found.is_empty() { "none".to_owned() } else { found.join(", ") })]
    Which {
        /// Which file.
        path: PathBuf,
        /// Names of the images, 20 at most.
        found: Vec<String>,
    },
    /// What is in it is not what its name says. Save the image again.
    #[error("{what} in {} is not {wanted} but {found}", path.display())]
    Digest {
        /// Which file.
        path: PathBuf,
        /// Of what.
        what: &'static str,
        /// As named.
        wanted: Digest,
        /// As found.
        found: Digest,
    },
    /// Larger than [`Limits`] allow.
    #[error("{what} in {} is larger than {limit} bytes", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// What.
        what: String,
        /// Bytes.
        limit: u64,
    },
}

/// The files of an archive, by name.
pub(crate) struct Files {
    path: PathBuf,
    place: Place,
}

enum Place {
    Directory,
    Tar { file: Arc<File>, index: HashMap<String, Found> },
}

enum Found {
    File {
        offset: u64,
        size: u64,
    },
    /// As another name in the archive.
    Link(String),
}

/// A part of a file, read by its own position.
pub(crate) struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let count = self.file.read_at(&mut buf[..wanted], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

impl Files {
    /// `scratch` is a directory for files without a name.
    pub fn open(path: &Path, scratch: &Path, limits: &Limits) -> Result<Self, ArchiveError> {
        let failed = |source| ArchiveError::Read { path: path.to_owned(), source };
        let at = path.to_owned();
        if std::fs::metadata(path).map_err(failed)?.is_dir() {
            return Ok(Self { path: at, place: Place::Directory });
        }
        let mut file = regular(path).map_err(failed)?;
        let mut magic = [0; 4];
        let count = file.read_at(&mut magic, 0).map_err(failed)?;
        if matches!(magic[..count], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]) {
            let limit = limits.unpacked(file.metadata().map_err(failed)?.len());
            let mut plain = tempfile::tempfile_in(scratch).map_err(failed)?;
            let mut from = decompress(&file).map_err(failed)?.take(limit + 1);
            if io::copy(&mut from, &mut plain).map_err(failed)? > limit {
                return Err(failed(io::Error::other(TooLong(limit))));
            }
            drop(from);
            file = plain;
        }
        let file = Arc::new(file);
        let index = index(&file, limits).map_err(|source| ArchiveError::Tar { path: at.clone(), source })?;
        Ok(Self { path: at, place: Place::Tar { file, index } })
    }

    /// Where the archive is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn has(&self, name: &str) -> bool {
        match &self.place {
            Place::Directory => self.path.join(name).exists(),
            Place::Tar { index, .. } => index.contains_key(&plain(name)),
        }
    }

    /// A file's bytes, and how many.
    pub fn read(&self, name: &str) -> Result<(Part, u64), ArchiveError> {
        let missing =
            || ArchiveError::Missing { path: self.path.clone(), what: name.chars().take(200).collect() };
        match &self.place {
            Place::Directory => {
                let path = self.path.join(name);
                let failed = |source: io::Error| match source.kind() {
                    io::ErrorKind::NotFound => missing(),
                    _ => ArchiveError::Read { path: path.clone(), source },
                };
                let file = regular(&path).map_err(failed)?;
                let size = file.metadata().map_err(failed)?.len();
                Ok((Part { file: Arc::new(file), at: 0, left: size }, size))
            }
            Place::Tar { file, index } => {
                let mut name = plain(name);
                // Old `docker save` links a layer that two images share; one link is enough for it.
                for _ in 0..4 {
                    match index.get(&name).ok_or_else(missing)? {
                        Found::Link(to) => name.clone_from(to),
                        &Found::File { offset, size } => {
                            return Ok((Part { file: file.clone(), at: offset, left: size }, size));
                        }
                    }
                }
                Err(missing())
            }
        }
    }

    /// A small file as a whole.
    pub fn whole(&self, name: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let (mut part, size) = self.read(name)?;
        let path = || self.path.clone();
        if size > limit {
            return Err(ArchiveError::TooLong {
                path: path(),
                what: name.chars().take(200).collect(),
                limit,
            });
        }
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes).map_err(|source| ArchiveError::Read { path: path(), source })?;
        Ok(bytes)
    }

    /// A small file as a whole, that has this digest.
    pub fn checked(
        &self,
        name: &str,
        wanted: Digest,
        what: &'static str,
        limit: u64,
    ) -> Result<Vec<u8>, ArchiveError> {
        let bytes = self.whole(name, limit)?;
        match Digest::of(&bytes) {
            found if found == wanted => Ok(bytes),
            found => Err(ArchiveError::Digest { path: self.path.clone(), what, wanted, found }),
        }
    }
}

/// What tells a file from another that later has the same path.
pub(crate) fn stamp(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).ok()?;
    // A layout is as new as its index.
    let found = if found.is_dir() { std::fs::metadata(path.join("index.json")).ok()? } else { found };
    Some(format!("{}-{}-{}.{}", found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

/// Opens a file that is one: a pipe would be waited for.
fn regular(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")),
    }
}

fn index(file: &File, limits: &Limits) -> Result<HashMap<String, Found>, TarError> {
    /// Says how far it has read. The tar reader takes what it needs and not a byte more, so that is where contents begin.
    struct At<'a>(&'a File, &'a Cell<u64>);
    impl Read for At<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read_at(buf, self.1.get())?;
            self.1.set(self.1.get() + count as u64);
            Ok(count)
        }
    }
    let at = Cell::new(0);
    let mut reader = Reader::new(At(file, &at), limits);
    let mut index = HashMap::new();
    let mut count = 0;
    while let Some(entry) = reader.next_entry()? {
        count += 1;
        if count > limits.archive_files {
            return Err(TarError::Limit { entry: count as u64, what: "files in the archive" });
        }
        let Ok(name) = String::from_utf8(entry.path) else { continue };
        let name = plain(&name);
        let link = String::from_utf8_lossy(&entry.link);
        let found = match entry.kind {
            Kind::File => Found::File { offset: at.get(), size: entry.size },
            Kind::HardLink => Found::Link(plain(&link)),
            Kind::Symlink => {
                let above = name.rsplit_once('/').map_or("", |(above, _)| above);
                Found::Link(plain(&format!("{above}/{link}")))
            }
            _ => continue,
        };
        // The first of a name counts, as with an index that is searched.
        index.entry(name).or_insert(found);
    }
    Ok(index)
}

/// A name without `.` and `..`; names are keys here, not paths.
fn plain(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
