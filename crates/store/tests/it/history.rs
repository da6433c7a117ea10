//! Random histories: what the store keeps is what folding in memory gives, however often it is opened and rebuilt.

use std::collections::BTreeMap;

use offshoot_core::{
    agent::{AgentEvent, ToolKind, ToolStatus},
    event::{Entry, EnvironmentCreating, Event, Harvested},
    id::{EnvironmentId, TaskId},
    lifecycle::RunEnd,
    record::TaskRecord,
};
use offshoot_store::{AppendError, NewEntry, Store, TaskFilter};
use proptest::prelude::*;

use crate::support;

/// Something to try on one of four tasks; what does not fit is refused.
fn step() -> impl Strategy<Value = (u128, u32, Event)> {
    let environment = |n: u128| EnvironmentId(support::id(n));
    let end = prop_oneof![Just(RunEnd::Complete), Just(RunEnd::Failed), Just(RunEnd::Stopped)];
    let event = prop_oneof![
        4 => (0u32..3).prop_map(|n| support::created(support::project(1), &format!("name-{n}"))),
        8 => (1u32..5).prop_map(support::queued),
        8 => Just(Event::RunAdmitted),
        6 => Just(Event::AgentStarted { exec: "agent-1".to_owned() }),
        6 => (0u64..1 << 40).prop_map(support::message),
        4 => (any::<u32>(), -1e9f64..1e9).prop_map(|(n, cost)| Event::Agent {
            agent: AgentEvent::Usage { input_tokens: n.into(), output_tokens: 2, cost_usd: Some(cost) },
            offset: 7
        }),
        3 => ".{0,20}".prop_map(|title| Event::Agent {
            agent: AgentEvent::ToolCall {
                id: "1".to_owned(), title, kind: ToolKind::Edit, status: ToolStatus::Failed,
                locations: Vec::new(), detail: None, change: None
            },
            offset: 9
        }),
        3 => (any::<u32>(), ".{0,9}").prop_map(|(number, title)| Event::Checkpoint {
            number, commit: "c".to_owned(), title, changed: 3, others: Vec::new()
        }),
        4 => (0u128..3).prop_map(move |n| Event::EnvironmentCreating(EnvironmentCreating {
            environment: environment(n), base: "b".to_owned(), setup: None, workspace: None, services: Vec::new()
        })),
        3 => (0u128..3).prop_map(move |n| Event::EnvironmentUp {
            environment: environment(n), tier: "sandbox".to_owned(), soft_limits: vec!["memory".to_owned()], took_us: 9
        }),
        2 => (0u128..3).prop_map(move |n| Event::EnvironmentRemoved {
            environment: environment(n), reason: "done".to_owned()
        }),
        2 => Just(Event::AttentionNeeded { reason: "look".to_owned() }),
        2 => Just(Event::AttentionSettled),
        2 => Just(Event::AgentResting),
        1 => Just(Event::StopRequested),
        2 => Just(Event::CheckEnded { code: Some(1), output: "no".to_owned() }),
        4 => Just(Event::Harvesting),
        2 => Just(Event::Harvested(Harvested {
            head: "h".to_owned(), commits: 1, ..Harvested::default()
        })),
        6 => end.prop_map(support::ended),
        2 => Just(Event::Landed { target: "main".to_owned(), commit: "l".to_owned(), repositories: Vec::new() }),
        1 => Just(Event::Discarded { reason: "no".to_owned() }),
    ];
    (0u128..4, 1u32..5, event)
}

#[derive(Default)]
struct Model {
    log: Vec<Entry>,
    records: BTreeMap<TaskId, TaskRecord>,
}

impl Model {
    /// Folds a batch; `None` if it does not fit.
    fn fold(&self, batch: &[NewEntry]) -> Option<(Vec<Entry>, BTreeMap<TaskId, TaskRecord>)> {
        let mut records = self.records.clone();
        let mut entries = Vec::new();
        for (new, seq) in batch.iter().zip(self.log.len() as u64 + 1..) {
            let entry = Entry { seq, at: new.at, task: new.task, run: new.run, event: new.event.clone() };
            match records.get_mut(&new.task) {
                Some(record) => record.apply(&entry).ok()?,
                None => {
                    records.insert(new.task, TaskRecord::create(&entry).ok()?);
                }
            }
            entries.push(entry);
        }
        Some((entries, records))
    }

    fn names_clash(records: &BTreeMap<TaskId, TaskRecord>) -> bool {
        use offshoot_core::lifecycle::TaskState as S;
        let live: Vec<_> = records
            .values()
            .filter(|r| !matches!(r.state, S::Landed | S::Discarded))
            .map(|r| &r.name)
            .collect();
        live.iter().any(|name| live.iter().filter(|other| other == &name).count() > 1)
    }
}

fn everything(store: &Store) -> Vec<TaskRecord> {
    store.tasks(&TaskFilter { include_done: true, ..TaskFilter::default() }, 1000).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_the_fold(batches in prop::collection::vec((prop::collection::vec(step(), 1..4), 0..20u8), 1..120)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let mut store = Store::open(&path).unwrap();
        let mut model = Model::default();
        for (steps, reopen) in batches {
            if reopen == 0 {
                drop(store);
                store = Store::open(&path).unwrap();
            }
            let batch: Vec<_> = steps
                .into_iter()
                .map(|(task, number, event)| {
                    // A follow-up run is the next one; anything else is about the newest run.
                    let id = support::task(task);
                    let have = model.records.get(&id).map_or(0, |r| r.runs.len() as u32);
                    let (event, number) = match event {
                        Event::RunQueued(_) => (support::queued(have + 1), have + 1),
                        event if number > 3 => (event, number),
                        event => (event, have),
                    };
                    support::entry(id, Some(support::run(task << 8 | u128::from(number))), event)
                })
                .collect();
            // Two runs queued in one batch would need two numbers; the engine never does that.
            match (store.append(&batch), model.fold(&batch)) {
                (Ok(entries), Some((want, records))) => {
                    prop_assert_eq!(&entries, &want);
                    prop_assert!(!Model::names_clash(&records));
                    model.log.extend(want);
                    model.records = records;
                }
                (Err(AppendError::Fold { .. }), None) => {}
                (Err(AppendError::NameTaken { .. }), Some((_, records))) => {
                    prop_assert!(Model::names_clash(&records));
                }
                (got, want) => prop_assert!(false, "{got:?} but {want:?}"),
            }
        }
        for (id, record) in &model.records {
            prop_assert_eq!(store.task(*id).unwrap(), Some(record.clone()));
        }
        prop_assert_eq!(store.entries(0, None, usize::MAX).unwrap(), model.log.clone());
        prop_assert_eq!(store.entries_before(u64::MAX, None, usize::MAX).unwrap(), model.log.clone());
        for id in model.records.keys() {
            let of_task: Vec<_> = model.log.iter().filter(|entry| entry.task == *id).cloned().collect();
            let middle = of_task.len() / 2;
            let before = of_task.get(middle).map_or(u64::MAX, |entry| entry.seq);
            let older = &of_task[middle.saturating_sub(2)..middle];
            prop_assert_eq!(store.entries_before(before, Some(*id), 2).unwrap(), older);
            prop_assert_eq!(store.entries_before(u64::MAX, Some(*id), usize::MAX).unwrap(), of_task);
        }
        let waiting = store.queued().unwrap();
        let want: Vec<_> = model
            .records
            .values()
            .flat_map(|r| r.runs.iter())
            .filter(|r| r.state == offshoot_core::lifecycle::RunState::Queued)
            .map(|r| r.id)
            .collect();
        prop_assert_eq!(waiting.len(), want.len());
        prop_assert!(waiting.is_sorted_by_key(|w| w.seq));
        for w in &waiting {
            let queued = &model.log[w.seq as usize - 1];
            prop_assert!(want.contains(&w.run) && queued.run == Some(w.run) && queued.task == w.task);
        }
        let before = everything(&store);
        store.rebuild().unwrap();
        prop_assert_eq!(everything(&store), before);
        prop_assert_eq!(store.queued().unwrap(), waiting);
        drop(store);
        let store = Store::open(&path).unwrap();
        prop_assert_eq!(store.last_seq(), model.log.len() as u64);
    }
}
