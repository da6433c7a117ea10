//! Processes killed at the named points: afterwards everything is in a true state, and doing it again completes it.

use std::{path::Path, process::Command};

use offshoot_git::{
    import::Limits,
    land::{land, plan, recover},
    publish::publish,
    repository::Repository,
    store::Store,
};

use crate::{
    fixture::{BRANCH, Fixture, git, try_git},
    landing::{options, task},
};

/// This test is the child that the others start and that is killed; by itself it does nothing.
#[test]
fn child() {
    let Ok(job) = std::env::var("OFFSHOOT_TEST_JOB") else { return };
    let [what, repo, store, arg] = job.split('\n').collect::<Vec<_>>()[..] else { panic!("{job}") };
    let repo = Repository::discover(Path::new(repo)).unwrap();
    let store = Store::open(Path::new(store), repo.object_format()).unwrap();
    match what {
        "export" => drop(store.export(&repo, &arg.parse().unwrap())),
        "import" => drop(store.import(&std::fs::File::open(arg).unwrap(), "run", &Limits::default())),
        "publish" => drop(publish(&store, &repo, BRANCH, &arg.parse().unwrap(), None)),
        _ => drop(land(&store, &repo, &arg.parse().unwrap(), "main", &options(true))),
    }
    panic!("not killed");
}

fn killed(point: &str, it: &Fixture, job: &str, arg: &str) {
    let job = [job, it.repo.to_str().unwrap(), it.store().dir().to_str().unwrap(), arg].join("\n");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "kill::child", "--nocapture"])
        .env("OFFSHOOT_FAULT", point)
        .env("OFFSHOOT_TEST_JOB", job);
    let out = command.output().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&out.status);
    assert_eq!(signal, Some(6), "{point}: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn export_and_import() {
    for point in ["export.pack", "export.ref"] {
        let it = Fixture::new();
        let head = it.repository().resolve("HEAD").unwrap();
        killed(point, &it, "export", head.as_str());
        let ws = it.workspace("ws");
        ws.git(&["fsck"]);
    }
    for point in ["import.quarantine", "import.objects"] {
        let it = Fixture::new();
        let ws = it.workspace("ws");
        ws.write("x", "x");
        let head = ws.finish().head;
        let file = it.tmp.path().join("bundle");
        std::fs::write(&file, ws.bundle()).unwrap();
        killed(point, &it, "import", file.to_str().unwrap());
        assert!(ws.store.runs().unwrap().is_empty());
        assert_eq!(ws.import("run").head, head);
        ws.store.gc().unwrap();
        assert_eq!(std::fs::read_dir(ws.store.dir().join("quarantine")).unwrap().count(), 0);
        assert!(ws.store.has_commit(&head).unwrap());
    }
}

#[test]
fn publishing() {
    let it = Fixture::new();
    let (ws, head) = task(&it);
    killed("publish.objects", &it, "publish", head.as_str());
    assert!(try_git(&it.repo, &["rev-parse", BRANCH]).is_err());
    publish(&ws.store, &it.repository(), BRANCH, &head, None).unwrap();
}

#[test]
fn landing() {
    for checked_out in [true, false] {
        for point in ["land.objects", "land.record", "land.files", "land.index", "land.ref"] {
            if !checked_out && matches!(point, "land.files" | "land.index") {
                continue;
            }
            for again in ["land", "recover"] {
                let it = Fixture::new();
                if !checked_out {
                    it.git(&["checkout", "-q", "-b", "elsewhere"]);
                }
                let (ws, head) = task(&it);
                it.write("mine", "local");
                let repo = it.repository();
                killed(point, &it, "land", head.as_str());
                let landed = it.git(&["rev-parse", "main"]) != ws.base.as_str();
                assert_eq!(landed, point == "land.ref");
                if again == "recover" {
                    let done = recover(&ws.store, &repo).unwrap();
                    assert_eq!(done.len(), usize::from(point != "land.objects"), "{point}");
                }
                land(&ws.store, &repo, &head, "main", &options(true)).unwrap();
                assert_eq!(git(&it.repo, &["rev-list", "--count", "main"]), "2", "{point}: landed once");
                assert_eq!(it.git(&["status", "--porcelain"]), "?? mine", "{point} {again}");
                assert!(!it.repo.join(".git/index.lock").exists());
                assert_eq!(std::fs::read_dir(ws.store.dir().join("landing")).unwrap().count(), 0);
                if point != "land.objects" {
                    assert!(plan(&ws.store, &repo, &head, "main").is_ok());
                }
            }
        }
    }
}

#[test]
fn files_written_and_index_not() {
    // As after a power cut in the middle of the checkout: git itself was killed too.
    let it = Fixture::new();
    let (ws, head) = task(&it);
    killed("land.record", &it, "land", head.as_str());
    it.write("a.txt", "one\ntwo\nTHREE\n");
    it.write("new/deep/file", "n\n");
    std::fs::remove_file(it.repo.join("src/lib.rs")).unwrap();
    let done = recover(&ws.store, &it.repository()).unwrap();
    assert_eq!(done.len(), 1);
    assert_eq!(it.git(&["status", "--porcelain"]), "");
}
