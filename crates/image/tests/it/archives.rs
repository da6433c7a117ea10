//! Images in files: layouts as directories and tars, and what `docker save` writes, old and new.

use std::{fs, path::Path, process::Command};

use offshoot_image::{ArchiveError, Digest, ImageError, Reference};

use crate::{
    fixture::{Built, Tar, build, chain, gzip, images, layout},
    pull::three_layers,
};

fn reference(text: &str, path: &Path) -> Reference {
    text.replace("PATH", path.to_str().unwrap()).parse().unwrap()
}

/// What `docker save` wrote until version 25; `link` has the second image link to the first one's layer.
fn saved(images: &[(&str, &Built)], new: bool) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut list = Vec::new();
    let mut written: Vec<(Digest, String)> = Vec::new();
    for (name, image) in images {
        let mut layers = Vec::new();
        for (at, layer) in image.tars.iter().enumerate() {
            let digest = Digest::of(layer);
            let path = match new {
                true => format!("blobs/sha256/{}", digest.hex()),
                false => format!("{name}{at}/layer.tar"),
            };
            tar = match written.iter().find(|(it, _)| *it == digest) {
                Some((_, first)) if new => drop_it(tar, first),
                Some((_, first)) => tar.symlink(&path, format!("../{first}")),
                None => tar.file(&path, layer),
            };
            written.push((digest, path.clone()));
            layers.push(format!("\"{path}\""));
        }
        let hex = Digest::of(&image.config).hex();
        let config = if new { format!("blobs/sha256/{hex}") } else { format!("{hex}.json") };
        tar = tar.file(&config, &image.config);
        list.push(format!(
            r#"{{"Config":"{config}","RepoTags":["{name}:1"],"Layers":[{}]}}"#,
            layers.join(",")
        ));
    }
    tar.file("manifest.json", format!("[{}]", list.join(","))).file("repositories", "{}").end()
}

fn drop_it(tar: Tar, _: &str) -> Tar {
    tar
}

#[tokio::test]
async fn layouts_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let built = three_layers();
    let path = dir.path().join("layout");
    layout(&path, &[("one", &built)]);
    for text in ["oci:PATH", "oci:PATH:one"] {
        assert_eq!(images.get(&reference(text, &path), &|_| {}).await.unwrap().digest, built.digest());
    }
    let tar = dir.path().join("layout.tar");
    let packed =
        Command::new("tar").args(["-C", path.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."]).status();
    assert!(packed.unwrap().success());
    let gz = dir.path().join("layout.tar.gz");
    fs::write(&gz, gzip(&fs::read(&tar).unwrap())).unwrap();
    for path in [&tar, &gz] {
        let image = images.get(&reference("oci:PATH", path), &|_| {}).await.unwrap();
        assert_eq!((image.digest, image.layers.len()), (built.digest(), 3));
    }
    // Relative to where the project is.
    let relative: Reference = "oci:layout".parse().unwrap();
    assert!(images.here(&relative.below(dir.path())).is_some());
}

#[tokio::test]
async fn one_of_several_has_to_be_named() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let (one, two) = (three_layers(), build(&[Tar::new().file("f", "2").end()]));
    let path = dir.path().join("layout");
    layout(&path, &[("one", &one), ("two", &two)]);
    assert_eq!(images.get(&reference("oci:PATH:two", &path), &|_| {}).await.unwrap().digest, two.digest());
    for text in ["oci:PATH", "oci:PATH:three"] {
        match images.get(&reference(text, &path), &|_| {}).await {
            Err(ImageError::Archive(ArchiveError::Which { found, .. })) => assert_eq!(found, ["one", "two"]),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_docker_save_wrote_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let one = three_layers();
    let two = build(&[one.tars[0].clone(), Tar::new().file("f", "2").end()]);
    for new in [false, true] {
        let images = images(&dir.path().join(new.to_string()));
        let path = dir.path().join("saved.tar");
        fs::write(&path, saved(&[("one", &one), ("two", &two)], new)).unwrap();
        for (name, built) in [("one", &one), ("two", &two)] {
            let image =
                images.get(&reference(&format!("archive:PATH:{name}:1"), &path), &|_| {}).await.unwrap();
            assert_eq!(image.digest, Digest::of(&built.config));
            assert_eq!(image.layers.len(), built.tars.len());
            assert_eq!(image.config.user, "postgres");
        }
        let error = images.get(&reference("archive:PATH", &path), &|_| {}).await.unwrap_err();
        assert!(chain(&error).contains("one:1, two:1"), "{}", chain(&error));
    }
}

#[tokio::test]
async fn a_file_that_changes_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let path = dir.path().join("saved.tar");
    let name = reference("archive:PATH", &path);
    let (one, two) = (three_layers(), build(&[Tar::new().file("f", "2").end()]));
    fs::write(&path, saved(&[("x", &one)], false)).unwrap();
    assert_eq!(images.get(&name, &|_| {}).await.unwrap().digest, Digest::of(&one.config));
    assert_eq!(images.get(&name, &|text| panic!("{text}")).await.unwrap().digest, Digest::of(&one.config));
    fs::write(&path, saved(&[("x", &two)], true)).unwrap();
    assert_eq!(images.get(&name, &|_| {}).await.unwrap().digest, Digest::of(&two.config));
}

#[tokio::test]
async fn broken_archives_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let built = three_layers();
    let good = saved(&[("x", &built)], false);
    let path = dir.path().join("broken");
    let mut wrong_config = built.clone();
    wrong_config.config.push(b' ');
    let lying = String::from_utf8_lossy(&saved(&[("x", &wrong_config)], false)).into_owned();
    let lying = lying.replace(&Digest::of(&wrong_config.config).hex(), &Digest::of(&built.config).hex());
    let outside = Tar::new()
        .symlink("layer.tar", "/etc/passwd")
        .file("c.json", &built.config)
        .file("manifest.json", r#"[{"Config":"../../../etc/passwd","Layers":["layer.tar"]}]"#)
        .end();
    let round = Tar::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("manifest.json", r#"[{"Config":"a","Layers":[]}]"#)
        .end();
    let many = (0..3000).fold(Tar::new(), |tar, at| tar.file(at.to_string(), "")).end();
    for bytes in [
        b"".to_vec(),
        b"not a tar".repeat(200),
        good[..good.len() / 2].to_vec(),
        gzip(&good)[..500].to_vec(),
        lying.into_bytes(),
        outside,
        round,
        many,
        Tar::new().file("manifest.json", "[]").end(),
        Tar::new().file("manifest.json", vec![b' '; 8 << 20]).end(),
        Tar::new().file("index.json", r#"{"schemaVersion":2,"manifests":[]}"#).end(),
    ] {
        fs::write(&path, bytes).unwrap();
        for text in ["archive:PATH", "oci:PATH"] {
            images.get(&reference(text, &path), &|_| {}).await.unwrap_err();
        }
    }
    // A layer that is not what the configuration says.
    let mut other = built;
    other.tars[1] = Tar::new().file("f", "another").end();
    fs::write(&path, saved(&[("x", &other)], false)).unwrap();
    let error = images.get(&reference("archive:PATH", &path), &|_| {}).await.unwrap_err();
    assert!(matches!(error, ImageError::Layer { number: 2, .. }), "{}", chain(&error));
    // A pipe is not waited for, and what is not there is said.
    fs::remove_file(&path).unwrap();
    let error = images.get(&reference("archive:PATH", &path), &|_| {}).await.unwrap_err();
    assert!(matches!(error, ImageError::Archive(ArchiveError::Read { .. })));
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    images.get(&reference("archive:PATH", &path), &|_| {}).await.unwrap_err();
}
