//! What the kernel makes of the layers is what the specification says an image is: compared, file by file, with a plain
//! reading of the same tars, and with what another tool unpacks where it is installed.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use offshoot_image::Digest;
use offshoot_testkit::user;

use crate::fixture::{Built, Registry, build, images};

/// An image of this machine's own files: a tree of programs and libraries with their links, then two layers of changes
/// that another tar wrote.
pub fn real() -> Built {
    let dir = tempfile::tempdir().unwrap();
    let below = |name: &str| dir.path().join(name);
    let script = r#"
        set -eu
        mkdir base && cd base
        mkdir -p usr/bin usr/lib usr/share etc var/lib/db tmp
        chmod 1777 tmp
        ln -s usr/bin bin; ln -s usr/lib lib; ln -s ../usr etc/up
        cp -a /usr/bin/env /usr/bin/tar /usr/bin/od usr/bin/
        cp -a /usr/share/perl5 usr/share/ 2>/dev/null || cp -a /usr/share/zoneinfo usr/share/
        cp -a /etc/ssl/certs etc/
        ln usr/bin/env usr/bin/env2; ln usr/bin/env usr/share/env3
        echo data > var/lib/db/one; echo data > var/lib/db/two; mkdir var/lib/db/sub; echo x > var/lib/db/sub/x
        echo 1 > 'etc/name with spaces'; printf x > 'etc/new
line'
        chmod 4755 usr/bin/od; chmod 0640 var/lib/db/one
        mkdir etc/deep etc/turns; echo 1 > etc/deep/1; echo 1 > etc/turns/1; echo f > etc/file
        long=etc/$(printf 'n%.0s' $(seq 150)); mkdir -p $long/$long; echo x > $long/$long/f
        cd ..
        mkdir one && cd one
        mkdir -p usr/bin etc/deep var/lib/db
        echo new > etc/deep/2; : > etc/deep/.wh.1; : > usr/bin/.wh.env2; echo two > var/lib/db/two
        : > etc/.wh.turns; mkdir etc/file; echo x > etc/file/x
        cd ..
        mkdir two && cd two
        mkdir -p var/lib/db etc etc/turns
        : > var/lib/db/.wh..wh..opq; echo three > var/lib/db/three
        echo again > etc/turns/2; : > etc/.wh.file; : > etc/.wh.nothing
        cd ..
        tar -C base --sort=name -cf base.tar .
        tar -C one --format=pax --sort=name -cf one.tar .
        tar -C two --format=gnu --sort=name -cf two.tar .
    "#;
    let made = Command::new("sh").arg("-c").arg(script).current_dir(dir.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    build(&["base.tar", "one.tar", "two.tar"].map(|name| fs::read(below(name)).unwrap()))
}

/// Kind, permissions, contents: what is the same in any unpacking of ours.
pub type Tree = BTreeMap<Vec<u8>, String>;

/// The specification, as plainly as it can be put.
fn plain(tars: &[Vec<u8>]) -> Tree {
    let mut tree = Tree::new();
    for bytes in tars {
        let mut archive = tar::Archive::new(&bytes[..]);
        let (mut layer, mut gone): (Tree, Vec<(Vec<u8>, bool)>) = Default::default();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path_bytes().into_owned();
            let path = path.strip_prefix(b"./").unwrap_or(&path).to_vec();
            let path = path.strip_suffix(b"/").unwrap_or(&path).to_vec();
            let (dir, name) = match path.iter().rposition(|it| *it == b'/') {
                Some(at) => (path[..at].to_vec(), path[at + 1..].to_vec()),
                None => (vec![], path.clone()),
            };
            if name == b".wh..wh..opq" {
                gone.push((dir, true));
                continue;
            }
            if let Some(name) = name.strip_prefix(b".wh.") {
                let path = if dir.is_empty() { name.to_vec() } else { [&dir, &b"/"[..], name].concat() };
                gone.push((path, false));
                continue;
            }
            let kind = entry.header().entry_type();
            let mode = entry.header().mode().unwrap();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            let what = if kind.is_dir() {
                format!("d {:o}", mode & 0o1777 | 0o700)
            } else if kind.is_symlink() {
                format!("l {}", String::from_utf8_lossy(&entry.link_name_bytes().unwrap()))
            } else if kind.is_hard_link() {
                let to = entry.link_name_bytes().unwrap().into_owned();
                layer[to.strip_prefix(b"./").unwrap_or(&to)].clone()
            } else {
                format!("f {:o} {}", mode & 0o777 | 0o400, Digest::of(&contents))
            };
            if !path.is_empty() && path != b"." {
                layer.insert(path, what);
            }
        }
        let below = |dir: &[u8], path: &[u8]| {
            dir.is_empty() || (path.starts_with(dir) && path.get(dir.len()) == Some(&b'/'))
        };
        for (path, opaque) in gone {
            tree.retain(|it, _| !below(&path, it) && (opaque || *it != path));
        }
        for (path, what) in layer {
            // A file where a directory was, or the other way round.
            if tree.get(&path).is_some_and(|it| it.as_bytes()[0] != what.as_bytes()[0]) {
                tree.retain(|it, _| !below(&path, it));
            }
            tree.insert(path, what);
        }
    }
    tree
}

/// What is in a directory.
fn found(root: &Path) -> Tree {
    use std::os::unix::{ffi::OsStrExt, fs::PermissionsExt};
    let mut tree = Tree::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(root.join(&dir)).unwrap() {
            let path = dir.join(entry.unwrap().file_name());
            let at = root.join(&path);
            let meta = fs::symlink_metadata(&at).unwrap();
            let mode = meta.permissions().mode() & 0o7777;
            let what = if meta.is_dir() {
                todo.push(path.clone());
                format!("d {mode:o}")
            } else if meta.is_symlink() {
                format!("l {}", fs::read_link(&at).unwrap().display())
            } else {
                format!("f {mode:o} {}", Digest::of(&fs::read(&at).unwrap()))
            };
            tree.insert(path.as_os_str().as_bytes().to_vec(), what);
        }
    }
    tree
}

/// This test is the child of the next: in namespaces of its own it mounts the layers and says what is there.
#[test]
fn child() {
    let Ok(job) = std::env::var("OFFSHOOT_TEST_MERGE") else { return };
    let (mount, options) = job.split_once('\n').unwrap();
    let mounted =
        Command::new("mount").args(["-t", "overlay", "overlay", "-o", options, mount]).status().unwrap();
    assert!(mounted.success());
    let tree: Vec<_> = found(Path::new(mount)).into_iter().collect();
    fs::write(format!("{mount}.json"), serde_json::to_vec(&tree).unwrap()).unwrap();
}

/// The layers as the kernel puts them together.
pub fn merged(layers: &[PathBuf], dir: &Path) -> Tree {
    let mount = dir.join("mount");
    fs::create_dir_all(&mount).unwrap();
    let lowers: Vec<_> = layers.iter().map(|it| it.to_str().unwrap()).collect();
    let options = format!("ro,userxattr,lowerdir={}", lowers.join(":"));
    let mut command = Command::new("unshare");
    // Root owns what it gave away only in the namespace it is root of.
    command.args(if user::is_root() { &["-m"][..] } else { &["-Urm"][..] });
    let done = command
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "merged::child", "--nocapture"])
        .env("OFFSHOOT_TEST_MERGE", format!("{}\n{options}", mount.display()))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let tree: Vec<(Vec<u8>, String)> =
        serde_json::from_slice(&fs::read(dir.join("mount.json")).unwrap()).unwrap();
    tree.into_iter().collect()
}

pub fn same(ours: &Tree, theirs: &Tree) {
    let differ: Vec<_> = ours
        .keys()
        .chain(theirs.keys())
        .filter(|path| ours.get(*path) != theirs.get(*path))
        .map(|path| {
            format!("{:?}: {:?} {:?}", String::from_utf8_lossy(path), ours.get(path), theirs.get(path))
        })
        .collect();
    assert!(differ.is_empty(), "{} of {}:\n{}", differ.len(), theirs.len(), differ.join("\n"));
}

#[tokio::test]
async fn the_kernel_sees_what_the_specification_says() {
    let registry = Registry::start();
    let built = real();
    registry.push("real", "1", &built);
    let dir = tempfile::tempdir().unwrap();
    let image = images(dir.path()).get(&registry.reference("real:1"), &|_| {}).await.unwrap();
    let (ours, theirs) = (merged(&image.layers, dir.path()), plain(&built.tars));
    assert!(theirs.len() > 100, "{}", theirs.len());
    same(&ours, &theirs);
    assert!(ours.contains_key(&b"etc/turns/2"[..]) && !ours.contains_key(&b"etc/turns/1"[..]));
    assert!(!ours.contains_key(&b"etc/file"[..]) && !ours.contains_key(&b"var/lib/db/one"[..]));
}
