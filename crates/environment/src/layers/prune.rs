//! Taking away layers that nobody needs, each with its reason.

use std::{collections::BTreeSet, fs};

use super::{LayerError, Layers, io_error, read_stack};
use crate::remove;

impl Layers {
    /// Takes away every layer that `keep` does not name, that no layer so named was built with, that the next task
    /// would not stand on, and that nobody makes or is about to stand on. Returns what went, and why.
    pub async fn prune(
        &self,
        keep: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Vec<(String, &'static str)>, LayerError> {
        self.works.while_held(|held| {
            let mut gone = Vec::new();
            let dir = self.layout.layers(self.project);
            let mut all = Vec::new();
            for entry in fs::read_dir(&dir).map_err(io_error("list", &dir))?.flatten() {
                all.push(entry.file_name().to_string_lossy().into_owned());
            }
            // What the newest commit is made of stays: the next task most likely starts there.
            let newest = self.by_age().pop().and_then(|commit| self.known(&commit)).unwrap_or_default();
            let (caches, old) = self.kept_caches();
            let mut needed: BTreeSet<String> = newest.into_iter().chain(caches).collect();
            needed.extend(all.iter().filter(|id| keep(id) || held(id)).cloned());
            let under: Vec<_> =
                needed.iter().filter_map(|id| self.sealed(id)).flat_map(|s| s.caches).collect();
            needed.extend(under);
            let stacks = self.layout.stacks(self.project);
            for entry in fs::read_dir(&stacks).map_err(io_error("list", &stacks))?.flatten() {
                let layers = read_stack(&entry.path());
                if layers.is_none_or(|layers| !layers.iter().all(|id| needed.contains(id))) {
                    fs::remove_file(entry.path()).map_err(io_error("delete", &entry.path()))?;
                }
            }
            for file in old {
                fs::remove_file(&file).map_err(io_error("delete", &file))?;
            }
            for id in all.into_iter().filter(|id| !needed.contains(id)) {
                let path = dir.join(&id);
                let _ = fs::remove_file(path.join("layer.json"));
                remove::to_trash(&self.layout, &path, &format!("{}-{id}", self.project))
                    .map_err(io_error("delete", &path))?;
                let reason = match id.starts_with("cache-") {
                    true => "no environment stands on it, and the next setup is not built over it",
                    false => "no environment stands on it",
                };
                gone.push((id, reason));
            }
            Ok(gone)
        })
    }
}
