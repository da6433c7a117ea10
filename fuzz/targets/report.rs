//! What the scripts that run inside a workspace say: read, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offshoot_git::inside::{Checkpointed, Finished};

fuzz_target!(|bytes: &[u8]| {
    let made = Checkpointed::read(bytes);
    let finished = Finished::read(bytes);
    for embedded in made.iter().flat_map(|m| &m.embedded).chain(finished.iter().flat_map(|f| &f.embedded)) {
        assert!(!embedded.path.chars().any(char::is_control));
    }
});
