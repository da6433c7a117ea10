//! The first bytes of a TLS connection: what was whole stays the same with more behind it, and what is too little says so.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offshoot_gateway::{Hello, read_hello};

fuzz_target!(|bytes: &[u8]| {
    let all = read_hello(bytes);
    for end in 1..bytes.len() {
        match read_hello(&bytes[..end]) {
            Hello::Partial => {}
            decided => {
                assert_eq!(decided, all, "more bytes change what was decided at {end}");
                break;
            }
        }
    }
});
