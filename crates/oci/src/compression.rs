//! The compressions of layers, read once from start to end: gzip members (RFC 1952) and zstd frames
//! (RFC 8878) in a row.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The largest window of a zstd frame, bytes: it is kept in memory. `zstd -19` takes 8 MiB.
const MAX_WINDOW: u64 = 32 << 20;
/// Bytes decoded at a time.
const STEP: usize = 128 << 10;

/// How bytes are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// In a way that is not read here; the name of the program that unpacks it.
    Unread(&'static str),
}

/// The first bytes of what is packed.
const MAGIC: [(&[u8], Packing); 4] = [
    (&[0x1f, 0x8b], Packing::Gzip),
    (&ZSTD, Packing::Zstd),
    // The .xz File Format, 2.1.1.1.
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Packing::Unread("xz")),
    (b"BZh", Packing::Unread("bzip2")),
];

impl Packing {
    /// The most bytes that [`Packing::of`] needs.
    pub const HEAD: usize = 6;

    /// By its first bytes, how something is packed; nothing where it isn't.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        // zstd:chunked and others begin with a skippable frame.
        if head.get(1..4) == Some(&[0x2a, 0x4d, 0x18]) {
            return Some(Self::Zstd);
        }
        MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, packing)| *packing)
    }
}

/// What comes out of `packed`: by its first bytes gzip, zstd, or as it is.
///
/// # Errors
/// Those of the source.
pub fn unpacked<'a>(mut packed: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match Packing::of(packed.fill_buf()?) {
        Some(Packing::Gzip) => Box::new(Gzip::new(packed)),
        Some(Packing::Zstd) => Box::new(Zstd::new(packed)),
        Some(Packing::Unread(_)) | None => Box::new(packed),
    })
}

/// Gzip members; whatever follows the last one is passed over.
struct Gzip<R> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Gzip<R> {
    fn new(source: R) -> Self {
        Self { member: Some(GzDecoder::new(source)) }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let n = member.read(buf)?;
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            let mut source = self.member.take().map(GzDecoder::into_inner);
            if let Some(source) = source.as_mut()
                && source.fill_buf()?.first() != Some(&0x1f)
            {
                break;
            }
            self.member = source.map(GzDecoder::new);
        }
        Ok(0)
    }
}

/// Zstd frames; skippable ones are skipped.
pub struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    inside: bool,
}

impl<R: Read> Zstd<R> {
    /// The frames in `source`.
    pub fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self { source, decoder, inside: false }
    }

    /// Begins the next frame; false at the end of the source.
    fn begin(&mut self) -> io::Result<bool> {
        let mut magic = [0; 4];
        let mut got = 0;
        while got < magic.len() {
            match self.source.read(&mut magic[got..])? {
                0 if got == 0 => return Ok(false),
                0 => return Err(broken("the last zstd frame is cut off")),
                n => got += n,
            }
        }
        if magic[1..] == [0x2a, 0x4d, 0x18] && magic[0] >> 4 == 5 {
            let mut len = [0; 4];
            self.source.read_exact(&mut len)?;
            let len = u64::from(u32::from_le_bytes(len));
            if io::copy(&mut self.source.by_ref().take(len), &mut io::sink())? < len {
                return Err(broken("a skippable zstd frame is cut off"));
            }
            return Ok(true);
        }
        let frame = magic.as_slice().chain(&mut self.source);
        self.decoder.init(frame).map_err(|error| broken(&error.to_string()))?;
        self.inside = true;
        Ok(true)
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.inside {
                let n = self.decoder.read(buf)?;
                if n > 0 || buf.is_empty() {
                    return Ok(n);
                }
                if self.decoder.is_finished() {
                    self.inside = false;
                } else {
                    let step = BlockDecodingStrategy::UptoBytes(STEP);
                    let decoded = self.decoder.decode_blocks(&mut self.source, step);
                    decoded.map_err(|error| broken(&error.to_string()))?;
                }
            } else if !self.begin()? {
                return Ok(0);
            }
        }
    }
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn all(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        // In pieces of four bytes, as a slow network brings them.
        let slow = io::BufReader::with_capacity(4, packed);
        unpacked(slow)?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn member(bytes: &[u8]) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Compression::default());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn frame(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn members_frames_and_what_is_not_packed() {
        assert_eq!(all(b"plain").unwrap(), b"plain");
        assert_eq!(all(b"").unwrap(), b"");
        let two = [member(b"one "), member(b"two"), vec![0; 512]].concat();
        assert_eq!(all(&two).unwrap(), b"one two");
        let skip = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        let frames = [skip.clone(), frame(b"one "), skip, frame(b"two")].concat();
        assert_eq!(all(&frames).unwrap(), b"one two");
    }

    #[test]
    fn cut_off_anywhere() {
        let text: Vec<u8> = (0..5_000u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        for whole in [member(&text), frame(&text)] {
            assert_eq!(all(&whole).unwrap(), text);
            for len in (4..whole.len()).step_by(401).chain([whole.len() - 1]) {
                assert!(all(&whole[..len]).is_err(), "{len} of {}", whole.len());
            }
        }
    }
}
