//! The compressions of layers, read once from start to end: gzip members (RFC 1952) and zstd frames
//! (RFC 8878) in a row.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::turn::{Turn, take_turn};

const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The largest window of a zstd frame, bytes: it is kept in memory. `zstd -19` takes 8 MiB, `zstd --long` 128 MiB, which is also the most that
/// `zstd -d` reads unless it is told otherwise.
const MAX_WINDOW: u64 = 128 << 20;
/// Of layers with a window larger than this one at a time is unpacked: eight of them would take a gigabyte.
const LARGE_WINDOW: u64 = 32 << 20;
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
pub fn unpacked<'a>(packed: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    unpacked_with(packed, false)
}

/// As [`unpacked`], of layers, of which several are unpacked at a time: those that need much memory wait for one another. Whoever reads one
/// must not wait for another.
///
/// # Errors
/// Those of the source.
pub fn unpacked_layer<'a>(
    packed: impl BufRead + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    unpacked_with(packed, true)
}

fn unpacked_with<'a>(
    mut packed: impl BufRead + Send + 'a,
    in_turns: bool,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match Packing::of(packed.fill_buf()?) {
        Some(Packing::Gzip) => Box::new(Gzip::new(packed)),
        Some(Packing::Zstd) => Box::new(Zstd { in_turns, ..Zstd::new(packed) }),
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
    in_turns: bool,
    turn: Option<Turn>,
}

impl<R: Read> Zstd<R> {
    /// The frames in `source`.
    pub fn new(source: R) -> Self {
        Self { source, decoder: decoder(), inside: false, in_turns: false, turn: None }
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
        let header = frame_header(&mut self.source)?;
        let window = window(&header);
        if window > MAX_WINDOW {
            return Err(broken(&format!(
                "its zstd frame needs a window of {}, and at most {} are read: pack it without --long, or with --long=27",
                in_words(window),
                in_words(MAX_WINDOW)
            )));
        }
        if self.in_turns && window > LARGE_WINDOW {
            self.turn = Some(take_turn());
        }
        let frame = magic.chain(header.as_slice()).chain(&mut self.source);
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
                    if self.turn.is_some() {
                        // Its memory goes with it.
                        self.decoder = decoder();
                        self.turn = None;
                    }
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

fn decoder() -> FrameDecoder {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MAX_WINDOW);
    decoder
}

/// The header of a frame, behind its magic number (RFC 8878, section 3.1.1.1).
fn frame_header(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut header = vec![0];
    source.read_exact(&mut header)?;
    let descriptor = header[0];
    let is_single = descriptor & 0x20 != 0;
    let of_size = match descriptor >> 6 {
        0 => usize::from(is_single),
        kind => 1 << kind,
    };
    let of_dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    header.resize(1 + usize::from(!is_single) + of_dictionary + of_size, 0);
    source.read_exact(&mut header[1..])?;
    Ok(header)
}

/// The window that a frame needs; of one in a single segment that is all of it.
fn window(header: &[u8]) -> u64 {
    let descriptor = header[0];
    if descriptor & 0x20 == 0 {
        let (exponent, mantissa) = (header[1] >> 3, u64::from(header[1] & 7));
        let base = 1 << (10 + exponent);
        return base + base / 8 * mantissa;
    }
    let at = 1 + [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = header[at..].iter().rev().fold(0, |size, byte| size << 8 | u64::from(*byte));
    if descriptor >> 6 == 1 { size + 256 } else { size }
}

fn in_words(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1 << 30 && bytes.is_multiple_of(1 << 30) => {
            format!("{} GiB", bytes >> 30)
        }
        bytes => format!("{} MiB", bytes.div_ceil(1 << 20)),
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

    /// Header bytes as zstd 1.5 writes them.
    #[test]
    fn windows_of_headers() {
        for (header, expected) in [
            (&[0x04_u8, 0x58][..], 2 << 20),
            (&[0x04, 0x88], 128 << 20),
            (&[0x04, 0xa8], 2 << 30),
            (&[0x00, 0x59], (2 << 20) + (256 << 10)),
            (&[0x20, 7], 7),
            (&[0x60, 7, 0], 263),
            (&[0xa4, 0, 0, 0, 3], 3 << 24),
            (&[0xe1, 9, 0, 0, 0, 0, 1, 0, 0, 0], 1 << 32),
        ] {
            let mut source = header;
            assert_eq!(frame_header(&mut source).unwrap(), header);
            assert!(source.is_empty());
            assert_eq!(window(header), expected, "{header:?}");
        }
        // Nothing is reserved for it.
        let bomb = [&ZSTD[..], &[0x04, 0xff], &[0; 100]].concat();
        let error = all(&bomb).unwrap_err().to_string();
        assert!(error.contains("a window of") && error.contains("128 MiB"), "{error}");
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
