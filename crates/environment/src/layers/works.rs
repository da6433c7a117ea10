//! Who is at work on a project's layers: each layer is made by one at a time, however many want it, and none that
//! somebody is about to stand on is taken away. How much is built at a time on the whole machine: [`Builders`].

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use offshoot_core::{config::counted, event::Limits};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Unit in which memory is counted: semaphores count to 2^29 on small machines.
const MIB: u64 = 1 << 20;

/// What is made and what is held of one project.
#[derive(Debug, Default)]
pub(crate) struct Works {
    making: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    held: Mutex<BTreeMap<String, usize>>,
}

/// Layers that are not taken away while this is held.
#[derive(Debug)]
pub(crate) struct Hold {
    works: Arc<Works>,
    layers: Vec<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Works {
    /// Held by the one who makes what has this name; others wait.
    pub async fn only(&self, name: &str) -> OwnedMutexGuard<()> {
        let gate = {
            let mut making = lock(&self.making);
            making.retain(|_, gate| gate.strong_count() > 0);
            let known = making.get(name).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let gate = Arc::default();
                making.insert(name.to_owned(), Arc::downgrade(&gate));
                gate
            })
        };
        gate.lock_owned().await
    }

    /// Keeps these layers, those that are there and those that will be.
    pub fn hold(self: &Arc<Self>, layers: impl IntoIterator<Item = String>) -> Hold {
        let layers: Vec<_> = layers.into_iter().collect();
        let mut held = lock(&self.held);
        for layer in &layers {
            *held.entry(layer.clone()).or_default() += 1;
        }
        Hold { works: self.clone(), layers }
    }

    /// Does something quick while nobody begins to hold a layer; told which are held.
    pub fn while_held<T>(&self, act: impl FnOnce(&dyn Fn(&str) -> bool) -> T) -> T {
        let held = lock(&self.held);
        act(&|layer| held.contains_key(layer))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = lock(&self.works.held);
        for layer in &self.layers {
            if let Some(count) = held.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    held.remove(layer);
                }
            }
        }
    }
}

/// How much may be built at a time on this machine: as many setups as there are processors, as far as the memory goes
/// that they are counted with; beside them as many checkouts, which are short and must not wait for setups.
#[derive(Clone, Debug)]
pub struct Builders {
    setups: Arc<Semaphore>,
    checkouts: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    /// All of the memory, in MiB.
    total: u32,
}

/// A place to build in, for as long as this is held.
#[derive(Debug)]
pub(crate) struct Place {
    _permits: [Option<OwnedSemaphorePermit>; 2],
}

impl Builders {
    /// So many at a time, with so much memory together.
    pub fn new(places: usize, memory_bytes: u64) -> Self {
        let places = places.max(1);
        let total = u32::try_from((memory_bytes / MIB).clamp(1, 1 << 28)).unwrap_or(1 << 28);
        Self {
            setups: Arc::new(Semaphore::new(places)),
            checkouts: Arc::new(Semaphore::new(places)),
            memory: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Waits for room to run a project's commands. One alone has room whatever it needs.
    pub(crate) async fn setup(&self, limits: &Limits) -> Place {
        let needed = u32::try_from(counted(limits) / MIB).unwrap_or(u32::MAX).clamp(1, self.total);
        // Closed never; without a permit there is no limit, and still a layer.
        let place = self.setups.clone().acquire_owned().await.ok();
        let memory = self.memory.clone().acquire_many_owned(needed).await.ok();
        Place { _permits: [place, memory] }
    }

    /// Waits for room to check a commit out.
    pub(crate) async fn checkout(&self) -> Place {
        Place { _permits: [self.checkouts.clone().acquire_owned().await.ok(), None] }
    }
}

#[cfg(test)]
mod tests {
    use offshoot_core::config::DEFAULT_LIMITS;

    use super::*;

    #[tokio::test]
    async fn what_is_wanted_twice_is_made_by_one_at_a_time() {
        let works = Arc::new(Works::default());
        let first = works.only("a").await;
        let other = works.only("b").await;
        let waiting = tokio::spawn({
            let works = works.clone();
            async move { works.only("a").await }
        });
        drop(other);
        assert!(!waiting.is_finished());
        drop(first);
        drop(waiting.await.unwrap());
        assert_eq!(lock(&works.making).values().filter(|gate| gate.strong_count() > 0).count(), 0);
    }

    #[tokio::test]
    async fn what_is_held_stays() {
        let works = Arc::new(Works::default());
        let holds = [works.hold(["a".to_owned()]), works.hold(["a".to_owned(), "b".to_owned()])];
        let held = |name: &str| works.while_held(|held| held(name));
        assert!(held("a") && held("b") && !held("c"));
        let [one, two] = holds;
        drop(two);
        assert!(held("a") && !held("b"));
        drop(one);
        assert!(!held("a"));
    }

    #[tokio::test]
    async fn builders_are_as_many_as_fit() {
        // Each is counted with 1 GiB.
        let builders = Builders::new(3, 2 << 30);
        let one = builders.setup(&DEFAULT_LIMITS).await;
        let _two = builders.setup(&DEFAULT_LIMITS).await;
        let third = tokio::spawn({
            let builders = builders.clone();
            async move { builders.setup(&DEFAULT_LIMITS).await }
        });
        let _beside = builders.checkout().await;
        assert!(!third.is_finished());
        drop(one);
        drop(third.await.unwrap());
        let small = Builders::new(1, 1);
        drop(small.setup(&DEFAULT_LIMITS).await);
    }
}
