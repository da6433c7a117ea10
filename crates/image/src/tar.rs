//! Reading tar: ustar, GNU long names and POSIX extended headers, as Go's `archive/tar` reads them, which wrote nearly
//! every layer there is. What has a size limit is limited before it is read into memory.
//!
//! What a layer has no use for (extended attributes, owners, global headers) is read over; sparse files, which no
//! engine writes, are refused rather than unpacked wrongly.
//!
//! Names are bytes as they stand in the archive: whoever uses them must judge them. Nothing is written here.

use std::io::{self, Read};

use crate::limits::Limits;

const BLOCK: usize = 512;

/// Why something is not a tar that can be unpacked. The image is broken or hostile: take another, or build it anew.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The archive could not be read, decompressed, or had more bytes than it may have.
    #[error("the archive could not be read at entry {entry}")]
    Read {
        /// Counted from one.
        entry: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ends in the middle of something.
    #[error("the archive is cut off at entry {0}")]
    CutOff(u64),
    /// A header that no tar has.
    #[error("entry {entry} of the archive is malformed: {what}")]
    Malformed {
        /// Counted from one.
        entry: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// More than [`Limits`] allow.
    #[error("entry {entry} of the archive goes too far: {what}")]
    Limit {
        /// Counted from one.
        entry: u64,
        /// What there is too much of.
        what: &'static str,
    },
    /// A sparse file: unpack and pack it again without `--sparse`.
    #[error("entry {0} of the archive is a sparse file")]
    Sparse(u64),
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file with contents.
    File,
    /// Another name of a file before it.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A character or block device.
    Device,
    /// Something else, to be passed over.
    Other,
}

/// One entry's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As written: with `./`, `..`, a slash in front and whatever else there may be.
    pub path: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permissions.
    pub mode: u32,
    /// Bytes that follow.
    pub size: u64,
    /// When it was changed: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
}

/// Reads entries one after another.
pub struct Reader<R> {
    inner: R,
    entry: u64,
    /// Of the present entry's contents, not yet read.
    left: u64,
    padding: u64,
    header_bytes: u64,
    path_bytes: usize,
    ended: bool,
}

/// What extended headers say of the entry that follows.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<(i64, u32)>,
}

impl<R: Read> Reader<R> {
    /// Over the bytes of a tar.
    pub fn new(inner: R, limits: &Limits) -> Self {
        let Limits { header_bytes, path_bytes, .. } = *limits;
        Self { inner, entry: 0, left: 0, padding: 0, header_bytes, path_bytes, ended: false }
    }

    /// The next entry; what was not read of the last one's contents is passed over.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extended = Extended::default();
        // Headers about headers: one of each kind is what there is, so more than a few are an attack on patience.
        for _ in 0..8 {
            self.pass_over()?;
            self.entry += 1;
            let Some(block) = self.header()? else { return Ok(None) };
            let kind = block[156];
            let size = match kind {
                b'1'..=b'6' => 0,
                _ => self.number(&block[124..136])?,
            };
            match kind {
                b'L' => extended.path = Some(until_nul(&self.small(size)?).to_vec()),
                b'K' => extended.link = Some(until_nul(&self.small(size)?).to_vec()),
                b'x' => {
                    let records = self.small(size)?;
                    self.records(&records, &mut extended)?;
                }
                b'g' => drop(self.small(size)?),
                b'S' => return Err(TarError::Sparse(self.entry)),
                _ => return self.finish(&block, kind, size, extended).map(Some),
            }
        }
        Err(TarError::Limit { entry: self.entry, what: "headers before a file" })
    }

    /// The contents of the present entry.
    pub fn contents(&mut self) -> Contents<'_, R> {
        Contents(self)
    }

    /// Reads to the end of the bytes, past the end of the archive: a digest is over all of them.
    pub fn drain(&mut self) -> Result<(), TarError> {
        let entry = self.entry;
        io::copy(&mut self.inner, &mut io::sink()).map_err(|source| TarError::Read { entry, source })?;
        Ok(())
    }

    fn finish(&mut self, block: &[u8; BLOCK], kind: u8, size: u64, it: Extended) -> Result<Entry, TarError> {
        let mut path = it.path.unwrap_or_else(|| {
            let name = until_nul(&block[..100]);
            // POSIX has a prefix there; GNU, told by the space in its magic, has something else.
            let prefix = if &block[257..263] == b"ustar\0" { until_nul(&block[345..500]) } else { b"" };
            if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
        });
        let link = it.link.unwrap_or_else(|| until_nul(&block[157..257]).to_vec());
        let kind = match kind {
            // Before POSIX a directory was told by its name.
            b'0' | 0 | b'7' if path.ends_with(b"/") && size == 0 => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' | b'4' => Kind::Device,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => Kind::Other,
        };
        let size = match kind {
            Kind::File | Kind::Other => it.size.unwrap_or(size),
            _ => 0,
        };
        if path.contains(&0) || link.contains(&0) {
            return Err(TarError::Malformed { entry: self.entry, what: "a name with a zero byte" });
        }
        if path.len() > self.path_bytes || link.len() > self.path_bytes {
            return Err(TarError::Limit { entry: self.entry, what: "the length of a name" });
        }
        if kind == Kind::Directory {
            while path.len() > 1 && path.ends_with(b"/") {
                path.pop();
            }
        }
        self.expect(size)?;
        let mode = self.number(&block[100..108])? as u32 & 0o7777;
        let mtime = match it.mtime {
            Some(mtime) => mtime,
            None => (self.signed(&block[136..148])?, 0),
        };
        Ok(Entry { path, link, kind, mode, size, mtime })
    }

    /// A header block; none at the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        if self.ended || !self.block(&mut block)? {
            self.ended = true;
            return Ok(None);
        }
        if block == [0; BLOCK] {
            self.ended = true;
            // A second one follows, or nothing does.
            if self.block(&mut block)? && block != [0; BLOCK] {
                return Err(TarError::Malformed { entry: self.entry, what: "it goes on after its end" });
            }
            return Ok(None);
        }
        let wanted = self.number(&block[148..156])?;
        let (mut unsigned, mut signed) = (0_u64, 0_i64);
        for (at, &byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { byte };
            unsigned += u64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if wanted != unsigned && i64::try_from(wanted) != Ok(signed) {
            return Err(TarError::Malformed { entry: self.entry, what: "the checksum of its header" });
        }
        Ok(Some(block))
    }

    /// Whether there was a block at all.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(TarError::CutOff(self.entry)),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { entry: self.entry, source }),
            }
        }
        Ok(true)
    }

    /// Whole contents of a header's extension.
    fn small(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > self.header_bytes {
            return Err(TarError::Limit { entry: self.entry, what: "the size of an extended header" });
        }
        self.expect(size)?;
        let mut bytes = Vec::new();
        let entry = self.entry;
        self.contents().read_to_end(&mut bytes).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => TarError::CutOff(entry),
            _ => TarError::Read { entry, source },
        })?;
        Ok(bytes)
    }

    /// `LENGTH KEY=VALUE\n`, again and again.
    fn records(&self, mut rest: &[u8], extended: &mut Extended) -> Result<(), TarError> {
        let entry = self.entry;
        let malformed = || TarError::Malformed { entry, what: "an extended header" };
        while !rest.is_empty() {
            let space = rest.iter().take(20).position(|byte| *byte == b' ').ok_or_else(malformed)?;
            let length =
                decimal(&rest[..space]).and_then(|it| usize::try_from(it).ok()).ok_or_else(malformed)?;
            let record =
                rest.get(space + 1..length).and_then(|it| it.strip_suffix(b"\n")).ok_or_else(malformed)?;
            rest = &rest[length..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                // An empty value takes back what was said.
                b"path" => extended.path = (!value.is_empty()).then(|| value.to_vec()),
                b"linkpath" => extended.link = (!value.is_empty()).then(|| value.to_vec()),
                b"size" => extended.size = Some(decimal(value).ok_or_else(malformed)?),
                b"mtime" => extended.mtime = Some(time(value).ok_or_else(malformed)?),
                _ if key.starts_with(b"GNU.sparse.") => return Err(TarError::Sparse(entry)),
                _ => {}
            }
        }
        Ok(())
    }

    fn expect(&mut self, size: u64) -> Result<(), TarError> {
        let entry = self.entry;
        if size > i64::MAX as u64 {
            return Err(TarError::Malformed { entry, what: "a size that no file has" });
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    fn pass_over(&mut self) -> Result<(), TarError> {
        let (left, entry) = (self.left, self.entry);
        let wanted = left + self.padding;
        (self.left, self.padding) = (0, 0);
        let passed = io::copy(&mut (&mut self.inner).take(wanted), &mut io::sink());
        // The padding of the last entry is left out by some writers.
        match passed.map_err(|source| TarError::Read { entry, source })? {
            passed if passed < left => Err(TarError::CutOff(entry)),
            _ => Ok(()),
        }
    }

    fn signed(&self, field: &[u8]) -> Result<i64, TarError> {
        // Base 256, two's complement, behind a set bit: seconds before 1970.
        if field[0] == 0xff {
            return Ok(field.iter().fold(-1_i64, |value, byte| value << 8 | i64::from(*byte)));
        }
        let value = self.number(field)?;
        i64::try_from(value).map_err(|_| TarError::Malformed { entry: self.entry, what: "a number" })
    }

    fn number(&self, field: &[u8]) -> Result<u64, TarError> {
        let malformed = TarError::Malformed { entry: self.entry, what: "a number" };
        if field[0] & 0x80 != 0 {
            let mut value = u64::from(field[0] & 0x7f);
            for byte in &field[1..] {
                value = value
                    .checked_mul(256)
                    .and_then(|it| it.checked_add(u64::from(*byte)))
                    .ok_or(TarError::Malformed { entry: self.entry, what: "a number" })?;
            }
            return Ok(value);
        }
        let digits = until_nul(field).trim_ascii();
        let mut value = 0_u64;
        for digit in digits {
            let (b'0'..=b'7', Some(next)) = (digit, value.checked_mul(8)) else { return Err(malformed) };
            value = next + u64::from(digit - b'0');
        }
        Ok(value)
    }
}

/// See [`Reader::contents`].
pub struct Contents<'a, R>(&'a mut Reader<R>);

impl<R: Read> Read for Contents<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.0.left).unwrap_or(usize::MAX).min(buf.len());
        if wanted == 0 {
            return Ok(0);
        }
        match self.0.inner.read(&mut buf[..wanted])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.0.left -= count as u64;
                Ok(count)
            }
        }
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds, and perhaps a fraction of any length, of which nine digits count.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let negative = text.first() == Some(&b'-');
    let text = if negative { &text[1..] } else { text };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| u32::from(fraction.get(at).map_or(0, |byte| byte - b'0'));
    let nanos = (0..9).fold(0, |value, at| value * 10 + digit(at));
    match (negative, nanos) {
        (false, _) => Some((seconds, nanos)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanos)),
    }
}
