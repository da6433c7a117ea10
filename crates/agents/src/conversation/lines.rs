//! Lines out of pieces. Keeps at most one incomplete line, and that bounded.

use super::bound;

/// One direction of a line protocol.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    dropping: bool,
}

/// A complete line, or the news that one was too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole(Vec<u8>),
    TooLong,
}

impl Lines {
    /// Adds bytes and returns the lines that are now complete, without their newline; empty ones are left out.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.append(&bytes[..end], &mut lines);
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.partial);
            if !std::mem::take(&mut self.dropping) && !line.trim_ascii().is_empty() {
                lines.push(Line::Whole(line));
            }
        }
        self.append(bytes, &mut lines);
        lines
    }

    fn append(&mut self, bytes: &[u8], lines: &mut Vec<Line>) {
        if self.dropping {
            return;
        }
        if self.partial.len() + bytes.len() > bound::LINE {
            self.partial = Vec::new();
            self.dropping = true;
            lines.push(Line::TooLong);
            return;
        }
        self.partial.extend_from_slice(bytes);
    }

    /// What is there of a line that is not complete yet.
    pub(super) fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Of the messages that could be sent, the one to send now: if one was begun and cut off, its remainder.
    ///
    /// If none of them begins like the one that was cut off (the caller has changed its mind meanwhile), the broken
    /// line is ended, so that the peer rejects that one line and not the next.
    pub(super) fn resume(&self, candidates: impl IntoIterator<Item = Vec<u8>>) -> Option<Vec<u8>> {
        let mut candidates = candidates.into_iter();
        if self.partial.is_empty() {
            return candidates.next();
        }
        let rest = candidates.find_map(|message| message.strip_prefix(self.partial()).map(<[u8]>::to_vec));
        Some(rest.unwrap_or_else(|| b"\n".to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let mut lines = Lines::default();
        assert!(lines.push(b"on").is_empty());
        assert_eq!(
            lines.push(b"e\n\n \ntwo\nthr"),
            [Line::Whole(b"one".to_vec()), Line::Whole(b"two".to_vec())]
        );
        assert_eq!(lines.partial(), b"thr");
    }

    #[test]
    fn a_line_that_never_ends_is_reported_once_and_takes_no_memory() {
        let mut lines = Lines::default();
        let chunk = vec![b'x'; bound::LINE / 2 + 1];
        assert!(lines.push(&chunk).is_empty());
        assert_eq!(lines.push(&chunk), [Line::TooLong]);
        assert!(lines.push(&chunk).is_empty());
        assert!(lines.partial().is_empty());
        assert_eq!(lines.push(b"\nok\n"), [Line::Whole(b"ok".to_vec())]);
    }

    #[test]
    fn a_message_that_was_cut_off_is_completed() {
        let mut lines = Lines::default();
        assert_eq!(lines.resume([b"abc\n".to_vec()]), Some(b"abc\n".to_vec()));
        lines.push(b"xy");
        assert_eq!(lines.resume([b"abc\n".to_vec(), b"xyz\n".to_vec()]), Some(b"z\n".to_vec()));
        assert_eq!(lines.resume([b"abc\n".to_vec()]), Some(b"\n".to_vec()));
    }
}
