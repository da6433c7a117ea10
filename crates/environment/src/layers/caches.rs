//! What package managers keep below the home directory so as not to download it twice: layers of their own, which the
//! next setup of the same name is built over.
//!
//! Only a setup over a commit of the person's own, in a builder sandbox, and only one that succeeded, adds to them. An
//! environment stands on those its setup was built over and with, and never writes to them. Everything else that a
//! setup leaves in the home directory is that setup's alone: packages that a lockfile no longer names must not linger.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{Hold, LayerError, Layers, io_error, write_whole};
use crate::{machine::Machine, written::written};

/// Where package managers keep what they downloaded, below the home directory: by content or by version, so that what
/// is there for one lockfile is right for another. The build cache of Go is by content, too.
const PLACES: [&str; 20] = [
    ".npm",
    ".cache/yarn",
    ".yarn/berry",
    ".cache/pnpm",
    ".local/share/pnpm/store",
    ".bun/install/cache",
    ".cache/pip",
    ".cache/uv",
    ".cache/pypoetry/cache",
    ".cache/pypoetry/artifacts",
    ".cargo/registry",
    ".cargo/git",
    "go/pkg/mod",
    ".cache/go-build",
    ".bundle/cache",
    ".cache/composer",
    ".composer/cache",
    ".m2/repository",
    ".gradle/caches",
    ".hex/packages",
];
/// Layers of one cache before it is begun afresh: as many lockfiles later most of what is at the bottom is old.
const MOST: usize = 8;
/// Bytes of one cache before it is begun afresh: several times what the largest projects download.
const MOST_BYTES: u64 = 8 << 30;
/// A cache that no setup was built over for so long is not kept for the next.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

impl Layers {
    /// The layers of a setup's cache that the next one is built over, top first; none if it is to begin afresh.
    pub(super) fn cache_of(&self, setup: &str) -> Vec<String> {
        let layers = self.cache_named(&self.layout.caches(self.project).join(setup));
        let bytes: u64 = layers.iter().filter_map(|id| Some(self.sealed(id)?.bytes)).sum();
        if layers.len() >= MOST || bytes >= MOST_BYTES { Vec::new() } else { layers }
    }

    fn cache_named(&self, file: &Path) -> Vec<String> {
        let layers: Option<Vec<String>> = super::read_stack(file);
        layers.filter(|layers| layers.iter().all(|id| self.exists(id))).unwrap_or_default()
    }

    /// The layers of caches that a setup layer was built over and with.
    pub fn under(&self, id: &str) -> Vec<String> {
        self.sealed(id).map(|sealed| sealed.caches).unwrap_or_default()
    }

    /// Notes what the next setup of this name is built over.
    pub(super) fn remember_cache(&self, setup: &str, layers: &[String]) -> Result<(), LayerError> {
        let path = self.layout.caches(self.project).join(setup);
        serde_json::to_vec(layers)
            .map_err(io::Error::from)
            .and_then(|bytes| write_whole(&path, &bytes))
            .map_err(io_error("write", &path))
    }

    /// Makes a layer, held, of what package managers kept in `home`, whose places are moved out of it. `None` if there
    /// was nothing new.
    pub(super) fn keep_cache(
        &self,
        home: &Path,
        setup: &str,
        key: &str,
    ) -> Result<Option<(String, Hold)>, LayerError> {
        // Names of layers are not used twice: environments may stand on one from an earlier time.
        let free = |n: &u32| !self.dir_of(&format!("cache-{setup}-{key}.{n}")).exists();
        let Some(id) = (0..).find(free).map(|n| format!("cache-{setup}-{key}.{n}")) else { return Ok(None) };
        let dir = self.building_dir(&id);
        crate::remove::tree(&dir).map_err(io_error("delete", &dir))?;
        if !move_places(&self.machine, home, &dir.join("home")).map_err(io_error("move caches to", &dir))? {
            crate::remove::tree(&dir).map_err(io_error("delete", &dir))?;
            return Ok(None);
        }
        let bytes = written(&dir.join("home")).bytes;
        let hold = self.works.hold([id.clone()]);
        self.seal_as(&id, &dir, |sealed| sealed.bytes = bytes)?;
        Ok(Some((id, hold)))
    }

    /// The layers of caches that the next setups are built over, and those that nobody was built over for long.
    pub(super) fn kept_caches(&self) -> (Vec<String>, Vec<PathBuf>) {
        let (mut kept, mut old) = (Vec::new(), Vec::new());
        let entries = fs::read_dir(self.layout.caches(self.project)).into_iter().flatten().flatten();
        for entry in entries {
            let changed = entry.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            if changed.elapsed().is_ok_and(|age| age > KEPT) {
                old.push(entry.path());
            } else {
                kept.extend(self.cache_named(&entry.path()));
            }
        }
        (kept, old)
    }
}

/// Moves the places of package managers from one home directory to another; whether there were any. What was written
/// there is hostile: no link on the way is followed.
fn move_places(machine: &Machine, from: &Path, to: &Path) -> io::Result<bool> {
    let is_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    let mut any = false;
    for place in PLACES.map(Path::new) {
        let mut ways: Vec<&Path> = place.ancestors().filter(|way| !way.as_os_str().is_empty()).collect();
        ways.reverse();
        if !ways.iter().all(|way| is_dir(&from.join(way))) {
            continue;
        }
        machine.make_dir(to)?;
        for way in ways.iter().filter(|way| **way != place) {
            let dir = to.join(way);
            if !is_dir(&dir) {
                machine.make_dir(&dir)?;
                fs::set_permissions(&dir, fs::symlink_metadata(from.join(way))?.permissions())?;
            }
        }
        fs::rename(from.join(place), to.join(place))?;
        any = true;
    }
    Ok(any)
}
