//! The name in a TLS ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3). Pure; reads, never changes.
//!
//! Bounded: 16 KiB of hello in at most 64 records. The bytes that were read are the very bytes that are passed on.
//! Does not see through Encrypted ClientHello: the outer name is the one that counts.

use offshoot_core::egress::HostName;

/// The largest hello. Real ones have 0.3 to 2 KiB.
const MOST_BYTES: usize = 16 * 1024;
/// The most records it may be spread over; bounds the work on hellos that trickle in.
const MOST_RECORDS: usize = 64;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Hello {
    /// Not TLS.
    Other,
    /// The beginning of a hello; more has to come.
    Partial,
    /// A whole hello, with the name it asks for.
    Whole(Option<HostName>),
    /// TLS, but not a hello that has one meaning.
    Malformed,
}

/// Reads the first bytes of a connection.
#[doc(hidden)]
pub fn read(bytes: &[u8]) -> Hello {
    match bytes {
        [] | [22] => return Hello::Partial,
        [22, 3, ..] => {}
        _ => return Hello::Other,
    }
    let mut rest = bytes;
    let mut message = Vec::new();
    for _ in 0..MOST_RECORDS {
        let Some((header, after)) = rest.split_first_chunk::<5>() else {
            return if rest.is_empty() || rest[0] == 22 { Hello::Partial } else { Hello::Malformed };
        };
        let [22, 3, _, high, low] = *header else { return Hello::Malformed };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || message.len() + length > MOST_BYTES {
            return Hello::Malformed;
        }
        let Some((part, after)) = after.split_at_checked(length) else {
            // The kind of message is known from its first byte.
            let first = message.first().or(after.first());
            return if first.is_none_or(|kind| *kind == 1) { Hello::Partial } else { Hello::Malformed };
        };
        message.extend_from_slice(part);
        rest = after;
        if message.first() != Some(&1) {
            return Hello::Malformed;
        }
        if let Some((&[_, a, b, c], body)) = message.split_first_chunk::<4>() {
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if length > MOST_BYTES {
                return Hello::Malformed;
            }
            if let Some(body) = body.get(..length) {
                return name(body).map_or(Hello::Malformed, Hello::Whole);
            }
        }
    }
    Hello::Malformed
}

/// The name asked for in the body of a hello; the outer `None` if it is malformed.
fn name(body: &[u8]) -> Option<Option<HostName>> {
    let mut body = Reader(body);
    body.take(2 + 32)?;
    body.vector8()?;
    body.vector16()?;
    body.vector8()?;
    if body.0.is_empty() {
        return Some(None);
    }
    let mut extensions = Reader(body.vector16()?);
    if !body.0.is_empty() {
        return None;
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let data = extensions.vector16()?;
        if kind != 0 {
            continue;
        }
        // Two names could be understood in two ways.
        if found.is_some() {
            return None;
        }
        let mut data = Reader(data);
        let mut list = Reader(data.vector16()?);
        let kind = *list.take(1)?.first()?;
        let text = std::str::from_utf8(list.vector16()?).ok()?;
        if kind != 0 || !list.0.is_empty() || !data.0.is_empty() {
            return None;
        }
        found = Some(text.parse().ok()?);
    }
    Some(found)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(*self.take(1)?.first()?);
        self.take(length)
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.number16()?);
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector16(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    fn message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let extensions: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &vector16(data)].concat())
            .collect();
        let body =
            [&[3, 3][..], &[7; 32], &[0], &vector16(&[0x13, 1]), &[1, 0], &vector16(&extensions)].concat();
        [&[1, 0][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), &body].concat()
    }

    fn sni(name: &[u8]) -> (u16, Vec<u8>) {
        (0, vector16(&[&[0][..], &vector16(name)].concat()))
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message.chunks(size).flat_map(|part| [&[22, 3, 1][..], &vector16(part)].concat()).collect()
    }

    fn whole(name: &str) -> Hello {
        Hello::Whole(Some(name.parse().unwrap()))
    }

    #[test]
    fn names_are_found_however_the_hello_is_cut() {
        let message = message(&[(0x2b, vec![2, 3, 4]), sni(b"Example.ORG"), (0xfe0d, vec![0; 200])]);
        for size in [5000, 100, 8, 7] {
            let bytes = records(&message, size);
            assert_eq!(read(&bytes), whole("example.org"), "{size}");
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]), Hello::Partial, "{size} {cut}");
            }
            assert_eq!(read(&[&bytes[..], b"more"].concat()), whole("example.org"));
        }
        assert_eq!(read(&records(&message, 1)), Hello::Malformed, "more records than anybody needs");
    }

    #[test]
    fn what_has_no_single_meaning_is_malformed() {
        let bad = [
            message(&[sni(b"a.org"), sni(b"b.org")]),
            message(&[sni(b"evil.com\0a.org")]),
            message(&[sni(b"1.2.3.4")]),
            message(&[sni(b"")]),
            message(&[sni(b"a.org/")]),
            message(&[(0, vector16(&[&[0][..], &vector16(b"a.org"), &[0], &vector16(b"b.org")].concat()))]),
            message(&[(0, vector16(&[&[1][..], &vector16(b"a.org")].concat()))]),
            message(&[(0, [&vector16(&[&[0][..], &vector16(b"a.org")].concat())[..], b"x"].concat())]),
            [2, 0, 0, 4, 1, 2, 3, 4].to_vec(),
        ];
        for message in bad {
            assert_eq!(read(&records(&message, 5000)), Hello::Malformed, "{message:?}");
        }
        for bytes in [&[22, 3, 1, 0, 0][..], &[22, 3, 1, 255, 255, 1], &[22, 3, 1, 0, 9, 2]] {
            assert_eq!(read(bytes), Hello::Malformed, "{bytes:?}");
        }
        assert_eq!(read(&records(&message(&[]), 5000)), Hello::Whole(None));
        for other in [&b"GET / HTTP/1.1"[..], b"SSH-2.0", &[22, 2], &[0x80, 0x2e, 1, 3, 1]] {
            assert_eq!(read(other), Hello::Other);
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            read(&bytes);
            read(&[&[22, 3, 1][..], &bytes].concat());
            read(&records(&[&[1, 0, 0][..], &bytes].concat(), 5000));
        }

        #[test]
        fn a_changed_byte_gives_no_other_name(at in 0usize..200, value in any::<u8>()) {
            let mut bytes = records(&message(&[sni(b"a.org"), (9, vec![1; 40])]), 50);
            let at = at % bytes.len();
            bytes[at] = value;
            if let Hello::Whole(Some(name)) = read(&bytes) {
                prop_assert_eq!(name.as_str().len(), 5);
            }
        }
    }
}
