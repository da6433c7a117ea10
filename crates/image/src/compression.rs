//! What a layer was compressed with, told by its first bytes as the engines do: what a manifest says of it is often
//! wrong, and the digest of what comes out is what counts.
//!
//! Both decoders are Rust without unsafe code of ours, because what they read is hostile; their memory is bounded
//! (32 KiB of window for gzip, 100 MiB for zstd).

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

/// How much is read at once.
const BUFFER: usize = 128 << 10;

/// The bytes as they were before compression, if there was one.
pub(crate) fn decompress<'a>(reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    Ok(match *reader.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Box::new(Zstd::new(reader)?),
        _ => Box::new(reader),
    })
}

/// A stream of zstd frames. Layers that can be read in parts have many, and some to be skipped.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    within: bool,
}

/// The head of a frame with the smallest window. The decoder checks the window of every frame but its first, so it is
/// given this one first.
const SMALLEST: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00];

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> io::Result<Self> {
        let mut decoder = FrameDecoder::new();
        decoder.init(SMALLEST).map_err(io::Error::other)?;
        Ok(Self { source, decoder, within: false })
    }

    /// Goes into the next frame; false at the end.
    fn enter(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped = io::copy(&mut (&mut self.source).take(u64::from(length)), &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.within {
                if !self.enter()? {
                    return Ok(0);
                }
                self.within = true;
            }
            let count = self.decoder.read(buf)?;
            if count > 0 {
                return Ok(count);
            }
            if self.decoder.is_finished() {
                let wrong = self.decoder.get_checksum_from_data().is_some_and(|wanted| {
                    self.decoder.get_calculated_checksum().is_some_and(|found| found != wanted)
                });
                if wrong {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum of a zstd frame"));
                }
                self.within = false;
                continue;
            }
            self.decoder
                .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBytes(buf.len()))
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }
}
