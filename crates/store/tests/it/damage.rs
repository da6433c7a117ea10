//! Damage, other versions, two openers, backups.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
};

use offshoot_store::{AppendError, OpenError, Store, StoreError, TaskFilter};

use crate::support;

fn filled(path: &Path) -> Store {
    let store = Store::open(path).unwrap();
    for number in 1..40 {
        store.append(&support::at_work(number)).unwrap();
    }
    store
}

/// Leaves the files as they are when a daemon is killed: the mark stays.
fn mark_unclean(path: &Path) {
    fs::write(path.with_file_name("store.db.lock"), "open\n").unwrap();
}

fn flip(path: &Path, from: u64, length: usize) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, from).unwrap();
    bytes.iter_mut().for_each(|byte| *byte ^= 0x5a);
    file.write_all_at(&bytes, from).unwrap();
}

#[test]
fn a_damaged_file_is_refused_with_the_backup_named_and_left_alone() {
    let header = (0, 64);
    let page = (2 * 4096, 512);
    for (clean, (from, length)) in [(true, header), (false, header), (false, page)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let store = filled(&path);
        let backup = store.backup().unwrap();
        drop(store);
        flip(&path, from, length);
        if !clean {
            mark_unclean(&path);
        }
        let before = fs::read(&path).unwrap();
        match Store::open(&path) {
            Err(OpenError::Corrupt { path: named, backup: Some(found), .. }) => {
                assert_eq!((named, &found), (path.clone(), &backup));
            }
            other => panic!("{clean} {from}: {other:?}"),
        }
        assert_eq!(fs::read(&path).unwrap(), before);
        // What the message tells people to do works.
        fs::copy(&backup, &path).unwrap();
        assert_eq!(Store::open(&path).unwrap().last_seq(), 39 * 4);
    }
}

#[test]
fn damage_found_later_makes_the_next_opening_look() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    drop(filled(&path));
    let pages = fs::metadata(&path).unwrap().len() / 4096;
    for page in 3..pages {
        flip(&path, page * 4096, 256);
    }
    match Store::open(&path) {
        Err(OpenError::Corrupt { backup: None, .. }) => return,
        Err(other) => panic!("{other:?}"),
        Ok(store) => match store.entries(0, None, 1000) {
            Err(StoreError::Corrupt { .. }) => {}
            other => panic!("{other:?}"),
        },
    }
    assert!(matches!(Store::open(&path), Err(OpenError::Corrupt { .. })));
}

#[test]
fn an_emptied_or_missing_file_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = filled(&path);
    let copy = store.backup().unwrap();
    drop(store);
    fs::write(&path, "").unwrap();
    assert!(matches!(Store::open(&path), Err(OpenError::Corrupt { backup: Some(b), .. }) if b == copy));
    fs::remove_file(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(OpenError::Corrupt { backup: Some(b), .. }) if b == copy));
    assert!(!path.exists());
}

#[test]
fn a_file_of_another_program_or_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    fs::write(&path, "This is a letter to my grandmother. ".repeat(200)).unwrap();
    assert!(matches!(Store::open(&path), Err(OpenError::Corrupt { backup: None, .. })));
    fs::remove_file(&path).unwrap();
    drop(filled(&path));
    let other = rusqlite::Connection::open(&path).unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    other.close().unwrap();
    assert!(matches!(Store::open(&path), Err(OpenError::Newer { found: 99, known: 3, .. })));
}

#[test]
fn two_openers_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = filled(&path);
    assert!(matches!(Store::open(&path), Err(OpenError::Locked { .. })));
    store.append(&support::at_work(100)).unwrap();
    drop(store);
    Store::open(&path).unwrap();
}

#[test]
fn the_two_newest_backups_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = filled(&path);
    let open = |name: &str| {
        let copied = dir.path().join("copied.db");
        fs::copy(dir.path().join(name), &copied).unwrap();
        Store::open(&copied).unwrap().last_seq()
    };
    let first = store.last_seq();
    store.backup().unwrap();
    let written = fs::metadata(dir.path().join("store.db.backup")).unwrap().modified().unwrap();
    store.backup().unwrap();
    assert_eq!(fs::metadata(dir.path().join("store.db.backup")).unwrap().modified().unwrap(), written);
    store.append(&support::at_work(100)).unwrap();
    store.backup().unwrap();
    assert_eq!((open("store.db.backup"), open("store.db.backup-older")), (first + 4, first));
    store.append(&support::at_work(101)).unwrap();
    store.backup().unwrap();
    assert_eq!((open("store.db.backup"), open("store.db.backup-older")), (first + 8, first + 4));
    for file in fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        assert!(!name.contains("-keep") && !name.contains(".new"), "{name} is left over");
        if name.starts_with("store.db") {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{name} is private");
        }
    }
}

#[test]
fn an_unclean_end_without_damage_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    drop(filled(&path));
    mark_unclean(&path);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.tasks(&TaskFilter::default(), 100).unwrap().len(), 39);
    match store.append(&support::at_work(1)) {
        Err(AppendError::Fold { index: 0, kind, .. }) => assert_eq!(kind, "task_created"),
        other => panic!("{other:?}"),
    }
}
