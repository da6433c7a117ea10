//! Pulling from a real registry, with and without credentials.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Command,
    sync::Mutex,
    time::{Duration, Instant},
};

use offshoot_image::{CredentialFiles, Digest, ImageError, Images, Limits, Reference, RegistryError};

use crate::fixture::{
    Answer, Built, Fake, OCI_INDEX, OCI_MANIFEST, Registry, Tar, answer, architecture, build, build_with,
    chain, images, owner, quick,
};

pub fn three_layers() -> Built {
    build(&[
        Tar::new().dir("etc").file("etc/a", "1").file("etc/b", "1").dir("data").file("data/x", "1").end(),
        Tar::new().dir("etc").file("etc/.wh.a", "").file("etc/b", "2").end(),
        Tar::new().dir("data").file("data/.wh..wh..opq", "").file("data/y", "3").end(),
    ])
}

#[tokio::test]
async fn an_image_is_pulled_once() {
    let registry = Registry::start();
    let built = three_layers();
    registry.push("x/y", "1", &built);
    let dir = tempfile::tempdir().unwrap();
    let reference = registry.reference("x/y:1");
    let said = Mutex::new(Vec::new());
    let opened = images(dir.path());
    let image = opened.get(&reference, &|text| said.lock().unwrap().push(text.to_owned())).await.unwrap();
    assert_eq!(image.digest, built.digest());
    assert_eq!(image.layers.len(), 3);
    assert_eq!(fs::read_to_string(image.layers[0].join("data/y")).unwrap(), "3");
    assert_eq!(fs::read_to_string(image.layers[2].join("data/x")).unwrap(), "1");
    assert_eq!(fs::symlink_metadata(image.layers[1].join("etc/a")).unwrap().rdev(), 0);
    if let Some(owner) = owner() {
        assert_eq!(fs::metadata(&image.layers[0]).unwrap().uid(), owner.uid);
    }
    let config = &image.config;
    assert_eq!(
        (&config.entrypoint[..], &config.cmd[..]),
        (&["/entry".to_owned()][..], &["serve".to_owned()][..])
    );
    assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("postgres", "/data"));
    assert_eq!(
        (&config.exposed_ports[..], &config.volumes[..]),
        (&["5432/tcp".to_owned()][..], &["/data".to_owned()][..])
    );
    assert_eq!((config.env.len(), config.stop_signal.as_deref()), (1, Some("SIGINT")));
    let name = reference.to_string();
    assert_eq!(said.lock().unwrap()[0], format!("looking for {name}"));

    // The registry is gone, and so is the process that pulled.
    drop(registry);
    drop((opened, image));
    let opened = images(dir.path());
    let since = Instant::now();
    let again = opened.get(&reference, &|text| panic!("{text}")).await.unwrap();
    let took = since.elapsed();
    assert_eq!((again.digest, again.layers.len()), (built.digest(), 3));
    // Reading two small files and looking at three directories takes 0.1 ms.
    assert!(took < Duration::from_millis(20), "{took:?}");
    let pinned: Reference =
        format!("{}@{}", name.rsplit_once(':').unwrap().0, built.digest()).parse().unwrap();
    assert!(opened.here(&pinned).is_none(), "only names that were resolved are known");
    assert!(opened.by_digest(built.digest()).is_some());
}

#[tokio::test]
async fn a_tag_is_looked_up_again_only_when_asked_to() {
    let registry = Registry::start();
    let (one, two) = (build(&[Tar::new().file("f", "1").end()]), three_layers());
    registry.push("x", "t", &one);
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let tag = registry.reference("x:t");
    let pinned = registry.reference(&format!("x:t@{}", one.digest()));
    assert_eq!(images.get(&tag, &|_| {}).await.unwrap().digest, one.digest());
    assert_eq!(images.get(&pinned, &|_| {}).await.unwrap().digest, one.digest());
    registry.push("x", "t", &two);
    assert_eq!(images.get(&tag, &|_| {}).await.unwrap().digest, one.digest());
    assert_eq!(images.refresh(&tag, &|_| {}).await.unwrap().digest, two.digest());
    assert_eq!(images.get(&tag, &|_| {}).await.unwrap().digest, two.digest());
    assert_eq!(images.refresh(&pinned, &|_| {}).await.unwrap().digest, one.digest());
    drop(registry);
    assert_eq!(images.refresh(&pinned, &|_| {}).await.unwrap().digest, one.digest());
    assert!(images.refresh(&tag, &|_| {}).await.is_err());
    assert_eq!(images.get(&tag, &|_| {}).await.unwrap().digest, two.digest());
}

#[tokio::test]
async fn every_compression_is_read_whatever_it_is_called() {
    let tar = Tar::new().file("f", vec![b'x'; 300_000]).end();
    let zstd = |bytes: &[u8]| {
        // Two frames and one to be skipped, as layers that can be read in parts have.
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let (one, two) = bytes.split_at(bytes.len() / 2);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        [
            ruzstd::encoding::compress_to_vec(one, level),
            skipped,
            ruzstd::encoding::compress_to_vec(two, level),
        ]
        .concat()
    };
    let members = |bytes: &[u8]| {
        let (one, two) = bytes.split_at(bytes.len() / 2);
        [crate::fixture::gzip(one), crate::fixture::gzip(two)].concat()
    };
    let all: [Built; 3] = [
        build_with(std::slice::from_ref(&tar), zstd),
        build_with(std::slice::from_ref(&tar), members),
        build_with(&[tar], <[u8]>::to_vec),
    ];
    for built in all {
        let fake = Fake::of(built, |_| None);
        let dir = tempfile::tempdir().unwrap();
        let image = images(dir.path()).get(&fake.reference("x"), &|_| {}).await.unwrap();
        assert_eq!(fs::metadata(image.layers[0].join("f")).unwrap().len(), 300_000);
    }
}

#[tokio::test]
async fn the_image_for_this_machine_is_taken_out_of_an_index() {
    let registry = Registry::start();
    let (own, other) = (three_layers(), build(&[Tar::new().file("other", "").end()]));
    registry.push("x", "own", &own);
    registry.push("x", "other", &other);
    let entry = |built: &Built, architecture: &str| {
        format!(
            r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
            built.digest(),
            built.manifest.len()
        )
    };
    let index = |entries: &[String]| {
        format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#, entries.join(","))
    };
    let both = index(&[entry(&other, "mips"), entry(&own, architecture())]);
    registry.push_manifest("x", "both", OCI_INDEX, both.as_bytes());
    registry.push_manifest("x", "none", OCI_INDEX, index(&[entry(&other, "mips")]).as_bytes());
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    assert_eq!(images.get(&registry.reference("x:both"), &|_| {}).await.unwrap().digest, own.digest());
    // By the digest of the index, too.
    let by_index = registry.reference(&format!("x@{}", Digest::of(both.as_bytes())));
    assert_eq!(images.get(&by_index, &|_| {}).await.unwrap().digest, own.digest());
    let error = images.get(&registry.reference("x:none"), &|_| {}).await.unwrap_err();
    assert!(chain(&error).contains("only for linux/mips"), "{}", chain(&error));
    let error = images.get(&registry.reference("x:nothing"), &|_| {}).await.unwrap_err();
    assert!(matches!(error, ImageError::Registry(RegistryError::Missing { .. })), "{}", chain(&error));
}

/// `user` and `secret`, by bcrypt, as the registry wants it.
const HTPASSWD: &str = "user:$2y$05$";

#[tokio::test]
async fn a_registry_with_a_password_takes_the_users_own() {
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new("htpasswd").args(["-nbB", "user", "secret"]).output();
    let made = made.expect("htpasswd is needed: scripts/prerequisites installs it (Debian: apache2-utils)");
    let line = String::from_utf8(made.stdout).unwrap();
    assert!(line.starts_with(HTPASSWD), "{line}");
    fs::write(dir.path().join("htpasswd"), line).unwrap();
    let more = format!("auth: {{htpasswd: {{realm: x, path: {}}}}}\n", dir.path().join("htpasswd").display());
    let registry = Registry::start_with(&more);
    let file = dir.path().join("config.json");
    let limits = quick();
    let get = async |text: String| {
        fs::write(&file, text).unwrap();
        let root = tempfile::tempdir().unwrap();
        let images =
            Images::with(root.path(), owner(), limits, CredentialFiles::only(vec![file.clone()])).unwrap();
        images.get(&registry.reference("x/y:1"), &|_| {}).await
    };
    let host = format!("127.0.0.1:{}", registry.port);
    // The name is not there, but who asks is known by then.
    let known = |result: Result<_, ImageError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, ImageError::Registry(RegistryError::Missing { .. })), "{}", chain(&error));
    };
    let auth = "dXNlcjpzZWNyZXQ=";
    known(get(format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#)).await);
    known(get(format!(r#"{{"auths":{{"https://{host}/v1/":{{"auth":"{auth}"}}}}}}"#)).await);
    known(
        get(format!(
            r#"{{"auths":{{"{host}":{{"auth":"d3Jvbmc6d3Jvbmc="}},"{host}/x":{{"auth":"{auth}"}}}}}}"#
        ))
        .await,
    );
    for text in ["{}".to_owned(), format!(r#"{{"auths":{{"{host}":{{"auth":"d3Jvbmc6d3Jvbmc="}}}}}}"#)] {
        let error = get(text).await.unwrap_err();
        assert!(matches!(error, ImageError::Registry(RegistryError::Denied { .. })), "{}", chain(&error));
    }
    for text in ["{", r#"{"auths":[]}"#, &format!(r#"{{"auths":{{"{host}":{{"auth":"!"}}}}}}"#)] {
        let error = get(text.to_owned()).await.unwrap_err();
        assert!(matches!(error, ImageError::Registry(RegistryError::Credentials(..))), "{}", chain(&error));
        assert!(!chain(&error).contains("secret"));
    }
}

/// This test is the child of the next, which gives it a PATH; by itself it does nothing.
#[tokio::test]
async fn helper_child() {
    let Ok(job) = std::env::var("OFFSHOOT_TEST_HELPER") else { return };
    let (reference, file) = job.split_once(' ').unwrap();
    let root = tempfile::tempdir().unwrap();
    let files = CredentialFiles::only(vec![file.into()]);
    let images = Images::with(root.path(), owner(), quick(), files).unwrap();
    match images.get(&reference.parse().unwrap(), &|_| {}).await {
        Ok(_) => println!("pulled"),
        Err(error) => println!("error: {}", chain(&error)),
    }
}

/// A registry that wants a token from its own token server, which wants `wanted` in the request for it.
fn with_token(built: Built, wanted: &'static str) -> Fake {
    let port: std::sync::Arc<std::sync::OnceLock<u16>> = std::sync::Arc::default();
    let own = port.clone();
    let fake = Fake::start(move |asked| {
        if asked.path.starts_with("/token?") {
            let all = format!("{} {:?}", asked.path, asked.headers);
            return match all.contains(wanted) && all.contains("repository%3Ax%2Fy%3Apull") {
                true => Answer::ok("application/json", r#"{"access_token":"right"}"#),
                false => Answer::status(401),
            };
        }
        if asked.headers.get("authorization").is_some_and(|it| it == "Bearer right") {
            return answer(&built, asked);
        }
        let challenge =
            format!(r#"Bearer realm="http://127.0.0.1:{}/token",service="s""#, own.get().unwrap());
        Answer::status(401)
            .header("www-authenticate", "Basic realm=\"x\"")
            .header("www-authenticate", challenge)
    });
    port.set(fake.port).unwrap();
    fake
}

#[tokio::test]
async fn tokens_are_asked_for_where_the_registry_says() {
    let fake = with_token(three_layers(), "service=s");
    let dir = tempfile::tempdir().unwrap();
    images(dir.path()).get(&fake.reference("x/y"), &|_| {}).await.unwrap();
    assert_eq!(fake.paths().iter().filter(|path| path.starts_with("/token")).count(), 1);
}

#[test]
fn credential_helpers_are_asked() {
    // "user:secret", as the token server is to see it.
    let fake = with_token(three_layers(), "Basic dXNlcjpzZWNyZXQ=");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    let helper = dir.path().join("docker-credential-test");
    let run = |config: String, script: &str| {
        fs::write(&file, config).unwrap();
        fs::write(&helper, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let out = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "pull::helper_child", "--nocapture"])
            .env("PATH", format!("{}:/usr/bin:/bin", dir.path().display()))
            .env("OFFSHOOT_TEST_HELPER", format!("{} {}", fake.reference("x/y"), file.display()))
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let host = format!("127.0.0.1:{}", fake.port);
    let good = format!(
        r#"[ "$1" = get ] && [ "$(cat)" = "{host}" ] && echo '{{"ServerURL":"x","Username":"user","Secret":"secret"}}'"#
    );
    for config in [r#"{"credsStore":"test"}"#.to_owned(), format!(r#"{{"credHelpers":{{"{host}":"test"}}}}"#)]
    {
        let out = run(config, &good);
        assert!(out.contains("pulled"), "{out}");
    }
    let store = r#"{"credsStore":"test"}"#;
    let none = run(store.to_owned(), "echo 'credentials not found in native keychain'; exit 1");
    assert!(none.contains("does not show x/y to us"), "{none}");
    let broken = run(store.to_owned(), "exit 3");
    assert!(broken.contains("docker-credential-test did not work"), "{broken}");
    let wordy = run(store.to_owned(), "yes");
    assert!(wordy.contains("no JSON") || wordy.contains("ended with"), "{wordy}");
    let elsewhere = run(r#"{"credsStore":"../../bin/sh"}"#.to_owned(), "true");
    assert!(elsewhere.contains("not a name of a program"), "{elsewhere}");
}

/// Not on this machine, so with TLS; nothing there speaks it.
#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { tries: 1, ..quick() };
    let images = Images::with(dir.path(), owner(), limits, CredentialFiles::default()).unwrap();
    for name in ["offshoot.invalid/x", "127.0.0.1:1/x", "192.0.2.1:1/x"] {
        let error = images.get(&name.parse().unwrap(), &|_| {}).await.unwrap_err();
        assert!(matches!(error, ImageError::Registry(RegistryError::Unreachable(..))), "{}", chain(&error));
    }
}
