//! Processes killed at the named points: afterwards everything is in a true state, and doing it again completes it.

use std::{fs, path::Path, process::Command};

use crate::{
    fixture::{Registry, images},
    pull::three_layers,
};

/// This test is the child that the others start and that is killed; by itself it does nothing.
#[tokio::test]
async fn child() {
    let Ok(job) = std::env::var("OFFSHOOT_TEST_JOB") else { return };
    let [what, dir, reference] = job.split('\n').collect::<Vec<_>>()[..] else { panic!("{job}") };
    let images = images(Path::new(dir));
    match what {
        "get" => drop(images.get(&reference.parse().unwrap(), &|_| {}).await),
        _ => drop(images.sweep(&[], "a test").await),
    }
    panic!("not killed");
}

fn killed(point: &str, what: &str, dir: &Path, reference: &str) {
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--nocapture"])
        .env("OFFSHOOT_FAULT", point)
        .env("OFFSHOOT_TEST_JOB", [what, dir.to_str().unwrap(), reference].join("\n"))
        .output()
        .unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&out.status);
    assert_eq!(signal, Some(6), "{point}: {}", String::from_utf8_lossy(&out.stderr));
}

#[tokio::test]
async fn pulling() {
    let registry = Registry::start();
    let built = three_layers();
    registry.push("x", "1", &built);
    let reference = registry.reference("x:1");
    for point in [
        "image.download",
        "image.downloaded",
        "image.entry",
        "image.entry#4",
        "image.unpacked",
        "image.unpacked#3",
        "image.placed",
        "image.placed#3",
        "image.record",
        "image.named",
        "image.record#2",
    ] {
        let dir = tempfile::tempdir().unwrap();
        killed(point, "get", dir.path(), &reference.to_string());
        let images = images(dir.path());
        for name in ["building", "blobs"] {
            assert_eq!(
                fs::read_dir(dir.path().join("images").join(name)).unwrap().count(),
                0,
                "{point} {name}"
            );
        }
        let image = images.get(&reference, &|_| {}).await.unwrap();
        assert_eq!(image.digest, built.digest(), "{point}");
        assert!(
            image.layers[0].join("data/y").is_file() && image.layers[2].join("etc/b").is_file(),
            "{point}"
        );
        drop(image);
        assert_eq!(images.sweep(&[], "a test").await.unwrap().layers.len(), 3, "{point}");
    }
}

#[tokio::test]
async fn sweeping() {
    let registry = Registry::start();
    let built = three_layers();
    registry.push("x", "1", &built);
    let reference = registry.reference("x:1");
    for point in ["image.forgotten", "image.swept"] {
        let dir = tempfile::tempdir().unwrap();
        drop(images(dir.path()).get(&reference, &|_| {}).await.unwrap());
        killed(point, "sweep", dir.path(), "");
        let images = images(dir.path());
        assert!(images.here(&reference).is_none(), "{point}");
        images.sweep(&[], "a test").await.unwrap();
        for name in ["layers", "images", "references", "building"] {
            assert_eq!(
                fs::read_dir(dir.path().join("images").join(name)).unwrap().count(),
                0,
                "{point} {name}"
            );
        }
        assert_eq!(images.get(&reference, &|_| {}).await.unwrap().digest, built.digest());
    }
}
