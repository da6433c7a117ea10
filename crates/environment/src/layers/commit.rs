//! Layers of a commit's files: a base is git checking it out over nothing, a delta git going there from another commit
//! that is there (the kernel writes the whiteouts).
//!
//! Deltas of several commits are made at the same time; bases of one project one after another, as the second is most
//! often a delta of the first by then.

use std::{fs, io, path::PathBuf, sync::Arc};

use offshoot_git::{inside, oid::Oid, repository::Person, store::Store};

use super::{
    LayerError, Layers, Progress, Stack,
    build::{Job, Work},
    io_error, read_stack, write_whole,
};

/// Layers of one commit before it is checked out whole again in the background. Each costs a lookup per path
/// component on a cold cache; eight are not measurable on a tree of 80,000 files.
const FLATTEN_AT: usize = 8;
/// Layers of one commit at the most; the kernel allows 500, the lookups grow with each.
const MAX_STACK: usize = 24;
/// A commit that differs in more files than this from all others is checked out whole.
const MAX_DELTA: usize = 20_000;
/// A commit that differs in no more files than this is taken as it is: comparing with another costs git 25 ms on a tree of
/// 80,000 files, as much as writing a few hundred.
const NEAR: usize = 500;

/// What a commit's files are made from.
#[derive(Clone, Debug)]
pub struct CheckoutPlan {
    /// The commit.
    pub commit: Oid,
    /// Where the workspace appears inside.
    pub workspace: PathBuf,
    /// The branch the commit was taken from, to be found inside by the same name.
    pub branch: Option<String>,
    /// Author of what is committed inside.
    pub author: Author,
    /// Whether a run wrote it. What is made by running it then is for this commit alone.
    pub of_run: bool,
}

/// Who commits inside: asked only when something is built, since git has to be asked.
#[derive(Clone)]
pub struct Author(Arc<dyn Fn() -> Person + Send + Sync>);

impl Author {
    /// To be asked so.
    pub fn new(ask: impl Fn() -> Person + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl std::fmt::Debug for Author {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Author")
    }
}

impl CheckoutPlan {
    fn base(&self, store: &Store) -> inside::Base {
        inside::Base {
            commit: self.commit.clone(),
            branch: self.branch.clone(),
            objects: inside::OBJECTS.to_owned(),
            person: (self.author.0)(),
            shallow: store.shallow(),
        }
    }
}

impl Layers {
    /// The layers that make up the files of `commit`, made if missing.
    pub async fn commit(
        &self,
        store: &Store,
        from: &CheckoutPlan,
        progress: Progress<'_>,
    ) -> Result<Stack, LayerError> {
        if let Some(stack) = self.held(&from.commit) {
            return Ok(stack);
        }
        let _only = self.works.only(&from.commit.to_string()).await;
        if let Some(stack) = self.held(&from.commit) {
            return Ok(stack);
        }
        let layers = match self.nearest(store, &from.commit).await {
            Some(near) => self.build_delta(store, from, near, progress).await?,
            None => {
                let _only = self.works.only("base").await;
                match self.nearest(store, &from.commit).await {
                    Some(near) => self.build_delta(store, from, near, progress).await?,
                    None => self.build_base(store, from, progress).await?,
                }
            }
        };
        if layers.len() > FLATTEN_AT {
            let (this, store, from) = (self.clone(), store.clone(), from.clone());
            tokio::spawn(async move {
                let _only = (this.works.only(&from.commit.to_string()).await, this.works.only("base").await);
                if let Err(error) = this.build_base(&store, &from, &|_| {}).await {
                    let error = offshoot_core::problem::chain(&error);
                    tracing::warn!(commit = %from.commit, error, "could not flatten");
                }
            });
        }
        Ok(self.stack(layers))
    }

    /// The layers of a commit that are there already, held.
    fn held(&self, commit: &Oid) -> Option<Stack> {
        let stack = self.stack(self.known(commit)?);
        // Once more: they may have gone before they were held.
        self.known(commit).is_some_and(|known| known == stack.layers).then_some(stack)
    }

    /// Whether a commit's files are laid out.
    pub fn has(&self, commit: &Oid) -> bool {
        self.known(commit).is_some()
    }

    pub(super) fn known(&self, commit: &Oid) -> Option<Vec<String>> {
        read_stack(&self.layout.stacks(self.project).join(commit.to_string()))
            .filter(|layers| layers.iter().all(|id| self.exists(id)))
    }

    /// The commits that have layers, the newest last.
    pub(super) fn by_age(&self) -> Vec<Oid> {
        let Ok(entries) = fs::read_dir(self.layout.stacks(self.project)) else { return Vec::new() };
        let mut known: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let commit = entry.file_name().to_str()?.parse::<Oid>().ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, commit))
            })
            .collect();
        known.sort_by_key(|(at, _)| *at);
        known.into_iter().map(|(_, commit)| commit).collect()
    }

    /// The commit with layers that differs least, if one is near enough.
    async fn nearest(&self, store: &Store, commit: &Oid) -> Option<(Oid, Vec<String>)> {
        let mut best = None;
        // The newest few: a project's bases follow each other.
        for other in self.by_age().into_iter().rev().take(4) {
            let Some(layers) = self.known(&other).filter(|l| l.len() < MAX_STACK) else { continue };
            let (store, from, to) = (store.clone(), other.clone(), commit.clone());
            let Ok(Ok(changed)) = tokio::task::spawn_blocking(move || store.changed_count(&from, &to)).await
            else {
                continue;
            };
            if changed <= NEAR {
                return Some((other, layers));
            }
            if changed <= MAX_DELTA && best.as_ref().is_none_or(|(least, _, _)| changed < *least) {
                best = Some((changed, other, layers));
            }
        }
        best.map(|(_, other, layers)| (other, layers))
    }

    async fn build_base(
        &self,
        store: &Store,
        plan: &CheckoutPlan,
        progress: Progress<'_>,
    ) -> Result<Vec<String>, LayerError> {
        progress(&format!("checking out {}", plan.commit.short()));
        let id = format!("base-{}", plan.commit);
        if !self.exists(&id) {
            let commands = vec![inside::base_checkout(&plan.base(store))];
            self.check_out(Job { store, plan, id: &id, lowers: &[], home_lowers: &[], commands }).await?;
        }
        let layers = vec![id];
        self.remember(&plan.commit, &layers)?;
        Ok(layers)
    }

    async fn build_delta(
        &self,
        store: &Store,
        plan: &CheckoutPlan,
        (other, below): (Oid, Vec<String>),
        progress: Progress<'_>,
    ) -> Result<Vec<String>, LayerError> {
        progress(&format!("going from {} to {}", other.short(), plan.commit.short()));
        let id = format!("delta-{}-{}", other, plan.commit);
        let stack = self.stack(below);
        if !self.exists(&id) {
            let commands = vec![inside::delta_checkout(&plan.base(store))];
            let lowers = &stack.workspace;
            self.check_out(Job { store, plan, id: &id, lowers, home_lowers: &[], commands }).await?;
        }
        let mut layers = stack.layers;
        layers.insert(0, id);
        self.remember(&plan.commit, &layers)?;
        Ok(layers)
    }

    async fn check_out(&self, job: Job<'_>) -> Result<(), LayerError> {
        let _place = self.machine.builders.checkout().await;
        let id = job.id.to_owned();
        let site = self.build(job, &Work::git()).await?;
        site.tidy().await?;
        self.seal(&id, &site.done())
    }

    fn remember(&self, commit: &Oid, layers: &[String]) -> Result<(), LayerError> {
        let path = self.layout.stacks(self.project).join(commit.to_string());
        serde_json::to_vec(layers)
            .map_err(io::Error::from)
            .and_then(|bytes| write_whole(&path, &bytes))
            .map_err(io_error("write", &path))
    }
}
