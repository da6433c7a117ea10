//! Registries that lie, lead astray, send too much, or send nothing. Every one is refused within its time, and leaves
//! nothing behind.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use offshoot_image::{Digest, ImageError, LayerError, Limits, RegistryError};

use crate::fixture::{
    Answer, Body, Built, Fake, OCI_INDEX, OCI_MANIFEST, Tar, build, build_with, chain, config_of, gzip,
    images, images_with, quick,
};

fn small() -> Built {
    build(&[Tar::new().file("f", vec![b'x'; 4000]).end(), Tar::new().file("g", "g").end()])
}

/// The error, after which nothing is left.
async fn refused_with(fake: &Fake, name: &str, limits: Limits) -> ImageError {
    let dir = tempfile::tempdir().unwrap();
    let since = Instant::now();
    let images = images_with(dir.path(), limits);
    let error = images.get(&fake.reference(name), &|_| {}).await.unwrap_err();
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}: {}", since.elapsed(), chain(&error));
    drop(images);
    nothing_in(&dir.path().join("images"));
    error
}

fn nothing_in(root: &Path) {
    // A layer that came before the bad one may be there, named by its own digest.
    for name in ["building", "blobs", "images", "references"] {
        let found: Vec<_> =
            std::fs::read_dir(root.join(name)).unwrap().flatten().map(|it| it.path()).collect();
        assert!(found.is_empty(), "{found:?}");
    }
}

async fn refused(fake: &Fake) -> ImageError {
    refused_with(fake, "x", quick()).await
}

fn registry(error: ImageError) -> RegistryError {
    match error {
        ImageError::Registry(error) => error,
        ImageError::Layer { source: LayerError::Registry(error), .. } => error,
        other => panic!("{}", chain(&other)),
    }
}

fn blob(asked: &crate::fixture::Asked) -> bool {
    asked.path.contains("/blobs/")
}

#[tokio::test]
async fn another_thing_than_was_asked_for() {
    // A manifest that is not what its digest says.
    let fake = Fake::of(small(), |_| None);
    let pinned = format!("x@{}", Digest::of(b"another"));
    let error = refused_with(&fake, &pinned, quick()).await;
    assert!(matches!(registry(error), RegistryError::Digest { .. }));
    // One that the answer's own head contradicts.
    let built = small();
    let fake = Fake::of(small(), move |asked| {
        let told = Digest::of(b"another").to_string();
        let whole = Answer::ok(OCI_MANIFEST, built.manifest.clone());
        (!blob(asked)).then(|| whole.header("docker-content-digest", told))
    });
    assert!(matches!(registry(refused(&fake).await), RegistryError::Digest { .. }));
    // Blobs: the configuration is the first, then the layers.
    let config = Digest::of(&small().config).to_string();
    let same_length = |asked: &crate::fixture::Asked| {
        let built = small();
        let digest: Digest = asked.path.rsplit('/').next()?.parse().ok()?;
        Some(Answer::ok("x", vec![b'z'; built.blobs.get(&digest)?.len()]))
    };
    let fake = Fake::of(small(), move |asked| if blob(asked) { same_length(asked) } else { None });
    assert!(matches!(registry(refused(&fake).await), RegistryError::Digest { .. }));
    let fake = Fake::of(small(), move |asked| {
        if blob(asked) && !asked.path.ends_with(&config) { same_length(asked) } else { None }
    });
    let error = refused(&fake).await;
    assert!(
        matches!(error, ImageError::Layer { source: LayerError::Digest { .. }, .. }),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn a_tar_that_the_configuration_does_not_name() {
    let good = small();
    let mut bad = good.clone();
    let config = config_of(&[Tar::new().file("f", "other").end(), good.tars[1].clone()]);
    let text = String::from_utf8(bad.manifest).unwrap();
    let text = text.replace(&Digest::of(&good.config).to_string(), &Digest::of(&config).to_string());
    bad.manifest = text
        .replace(
            &format!("\"size\":{}}},\"layers\"", good.config.len()),
            &format!("\"size\":{}}},\"layers\"", config.len()),
        )
        .into_bytes();
    bad.blobs.insert(Digest::of(&config), config);
    let error = refused(&Fake::of(bad, |_| None)).await;
    assert!(
        matches!(
            error,
            ImageError::Layer {
                number: 1,
                of: 2,
                source: LayerError::Digest { what: "the unpacked layer", .. }
            }
        ),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn sizes_that_are_wrong() {
    // What follows what was announced is not taken; less than announced is no blob.
    let fake = Fake::of(small(), |asked| {
        let found = small().blobs.get(&asked.path.rsplit('/').next()?.parse::<Digest>().ok()?)?.clone();
        Some(Answer::ok("x", [found, b"more".to_vec()].concat()))
    });
    refused(&fake).await;
    let fake = Fake::of(small(), |asked| blob(asked).then(|| Answer::ok("x", "{}")));
    assert!(matches!(registry(refused(&fake).await), RegistryError::Broken(..)));
    // A layer that is announced as endless, and a configuration of a gigabyte.
    for (from, to) in [("\"layers\":[{", "config"), ("", "layer")] {
        let mut built = small();
        let text = String::from_utf8(built.manifest).unwrap();
        let mut parts: Vec<_> = text.split("\"size\":").map(str::to_owned).collect();
        let which = if to == "config" { 1 } else { 2 };
        let rest = parts[which].trim_start_matches(|it: char| it.is_ascii_digit()).to_owned();
        parts[which] = format!("{}{rest}", 1_u64 << 40);
        built.manifest = parts.join("\"size\":").into_bytes();
        let error = refused(&Fake::of(built, |_| None)).await;
        assert!(
            chain(&error).contains("larger than") || chain(&error).contains("too much"),
            "{from} {to}: {}",
            chain(&error)
        );
    }
}

#[tokio::test]
async fn answers_without_end() {
    let fake = Fake::start(|_| Answer::body(Body::Endless));
    assert!(matches!(registry(refused(&fake).await), RegistryError::TooLong { what: "manifest", .. }));
    for which in ["blob", "token", "error"] {
        let fake = Fake::start({
            let built = small();
            move |asked| match which {
                "blob" if blob(asked) => Answer::body(Body::Endless),
                "token" if asked.path.contains("/token") => Answer::body(Body::Endless),
                "token" => {
                    let host = &asked.headers["host"];
                    Answer::status(401)
                        .header("www-authenticate", format!("Bearer realm=\"http://{host}/token\""))
                }
                "error" => Answer { status: 418, headers: vec![], body: Body::Endless },
                _ => crate::fixture::answer(&built, asked),
            }
        });
        let error = refused(&fake).await;
        println!("{which}: {}", chain(&error));
    }
}

#[tokio::test]
async fn silence_and_dripping() {
    // Nothing at all, not even a head.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("127.0.0.1:{}/x", listener.local_addr().unwrap().port());
    let dir = tempfile::tempdir().unwrap();
    let since = Instant::now();
    let error = images(dir.path()).get(&name.parse().unwrap(), &|_| {}).await.unwrap_err();
    assert!(matches!(registry(error), RegistryError::Unreachable(..)));
    assert!(since.elapsed() < Duration::from_secs(10));
    for body in [|| Body::Silent, || Body::Drip] {
        let fake = Fake::start(move |_| Answer::body(body()));
        assert!(matches!(registry(refused(&fake).await), RegistryError::Broken(..)));
        let fake = Fake::of(small(), move |asked| blob(asked).then(|| Answer::body(body())));
        assert!(matches!(registry(refused(&fake).await), RegistryError::Broken(..)));
    }
}

#[tokio::test]
async fn a_blob_that_breaks_off_is_gone_on_with() {
    let big = build(&[Tar::new().file("f", (0..=255).cycle().take(3_000_000).collect::<Vec<u8>>()).end()]);
    let big = build_with(&big.tars, <[u8]>::to_vec);
    let whole = big.blobs.values().max_by_key(|it| it.len()).unwrap().clone();
    let fake = Fake::of(big.clone(), move |asked| {
        if !blob(asked) || asked.path.contains(&Digest::of(&big.config).to_string()) {
            return None;
        }
        let from: usize = asked
            .headers
            .get("range")
            .map_or(0, |it| it.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
        let to = (from + 700_000).min(whole.len());
        let status = if from == 0 { 200 } else { 206 };
        Some(Answer {
            status,
            headers: vec![],
            body: Body::Cut(whole[from..to].to_vec(), whole.len() - from),
        })
    });
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { tries: 4, ..quick() };
    images_with(dir.path(), limits).get(&fake.reference("x"), &|_| {}).await.unwrap();
    // A server that cannot go on is asked from the start, and what is known is passed over.
    let ranges = fake.asked.lock().unwrap().iter().filter(|it| it.headers.contains_key("range")).count();
    assert_eq!(ranges, 4);
}

#[tokio::test]
async fn answers_that_lead_astray() {
    for to in [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http://192.0.2.1/x",
        "http://169.254.169.254/latest/meta-data",
        "//192.0.2.1/x",
        "",
    ] {
        let fake = Fake::start(move |_| Answer::status(307).header("location", to));
        let error = registry(refused(&fake).await);
        assert!(matches!(error, RegistryError::Leads { .. }), "{to}: {}", chain(&error));
    }
    let fake = Fake::start(|asked| Answer::status(302).header("location", asked.path.clone()));
    assert!(matches!(registry(refused(&fake).await), RegistryError::Leads { .. }));
    assert_eq!(fake.paths().len(), 6);
    for realm in ["file:///etc/passwd", "http://192.0.2.1/token", "nonsense"] {
        let challenge = format!("Bearer realm=\"{realm}\"");
        let fake = Fake::start(move |_| Answer::status(401).header("www-authenticate", challenge.clone()));
        let error = registry(refused(&fake).await);
        assert!(matches!(error, RegistryError::Leads { .. }), "{realm}: {}", chain(&error));
    }
}

#[tokio::test]
async fn credentials_are_not_carried_on() {
    let storage = Fake::of(small(), |_| None);
    let port = storage.port;
    let fake = Fake::of(small(), move |asked| {
        if !asked.headers.contains_key("authorization") {
            return Some(Answer::status(401).header("www-authenticate", "Basic realm=\"x\""));
        }
        let to = format!("http://127.0.0.1:{port}{}", asked.path);
        blob(asked).then(|| Answer::status(307).header("location", to))
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    let text = format!(r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#, fake.port);
    std::fs::write(&file, text).unwrap();
    let files = offshoot_image::CredentialFiles::only(vec![file]);
    let root = dir.path().join("images");
    let images = offshoot_image::Images::with(&root, crate::fixture::owner(), quick(), files).unwrap();
    images.get(&fake.reference("x"), &|_| {}).await.unwrap();
    let asked = storage.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|it| !it.headers.contains_key("authorization")), "{asked:?}");
    // A token server's token goes into a header: not if it is two.
    let fake = Fake::start(|asked| match asked.path.contains("/token") {
        true => Answer::ok("application/json", r#"{"token":"a\r\nhost: b"}"#),
        false => {
            let host = &asked.headers["host"];
            Answer::status(401).header("www-authenticate", format!("Bearer realm=\"http://{host}/token\""))
        }
    });
    assert!(matches!(registry(refused(&fake).await), RegistryError::Token(_)));
}

#[tokio::test]
async fn what_is_no_image() {
    let artifact = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.cncf.helm.config.v1+json",
        "digest":"{}","size":2}},"layers":[]}}"#,
        Digest::of(b"{}")
    );
    let both = format!(
        r#"{{"schemaVersion":2,"manifests":[],{}"#,
        &String::from_utf8(small().manifest).unwrap()[18..]
    );
    for (kind, text) in [
        (OCI_MANIFEST, artifact),
        ("application/vnd.docker.distribution.manifest.v1+json", r#"{"schemaVersion":1}"#.to_owned()),
        ("text/html", "<html>Sign in to the hotel's network</html>".to_owned()),
        (OCI_MANIFEST, both),
        (OCI_INDEX, format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#)),
        (OCI_MANIFEST, "[".repeat(1 << 20)),
        (OCI_MANIFEST, String::new()),
    ] {
        let fake = Fake::start(move |_| Answer::ok(kind, text.clone()));
        let error = refused(&fake).await;
        assert!(matches!(error, ImageError::Document(_)), "{}", chain(&error));
    }
}

#[tokio::test]
async fn indexes_that_go_round() {
    // Each is a new one, with the digest that was asked for being impossible, so the tag leads to itself by name only.
    let chain_of: Vec<String> = {
        let mut all = vec![String::from_utf8(small().manifest).unwrap()];
        for _ in 0..5 {
            let last = all.last().unwrap();
            let entry = format!(
                r#"{{"mediaType":"{OCI_INDEX}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"{}"}}}}"#,
                Digest::of(last.as_bytes()),
                last.len(),
                crate::fixture::architecture()
            );
            all.push(format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entry}]}}"#));
        }
        all
    };
    let fake = Fake::start(move |asked| {
        let wanted = asked.path.rsplit('/').next().unwrap().parse::<Digest>().ok();
        let found = chain_of.iter().find(|it| Some(Digest::of(it.as_bytes())) == wanted);
        Answer::ok(OCI_INDEX, found.unwrap_or(chain_of.last().unwrap()).clone())
    });
    let error = refused(&fake).await;
    assert!(chain(&error).contains("indexes inside indexes"), "{}", chain(&error));
    assert_eq!(fake.paths().len(), 3);
}

#[tokio::test]
async fn bombs() {
    let limits = Limits { expansion_floor: 1 << 20, expansion: 4, ..quick() };
    let zeros = Tar::new().file("zeros", vec![0; 6 << 20]).end();
    let zstd =
        |tar: &[u8]| ruzstd::encoding::compress_to_vec(tar, ruzstd::encoding::CompressionLevel::Fastest);
    // A window that would take all memory, in the first frame as in others.
    let window = |_: &[u8]| [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff][..], &[0; 100]].concat();
    for built in [
        build(std::slice::from_ref(&zeros)),
        build_with(std::slice::from_ref(&zeros), zstd),
        build_with(&[zeros], window),
        // A bomb behind the end of the archive.
        build(&[Tar::new().file("f", "x").end().into_iter().chain(vec![0; 6 << 20]).collect()]),
        build(&[[gzip(b"").to_vec(), vec![0; 6 << 20]].concat()]),
    ] {
        let error = refused_with(&Fake::of(built, |_| None), "x", limits).await;
        assert!(
            matches!(error, ImageError::Layer { source: LayerError::Unpack(_), .. }),
            "{}",
            chain(&error)
        );
    }
    let mut many = small();
    let text = String::from_utf8(many.manifest).unwrap();
    let (head, layers) = text.split_once("\"layers\":[").unwrap();
    let layer = layers.split_once('}').unwrap().0;
    let layers = vec![format!("{layer}}}"); 200].join(",");
    many.manifest = format!("{head}\"layers\":[{layers}]}}").into_bytes();
    let error = refused(&Fake::of(many, |_| None)).await;
    assert!(chain(&error).contains("too many layers"), "{}", chain(&error));
}

#[tokio::test]
async fn passing_failures_are_tried_again_and_lasting_ones_are_named() {
    let seen = std::sync::Mutex::new(std::collections::BTreeSet::new());
    let fake = Fake::of(small(), move |asked| {
        seen.lock().unwrap().insert(asked.path.clone()).then(|| Answer::status(503))
    });
    let dir = tempfile::tempdir().unwrap();
    images(dir.path()).get(&fake.reference("x"), &|_| {}).await.unwrap();
    for (status, text) in
        [(429, "fewer requests"), (500, "answered with 500"), (403, "does not show"), (404, "has no")]
    {
        let body = r#"{"errors":[{"code":"X","message":"go\u001b[31m away"}]}"#;
        let fake = Fake::start(move |_| Answer { status, headers: vec![], body: Body::Whole(body.into()) });
        let text_found = chain(&refused(&fake).await);
        assert!(text_found.contains(text) && !text_found.contains('\u{1b}'), "{text_found}");
    }
}
