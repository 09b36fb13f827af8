//! The unpacked bytes of one zip entry, in pieces, believed only at the end.

use std::io;

use flate2::{Decompress, FlushDecompress, Status};

use crate::entry::ReadAt;
use crate::zip::{Method, ZipEntry};

/// How much is read from the archive at once.
const INPUT: usize = 128 << 10;

/// What can be wrong with an entry's bytes.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ContentFault {
    #[error("reading failed: {0}")]
    Read(#[source] io::Error),
    #[error("the deflate stream is broken: {0}")]
    Corrupt(#[source] flate2::DecompressError),
    #[error("the deflate stream ends {0} bytes before the entry does")]
    Trailing(u64),
    #[error("the deflate stream is cut off")]
    CutOff,
    #[error("it unpacks to more than the {0} bytes it declares")]
    TooLong(u64),
    #[error("it unpacks to {real} bytes, not to the {declared} it declares")]
    TooShort {
        /// What came out.
        real: u64,
        /// What the directory says.
        declared: u64,
    },
    #[error("its CRC-32 is {real:08x}, not the {declared:08x} it declares")]
    Crc {
        /// Of what came out.
        real: u32,
        /// What the directory says.
        declared: u32,
    },
}

/// Buffers that serve one entry after the other.
pub struct Inflater {
    inflate: Decompress,
    input: Vec<u8>,
}

impl Inflater {
    /// Takes the memory: about 170 KiB.
    pub fn new() -> Self {
        Self { inflate: Decompress::new(false), input: vec![0; INPUT] }
    }

    /// Starts with an entry of `source`.
    pub fn open<'a>(
        &'a mut self,
        source: &'a dyn ReadAt,
        entry: &'a ZipEntry,
    ) -> ContentReader<'a> {
        self.inflate.reset(false);
        ContentReader {
            inflater: self,
            source,
            entry,
            input: 0..0,
            read: 0,
            out: 0,
            crc: crc32fast::Hasher::new(),
            ended: false,
        }
    }

    /// A whole entry of at most `limit` bytes; nothing if it is longer.
    pub fn whole(
        &mut self,
        source: &dyn ReadAt,
        entry: &ZipEntry,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, ContentFault> {
        let Some(size) = usize::try_from(entry.size).ok().filter(|_| entry.size <= limit) else {
            return Ok(None);
        };
        let mut bytes = vec![0; size];
        let mut reader = self.open(source, entry);
        let n = reader.fill(&mut bytes)?;
        // A second call sees the end of an entry that filled the buffer exactly.
        reader.fill(&mut [0])?;
        bytes.truncate(n);
        Ok(Some(bytes))
    }
}

/// Reads one entry. When [`fill`](Self::fill) has said that the end is reached, length, CRC-32
/// and the end of the stream have been checked.
pub struct ContentReader<'a> {
    inflater: &'a mut Inflater,
    source: &'a dyn ReadAt,
    entry: &'a ZipEntry,
    /// What stands unread in the input buffer.
    input: std::ops::Range<usize>,
    /// Bytes of the archive read so far.
    read: u64,
    /// Bytes given out so far.
    out: u64,
    crc: crc32fast::Hasher,
    ended: bool,
}

impl ContentReader<'_> {
    /// Fills `buf` (of at least one byte) as far as the entry goes: less than all of it only at
    /// the end, which is then checked; 0 after that.
    pub fn fill(&mut self, buf: &mut [u8]) -> Result<usize, ContentFault> {
        if self.ended {
            return Ok(0);
        }
        let mut filled = 0;
        while filled < buf.len() {
            let step = match self.entry.method {
                Method::Stored => self.copy(&mut buf[filled..])?,
                Method::Deflate => self.inflate(&mut buf[filled..])?,
            };
            filled += step;
            if self.ended {
                self.crc.update(&buf[..filled]);
                self.check()?;
                return Ok(filled);
            }
        }
        self.crc.update(&buf[..filled]);
        Ok(filled)
    }

    fn copy(&mut self, buf: &mut [u8]) -> Result<usize, ContentFault> {
        let left = self.entry.compressed - self.read;
        let n = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.source
            .read_exact_at(&mut buf[..n], self.entry.data + self.read)
            .map_err(ContentFault::Read)?;
        self.read += n as u64;
        self.out += n as u64;
        self.ended = self.read == self.entry.compressed;
        Ok(n)
    }

    fn inflate(&mut self, buf: &mut [u8]) -> Result<usize, ContentFault> {
        if self.input.is_empty() {
            let left = self.entry.compressed - self.read;
            let n = INPUT.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.source
                .read_exact_at(&mut self.inflater.input[..n], self.entry.data + self.read)
                .map_err(ContentFault::Read)?;
            self.read += n as u64;
            self.input = 0..n;
        }
        let left = usize::try_from(self.entry.size - self.out).unwrap_or(usize::MAX);
        // All that is declared has come: one byte of room shows whether there is more.
        let mut beyond = [0];
        let room = if left == 0 { &mut beyond[..] } else { &mut buf[..] };
        let room_len = room.len().min(left.max(1));
        let inflate = &mut self.inflater.inflate;
        let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
        let status = inflate
            .decompress(
                &self.inflater.input[self.input.clone()],
                &mut room[..room_len],
                FlushDecompress::None,
            )
            .map_err(ContentFault::Corrupt)?;
        let took = (inflate.total_in() - before_in) as usize;
        let gave = (inflate.total_out() - before_out) as usize;
        self.input.start += took;
        if left == 0 && gave > 0 {
            return Err(ContentFault::TooLong(self.entry.size));
        }
        self.out += gave as u64;
        if status == Status::StreamEnd {
            self.ended = true;
            let unread = self.entry.compressed - self.read + self.input.len() as u64;
            if unread > 0 {
                return Err(ContentFault::Trailing(unread));
            }
        } else if took == 0 && gave == 0 {
            return Err(ContentFault::CutOff);
        }
        Ok(gave)
    }

    fn check(&self) -> Result<(), ContentFault> {
        if self.out != self.entry.size {
            return Err(ContentFault::TooShort { real: self.out, declared: self.entry.size });
        }
        let real = self.crc.clone().finalize();
        if real != self.entry.crc {
            return Err(ContentFault::Crc { real, declared: self.entry.crc });
        }
        Ok(())
    }
}
