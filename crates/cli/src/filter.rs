//! What a program in an environment may send to the person's terminal: text, colours, cursor movements, screens, mouse and
//! paste modes, harmless questions (where is the cursor, what can you do). Taken out: everything that reaches beyond
//! the screen.
//!
//! | sequence | why it goes |
//! |---|---|
//! | OSC except colours (4, 10-12, 104, 110-112), links (8) and prompt marks (133) | clipboard (52), titles (0-2), files and notifications (7, 9, 777, 1337) |
//! | DCS, APC, PM, SOS | setting requests, key redefinition, images that read files |
//! | CSI … t | window moves, title reports |
//! | ENQ, C1 controls | answer-back; the same sequences in one byte |
//!
//! Pure, keeps its place between chunks, holds back nothing that is complete.

/// Longest OSC kept: a link or a list of colours is far shorter; anything longer is dropped to its end.
const MAX_OSC: usize = 4096;
/// Longest CSI sequence kept: 16 parameters of 5 digits.
const MAX_CSI: usize = 128;

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    Csi,
    Osc,
    OscEscape,
    /// In a string that is dropped as a whole.
    Dropped,
    DroppedEscape,
}

/// Takes out of a stream of terminal output what must not reach the person's terminal.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    state: State,
    held: Vec<u8>,
    /// Continuation bytes that the UTF-8 character in progress still needs.
    continuation: u8,
    after_c2: bool,
}

impl Filter {
    /// What may be shown of `bytes`.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            self.byte(byte, &mut out);
        }
        out
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.state {
            State::Text => self.text(byte, out),
            State::Escape => {
                self.state = match byte {
                    b'[' => State::Csi,
                    b']' => State::Osc,
                    b'P' | b'X' | b'^' | b'_' => State::Dropped,
                    0x1b => State::Escape,
                    // Intermediate bytes of a short sequence (ESC ( B) go on.
                    0x20..=0x2f => {
                        self.held.push(byte);
                        if self.held.len() > 4 {
                            self.held.clear();
                            self.state = State::Text;
                        }
                        return;
                    }
                    0x30..=0x7e => {
                        out.push(0x1b);
                        out.append(&mut self.held);
                        out.push(byte);
                        State::Text
                    }
                    _ => State::Text,
                };
                self.held.clear();
            }
            State::Csi => self.csi(byte, out),
            State::Osc => match byte {
                0x07 => self.end_osc(b"\x07", out),
                0x1b => self.state = State::OscEscape,
                0x18 | 0x1a => self.reset(),
                _ if self.held.len() < MAX_OSC => self.held.push(byte),
                _ => {
                    self.held.clear();
                    self.state = State::Dropped;
                }
            },
            State::OscEscape => {
                if byte == b'\\' {
                    self.end_osc(b"\x1b\\", out);
                } else {
                    self.reset();
                    self.state = State::Escape;
                    self.byte(byte, out);
                }
            }
            State::Dropped => match byte {
                0x1b => self.state = State::DroppedEscape,
                0x07 | 0x18 | 0x1a => self.reset(),
                _ => {}
            },
            State::DroppedEscape => {
                self.reset();
                if byte != b'\\' {
                    self.state = State::Escape;
                    self.byte(byte, out);
                }
            }
        }
    }

    fn text(&mut self, byte: u8, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.after_c2) {
            // C2 80…C2 9F are the C1 controls; the rest of C2 are letters and signs.
            match byte {
                0x80..=0x9f => return,
                0xa0..=0xbf => {
                    out.extend([0xc2, byte]);
                    return;
                }
                _ => {}
            }
        }
        if self.continuation > 0 && (0x80..=0xbf).contains(&byte) {
            self.continuation -= 1;
            out.push(byte);
            return;
        }
        self.continuation = 0;
        match byte {
            0x1b => self.state = State::Escape,
            0x05 => {}
            0xc2 => self.after_c2 = true,
            // A continuation byte without a beginning: alone it could be a C1 control.
            0x80..=0xbf => out.push(b'?'),
            _ => {
                self.continuation = match byte {
                    0xc3..=0xdf => 1,
                    0xe0..=0xef => 2,
                    0xf0..=0xf4 => 3,
                    _ => 0,
                };
                out.push(byte);
            }
        }
    }

    fn csi(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            0x20..=0x3f if self.held.len() < MAX_CSI => self.held.push(byte),
            0x40..=0x7e => {
                if byte != b't' {
                    out.extend(b"\x1b[");
                    out.append(&mut self.held);
                    out.push(byte);
                }
                self.reset();
            }
            0x1b => {
                self.reset();
                self.state = State::Escape;
            }
            0x18 | 0x1a => self.reset(),
            // Controls within a sequence act at once on real terminals.
            0x07..=0x0d => out.push(byte),
            0x20..=0x3f => self.reset(),
            _ => {}
        }
    }

    fn end_osc(&mut self, end: &[u8], out: &mut Vec<u8>) {
        let number = self.held.split(|b| *b == b';').next().unwrap_or_default();
        if matches!(number, b"4" | b"8" | b"10" | b"11" | b"12" | b"104" | b"110" | b"111" | b"112" | b"133")
        {
            out.extend(b"\x1b]");
            out.append(&mut self.held);
            out.extend(end);
        }
        self.reset();
    }

    fn reset(&mut self) {
        self.held.clear();
        self.state = State::Text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        String::from_utf8(Filter::default().take(bytes)).unwrap()
    }

    #[test]
    fn ordinary_output_passes() {
        for text in [
            "plain\r\n\ttext \u{8}\u{7}",
            "\x1b[1;31mred\x1b[0m",
            "\x1b[?1049h\x1b[2J\x1b[6n\x1b[?2004h\x1b[>c\x1b(B\x1b7\x1b8\x1b=",
            "héllo © 日本 👩‍🚀",
            "\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x07",
            "\x1b]11;?\x07\x1b]4;1;rgb:00/00/00\x1b\\",
        ] {
            assert_eq!(shown(text.as_bytes()), text);
        }
    }

    #[test]
    fn what_reaches_beyond_the_screen_is_taken_out() {
        for bad in [
            &b"\x1b]52;c;ZXZpbA==\x07"[..],
            b"\x1b]52;c;?\x1b\\",
            b"\x1b]0;title\x07",
            b"\x1b]2;t\x1b\\",
            b"\x1b]7;file:///\x07",
            b"\x1b]1337;File=:AAAA\x07",
            b"\x1b]777;notify;a;b\x07",
            b"\x1bP$qm\x1b\\",
            b"\x1bP+q544e\x1b\\",
            b"\x1b_Ga=T,t=f;L2V0Yy9wYXNzd2Q=\x1b\\",
            b"\x1b^x\x1b\\",
            b"\x1bXx\x1b\\",
            b"\x1b[21t",
            b"\x1b[3;0;0t",
            b"\x05",
            b"\xc2\x9b",
            b"\xc2\x9d",
        ] {
            let text = [b"a".as_slice(), bad, b"b"].concat();
            assert_eq!(shown(&text), "ab", "{bad:?}");
        }
        assert_eq!(shown(b"a\x9b21tb"), "a?21tb", "a bare C1 byte");
        assert_eq!(shown(b"\x1b]0;t\x1b]52;c;x\x07b"), "b", "one unfinished string in another");
        let long = [b"\x1b]8;;".as_slice(), &[b'x'; 9000], b"\x07after"].concat();
        assert_eq!(shown(&long), "after");
    }

    proptest::proptest! {
        #[test]
        fn chunks_do_not_matter(bytes in proptest::collection::vec(proptest::prop_oneof![
            proptest::strategy::Just(0x1bu8), proptest::strategy::Just(b']'), proptest::strategy::Just(0x07),
            proptest::strategy::Just(0xc2), 0u8..=255], 0..80), at in 0usize..80) {
            let at = at.min(bytes.len());
            let whole = Filter::default().take(&bytes);
            let mut filter = Filter::default();
            let mut parts = filter.take(&bytes[..at]);
            parts.extend(filter.take(&bytes[at..]));
            proptest::prop_assert_eq!(&whole, &parts);
            let again = Filter::default().take(&whole);
            proptest::prop_assert!(!again.windows(4).any(|w| w == b"\x1b]52"));
        }
    }
}
