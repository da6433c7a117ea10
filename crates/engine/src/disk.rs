//! What takes up the disk: layers with those who stand on them, environments, images, objects.

use std::{collections::BTreeMap, path::Path};

use offshoot_core::{
    api::{LayerKind, LayerList, LayerView},
    lifecycle::EnvironmentState,
    name::TaskName,
    problem::{Problem, chain},
    record::TaskRecord,
};
use offshoot_environment::{disk, lease::Lease};
use offshoot_store::TaskFilter;

use crate::{engine::Engine, guard::free_space, ledger::store_problem, project};

impl Engine {
    /// Everything that is kept, the largest layer first.
    pub async fn layers(&self) -> Result<LayerList, Problem> {
        let engine = self.clone();
        tokio::task::spawn_blocking(move || engine.kept())
            .await
            .map_err(|e| Problem::internal("looking at the disk was interrupted", &e))?
    }

    fn kept(&self) -> Result<LayerList, Problem> {
        let (store, layout) = (self.inner.ledger.store(), &self.inner.layout);
        let filter = TaskFilter { project: None, include_done: true };
        let tasks = store.tasks(&filter, usize::MAX).map_err(|e| store_problem(&e))?;
        let mut used = self.layers_in_use(&tasks);
        let mut list = LayerList { free_bytes: free_space(layout.root()), ..LayerList::default() };
        for known in store.projects().map_err(|e| store_problem(&e))? {
            list.objects_bytes += disk::of(&layout.store(known.id));
            let repository = project::discover(Path::new(&known.root));
            let Ok(project) = repository.and_then(|r| self.inner.projects.open(known.id, &r)) else {
                continue;
            };
            for (id, tasks) in used.clone() {
                for cache in project.layers.under(&id) {
                    used.entry(cache).or_default().extend(tasks.iter().cloned());
                }
            }
            let sizes = project.layers.sizes().map_err(|e| Problem::internal(&chain(&e), &e))?;
            list.layers.extend(sizes.into_iter().map(|(id, bytes)| LayerView {
                kind: LayerKind::of(&id),
                root: known.root.clone(),
                bytes,
                tasks: used.get(&id).cloned().unwrap_or_default(),
                id,
            }));
        }
        list.layers.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.id.cmp(&b.id)));
        list.layers_bytes = list.layers.iter().map(|layer| layer.bytes).sum();
        list.unused_bytes = list.layers.iter().filter(|l| l.tasks.is_empty()).map(|l| l.bytes).sum();
        let environments = tasks.iter().filter_map(|task| task.environment.as_ref());
        list.environments_bytes = environments.filter_map(|e| self.inner.environments.disk(e.id)).sum();
        list.images_bytes = disk::of(&layout.images());
        Ok(list)
    }

    /// Layers that environments stand on, and whose those are.
    pub(crate) fn layers_in_use(&self, tasks: &[TaskRecord]) -> BTreeMap<String, Vec<TaskName>> {
        let mut used = BTreeMap::<_, Vec<_>>::new();
        for task in tasks {
            let environment = task.environment.as_ref().filter(|e| e.state != EnvironmentState::Removed);
            let lease = environment.and_then(|e| Lease::open(&self.inner.layout, e.id).ok());
            let Some(lease) = lease else { continue };
            let terms = lease.terms();
            let data = terms.services.iter().filter_map(|plan| plan.data_layer.as_ref());
            let others = terms.others.iter().flat_map(|other| &other.layers);
            for id in terms.layers.iter().chain(data).chain(others) {
                used.entry(id.clone()).or_default().push(task.name.clone());
            }
        }
        used
    }
}
