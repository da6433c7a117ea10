//! Bundles as an agent might forge them: refused, and the store is as it was.

use std::fs;

use offshoot_git::{
    import::{ImportError, Limits},
    oid::Oid,
};

use crate::fixture::{Fixture, Workspace, git, git_command, import, snapshot};

fn stdin(dir: &std::path::Path, args: &[&str], input: &[u8]) -> Oid {
    use std::io::Write;
    let mut child = git_command(dir)
        .args(args)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let out = child.wait_with_output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().parse().unwrap()
}

/// A raw tree of one entry, as a commit on the task's branch.
fn commit_tree(ws: &Workspace, mode: &str, name: &[u8], content: &[u8]) {
    let blob = stdin(&ws.dir, &["hash-object", "-w", "--stdin"], content);
    let raw: Vec<u8> =
        (0..40).step_by(2).map(|i| u8::from_str_radix(&blob.as_str()[i..i + 2], 16).unwrap()).collect();
    let tree = [mode.as_bytes(), b" ", name, b"\0", &raw].concat();
    let tree = stdin(&ws.dir, &["hash-object", "-t", "tree", "-w", "--literally", "--stdin"], &tree);
    let commit = git(&ws.dir, &["commit-tree", tree.as_str(), "-p", ws.base.as_str(), "-m", "x"]);
    git(&ws.dir, &["update-ref", "refs/heads/offshoot/fix", &commit]);
}

fn refused(ws: &Workspace, bundle: &[u8], limits: &Limits) -> ImportError {
    let except = &["gc.lock", "land.lock"];
    let before = snapshot(ws.store.dir(), except);
    let error = import(&ws.store, bundle, "run", limits).unwrap_err();
    assert_eq!(snapshot(ws.store.dir(), except), before, "a refused import leaves nothing: {error}");
    error
}

#[test]
fn objects_that_attack_whoever_checks_them_out() {
    let it = Fixture::new();
    let urls = "[submodule \"x\"]\n\tpath = x\n\turl = -u./payload\n";
    let cases: [(&str, &[u8], &str); 7] = [
        ("100644", b".GIT", "x"),
        ("100644", b".git", "x"),
        ("100644", b"GIT~1", "x"),
        ("100644", b"..", "x"),
        ("100644", b"a/b", "x"),
        ("120000", b".gitmodules", "/etc/passwd"),
        ("100644", b".gitmodules", urls),
    ];
    for (n, (mode, name, content)) in cases.into_iter().enumerate() {
        let ws = it.workspace(&format!("ws{n}"));
        commit_tree(&ws, mode, name, content.as_bytes());
        let error = refused(&ws, &ws.bundle(), &Limits::default());
        assert!(matches!(error, ImportError::Refused(_)), "{} {error}", String::from_utf8_lossy(name));
    }
    // The same way with an innocent tree passes.
    let ws = it.workspace("innocent");
    commit_tree(&ws, "100644", b"name", b"x");
    ws.import("innocent");
}

#[test]
fn more_than_the_limits() {
    let it = Fixture::new();
    let ws = it.workspace("ws");
    // Compresses a thousandfold.
    fs::write(ws.dir.join("bomb"), vec![0u8; 20 << 20]).unwrap();
    ws.finish();
    let bundle = ws.bundle();
    assert!(bundle.len() < 100_000);
    let limits = Limits::default();
    for (limits, what) in [
        (Limits { file_bytes: 10 << 20, ..limits }, "bytes in one file"),
        (Limits { unpacked_bytes: 10 << 20, ..limits }, "unpacked bytes"),
        (Limits { bytes: 1000, ..limits }, "bytes"),
        (Limits { objects: 2, ..limits }, "objects"),
        (Limits { refs: 0, ..limits }, "refs"),
    ] {
        let error = refused(&ws, &bundle, &limits);
        assert!(matches!(&error, ImportError::TooBig { what: found, .. } if *found == what), "{error}");
    }
    assert!(matches!(refused(&ws, &bundle, &Limits { memory: 20 << 20, ..limits }), ImportError::Refused(_)));
    import(&ws.store, &bundle, "run", &limits).unwrap();
}

#[test]
fn a_flood_of_refs() {
    let it = Fixture::new();
    let ws = it.workspace("ws");
    let mut bundle = format!("# v3 git bundle\n@object-format=sha1\n-{} base\n", ws.base).into_bytes();
    for n in 0..1_000_000 {
        bundle.extend(format!("{} refs/heads/b{n}\n", ws.base).into_bytes());
    }
    let started = std::time::Instant::now();
    assert!(matches!(refused(&ws, &bundle, &Limits::default()), ImportError::TooBig { what: "refs", .. }));
    assert!(started.elapsed().as_secs() < 20);
}

#[test]
fn headers_and_packs_that_lie() {
    let it = Fixture::new();
    let ws = it.workspace("ws");
    ws.write("x", "x");
    let head = ws.finish().head;
    let good = ws.bundle();
    let text = |from: &str, to: &str| -> Vec<u8> {
        let at = good.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        [&good[..at], to.as_bytes(), &good[at + from.len()..]].concat()
    };
    let unknown = "1".repeat(40);
    let limits = Limits::default();
    for (bundle, kind) in [
        (Vec::new(), "header"),
        (b"PACK".to_vec(), "header"),
        (vec![b'x'; 100_000], "header"),
        (text("@object-format=sha1", "@object-format=sha256"), "header"),
        (text("@object-format=sha1", "@filter=blob:none"), "header"),
        (text(" HEAD\n", " refs/heads/x\n"), "header"),
        (text("PACK", "JUNK"), "header"),
        (text(&format!("-{}", ws.base), &format!("-{unknown}")), "base"),
        (text(&format!("{head} HEAD"), &format!("{unknown} HEAD")), "refused"),
        (good[..good.len() - 30].to_vec(), "refused"),
        ([&good[..good.len() - 1], &[good[good.len() - 1] ^ 1]].concat(), "refused"),
    ] {
        let error = refused(&ws, &bundle, &limits);
        let found = match &error {
            ImportError::NotABundle(_) => "header",
            ImportError::UnknownBase(_) => "base",
            ImportError::Refused(_) => "refused",
            _ => "other",
        };
        assert_eq!(found, kind, "{error}");
    }
    // A header alone: its objects are not there.
    let end = good.windows(4).position(|w| w == b"PACK").unwrap();
    assert!(matches!(refused(&ws, &good[..end], &limits), ImportError::Refused(_)));
    // Half of an object graph.
    let blob = ws.git(&["rev-parse", "HEAD:x"]);
    let mut pack = git_command(&ws.dir);
    let script = format!("printf '{head}\\n' | git pack-objects --stdout -q");
    let pack = pack.args(["-c", &format!("alias.half=!{script}"), "half"]).output().unwrap().stdout;
    assert!(pack.starts_with(b"PACK"), "{blob}");
    assert!(matches!(refused(&ws, &[&good[..end], &pack].concat(), &limits), ImportError::Refused(_)));
    assert!(
        import(&ws.store, &good, "no/run", &limits).is_err()
            && import(&ws.store, &good, "..", &limits).is_err()
    );
    assert!(import(&ws.store, &good, "run", &limits).is_ok());
    let (reader, _writer) = std::io::pipe().unwrap();
    let pipe = fs::File::from(std::os::fd::OwnedFd::from(reader));
    assert!(matches!(ws.store.import(&pipe, "run", &limits), Err(ImportError::NotABundle(_))));
}

#[test]
fn unknown_refs_are_passed_over_and_clashing_ones_give_way() {
    let it = Fixture::new();
    let ws = it.workspace("ws");
    ws.git(&["branch", "x"]);
    let with = |refs: &[&str]| {
        let refs: String = refs.iter().map(|name| format!("{} {name}\n", ws.base)).collect();
        format!("# v3 git bundle\n@object-format=sha1\n-{} base\n{} HEAD\n{refs}\n", ws.base, ws.base)
            .into_bytes()
    };
    let bundle = with(&[
        "refs/heads/x",
        "refs/heads/x/y",
        "refs/heads/../../x",
        "refs/tags/t",
        "refs/offshoot/base/1",
        "refs/offshoot/checkpoints/x",
    ]);
    let got = import(&ws.store, &bundle, "run", &Limits::default()).unwrap();
    assert_eq!((got.ignored, got.branches.len(), got.unrelated), (5, 1, false));
    let got = import(&ws.store, &with(&["refs/heads/x/y"]), "run", &Limits::default()).unwrap();
    assert_eq!(got.branches[0].0, "x/y");
    let names: Vec<_> = ws.store.run_refs("run").unwrap().into_iter().map(|r| r.name).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(
        git(ws.store.dir(), &["for-each-ref", "--format=%(refname)", "refs/offshoot/base"]).lines().count(),
        1
    );
}

#[test]
fn links_that_lead_out_are_text() {
    let it = Fixture::new();
    let canary = it.tmp.path().join("canary");
    fs::write(&canary, "untouched").unwrap();
    let ws = it.workspace("ws");
    std::os::unix::fs::symlink(&canary, ws.dir.join("out")).unwrap();
    std::os::unix::fs::symlink(it.tmp.path(), ws.dir.join("dir")).unwrap();
    ws.finish();
    let first = ws.import("run").head;
    assert_eq!(ws.store.blob(&first, b"dir/canary", 99).unwrap(), None);
    let repo = it.repository();
    offshoot_git::land::land(&ws.store, &repo, &first, "main", &crate::landing::options(false)).unwrap();
    // The next landing turns the links into a file and a directory: nothing is written through them.
    let ws = it.workspace("two");
    fs::remove_file(ws.dir.join("out")).unwrap();
    fs::remove_file(ws.dir.join("dir")).unwrap();
    ws.write("out", "overwritten");
    ws.write("dir/canary", "overwritten");
    ws.finish();
    let second = ws.import("two").head;
    offshoot_git::land::land(&ws.store, &repo, &second, "main", &crate::landing::options(false)).unwrap();
    assert_eq!(fs::read(&canary).unwrap(), b"untouched");
    assert_eq!(fs::read(it.repo.join("dir/canary")).unwrap(), b"overwritten");
}
