//! `kill -9` in the middle of appends, and at the two moments around a commit.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use offshoot_store::{NewEntry, Store, TaskFilter};

use crate::support;

const PATH: &str = "OFFSHOOT_TEST_STORE";

/// The child's part: appends batches of three for as long as it lives, and tells after each.
#[test]
fn child() {
    let Some(path) = std::env::var_os(PATH).map(PathBuf::from) else { return };
    let store = Store::open(&path).unwrap();
    let number = u128::from(store.last_seq()) + 1;
    store.append(&support::at_work(number)).unwrap();
    let mut out = std::io::stdout().lock();
    for offset in 0.. {
        let batch: Vec<_> = (0..3)
            .map(|n| {
                support::entry(
                    support::task(number),
                    Some(support::run(number)),
                    support::message(offset + n),
                )
            })
            .collect();
        let last = store.append(&batch).unwrap().last().unwrap().seq;
        writeln!(out, "appended {last}").unwrap();
        out.flush().unwrap();
    }
}

fn start(path: &Path, fault: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::child", "--nocapture"]).env(PATH, path).env_remove("OFFSHOOT_FAULT");
    if let Some(fault) = fault {
        command.env("OFFSHOOT_FAULT", fault);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills the child after so many batches; returns the last number it told.
fn kill_after(mut child: Child, batches: usize) -> u64 {
    let mut told = 0;
    let mut count = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some(seq) = line.unwrap().split("appended ").nth(1).and_then(|text| text.parse().ok()) {
            told = seq;
            count += 1;
            if count == batches {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    told
}

fn check(path: &Path, told: u64) -> u64 {
    let store = Store::open(path).unwrap();
    let entries = store.entries(0, None, usize::MAX).unwrap();
    assert!(entries.iter().map(|entry| entry.seq).eq(1..=store.last_seq()), "without gaps");
    assert!(store.last_seq() >= told, "what was answered is there");
    let all = TaskFilter { include_done: true, ..TaskFilter::default() };
    let before = store.tasks(&all, 1000).unwrap();
    for record in &before {
        let of_task = store.entries(0, Some(record.id), usize::MAX).unwrap().len();
        assert_eq!((of_task - 4) % 3, 0, "whole batches");
    }
    store.rebuild().unwrap();
    assert_eq!(store.tasks(&all, 1000).unwrap(), before);
    store.last_seq()
}

#[test]
fn a_killed_store_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    for batches in [1, 7, 40, 200, 3] {
        let told = kill_after(start(&path, None), batches);
        assert!(told > 0);
        check(&path, told);
    }
}

#[test]
fn a_commit_happens_or_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let first: Vec<NewEntry> = support::at_work(1);
    Store::open(&path).unwrap().append(&first).unwrap();
    if cfg!(debug_assertions) {
        kill_after(start(&path, Some("store.before_commit")), usize::MAX);
        assert_eq!(check(&path, 4), 4);
        kill_after(start(&path, Some("store.after_commit")), usize::MAX);
        assert_eq!(check(&path, 4), 8);
    }
}
