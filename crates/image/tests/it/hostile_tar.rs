//! Tars that want out, or too much. Nothing outside the directory changes, and nothing of the outside comes in.

use std::{
    fs,
    io::Read,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use offshoot_image::{Limits, UnpackError, unpack};

use crate::fixture::{Tar, chain, open, owner};

/// A directory with the layer in it, and beside it what is not to be touched.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("layer")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/secret"), "secret").unwrap();
        Self { dir }
    }

    fn layer(&self) -> PathBuf {
        self.dir.path().join("layer")
    }

    fn outside(&self) -> String {
        self.dir.path().join("outside").to_str().unwrap().to_owned()
    }

    fn unpack(&self, tar: Tar) -> Result<(), UnpackError> {
        self.unpack_with(&tar.end()[..], &Limits::default())
    }

    fn unpack_with(&self, tar: impl Read, limits: &Limits) -> Result<(), UnpackError> {
        unpack(tar, &open(&self.layer()), owner(), limits, &|| true)
    }

    /// What is outside is as it was, and nothing new is there.
    fn untouched(&self) {
        let outside = self.dir.path().join("outside");
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
        assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1, "linked to");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 2);
    }
}

fn opaque(path: &Path) -> Option<Vec<u8>> {
    let mut value = [0; 16];
    let length = rustix::fs::lgetxattr(path, "user.overlay.opaque", &mut value).ok()?;
    Some(value[..length].to_vec())
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_char_device() && it.rdev() == 0)
}

#[test]
fn paths_do_not_lead_out() {
    for path in
        ["../outside/new", "a/../../outside/new", "/../outside/new", "..", "a/..", "../../../../tmp/x"]
    {
        let place = Place::new();
        let error = place.unpack(Tar::new().file(path, "x")).unwrap_err();
        assert!(matches!(error, UnpackError::Path { .. }), "{path}: {}", chain(&error));
        place.untouched();
    }
    // Absolute paths are below the root, as the engines have it.
    let place = Place::new();
    let absolute = format!("{}/new", place.outside());
    place.unpack(Tar::new().file(&absolute, "x").file("//etc//./x", "y")).unwrap();
    assert!(place.layer().join(absolute.trim_start_matches('/')).is_file());
    assert_eq!(fs::read_to_string(place.layer().join("etc/x")).unwrap(), "y");
    place.untouched();
}

#[test]
fn links_do_not_lead_out() {
    let place = Place::new();
    let up = "../".repeat(40);
    let outside = place.outside();
    let tar = Tar::new()
        .symlink("relative", "../outside")
        .symlink("far", format!("{up}{outside}"))
        .symlink("absolute", &outside)
        .symlink("root", "/")
        .symlink("file", format!("{outside}/secret"))
        .symlink("proc", "/proc/self/root");
    // Each leads below the layer's root, to where nothing is.
    for name in ["relative/new", "far/new", "absolute/new", "proc/new", "absolute/secret"] {
        let error = place.unpack(tar.clone().file(name, "x")).unwrap_err();
        assert!(matches!(error, UnpackError::Io { .. }), "{name}: {}", chain(&error));
        place.untouched();
    }
    // What is a link itself is replaced, not followed; the root is this one.
    place.unpack(tar.file("file", "x").file("root/in", "y").dir("absolute")).unwrap();
    assert!(fs::symlink_metadata(place.layer().join("file")).unwrap().is_file());
    assert_eq!(fs::read_to_string(place.layer().join("in")).unwrap(), "y");
    assert!(fs::symlink_metadata(place.layer().join("absolute")).unwrap().is_dir());
    place.untouched();
}

#[test]
fn whiteouts_and_attributes_do_not_lead_out() {
    let place = Place::new();
    let link = Tar::new().symlink("l", place.outside());
    for name in ["l/.wh.secret", "l/.wh..wh..opq", "l/d/.wh.x"] {
        place.unpack(link.clone().file(name, "")).unwrap_err();
        place.untouched();
    }
    for name in [".wh...", "a/.wh..", ".wh.", "d/.wh.../x", ".wh.x/y"] {
        let error = place.unpack(Tar::new().file(name, "")).unwrap_err();
        assert!(matches!(error, UnpackError::Path { .. }), "{name}: {}", chain(&error));
        place.untouched();
    }
    assert_eq!(opaque(&place.dir.path().join("outside")), None);
    // Engines' own directories are passed over.
    place.unpack(Tar::new().file(".wh..wh.plnk/1.2", "x").file(".wh..wh.aufs", "")).unwrap();
    assert!(!place.layer().join(".wh..wh.plnk").exists());
}

#[test]
fn hard_links_do_not_lead_out() {
    let place = Place::new();
    let secret = format!("{}/secret", place.outside());
    let tar = Tar::new().symlink("l", place.outside()).symlink("s", &secret).dir("d");
    for target in ["../outside/secret", secret.as_str(), "l/secret", "/", "d", "d/..", "nothing"] {
        place.unpack(tar.clone().link("x", target)).unwrap_err();
        place.untouched();
    }
    // A link to a link is one to the link.
    place.unpack(tar.link("x", "s")).unwrap();
    assert!(fs::symlink_metadata(place.layer().join("x")).unwrap().is_symlink());
    place.untouched();
}

#[test]
fn a_directory_that_becomes_a_link_is_not_walked_through() {
    let place = Place::new();
    let tar = Tar::new().dir("a").file("a/1", "x").symlink("a", place.outside()).file("a/2", "x");
    place.unpack(tar).unwrap_err();
    place.untouched();
    // Through a link in its own directory, that is replaced while its path is remembered.
    let place = Place::new();
    let tar = Tar::new().symlink("l", ".").file("l/l", "x").file("l/y", "x");
    place.unpack(tar).unwrap_err();
    place.untouched();
    // Back and forth.
    let place = Place::new();
    let mut tar = Tar::new();
    for _ in 0..50 {
        tar = tar.dir("a").dir("a/b").file("a/b/c", "x").symlink("a", place.outside()).file("a", "y");
    }
    place.unpack(tar).unwrap();
    assert_eq!(fs::read_to_string(place.layer().join("a")).unwrap(), "y");
    place.untouched();
}

#[test]
fn odd_names_are_kept_as_they_are() {
    let place = Place::new();
    let long = vec![b'n'; 255];
    let names: [&[u8]; 7] = [b"new\nline", b"\xff\xfe", b" ", b"\x1b[31mred", b"-rf", "ü".as_bytes(), &long];
    let tar = names.iter().fold(Tar::new(), |tar, name| tar.file(name, name));
    place.unpack(tar).unwrap();
    for name in names {
        let path = place.layer().join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(fs::read(path).unwrap(), name);
    }
    for name in [&vec![b'n'; 256][..], &[&b"d/".repeat(300)[..], b"x"].concat(), &[b'n'; 5000]] {
        place.unpack(Tar::new().file(name, "")).unwrap_err();
    }
    place.unpack(Tar::new().pax(&[("path", b"a\0b")]).file("x", "")).unwrap_err();
}

#[test]
fn what_comes_twice_is_the_last() {
    let place = Place::new();
    let tar = Tar::new()
        .file("f", "1")
        .file("f", "22")
        .dir("d")
        .file("d/below", "x")
        .file("d", "now a file")
        .file("e", "file")
        .dir("e")
        .file("e/x", "x")
        .dir("e")
        .file("h", "h")
        .link("i", "h")
        .link("i", "i")
        .link("h", "i");
    place.unpack(tar).unwrap();
    let read = |name: &str| fs::read_to_string(place.layer().join(name)).unwrap();
    assert_eq!(
        (read("f"), read("d"), read("e/x"), read("h")),
        ("22".into(), "now a file".into(), "x".into(), "h".into())
    );
    assert_eq!(fs::metadata(place.layer().join("h")).unwrap().nlink(), 2);
}

#[test]
fn nothing_dangerous_is_left_on_files() {
    let place = Place::new();
    let tar = Tar::new()
        .raw(b'0', "suid", "", 0o6755, b"x")
        .raw(b'0', "none", "", 0o000, b"x")
        .raw(b'5', "sticky", "", 0o7777, b"")
        .raw(b'5', "closed", "", 0o000, b"")
        .file("closed/in", "x")
        .raw(b'3', "null", "", 0o666, b"")
        .raw(b'4', "disk", "", 0o666, b"")
        .raw(b'6', "pipe", "", 0o4644, b"")
        .pax(&[
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.redirect", b"/outside"),
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02"),
            ("LIBARCHIVE.xattr.user.overlay.opaque", b"eQ=="),
        ])
        .dir("attributes");
    place.unpack(tar).unwrap();
    let at = |name: &str| place.layer().join(name);
    let mode = |name: &str| fs::symlink_metadata(at(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("suid"), mode("none")), (0o755, 0o400));
    assert_eq!((mode("sticky"), mode("closed")), (0o1777, 0o700));
    assert!(!at("null").exists() && !at("disk").exists());
    assert!(fs::symlink_metadata(at("pipe")).unwrap().file_type().is_fifo());
    let mut names = [0_u8; 1000];
    for name in ["attributes", "suid", "closed"] {
        let length = rustix::fs::llistxattr(at(name), &mut names[..]).unwrap();
        let found = String::from_utf8_lossy(&names[..length]);
        assert!(!found.contains("user.") && !found.contains("capability"), "{name}: {found}");
    }
    if let Some(owner) = owner() {
        for name in ["", "suid", "sticky", "closed", "closed/in", "pipe"] {
            let found = fs::symlink_metadata(at(name)).unwrap();
            assert_eq!((found.uid(), found.gid()), (owner.uid, owner.gid), "{name}");
        }
    }
}

#[test]
fn whiteouts_are_what_the_kernel_takes() {
    let place = Place::new();
    let tar = Tar::new()
        .dir("d")
        .file("d/.wh.gone", "")
        .file("new/.wh.x", "")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/f", "x")
        // Deleted and made anew, in either order.
        .file(".wh.again", "")
        .dir("again")
        .file(".wh.implied", "")
        .file("implied/f", "x")
        .dir("kept")
        .file(".wh.kept", "")
        .file(".wh.file", "")
        .file("file", "x")
        .file("own", "x")
        .file(".wh.own", "");
    place.unpack(tar).unwrap();
    let at = |name: &str| place.layer().join(name);
    assert!(is_whiteout(&at("d/gone")) && is_whiteout(&at("new/x")));
    for name in ["opaque", "again", "implied", "kept"] {
        assert!(at(name).is_dir());
        assert_eq!(opaque(&at(name)).as_deref(), Some(&b"y"[..]), "{name}");
    }
    assert_eq!(opaque(&at("d")), None);
    assert!(at("file").is_file() && at("own").is_file() && at("opaque/f").is_file());
    // One cannot be linked to.
    let place = Place::new();
    place.unpack(Tar::new().file(".wh.x", "").link("y", "x")).unwrap_err();
}

#[test]
fn times_and_links_are_kept() {
    let place = Place::new();
    let tar = Tar::new()
        .dir("d")
        .pax(&[("mtime", b"1234567890.25")])
        .file("d/f", "x")
        .symlink("s", "anywhere/../at all")
        .pax(&[("mtime", b"-5")])
        .file("old", "x")
        .pax(&[("mtime", b"99999999999999")])
        .file("far", "x");
    place.unpack(tar).unwrap();
    let time = |name: &str| {
        let found = fs::symlink_metadata(place.layer().join(name)).unwrap();
        (found.mtime(), found.mtime_nsec())
    };
    assert_eq!(time("d"), (1_000_000_000, 0));
    assert_eq!(time("d/f"), (1_234_567_890, 250_000_000));
    assert_eq!(time("s"), (1_000_000_000, 0));
    assert_eq!(time("old"), (0, 0));
    assert_eq!(fs::read_link(place.layer().join("s")).unwrap(), Path::new("anywhere/../at all"));
}

#[test]
fn what_goes_too_far_is_stopped() {
    let limits = Limits { entries: 100, header_bytes: 10_000, ..Limits::default() };
    let many = (0..200).fold(Tar::new(), |tar, at| tar.file(at.to_string(), ""));
    let implied = Tar::new().file(b"d/".repeat(150), "");
    let extended = Tar::new().pax(&[("comment", &[b'x'; 20_000])]).file("x", "");
    let mut unread = Tar::new();
    unread.header(b'L', b"././@LongLink", b"", 0, 8 << 30);
    let headers = (0..100).fold(Tar::new(), |tar, _| tar.pax(&[("path", b"x")])).file("x", "");
    for (what, tar) in
        [("many", many), ("implied", implied), ("extended", extended), ("long", unread), ("headers", headers)]
    {
        let error = Place::new().unpack_with(&tar.end()[..], &limits).unwrap_err();
        let text = chain(&error);
        assert!(text.contains("too far"), "{what}: {text}");
    }
}

#[test]
fn broken_tars_are_refused() {
    let good = Tar::new().file("f", vec![7; 2000]).symlink("s", "t");
    let whole = good.clone().end();
    for length in [1, 100, 511, 513, 600, 2000, 2511, 3000] {
        Place::new().unpack_with(&whole[..length], &Limits::default()).unwrap_err();
    }
    // Without the end: as every reader takes it.
    Place::new().unpack_with(&good.0[..], &Limits::default()).unwrap();
    for at in [0, 124, 148, 156, 300] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        Place::new().unpack_with(&bytes[..], &Limits::default()).unwrap_err();
    }
    let mut sparse = Tar::new();
    sparse.header(b'S', b"s", b"", 0, 0);
    Place::new().unpack(sparse).unwrap_err();
    Place::new().unpack(Tar::new().pax(&[("GNU.sparse.size", b"9")]).file("s", "")).unwrap_err();
    Place::new()
        .unpack_with(&b"#!/bin/sh\necho this is no tar at all\n".repeat(50)[..], &Limits::default())
        .unwrap_err();
    // Nothing, and a lot of nothing, are empty layers.
    Place::new().unpack_with(&[][..], &Limits::default()).unwrap();
    Place::new().unpack_with(&vec![0; 10240][..], &Limits::default()).unwrap();
    // A negative size, and one beyond everything.
    for size in [[0xff; 12], [0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]] {
        let mut bytes = whole.clone();
        bytes[124..136].copy_from_slice(&size);
        bytes[148..156].fill(b' ');
        let sum: u64 = bytes[..512].iter().map(|it| u64::from(*it)).sum();
        bytes[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        Place::new().unpack_with(&bytes[..], &Limits::default()).unwrap_err();
    }
}
