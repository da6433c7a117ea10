//! Rules of what may be reached: what is written is read as the same, and a rule allows nothing that it does not name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offshoot_core::egress::{EgressRule, HostName};

fuzz_target!(|input: (String, String, u16)| {
    let (rule, host, port) = input;
    let host = host.parse::<HostName>();
    if let Ok(host) = &host {
        assert_eq!(host.as_str().parse::<HostName>().as_ref(), Ok(host));
    }
    let Ok(rule) = rule.parse::<EgressRule>() else { return };
    assert_eq!(rule.to_string().parse::<EgressRule>().as_ref(), Ok(&rule), "{rule}");
    if let Ok(host) = &host
        && rule.allows(host, port)
    {
        assert!(rule.names(host) && rule.port().is_none_or(|only| only == port), "{rule} {}", host.as_str());
    }
});
