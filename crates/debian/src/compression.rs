//! The compressions of indexes and of the members of a .deb, behind one reader.
//!
//! Source: deb(5), "FORMAT": `data.tar` is plain or has `.gz`, `.xz`, `.zst`, `.bz2` or `.lzma`;
//! the last was for old archives only and is not read here.

use std::io::{self, Read};

use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

/// The most memory a decoder of xz may take, bytes: mostly its dictionary. `xz -9` needs 64 MiB, dpkg's
/// `-6` 8 MiB.
const MAX_XZ_MEMORY: u64 = 80 << 20;
/// The largest window of a zstd stream, bytes: what `zstd -19` makes, as dpkg calls it.
const MAX_WINDOW: u64 = 8 << 20;

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip
    Gzip,
    /// xz
    Xz,
    /// Zstandard
    Zstd,
    /// bzip2
    Bzip2,
}

impl Compression {
    /// The compression that a file's ending names; no ending is no compression.
    pub fn of_ending(ending: &str) -> Option<Self> {
        Some(match ending {
            "" => Self::None,
            ".gz" => Self::Gzip,
            ".xz" => Self::Xz,
            ".zst" => Self::Zstd,
            ".bz2" => Self::Bzip2,
            _ => return None,
        })
    }

    /// The plain bytes of `inner`. Memory is bounded whatever the stream asks for.
    pub fn reader<'a, R: Read + 'a>(self, inner: R) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(inner),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(inner)),
            Self::Xz => {
                // Several streams one after the other are one file, as xz(1) has it.
                let stream = Stream::new_stream_decoder(MAX_XZ_MEMORY, CONCATENATED)?;
                Box::new(XzDecoder::new_stream(inner, stream))
            }
            Self::Zstd => Box::new(Zstd::new(inner)?),
            Self::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(inner)),
        })
    }
}

/// Fails when more than `left` bytes come out of `inner`, instead of ending early in silence.
pub(crate) struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Bounded<R> {
    pub(crate) fn new(inner: R, left: u64) -> Self {
        Self { inner, left }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, "it unpacks to more than is sensible")
        })?;
        Ok(n)
    }
}

/// One zstd frame; bytes after it are an error, not an end that goes unnoticed.
struct Zstd<R: Read> {
    decoder: ruzstd::decoding::StreamingDecoder<R, ruzstd::decoding::FrameDecoder>,
}

impl<R: Read> Zstd<R> {
    fn new(inner: R) -> io::Result<Self> {
        let decoder =
            ruzstd::decoding::StreamingDecoder::new_with_max_window_size(inner, MAX_WINDOW)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        Ok(Self { decoder })
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.decoder.read(buf)?;
        if n == 0 && !buf.is_empty() && self.decoder.get_mut().read(&mut [0])? != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes after the zstd frame"));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(compression: Compression, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        compression.reader(bytes)?.read_to_end(&mut all)?;
        Ok(all)
    }

    /// `printf 'abc\n'` through `gzip -n`, `xz`, `zstd` and `bzip2`.
    const SAMPLES: [(&str, &[u8]); 4] = [
        (".gz", include_bytes!("../tests/data/abc.gz")),
        (".xz", include_bytes!("../tests/data/abc.xz")),
        (".zst", include_bytes!("../tests/data/abc.zst")),
        (".bz2", include_bytes!("../tests/data/abc.bz2")),
    ];

    #[test]
    fn reads_what_the_tools_wrote() {
        for (ending, bytes) in SAMPLES {
            let compression = Compression::of_ending(ending).unwrap();
            assert_eq!(read(compression, bytes).unwrap(), b"abc\n", "{ending}");
        }
        assert_eq!(read(Compression::None, b"abc\n").unwrap(), b"abc\n");
        assert_eq!(Compression::of_ending(".lzma"), None);
    }

    #[test]
    fn a_stream_cut_off_or_changed_is_an_error() {
        for (ending, bytes) in SAMPLES {
            let compression = Compression::of_ending(ending).unwrap();
            for end in 1..bytes.len() {
                assert!(read(compression, &bytes[..end]).is_err(), "{ending} cut at {end}");
            }
            let mut longer = bytes.to_vec();
            longer.extend(b"trailing bytes of no sort");
            assert!(read(compression, &longer).is_err(), "{ending} with bytes after it");
        }
    }
}
