//! The tar reader against another one, and against anything at all.

use std::io::Read;

use offshoot_image::{Entry, Kind, Limits, Reader, TarError, unpack};
use proptest::prelude::*;

use crate::fixture::{Tar, open, owner};

type Found = (Entry, Vec<u8>);
/// Path, target and contents.
type Other = (Vec<u8>, Vec<u8>, Vec<u8>);

fn read(bytes: &[u8]) -> Result<Vec<Found>, TarError> {
    let mut reader = Reader::new(bytes, &Limits::default());
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut contents = Vec::new();
        let read = reader.contents().read_to_end(&mut contents);
        read.map_err(|source| TarError::Read { entry: 0, source })?;
        all.push((entry, contents));
    }
    reader.drain()?;
    Ok(all)
}

/// As the other reader has them.
fn other(bytes: &[u8]) -> std::io::Result<Vec<Other>> {
    let mut archive = tar::Archive::new(bytes);
    let mut all = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let link = entry.link_name_bytes().map(|it| it.into_owned()).unwrap_or_default();
        let path = entry.path_bytes().into_owned();
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents)?;
        all.push((path, link, contents));
    }
    Ok(all)
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    // No zero, no slash at the end (which says directory), no empty part; no newline, at which the other reader cuts the
    // records of an extended header.
    let part = prop::collection::vec(
        prop_oneof![Just(b'a'), Just(b'.'), 1_u8..=9, 0x0b_u8..=0x2e, 0x30_u8..=255],
        1..40,
    );
    prop::collection::vec(part, 1..8).prop_map(|parts| parts.join(&b'/'))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// What the other library writes reads the same with both.
    #[test]
    fn what_is_written_is_read(entries in prop::collection::vec((name(), name(), 0..4_u8, prop::collection::vec(any::<u8>(), 0..1500)), 0..12)) {
        let mut tar = Tar::new();
        for (path, link, kind, contents) in &entries {
            tar = match kind {
                0 => tar.file(path, contents),
                1 => tar.dir(path),
                2 => tar.symlink(path, link),
                _ => tar.pax(&[("path", path), ("linkpath", link)]).link("short", "short"),
            };
        }
        let bytes = tar.end();
        let (ours, theirs) = (read(&bytes).unwrap(), other(&bytes).unwrap());
        prop_assert_eq!(ours.len(), entries.len());
        for ((ours, contents), (path, link, bytes)) in ours.iter().zip(&theirs) {
            prop_assert_eq!(&ours.path, path);
            prop_assert_eq!(contents, bytes);
            if matches!(ours.kind, Kind::Symlink | Kind::HardLink) {
                prop_assert_eq!(&ours.link, link);
            }
        }
    }

    /// Anything at all is read or refused, without a panic and without end.
    #[test]
    fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let _ = read(&bytes);
    }

    /// Nearly a tar, with checksums that are right, unpacks or is refused; nothing gets out.
    #[test]
    fn nearly_a_tar(
        entries in prop::collection::vec((hostile(), hostile(), 0..10_usize, any::<u16>(), 0..600_usize), 0..10),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let kinds = *b"0125670xLg";
        let mut tar = Tar::new();
        for (path, link, kind, mode, size) in &entries {
            tar = tar.raw(kinds[*kind], path, link, u32::from(*mode), &vec![b'7'; *size]);
        }
        let mut bytes = tar.end();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let dir = tempfile::tempdir().unwrap();
        let layer = dir.path().join("a/layer");
        std::fs::create_dir_all(&layer).unwrap();
        let _ = unpack(&bytes[..], &open(&layer), owner(), &Limits::default(), &|| true);
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        prop_assert_eq!(std::fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }
}

/// Names that meet each other, and lead up.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "a",
        "b",
        "..",
        ".",
        "",
        "/",
        ".wh.a",
        ".wh.b",
        ".wh..wh..opq",
        "../..",
        "c\n",
        "tmp",
        "layer",
    ]);
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/").into_bytes())
}
