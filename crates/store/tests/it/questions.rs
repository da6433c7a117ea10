//! What can be asked.

use offshoot_core::{
    event::Event,
    lifecycle::{RunEnd, TaskState},
};
use offshoot_store::{AppendError, Store, TaskFilter};

use crate::support::{at_work, created, ended, entry, project, queued, run, task};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.db")).unwrap();
    (dir, store)
}

#[test]
fn a_task_is_found_by_id_beginning_and_name() {
    let (_dir, store) = store();
    store
        .append(&[
            entry(task(1), None, created(project(1), "fix")),
            entry(task(2), None, created(project(2), "fix")),
            entry(task(3), None, created(project(1), "old")),
            entry(task(3), None, Event::Discarded { reason: "no".to_owned() }),
            entry(task(4), None, created(project(1), "old")),
            entry(task(4), None, Event::Discarded { reason: "no".to_owned() }),
            entry(task(5), None, created(project(2), "beef")),
        ])
        .unwrap();
    let found =
        |word: &str, of| -> Vec<_> { store.find(word, of).unwrap().into_iter().map(|t| t.id).collect() };
    assert_eq!(found("fix", None), [task(2), task(1)]);
    assert_eq!(found("fix", Some(project(1))), [task(1)]);
    assert_eq!(found("old", None), [task(4)], "the newest of those that are over");
    assert_eq!(found(&task(3).to_string(), None), [task(3)]);
    assert_eq!(found(&task(3).to_string().to_uppercase(), None), [task(3)]);
    assert_eq!(found("0190", None).len(), 5);
    assert_eq!(found("0190", Some(project(2))), [task(5), task(2)]);
    assert_eq!(found("beef", None), [task(5)], "a name before an id");
    for nothing in ["", "019", "none", "%", "fi", "0191"] {
        assert!(found(nothing, None).is_empty(), "{nothing}");
    }
}

#[test]
fn a_name_is_free_again_when_its_task_is_over() {
    let (_dir, store) = store();
    store.append(&[entry(task(1), None, created(project(1), "fix"))]).unwrap();
    let second = entry(task(2), None, created(project(1), "fix"));
    match store.append(std::slice::from_ref(&second)) {
        Err(AppendError::NameTaken { project: p, name }) => {
            assert_eq!((p, name.as_str()), (project(1), "fix"))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.last_seq(), 1);
    store.append(&[second, entry(task(1), None, Event::Discarded { reason: "no".to_owned() })]).unwrap();
    assert_eq!(store.find("fix", None).unwrap().len(), 1);
}

#[test]
fn a_landed_task_cannot_come_back_to_a_name_in_use() {
    let (_dir, store) = store();
    let land = Event::Landed { target: "main".to_owned(), commit: "c".to_owned(), repositories: Vec::new() };
    store
        .append(&[
            entry(task(1), None, created(project(1), "fix")),
            entry(task(1), None, land),
            entry(task(2), None, created(project(1), "fix")),
        ])
        .unwrap();
    let again = entry(task(1), Some(run(1)), queued(1));
    assert!(matches!(store.append(&[again]), Err(AppendError::NameTaken { .. })));
    assert_eq!(store.task(task(1)).unwrap().unwrap().state, TaskState::Landed);
}

#[test]
fn a_batch_with_one_bad_event_leaves_nothing() {
    let (_dir, store) = store();
    store.append(&at_work(1)).unwrap();
    let before = store.task(task(1)).unwrap();
    let batch = [
        entry(task(1), Some(run(1)), Event::StopRequested),
        entry(task(1), Some(run(9)), Event::StopRequested),
    ];
    assert!(matches!(store.append(&batch), Err(AppendError::Fold { index: 1, .. })));
    assert_eq!(store.task(task(1)).unwrap(), before);
    assert_eq!(store.entries(0, None, 100).unwrap().len(), 4);
    assert_eq!(store.append(&batch[..1]).unwrap()[0].seq, 5);
    assert!(store.append(&[]).unwrap().is_empty());
}

#[test]
fn the_queue_is_first_come_first_served() {
    let (_dir, store) = store();
    for n in [3, 1, 2] {
        store
            .append(&[
                entry(task(n), None, created(project(1), &format!("t{n}"))),
                entry(task(n), Some(run(n)), queued(1)),
            ])
            .unwrap();
    }
    store.append(&[entry(task(1), Some(run(1)), Event::StopRequested)]).unwrap();
    let waiting = |store: &Store| store.queued().unwrap().iter().map(|w| (w.seq, w.task)).collect::<Vec<_>>();
    assert_eq!(waiting(&store), [(2, task(3)), (4, task(1)), (6, task(2))]);
    store.append(&[entry(task(3), Some(run(3)), Event::RunAdmitted)]).unwrap();
    store.append(&[entry(task(1), Some(run(1)), ended(RunEnd::Stopped))]).unwrap();
    assert_eq!(waiting(&store), [(6, task(2))]);
    let states = |states: &[TaskState]| -> Vec<_> {
        store.tasks_in_states(states).unwrap().into_iter().map(|t| t.id).collect()
    };
    assert_eq!(states(&[TaskState::Running, TaskState::Queued]), [task(2), task(3)]);
    assert_eq!(states(&[TaskState::Stopped]), [task(1)]);
    assert!(states(&[]).is_empty());
    let listed = |filter| store.tasks(&filter, 2).unwrap().into_iter().map(|t| t.id).collect::<Vec<_>>();
    assert_eq!(listed(TaskFilter::default()), [task(3), task(2)]);
    assert!(listed(TaskFilter { project: Some(project(2)), ..TaskFilter::default() }).is_empty());
}

#[test]
fn entries_are_paged_by_number() {
    let (_dir, store) = store();
    for n in 1..4 {
        store.append(&at_work(n)).unwrap();
    }
    let seqs = |after, of, limit| -> Vec<_> {
        store.entries(after, of, limit).unwrap().into_iter().map(|e| e.seq).collect()
    };
    assert_eq!(seqs(3, None, 3), [4, 5, 6]);
    assert_eq!(seqs(6, Some(task(2)), usize::MAX), [7, 8]);
    assert!(seqs(u64::MAX >> 1, None, 5).is_empty());
    assert!(seqs(0, Some(task(9)), 5).is_empty());
}

#[test]
fn projects_and_settings_stay() {
    let (dir, store) = store();
    let a = store.project("/r/.git", "/r").unwrap();
    assert_eq!(store.project("/r/.git", "/moved").unwrap(), a);
    let b = store.project("/s/.git", "/s").unwrap();
    assert_ne!(a, b);
    store.set_setting("port", "1").unwrap();
    store.set_setting("port", "2").unwrap();
    drop(store);
    let store = Store::open(&dir.path().join("store.db")).unwrap();
    let projects = store.projects().unwrap();
    assert_eq!(projects.iter().map(|p| p.id).collect::<Vec<_>>(), [a, b]);
    assert_eq!(projects[0].root, "/moved");
    assert_eq!(store.setting("port").unwrap().as_deref(), Some("2"));
    assert_eq!(store.setting("none").unwrap(), None);
}

#[test]
fn questions_from_many_threads_see_whole_batches() {
    let (_dir, store) = store();
    store.append(&at_work(1)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let record = store.task(task(1)).unwrap().unwrap();
                    assert_eq!(record.checkpoints.len() % 2, 0);
                    if record.checkpoints.len() == 200 {
                        break;
                    }
                }
            });
        }
        for number in 0..100 {
            let checkpoint = |number| {
                let title = "t".to_owned();
                entry(
                    task(1),
                    Some(run(1)),
                    Event::Checkpoint {
                        number,
                        commit: "c".to_owned(),
                        title,
                        changed: 0,
                        others: Vec::new(),
                    },
                )
            };
            store.append(&[checkpoint(2 * number), checkpoint(2 * number + 1)]).unwrap();
        }
    });
}
