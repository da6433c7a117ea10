//! Setup layers: what a project's own commands install over a commit's files, once for each content of their key files.
//!
//! Each setup is a layer of its own. Those that do not wait for each other are built at the same time, as far as this
//! machine has room ([`super::Builders`]); the first that fails ends the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    pin::Pin,
};

use futures_util::future::try_join_all;
use offshoot_core::config::SetupConfig;
use offshoot_git::store::Store;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    CheckoutPlan, LayerError, Layers, Progress, SetupRoom, Stack,
    build::{Job, SETUP_SECONDS, Work, blocking},
    io_error,
};
use crate::remove;

/// A setup of the project: commands, and the files that decide when they must run again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// What the project calls it.
    pub name: String,
    /// Given to `sh -c`, one after another.
    pub commands: Vec<String>,
    /// Paths in the repository.
    pub key: Vec<String>,
    /// Setups whose results it needs.
    pub after: Vec<String>,
}

impl Setup {
    /// Those of a project that do something.
    pub fn all<'a>(
        config: impl IntoIterator<Item = (&'a offshoot_core::name::Label, &'a SetupConfig)>,
    ) -> Vec<Self> {
        let setups = config.into_iter().filter(|(_, setup)| !setup.commands.is_empty());
        setups
            .map(|(name, setup)| Self {
                name: name.to_string(),
                commands: setup.commands.clone(),
                key: setup.key.clone(),
                after: setup.after.iter().map(ToString::to_string).collect(),
            })
            .collect()
    }
}

/// What is needed to make the setups of one commit.
struct Making<'a> {
    layers: &'a Layers,
    store: &'a Store,
    plan: &'a CheckoutPlan,
    room: &'a SetupRoom<'a>,
    stack: &'a Stack,
    setups: &'a [Setup],
    /// Names of the layers, by setup.
    ids: BTreeMap<&'a str, String>,
    progress: Progress<'a>,
}

impl Layers {
    /// The layers of a commit with the project's setups on top, made if missing.
    pub async fn with_setups(
        &self,
        store: &Store,
        plan: &CheckoutPlan,
        setups: &[Setup],
        room: &SetupRoom<'_>,
        progress: Progress<'_>,
    ) -> Result<Stack, LayerError> {
        let stack = self.commit(store, plan, progress).await?;
        let ids = self.setup_ids(store, plan, setups).await;
        let held = self.works.hold(ids.values().cloned());
        let making = Making { layers: self, store, plan, room, stack: &stack, setups, ids, progress };
        try_join_all(setups.iter().map(|setup| making.made(setup))).await?;
        let mut layers: Vec<String> =
            setups.iter().rev().filter_map(|s| making.ids.get(&*s.name).cloned()).collect();
        layers.extend(stack.layers.iter().cloned());
        let whole = self.by_name(&layers).ok_or_else(|| LayerError::Gone(layers.join(", ")))?;
        drop(held);
        Ok(whole)
    }

    /// What the layer of each setup is called: by what it is made of.
    async fn setup_ids<'a>(
        &self,
        store: &Store,
        plan: &CheckoutPlan,
        setups: &'a [Setup],
    ) -> BTreeMap<&'a str, String> {
        let (git, commit) = (store.clone(), plan.commit.clone());
        let paths: Vec<Vec<String>> = setups.iter().map(|setup| setup.key.clone()).collect();
        let blobs = tokio::task::spawn_blocking(move || {
            let blob = |path: &String| git.object_at(&commit, path).ok().flatten();
            paths.iter().map(|key| key.iter().map(blob).collect::<Vec<_>>()).collect::<Vec<_>>()
        })
        .await
        .unwrap_or_default();
        let own: Vec<[u8; 32]> = setups
            .iter()
            .zip(blobs)
            .map(|(setup, blobs)| {
                let mut hash = Sha256::new();
                hash.update(plan.workspace.as_os_str().as_encoded_bytes());
                for command in &setup.commands {
                    hash.update([0]);
                    hash.update(command);
                }
                for (path, blob) in setup.key.iter().zip(blobs) {
                    hash.update([1]);
                    hash.update(path);
                    hash.update([2]);
                    hash.update(blob.map(|b| b.to_string()).unwrap_or_default());
                }
                if setup.key.is_empty() {
                    hash.update(plan.commit.to_string());
                }
                hash.finalize().into()
            })
            .collect();
        let id = |at: usize, commit: Option<String>| {
            let mut hash = Sha256::new();
            for n in first_to_last(setups, at) {
                hash.update(own[n]);
            }
            hash.update(commit.unwrap_or_default());
            let hex: String = hash.finalize().iter().take(12).map(|b| format!("{b:02x}")).collect();
            format!("setup-{}-{hex}", setups[at].name)
        };
        let ids = setups.iter().enumerate().map(|(at, setup)| {
            let usual = id(at, None);
            // What a run wrote may do anything in its builder: what comes of it is for nobody else.
            let own = plan.of_run && !self.exists(&usual);
            (setup.name.as_str(), if own { id(at, Some(plan.commit.to_string())) } else { usual })
        });
        ids.collect()
    }
}

/// A setup with all that it comes after, itself last, each once. Circles are refused where the configuration is read.
fn first_to_last(setups: &[Setup], at: usize) -> Vec<usize> {
    fn visit(setups: &[Setup], at: usize, order: &mut Vec<usize>, seen: &mut BTreeSet<usize>) {
        if !seen.insert(at) {
            return;
        }
        for (n, _) in setups.iter().enumerate().filter(|(_, other)| setups[at].after.contains(&other.name)) {
            visit(setups, n, order, seen);
        }
        order.push(at);
    }
    let mut order = Vec::new();
    visit(setups, at, &mut order, &mut BTreeSet::new());
    order
}

impl<'a> Making<'a> {
    /// Sees to it that a setup is there.
    fn made<'b>(
        &'b self,
        setup: &'b Setup,
    ) -> Pin<Box<dyn Future<Output = Result<(), LayerError>> + Send + 'b>> {
        Box::pin(async move {
            let Some(id) = self.ids.get(setup.name.as_str()) else { return Ok(()) };
            if self.layers.exists(id) {
                return Ok(());
            }
            let before = self.setups.iter().filter(|other| setup.after.contains(&other.name));
            try_join_all(before.map(|other| self.made(other))).await?;
            let _only = self.layers.works.only(id).await;
            if self.layers.exists(id) {
                return Ok(());
            }
            self.make(setup, id).await
        })
    }

    async fn make(&self, setup: &Setup, id: &str) -> Result<(), LayerError> {
        let layers = self.layers;
        let at = self.setups.iter().position(|other| other.name == setup.name).unwrap_or_default();
        let mut below: Vec<String> = first_to_last(self.setups, at)
            .into_iter()
            .filter_map(|n| self.ids.get(&*self.setups[n].name))
            .cloned()
            .collect();
        below.retain(|other| other != id);
        below.reverse();
        below.extend(self.stack.layers.iter().cloned());
        let under = layers.by_name(&below).ok_or_else(|| LayerError::Gone(below.join(", ")))?;
        let mut caches = layers.cache_of(&setup.name);
        let _held = layers.works.hold(caches.iter().cloned());
        if !caches.iter().all(|id| layers.exists(id)) {
            // They went before they were held.
            caches.clear();
        }
        let mut home: Vec<PathBuf> = under.home.clone();
        home.extend(
            caches.iter().map(|id| layers.dir_of(id).join("home")).filter(|dir| !under.home.contains(dir)),
        );

        let _place = layers.machine.builders.setup(&self.room.limits).await;
        for command in &setup.commands {
            (self.progress)(&format!("setting up {}: {command}", setup.name));
        }
        let (git, commit) = (self.store.clone(), self.plan.commit.clone());
        // Only what git does not track belongs to the setup: a tracked file in it would hide a later version.
        let tracked = tokio::task::spawn_blocking(move || git.paths(&commit))
            .await
            .map_err(|_| LayerError::Interrupted)?
            .map_err(LayerError::Git)?;
        let work = Work {
            egress: self.room.egress.to_vec(),
            network: Some(self.room.network),
            limits: self.room.limits,
            tools: self.room.tools,
            env: self.room.env,
            seconds: SETUP_SECONDS,
            what: &format!("setup {}", setup.name),
        };
        let commands: Vec<_> =
            setup.commands.iter().map(|c| vec!["sh".to_owned(), "-c".to_owned(), c.clone()]).collect();
        let job = Job {
            store: self.store,
            plan: self.plan,
            id,
            lowers: &under.workspace,
            home_lowers: &home,
            commands,
        };
        let site = layers.build(job, &work).await?;
        let upper = site.dir.join("workspace");
        blocking(move || {
            remove::tree(&upper.join(".git"))?;
            drop_tracked(&upper, &tracked)
        })
        .await
        .map_err(io_error("seal", &site.dir))?;
        site.tidy().await?;
        let key = id.rsplit('-').next().unwrap_or_default();
        let new = layers.keep_cache(&site.dir.join("home"), &setup.name, key)?;
        if let Some((new, _)) = &new {
            caches.insert(0, new.clone());
        }
        layers.seal_as(id, &site.done(), |sealed| sealed.caches.clone_from(&caches))?;
        if !self.plan.of_run {
            layers.remember_cache(&setup.name, &caches)?;
        }
        Ok(())
    }
}

/// Removes tracked files from a setup's upper directory, whiteouts of them too.
fn drop_tracked(upper: &Path, tracked: &[Vec<u8>]) -> io::Result<()> {
    for path in tracked {
        let path = Path::new(OsStr::from_bytes(path));
        let at = upper.join(path);
        // A link on the way would lead elsewhere: what is below it is not the tracked file.
        let real = path
            .ancestors()
            .skip(1)
            .filter(|a| !a.as_os_str().is_empty())
            .all(|a| fs::symlink_metadata(upper.join(a)).is_ok_and(|m| m.is_dir()));
        if real && fs::symlink_metadata(&at).is_ok_and(|m| !m.is_dir()) {
            fs::remove_file(&at)?;
        }
    }
    Ok(())
}
