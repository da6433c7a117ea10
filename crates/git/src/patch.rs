//! A patch taken apart into its sections, one for each file. Pure.
//!
//! A section begins with a line `diff --git `; no other line of a patch begins so, as lines of content begin with a
//! space, `+`, `-` or `\`, and names with line breaks are quoted by git.

/// How a section begins.
const BEGIN: &[u8] = b"diff --git ";

/// The sections of a patch, in order.
pub fn sections(patch: &[u8]) -> Vec<&[u8]> {
    let mut starts: Vec<usize> = if patch.starts_with(BEGIN) { vec![0] } else { Vec::new() };
    let mut at = 0;
    while let Some(end) = patch[at..].iter().position(|b| *b == b'\n') {
        at += end + 1;
        if patch[at..].starts_with(BEGIN) {
            starts.push(at);
        }
    }
    let ends = starts.iter().skip(1).copied().chain([patch.len()]);
    starts.iter().zip(ends).map(|(start, end)| &patch[*start..end]).collect()
}

/// The first line of a file's section, as git writes it: with `prefix` before both names.
pub fn header(prefix: &str, old: &[u8], new: &[u8]) -> Vec<u8> {
    let name = |side: &str, name: &[u8]| quoted(&[side.as_bytes(), prefix.as_bytes(), name].concat());
    [BEGIN, &name("a/", old), b" ", &name("b/", new)].concat()
}

/// The first line of a section.
pub fn first_line(section: &[u8]) -> &[u8] {
    section.split(|b| *b == b'\n').next().unwrap_or_default()
}

/// A name as git quotes it with `core.quotePath`: in C's manner if it holds anything but printable ASCII.
fn quoted(name: &[u8]) -> Vec<u8> {
    let plain = |b: &u8| (0x20..0x7f).contains(b) && *b != b'"' && *b != b'\\';
    if name.iter().all(plain) {
        return name.to_vec();
    }
    let mut text = vec![b'"'];
    for byte in name {
        let letter = match byte {
            7 => b'a',
            8 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            11 => b'v',
            12 => b'f',
            b'\r' => b'r',
            b'"' | b'\\' => *byte,
            byte if plain(byte) => {
                text.push(*byte);
                continue;
            }
            byte => {
                text.extend(format!("\\{byte:03o}").bytes());
                continue;
            }
        };
        text.extend([b'\\', letter]);
    }
    text.push(b'"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_falls_into_its_sections() {
        let one = b"diff --git a/x b/x\n@@ -1 +1 @@\n-diff --git a/y b/y\n+diff --git \n".as_slice();
        let two = b"diff --git a/z b/z\nBinary files differ\n".as_slice();
        assert_eq!(sections(&[one, two].concat()), [one, two]);
        assert!(sections(b"").is_empty());
        assert_eq!(sections(b"x\ndiff --git a/x"), [b"diff --git a/x".as_slice()]);
        assert_eq!(first_line(one), b"diff --git a/x b/x");
    }

    #[test]
    fn names_are_quoted_as_git_does() {
        assert_eq!(header("", b"a b", b"a b"), b"diff --git a/a b b/a b");
        assert_eq!(
            header("web/", b"x\n\"\\", b"\xff\x01"),
            br#"diff --git "a/web/x\n\"\\" "b/web/\377\001""#
        );
        assert_eq!(header("", "é".as_bytes(), b"e\x7f\t"), br#"diff --git "a/\303\251" "b/e\177\t""#);
    }
}
