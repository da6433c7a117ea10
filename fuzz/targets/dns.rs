//! Datagrams to the DNS stub: an answer is small, belongs to its question, and gives no address outside of the rules.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &[u8]| {
    let rules = ["example.com", "*.example.org:443"].map(|rule| rule.parse().unwrap());
    let Some(reply) = offshoot_sandbox::answer_dns(query, rules.to_vec()) else { return };
    assert!(reply.len() <= query.len() + 16, "it amplifies");
    assert_eq!(reply[..2], query[..2]);
    assert_eq!(reply[2] & 0x80, 0x80);
    if reply[7] == 1 {
        let text = query.to_ascii_lowercase();
        let has = |name: &[u8]| text.windows(name.len()).any(|window| window == name);
        assert!(has(b"\x07example") || has(b"\x09localhost"), "an address for a name that no rule has");
    }
});
