//! The header of a bundle that a run brings back: within its limits, whatever it says.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((prerequisites, refs)) = offshoot_git::import::header(bytes, 8) {
        assert!(prerequisites <= 8 && refs <= 8);
    }
});
