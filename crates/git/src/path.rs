//! File names as text. Git's names are bytes; what leaves this crate is a string from which the bytes come back.
//!
//! Printable UTF-8 stands for itself, a backslash is doubled, every other byte is `\xHH`. So no control
//! character, no direction override and no invalid byte reaches a terminal or a page. Pure.

/// The name as text; see the module's head.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                text.push_str("\\\\");
            } else if c.is_control() || is_invisible(c) {
                push_hex(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        push_hex(&mut text, chunk.invalid());
    }
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str(&format!("\\x{byte:02x}"));
    }
}

/// Characters that change how their neighbours are shown, or show nothing: bidirectional controls, zero-width
/// characters, line separators, tags (Unicode Cf and Zl/Zp as far as they matter here).
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// The bytes of a name made by [`escape`]; `None` if the text is not one.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'\\' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        match tail {
            [b'\\', tail @ ..] => {
                bytes.push(b'\\');
                rest = tail;
            }
            [b'x', a, b, tail @ ..] => {
                let digits = [*a, *b];
                let digits = std::str::from_utf8(&digits).ok()?;
                if !digits.bytes().all(|d| d.is_ascii_hexdigit()) {
                    return None;
                }
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = tail;
            }
            _ => return None,
        }
    }
    Some(bytes)
}

/// Text of a message that comes from git or from a commit: control characters but newline and tab are escaped.
pub fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() && c != '\n' && c != '\t') || is_invisible(c) {
            clean.extend(c.escape_unicode());
        } else {
            clean.push(c);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_harmless() {
        assert_eq!(escape(b"src/a b.rs"), "src/a b.rs");
        assert_eq!(escape("é".as_bytes()), "é");
        assert_eq!(escape(b"a\nb\\c\xff\x1b[2J"), "a\\x0ab\\\\c\\xff\\x1b[2J");
        assert_eq!(escape("x\u{202e}y".as_bytes()), "x\\xe2\\x80\\xaey");
        assert_eq!(unescape("\\q"), None);
        assert_eq!(unescape("\\x+1"), None);
    }

    proptest::proptest! {
        #[test]
        fn every_name_comes_back(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            proptest::prop_assert_eq!(unescape(&escape(&bytes)), Some(bytes));
        }
    }
}
