//! Layers that several want, work that nobody wants any more, and what a sweep leaves.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use offshoot_image::{CredentialFiles, Images, StoreError};

use crate::fixture::{Answer, Body, Fake, Tar, build, images, images_with, owner, quick};

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_fetched_once_however_many_want_it() {
    let shared = Tar::new().file("shared", vec![b'x'; 2_000_000]).end();
    let one = build(&[shared.clone(), Tar::new().file("f", "1").end()]);
    let two = build(&[shared.clone(), Tar::new().file("f", "2").end(), shared]);
    let (first, second) = (one.clone(), two.clone());
    let fake = Fake::start(move |asked| {
        let mut both = if asked.path.contains("/two/") { second.clone() } else { first.clone() };
        both.blobs.extend(first.blobs.clone());
        crate::fixture::answer(&both, asked)
    });
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let get = |name: &str| {
        let (images, reference) = (images.clone(), fake.reference(name));
        tokio::spawn(async move { images.get(&reference, &|_| {}).await.unwrap() })
    };
    let all = [get("one"), get("two"), get("one:again"), get("two:again")];
    let mut found = Vec::new();
    for image in all {
        found.push(image.await.unwrap());
    }
    assert_eq!(found[0].layers[1], found[1].layers[2]);
    assert_eq!(found[1].layers[0], found[1].layers[2], "twice in one image");
    let mut blobs = fake.paths();
    blobs.retain(|path| {
        path.contains("/blobs/") && one.blobs.keys().any(|it| path.ends_with(&it.to_string()))
    });
    blobs.iter_mut().for_each(|path| *path = path.rsplit('/').next().unwrap().to_owned());
    let config = offshoot_image::Digest::of(&one.config).to_string();
    blobs.retain(|it| *it != config);
    blobs.sort();
    let count = blobs.len();
    blobs.dedup();
    assert_eq!((blobs.len(), count), (2, 2), "each once");
    let layers = fs::read_dir(dir.path().join("images/layers")).unwrap().flatten();
    assert_eq!(layers.filter(|it| it.path().is_dir()).count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_waiting_stops_the_work_and_another_takes_over() {
    let built = build(&[Tar::new().file("f", vec![b'x'; 100_000]).end()]);
    let hang = Arc::new(AtomicBool::new(true));
    let (hangs, config) = (hang.clone(), offshoot_image::Digest::of(&built.config).to_string());
    let fake = Fake::of(built.clone(), move |asked| {
        let blob = asked.path.contains("/blobs/") && !asked.path.ends_with(&config);
        (blob && hangs.load(Ordering::SeqCst)).then(|| Answer::body(Body::Silent))
    });
    let dir = tempfile::tempdir().unwrap();
    let limits = offshoot_image::Limits {
        stall: Duration::from_secs(3600),
        grace: Duration::from_secs(3600),
        ..quick()
    };
    let images = images_with(dir.path(), limits);
    let get = || {
        let (images, reference) = (images.clone(), fake.reference("x"));
        tokio::spawn(async move { images.get(&reference, &|_| {}).await })
    };
    let first = get();
    let second = get();
    // One has the layer and hears nothing of it, the other waits.
    let asked = || fake.paths().iter().filter(|path| path.contains("/blobs/")).count();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while asked() < 3 {
        assert!(std::time::Instant::now() < deadline, "{:?}", fake.paths());
        tokio::task::yield_now().await;
    }
    hang.store(false, Ordering::SeqCst);
    first.abort();
    second.abort();
    let third = get();
    let image = tokio::time::timeout(Duration::from_secs(20), third).await.unwrap().unwrap().unwrap();
    assert_eq!(image.digest, built.digest());
    assert_eq!(fs::read_dir(dir.path().join("images/building")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_sweep_leaves_what_is_named_held_or_shared() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let base = Tar::new().file("base", "x").end();
    let image =
        |name: &str| build(&[base.clone(), Tar::new().dir(name).file(format!("{name}/f"), name).end()]);
    let mut found = Vec::new();
    for name in ["named", "held", "gone"] {
        let fake = Fake::of(image(name), |_| None);
        found.push((fake.reference("x"), images.get(&fake.reference("x"), &|_| {}).await.unwrap()));
    }
    let layers = |at: usize| found[at].1.layers.clone();
    let (named, held, gone) = (layers(0), layers(1), layers(2));
    let keep = [found[0].1.digest];
    let gone_digest = found[2].1.digest;
    let (gone_name, _) = found.pop().unwrap();
    let copy = found[1].1.clone();
    let (held_name, _) = found.pop().unwrap();
    found.clear();
    let swept = images.sweep(&keep, "a test").await.unwrap();
    assert_eq!((&swept.images[..], swept.layers.len()), (&[gone_digest][..], 1));
    assert!(named.iter().chain(&held).all(|it| it.is_dir()));
    assert!(!gone[0].exists() && gone[1].is_dir());
    assert!(images.here(&gone_name).is_none() && images.here(&held_name).is_some());
    assert_eq!(images.sweep(&keep, "a test").await.unwrap(), offshoot_image::Swept::default());
    drop(copy);
    // Held by `here` a moment ago, by nobody now.
    assert_eq!(images.sweep(&keep, "a test").await.unwrap().images.len(), 1);
    assert_eq!(images.sweep(&[], "a test").await.unwrap().layers.len(), 2);
    for name in ["layers", "images", "references", "building", "blobs"] {
        assert_eq!(fs::read_dir(dir.path().join("images").join(name)).unwrap().count(), 0, "{name}");
    }
}

#[tokio::test]
async fn a_layer_that_was_taken_away_by_hand_is_fetched_again() {
    let built = build(&[Tar::new().file("f", "1").end(), Tar::new().file("g", "1").end()]);
    let fake = Fake::of(built, |_| None);
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let image = images.get(&fake.reference("x"), &|_| {}).await.unwrap();
    fs::remove_dir_all(&image.layers[0]).unwrap();
    assert!(images.here(&fake.reference("x")).is_none());
    let again = images.get(&fake.reference("x"), &|_| {}).await.unwrap();
    assert!(again.layers[0].join("g").is_file());
    // Records that are torn are as if they were not there.
    for name in ["images", "references"] {
        for entry in fs::read_dir(dir.path().join("images").join(name)).unwrap().flatten() {
            fs::write(entry.path(), "{").unwrap();
        }
    }
    images.get(&fake.reference("x"), &|_| {}).await.unwrap();
}

#[tokio::test]
async fn a_layer_that_may_not_have_reached_the_disk_is_fetched_again() {
    let built = build(&[Tar::new().file("f", "1").end()]);
    let fake = Fake::of(built, |_| None);
    let dir = tempfile::tempdir().unwrap();
    let opened = images(dir.path());
    let image = opened.get(&fake.reference("x"), &|_| {}).await.unwrap();
    let sealed = image.layers[0].with_extension("json");
    let on_disk = async || {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !fs::read_to_string(&sealed).unwrap().contains("true") {
            assert!(std::time::Instant::now() < deadline);
            tokio::task::yield_now().await;
        }
    };
    on_disk().await;
    drop(opened);
    for (text, trusted) in [
        (r#"{"boot":"another","durable":true}"#, true),
        (r#"{"boot":"another","durable":false}"#, false),
        ("", false),
    ] {
        fs::write(&sealed, text).unwrap();
        let images = images(dir.path());
        assert_eq!(images.here(&fake.reference("x")).is_some(), trusted);
        assert_eq!(image.layers[0].exists(), trusted);
        images.get(&fake.reference("x"), &|_| {}).await.unwrap();
        on_disk().await;
    }
}

#[test]
fn one_process_works_there() {
    let dir = tempfile::tempdir().unwrap();
    let first = images(dir.path());
    let root = dir.path().join("images");
    let again = || Images::with(&root, owner(), quick(), CredentialFiles::default());
    assert!(matches!(again(), Err(StoreError::InUse(_))));
    drop(first);
    again().unwrap();
}
