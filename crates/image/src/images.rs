//! The images that are here, and getting those that are not.
//!
//! Invariants: an image that is here is used without asking anyone; a name is resolved once, and again only when asked to
//! (`refresh`), and a digest never; a layer is fetched once however many ask for it at a time; a layer of an [`Image`]
//! that somebody holds is not swept away. Whoever stops waiting stops the work, unless others wait for it too: they
//! take over.
//!
//! Called by the environment room. Does not run anything, mount anything, or decide what is kept.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use offshoot_core::fault;
use tokio::{sync::Semaphore, task::JoinSet, time::MissedTickBehavior};

use crate::{
    archive::{self, ArchiveError},
    credentials::CredentialFiles,
    digest::Digest,
    document::{DocumentError, ImageConfig},
    fetch::{self, LayerError},
    limits::Limits,
    network::{self, Cancel, Roots},
    reference::{Reference, Remote, short},
    registry::{Registry, RegistryError},
    source::{Blob, Layer, Resolved},
    store::{Known, Lock, Record, Store, StoreError},
};

/// Whom the files of layers belong to, when that is not who runs this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Somebody who wants to know what takes so long: `pulling postgres:16: 34 of 80 MB`.
pub type Progress<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The registry did not give it.
    #[error("the registry did not give the image")]
    Registry(#[from] RegistryError),
    /// The archive did not have it.
    #[error("the image could not be read from a file")]
    Archive(#[from] ArchiveError),
    /// Its manifest or configuration cannot be used.
    #[error("the image cannot be used")]
    Document(#[from] DocumentError),
    /// One of its layers could not be had.
    #[error("layer {number} of {of} could not be had")]
    Layer {
        /// Counted from one, the lowest first.
        number: usize,
        /// How many there are.
        of: usize,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// The directory of images cannot be used.
    #[error("the directory of images could not be used")]
    Store(#[from] StoreError),
    /// The daemon is stopping.
    #[error("the work was interrupted")]
    Interrupted,
}

/// An image that is here. While it is held, none of it is swept away.
#[derive(Clone)]
pub struct Image {
    /// Of its manifest; of its configuration where an archive had no manifest.
    pub digest: Digest,
    /// Directories to put over each other, top first; for overlays mounted with `userxattr`.
    pub layers: Vec<PathBuf>,
    /// How it wants to be run.
    pub config: ImageConfig,
    _pin: Arc<Pin>,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("digest", &self.digest).field("layers", &self.layers.len()).finish()
    }
}

/// What a sweep took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Images.
    pub images: Vec<Digest>,
    /// Layers, by the digest of their unpacked tar.
    pub layers: Vec<Digest>,
}

/// All images of one state directory. Clones are the same.
#[derive(Clone)]
pub struct Images(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    _lock: Lock,
    limits: Limits,
    credentials: CredentialFiles,
    roots: Roots,
    at_once: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How often each image is held.
    pins: BTreeMap<Digest, usize>,
    /// Layers that somebody wants.
    jobs: HashMap<Digest, Weak<Job>>,
}

/// One layer that somebody wants.
#[derive(Default)]
struct Job {
    lock: Arc<tokio::sync::Mutex<()>>,
    done: AtomicU64,
}

struct Pin {
    digest: Digest,
    of: Weak<Inner>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let Some(inner) = self.of.upgrade() else { return };
        let mut state = inner.state();
        if let Some(count) = state.pins.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                state.pins.remove(&self.digest);
            }
        }
    }
}

/// Ends the work of a call that nobody waits for any more.
struct Wanted(Cancel);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Inner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Images {
    /// The images below `root`, with the credentials of whoever runs this. Sweeps what a killed process left.
    pub fn open(root: &Path, owner: Option<Owner>) -> Result<Self, StoreError> {
        Self::with(root, owner, Limits::default(), CredentialFiles::of_this_user())
    }

    /// The same with other limits and credentials.
    pub fn with(
        root: &Path,
        owner: Option<Owner>,
        limits: Limits,
        credentials: CredentialFiles,
    ) -> Result<Self, StoreError> {
        let (store, lock) = Store::open(root, owner)?;
        let store = Arc::new(store);
        settle(&store);
        Ok(Self(Arc::new(Inner {
            store,
            _lock: lock,
            limits,
            credentials,
            roots: Roots::default(),
            at_once: Arc::new(Semaphore::new(limits.at_once)),
            state: Mutex::default(),
        })))
    }

    /// The image of this name: the one that is here, or else got from where the name says.
    pub async fn get(&self, reference: &Reference, progress: Progress<'_>) -> Result<Image, ImageError> {
        match self.here(reference) {
            Some(image) => Ok(image),
            None => self.pull(reference, progress).await,
        }
    }

    /// The image that this name means today. What is here of it is not fetched again.
    pub async fn refresh(&self, reference: &Reference, progress: Progress<'_>) -> Result<Image, ImageError> {
        match (reference, self.here(reference)) {
            // What a digest means does not change.
            (Reference::Registry(Remote { digest: Some(_), .. }), Some(image)) => Ok(image),
            _ => self.pull(reference, progress).await,
        }
    }

    /// The image of this name if all of it is here. Asks nobody; a file is looked at for whether it has changed.
    pub fn here(&self, reference: &Reference) -> Option<Image> {
        let known = self.0.store.known(reference)?;
        (known.stamp == stamp(reference)).then(|| self.by_digest(known.digest))?
    }

    /// The image with this digest if all of it is here: what something that ran before stands on.
    pub fn by_digest(&self, digest: Digest) -> Option<Image> {
        // Held while looking, so that a sweep comes before or after.
        let mut state = self.0.state();
        let record = self.0.store.record(digest)?;
        Some(self.pinned(&mut state, record))
    }

    fn pinned(&self, state: &mut State, record: Record) -> Image {
        *state.pins.entry(record.digest).or_default() += 1;
        let pin = Arc::new(Pin { digest: record.digest, of: Arc::downgrade(&self.0) });
        let layers = record.layers.iter().rev().map(|diff| self.0.store.layer(*diff)).collect();
        Image { digest: record.digest, layers, config: record.config, _pin: pin }
    }

    async fn pull(&self, reference: &Reference, progress: Progress<'_>) -> Result<Image, ImageError> {
        let wanted = Wanted(Cancel::default());
        let name = short(reference);
        progress(&format!("looking for {name}"));
        // Before reading, so that a file that is replaced meanwhile is read again next time.
        let stamp = stamp(reference);
        let resolved = self.resolve(reference, &wanted.0).await?;
        let jobs = self.jobs(&resolved);
        self.fetch(&resolved, &jobs, &wanted.0, &name, progress).await?;
        let Resolved { digest, config, layers } = resolved;
        let record = Record { digest, layers: layers.iter().map(|it| it.diff).collect(), config };
        // The layers are held by their jobs until here.
        let mut state = self.0.state();
        self.0.store.put_record(&record)?;
        fault::point("image.named");
        self.0.store.put_known(&Known { reference: reference.clone(), digest, stamp })?;
        let image = self.pinned(&mut state, record);
        drop(state);
        drop(jobs);
        settle(&self.0.store);
        Ok(image)
    }

    async fn resolve(&self, reference: &Reference, cancel: &Cancel) -> Result<Resolved, ImageError> {
        let (inner, reference, cancel) = (self.0.clone(), reference.clone(), cancel.clone());
        let work = tokio::task::spawn_blocking(move || match &reference {
            Reference::Registry(remote) => {
                let agent = network::agent(remote.is_loopback(), &inner.roots, &inner.limits, &cancel);
                let credentials = inner.credentials.clone();
                let registry = Registry::new(remote.clone(), agent, credentials, &inner.limits, &cancel);
                Resolved::remote(remote, registry, &inner.limits)
            }
            _ => Resolved::local(&reference, &inner.store.blobs(), &inner.limits),
        });
        work.await.unwrap_or(Err(ImageError::Interrupted))
    }

    /// One for each layer, shared with whoever else wants it; from here on no sweep takes it.
    fn jobs(&self, resolved: &Resolved) -> Vec<Arc<Job>> {
        let mut state = self.0.state();
        state.jobs.retain(|_, job| job.strong_count() > 0);
        let job = |layer: &Layer| {
            let known = state.jobs.get(&layer.diff).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let job = Arc::new(Job::default());
                state.jobs.insert(layer.diff, Arc::downgrade(&job));
                job
            })
        };
        resolved.layers.iter().map(job).collect()
    }

    async fn fetch(
        &self,
        resolved: &Resolved,
        jobs: &[Arc<Job>],
        cancel: &Cancel,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<(), ImageError> {
        let of = resolved.layers.len();
        let mut work = JoinSet::new();
        let mut missing = Vec::new();
        let mut seen = BTreeSet::new();
        for (at, (layer, job)) in resolved.layers.iter().zip(jobs).enumerate() {
            // An image may have a layer twice.
            if !seen.insert(layer.diff) || self.0.store.has(layer.diff) {
                continue;
            }
            missing.push((layer.size, job.clone()));
            let this = self.clone();
            let (layer, job, cancel) = (layer.clone(), job.clone(), cancel.clone());
            work.spawn(async move {
                let done = this.layer(layer, job, cancel).await;
                done.map_err(|source| ImageError::Layer { number: at + 1, of, source })
            });
        }
        let remote = resolved.layers.iter().any(|it| matches!(it.blob, Blob::Remote { .. }));
        let verb = if remote { "pulling" } else { "unpacking" };
        let total: u64 = missing.iter().map(|(size, _)| size).sum();
        let mut told = String::new();
        let mut clock = tokio::time::interval(TELL_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = work.join_next() => match done {
                    None => return Ok(()),
                    Some(Ok(done)) => done?,
                    Some(Err(_)) => return Err(ImageError::Interrupted),
                },
                _ = clock.tick(), if total > 0 => {
                    let done = missing.iter().map(|(size, job)| job.done.load(Ordering::Relaxed).min(*size)).sum();
                    let text = text(verb, name, done, total);
                    if text != told {
                        progress(&text);
                        told = text;
                    }
                }
            }
        }
    }

    async fn layer(&self, layer: Layer, job: Arc<Job>, cancel: Cancel) -> Result<(), LayerError> {
        let lock = job.lock.clone().lock_owned().await;
        if self.0.store.has(layer.diff) {
            job.done.store(layer.size, Ordering::Relaxed);
            return Ok(());
        }
        let Ok(permit) = self.0.at_once.clone().acquire_owned().await else {
            return Err(LayerError::Interrupted);
        };
        let inner = self.0.clone();
        let work = tokio::task::spawn_blocking(move || {
            // Held until the work has ended, also when nobody waits for it any more.
            let _held = (lock, permit);
            fetch::layer(&inner.store, &layer, &inner.limits, &cancel, &job.done)
        });
        work.await.unwrap_or(Err(LayerError::Interrupted))
    }

    /// Takes away every image that is neither in `keep` nor held, and every layer that none of the others has. The reason
    /// is written to the log.
    pub async fn sweep(&self, keep: &[Digest], reason: &str) -> Result<Swept, StoreError> {
        let (inner, keep) = (self.0.clone(), keep.iter().copied().collect());
        let work = tokio::task::spawn_blocking(move || inner.sweep(keep));
        let swept = work.await.unwrap_or_else(|_| Ok(Swept::default()))?;
        if swept != Swept::default() {
            tracing::info!(images = ?swept.images, layers = swept.layers.len(), reason, "images were deleted");
        }
        Ok(swept)
    }
}

impl Inner {
    fn sweep(&self, mut keep: BTreeSet<Digest>) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        let mut gone = Vec::new();
        {
            let state = self.state();
            keep.extend(state.pins.keys().copied());
            let wanted = state.jobs.iter().filter(|(_, job)| job.strong_count() > 0).map(|(diff, _)| *diff);
            let mut layers: BTreeSet<_> = wanted.collect();
            for record in self.store.records()? {
                if keep.contains(&record.digest) {
                    layers.extend(record.layers);
                } else {
                    // The image first: one that is remembered is whole.
                    self.store.forget(record.digest)?;
                    swept.images.push(record.digest);
                }
            }
            fault::point("image.forgotten");
            for diff in self.store.layers()? {
                if !layers.contains(&diff) {
                    gone.push(self.store.unplace(diff)?);
                    swept.layers.push(diff);
                }
            }
        }
        fault::point("image.swept");
        for path in gone {
            let deleted = std::fs::remove_dir_all(&path);
            deleted.map_err(|source| StoreError::Io { operation: "delete", path, source })?;
        }
        Ok(swept)
    }
}

/// Has what was unpacked written to disk, in its own time: nobody waits for it.
fn settle(store: &Arc<Store>) {
    let layers = store.unsettled();
    let Ok(root) = store.root() else { return };
    if layers.is_empty() {
        return;
    }
    let store = Arc::downgrade(store);
    std::thread::spawn(move || {
        let done = rustix::fs::syncfs(&root);
        // Who opens the directory next does it, if nobody has it open any more.
        let Some(store) = store.upgrade().filter(|_| done.is_ok()) else { return };
        if let Err(error) = store.settled(&layers) {
            tracing::warn!(error = %offshoot_core::problem::chain(&error), "could not note which layers are on disk");
        }
    });
}

fn stamp(reference: &Reference) -> Option<String> {
    match reference {
        Reference::Registry(_) => None,
        Reference::Layout { path, .. } | Reference::Archive { path, .. } => archive::stamp(path),
    }
}

fn text(verb: &str, name: &str, done: u64, total: u64) -> String {
    let (unit, word) = if total >= 10_000_000 { (1_000_000, "MB") } else { (1_000, "kB") };
    format!("{verb} {name}: {} of {} {word}", done / unit, total.div_ceil(unit))
}

#[cfg(test)]
mod tests {
    #[test]
    fn progress_reads_well() {
        assert_eq!(
            super::text("pulling", "postgres:16", 34_500_000, 80_000_000),
            "pulling postgres:16: 34 of 80 MB"
        );
        assert_eq!(super::text("unpacking", "x", 0, 1), "unpacking x: 0 of 1 kB");
    }
}
