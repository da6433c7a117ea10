//! A journal as a shim that was taken over would write it: read from anywhere, in any piece.
#![no_main]

use std::{cell::RefCell, io::Write};

use libfuzzer_sys::fuzz_target;
use offshoot_sandbox::journal::Reader;

thread_local!(static FILE: RefCell<tempfile::NamedTempFile> = RefCell::new(tempfile::NamedTempFile::new_in("/dev/shm").unwrap()));

fuzz_target!(|input: (u16, u16, Vec<u8>)| {
    let (from, max, bytes) = input;
    FILE.with_borrow_mut(|file| {
        file.as_file().set_len(0).unwrap();
        std::io::Seek::rewind(file).unwrap();
        file.write_all(&bytes).unwrap();
        let reader = Reader::open(file.path()).unwrap();
        for start in [0, u64::from(from), u64::MAX - u64::from(from)] {
            let mut at = start;
            while let Ok((records, next)) = reader.read_from(at, usize::from(max)) {
                for record in &records {
                    assert!(record.offset >= at && record.bytes.len() <= bytes.len());
                    let _ = record.exit();
                }
                if records.is_empty() {
                    assert_eq!(next, at);
                    break;
                }
                assert!(next > at && next <= bytes.len() as u64);
                at = next;
            }
        }
    });
});
