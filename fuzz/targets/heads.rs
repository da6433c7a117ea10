//! Requests to the preview proxy: the same heads are found however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (size, bytes) = input;
    let whole = offshoot_gateway::heads(&bytes, bytes.len());
    assert_eq!(offshoot_gateway::heads(&bytes, usize::from(size)), whole);
    assert_eq!(offshoot_gateway::heads(&bytes, 1), whole);
});
