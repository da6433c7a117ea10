//! Whether HTTP/1 requests have one meaning, by their bytes, before anything parses them. Pure.
//!
//! A parser that is lenient (a length beside `chunked`, a bare line feed, a folded line) may take the end of one request
//! for somewhere else than the next one does; here such a request is refused, and nothing after it on that
//! connection is read. It follows lengths and chunks only to find where the next head begins.

/// Largest head of a request.
pub(crate) const MOST_HEAD: usize = 64 * 1024;

/// Follows the bytes of one connection.
#[derive(Debug)]
pub(crate) struct Framing {
    state: State,
    /// Of the head that is being read.
    head: Vec<u8>,
    /// How much of it was looked at.
    seen: usize,
}

#[derive(Debug)]
enum State {
    Head,
    /// Bytes of a body are left.
    Length(u64),
    Chunked(Chunk),
    /// Not HTTP any more, or perhaps not: nobody looks.
    Opaque,
    Refused,
}

#[derive(Clone, Copy, Debug)]
enum Chunk {
    Size { value: u64, digits: u8 },
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    LineStart,
    Line,
    LineLf,
    EndLf,
}

/// What became of bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes belong to a body: pass them on.
    Body(usize),
    /// So many bytes were taken in; more are needed.
    Taken(usize),
    /// So many bytes were taken in, and here is a whole head.
    Head(usize, Vec<u8>),
    /// The request is refused.
    Refused(Fault),
    /// A body that cannot be read on.
    Broken,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    TooLarge,
    Malformed(&'static str),
}

impl Framing {
    pub(crate) fn new() -> Self {
        Self { state: State::Head, head: Vec::new(), seen: 0 }
    }

    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused)
    }

    /// Whether the next bytes, so many, are all of a body, or nobody looks at them.
    pub(crate) fn is_within_body(&self, length: usize) -> bool {
        match self.state {
            State::Opaque => true,
            State::Length(left) => length as u64 <= left,
            State::Head | State::Chunked(_) | State::Refused => false,
        }
    }

    /// What was taken in of a head that is not whole.
    pub(crate) fn unfinished(self) -> Vec<u8> {
        self.head
    }

    /// Takes the next bytes, at least one.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Step {
        match &mut self.state {
            State::Opaque => Step::Body(bytes.len()),
            State::Refused => Step::Taken(bytes.len()),
            State::Length(left) => {
                let length = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= length as u64;
                if *left == 0 {
                    self.state = State::Head;
                }
                Step::Body(length)
            }
            State::Chunked(chunk) => match chunk.follow(bytes) {
                None => Step::Broken,
                Some((length, ended)) => {
                    if ended {
                        self.state = State::Head;
                    }
                    Step::Body(length)
                }
            },
            State::Head => self.in_head(bytes),
        }
    }

    fn in_head(&mut self, bytes: &[u8]) -> Step {
        let before = self.head.len();
        // Empty lines before a request are allowed for (RFC 9112 section 2.2).
        let skipped = if before == 0 {
            bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
        } else {
            0
        };
        let bytes = &bytes[skipped..];
        let room = MOST_HEAD - before;
        self.head.extend_from_slice(&bytes[..bytes.len().min(room + 1)]);
        let mut end = None;
        for at in self.seen..self.head.len() {
            let byte = self.head[at];
            let last = at.checked_sub(1).map(|at| self.head[at]);
            if (byte == b'\n') != (last == Some(b'\r')) {
                return self.refuse(Fault::Malformed("a line of it does not end in CR LF"));
            }
            if byte == 0 {
                return self.refuse(Fault::Malformed("there is a zero byte in it"));
            }
            if byte == b'\n' && at >= 3 && self.head[at - 2] == b'\n' {
                end = Some(at + 1);
                break;
            }
        }
        // A CR at the end may yet be followed by a LF.
        self.seen = self.head.len();
        match end {
            None if self.head.len() > MOST_HEAD => self.refuse(Fault::TooLarge),
            None => Step::Taken(skipped + bytes.len()),
            Some(end) => {
                self.head.truncate(end);
                self.seen = 0;
                let head = std::mem::take(&mut self.head);
                match body(&head) {
                    Ok(state) => {
                        self.state = state;
                        Step::Head(skipped + end - before, head)
                    }
                    Err(fault) => self.refuse(fault),
                }
            }
        }
    }

    fn refuse(&mut self, fault: Fault) -> Step {
        self.state = State::Refused;
        self.head = Vec::new();
        Step::Refused(fault)
    }
}

/// Whether an upgrade is one that is passed on. An HTTP/2 upgrade would carry requests that nobody routes; whoever
/// offers it takes the plain answer.
pub(crate) fn is_upgrade(protocol: &[u8]) -> bool {
    !protocol.trim_ascii().eq_ignore_ascii_case(b"h2c")
}

/// What follows a head.
fn body(head: &[u8]) -> Result<State, Fault> {
    let fault = |what| Err(Fault::Malformed(what));
    let mut lines = head[..head.len() - 4].split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end());
    let first = lines.next().unwrap_or_default();
    let old = first.ends_with(b" HTTP/1.0");
    if !old && !first.ends_with(b" HTTP/1.1") {
        return fault("it is not of HTTP/1");
    }
    let mut state = if first.starts_with(b"CONNECT ") { Some(State::Opaque) } else { None };
    let (mut length, mut chunked, mut hosts) = (None, false, 0);
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return fault("a line of its head has no colon");
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || name.iter().any(|byte| byte.is_ascii_whitespace()) {
            return fault("the name of a field has a space in it, or a line is folded");
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits =
                std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let Some(value) = digits.and_then(|text| text.parse::<u64>().ok()) else {
                return fault("its Content-Length is no number");
            };
            if length.replace(value).is_some() {
                return fault("it has several Content-Lengths");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || old || !value.eq_ignore_ascii_case(b"chunked") {
                return fault("its Transfer-Encoding is not just chunked");
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") && is_upgrade(value) {
            state = Some(State::Opaque);
        } else if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
        }
    }
    if hosts > 1 {
        return fault("it has several Host fields");
    }
    match (length, chunked) {
        (Some(_), true) => fault("it has both a Content-Length and a Transfer-Encoding"),
        (None, true) => Ok(state.unwrap_or(State::Chunked(Chunk::Size { value: 0, digits: 0 }))),
        (None | Some(0), false) => Ok(state.unwrap_or(State::Head)),
        (Some(length), false) => Ok(state.unwrap_or(State::Length(length))),
    }
}

impl Chunk {
    /// How many of the bytes belong to the body, and whether it has ended; `None` if it cannot be read.
    fn follow(&mut self, bytes: &[u8]) -> Option<(usize, bool)> {
        let mut at = 0;
        while at < bytes.len() {
            if let Self::Data(left) = self {
                let length = (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= length as u64;
                at += length;
                if *left == 0 {
                    *self = Self::DataCr;
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            *self = match (*self, byte) {
                (Self::EndLf, b'\n') => return Some((at, true)),
                (Self::Size { value, digits }, digit) if digit.is_ascii_hexdigit() && digits < 15 => {
                    let digit = (digit as char).to_digit(16)?;
                    Self::Size { value: value * 16 + u64::from(digit), digits: digits + 1 }
                }
                (Self::Size { value, digits: 1.. } | Self::Extension(value), b'\r') => Self::SizeLf(value),
                (Self::Size { value, digits: 1.. }, b';' | b' ' | b'\t') => Self::Extension(value),
                (Self::SizeLf(0), b'\n') | (Self::LineLf, b'\n') => Self::LineStart,
                (Self::SizeLf(value), b'\n') => Self::Data(value),
                (Self::DataCr, b'\r') => Self::DataLf,
                (Self::DataLf, b'\n') => Self::Size { value: 0, digits: 0 },
                (Self::LineStart, b'\r') => Self::EndLf,
                (Self::Line, b'\r') => Self::LineLf,
                (_, b'\n' | b'\r') => return None,
                (Self::LineStart | Self::Line, _) => Self::Line,
                (Self::Extension(value), _) => Self::Extension(value),
                _ => return None,
            };
        }
        Some((at, false))
    }
}

/// For `fuzz/`: the heads in bytes that come in pieces of a size, and whether they were followed to their end.
#[cfg(fuzzing)]
#[must_use]
pub fn heads(bytes: &[u8], size: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut framing, mut heads) = (Framing::new(), Vec::new());
    for mut piece in bytes.chunks(size.max(1)) {
        while !piece.is_empty() {
            let taken = match framing.step(piece) {
                Step::Body(length) | Step::Taken(length) => length,
                Step::Head(length, head) => {
                    heads.push(head);
                    length
                }
                _ => return (heads, false),
            };
            assert!(taken > 0 || framing.is_refused(), "it stands still");
            piece = &piece[taken..];
        }
    }
    (heads, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes in pieces of a size: the heads that were seen, and how it ended.
    fn run(bytes: &[u8], size: usize) -> (Vec<String>, Option<Step>) {
        let mut framing = Framing::new();
        let mut heads = Vec::new();
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() {
                let taken = match framing.step(piece) {
                    Step::Body(length) | Step::Taken(length) => length,
                    Step::Head(length, head) => {
                        heads.push(String::from_utf8(head).unwrap());
                        length
                    }
                    other => return (heads, Some(other)),
                };
                piece = &piece[taken..];
            }
        }
        (heads, None)
    }

    #[test]
    fn the_next_head_is_found_behind_any_body() {
        let one = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
        let two = "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let three = "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n";
        let chunks = "4;x=y\r\nGET \r\n1f\r\n0123456789012345678901234567890\r\n0\r\nT: v\r\n\r\n";
        let all = format!("{one}\r\n\r\nX{two}{chunks}\r\n{three}{three}");
        for size in 1..all.len() {
            let (heads, end) = run(all.as_bytes(), size);
            assert_eq!(heads, [one, two, three, three], "in pieces of {size}");
            assert_eq!(end, None);
        }
    }

    #[test]
    fn what_has_two_meanings_is_refused() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\ncontent-length: 6",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: 0x5",
            "Content-Length: ",
            "Content-Length: 99999999999999999999999",
            "Content-Length : 5",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding:\r\n chunked",
            "X: y\r\n folded",
            "X: y\nContent-Length: 5",
            "X: y\rContent-Length: 5",
            "X: y\0",
            " X: y",
            ": y",
            "Host: b",
            "no colon",
        ] {
            let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\nhello");
            for size in [1, 7, bytes.len()] {
                let (_, end) = run(bytes.as_bytes(), size);
                assert!(matches!(end, Some(Step::Refused(Fault::Malformed(_)))), "{fields:?}: {end:?}");
            }
        }
        for head in [
            "GET /\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(matches!(run(head.as_bytes(), 100).1, Some(Step::Refused(_))), "{head:?}");
        }
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(MOST_HEAD));
        assert_eq!(run(long.as_bytes(), 1000).1, Some(Step::Refused(Fault::TooLarge)));
    }

    #[test]
    fn chunks_that_cannot_be_read_break_the_body() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for chunks in
            ["\r\n", "g\r\n", "1\nx", "1\r\nxx", "1;a\nb\r\nx\r\n", "1000000000000000\r\n", "0\r\nT: v\n\r\n"]
        {
            assert_eq!(run(format!("{head}{chunks}").as_bytes(), 3).1, Some(Step::Broken), "{chunks:?}");
        }
    }

    #[test]
    fn nobody_looks_behind_an_upgrade() {
        let head = "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        assert_eq!(run(format!("{head}\n\n\0 any").as_bytes(), 5), (vec![head.to_owned()], None));
        let h2c = "GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n";
        assert!(matches!(run(format!("{h2c}\n\0\n").as_bytes(), 99).1, Some(Step::Refused(_))));
    }
}
