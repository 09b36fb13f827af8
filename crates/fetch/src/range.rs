//! A file on a server, read in parts (RFC 9110, 14: range requests).

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

use url::Url;

use crate::error::Error;
use crate::http::{Client, local_path, parse, shown};

/// What is read is kept in blocks of so many bytes.
const BLOCK: u64 = 256 << 10;
/// The most blocks that one request asks for.
const RUN: u64 = 32;
/// How often a part is asked for: what it says is good to know, and not needed.
const TRIES: u32 = 3;
/// Bytes at the end that come with the first request of [`Remote::open_at_end`]: a zip's end record
/// with its longest comment, and most directories.
const END: u64 = 96 << 10;

/// The largest file that a server can mean: what says to be larger lies.
const LARGEST: u64 = 1 << 40;

/// A file on a server, or on this machine. What was read is kept.
#[derive(Debug)]
pub struct Remote<'a> {
    client: &'a Client,
    url: Url,
    size: u64,
    /// The most bytes that are fetched, all together.
    limit: u64,
    blocks: Mutex<BTreeMap<u64, Vec<u8>>>,
    /// Bytes at the end, and where they begin.
    end: Option<(u64, Vec<u8>)>,
}

impl<'a> Remote<'a> {
    /// The file at `url`; not more than `limit` bytes of it are ever fetched.
    ///
    /// # Errors
    /// It is not there, or the server does not send parts.
    pub fn open(client: &'a Client, url: &str, limit: u64) -> Result<Self, Error> {
        let url = parse(url)?;
        let blocks = Mutex::default();
        let mut remote = Self { client, url, size: 0, limit, blocks, end: None };
        match local_path(&remote.url)? {
            Some(path) => {
                let about = sconce_open::file(&path).and_then(|file| file.metadata());
                let fault = |source| Error::File { action: "read", path: path.clone(), source };
                remote.size = about.map_err(fault)?.len();
            }
            None => {
                let (total, bytes) = remote.fetch(0, 1)?;
                remote.size = total;
                remote.kept().insert(0, bytes);
            }
        }
        Ok(remote)
    }

    /// The same with its end at hand, for files whose directory stands there.
    ///
    /// # Errors
    /// As [`Remote::open`].
    pub fn open_at_end(client: &'a Client, url: &str, limit: u64) -> Result<Self, Error> {
        let parsed = parse(url)?;
        if local_path(&parsed)?.is_some() {
            return Self::open(client, url, limit);
        }
        let remote =
            Self { client, url: parsed, size: 0, limit, blocks: Mutex::default(), end: None };
        match remote.fetch_end() {
            Ok((size, end)) => {
                let begins = size - end.len() as u64;
                Ok(Self { size, end: Some((begins, end)), ..remote })
            }
            // Some servers know only ranges that name their first byte.
            Err(Error::Status { status: 200 | 400 | 416 | 501, .. } | Error::BadAnswer { .. }) => {
                Self::open(client, url, limit)
            }
            Err(error) => Err(error),
        }
    }

    /// How many bytes there are.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buf` from `offset` on; fewer bytes only at the end.
    ///
    /// # Errors
    /// The server, or the limit.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Some(path) = local_path(&self.url).map_err(io::Error::other)? {
            let mut file = sconce_open::file(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut filled = 0;
            while filled < buf.len() {
                match file.read(&mut buf[filled..])? {
                    0 => break,
                    n => filled += n,
                }
            }
            return Ok(filled);
        }
        let mut filled = 0;
        while filled < buf.len() {
            let at = offset.saturating_add(filled as u64);
            if at >= self.size {
                break;
            }
            if let Some((begins, end)) = &self.end
                && at >= *begins
            {
                let rest = end.get((at - begins) as usize..).unwrap_or_default();
                let n = rest.len().min(buf.len() - filled);
                buf[filled..filled + n].copy_from_slice(&rest[..n]);
                filled += n;
                continue;
            }
            let block = at / BLOCK;
            let mut kept = self.kept();
            if !kept.contains_key(&block) {
                // What is wanted and not there comes with one request.
                let wanted = offset.saturating_add(buf.len() as u64).min(self.size);
                let wanted = self.end.as_ref().map_or(wanted, |(begins, _)| wanted.min(*begins));
                let stop = wanted.div_ceil(BLOCK).min(block + RUN);
                let stop = kept.range(block..stop).next().map_or(stop, |(there, _)| *there);
                let count = stop.saturating_sub(block).max(1);
                let fetched = kept.values().map(|bytes| bytes.len() as u64).sum::<u64>();
                if fetched + count * BLOCK > self.limit {
                    return Err(io::Error::other(format!("more than {} bytes of it", self.limit)));
                }
                let (total, bytes) = self.fetch(block, count).map_err(io::Error::other)?;
                if total != self.size {
                    let why = format!("it had {} bytes and now has {total}", self.size);
                    let url = shown(&self.url);
                    return Err(io::Error::other(Error::BadAnswer { url, why }));
                }
                for (at, bytes) in (block..).zip(bytes.chunks(BLOCK as usize)) {
                    kept.insert(at, bytes.to_vec());
                }
            }
            let bytes = kept.get(&block).map(Vec::as_slice).unwrap_or_default();
            let rest = bytes.get((at - block * BLOCK) as usize..).unwrap_or_default();
            let n = rest.len().min(buf.len() - filled);
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buf[filled..filled + n].copy_from_slice(&rest[..n]);
            filled += n;
        }
        Ok(filled)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Vec<u8>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many blocks, and the size of the whole.
    fn fetch(&self, block: u64, count: u64) -> Result<(u64, Vec<u8>), Error> {
        let (start, len) = (block * BLOCK, count * BLOCK);
        let range = format!("bytes={start}-{}", start + len - 1);
        self.part(&range, |total| (start, total.saturating_sub(start).min(len)))
    }

    /// The end, and the size of the whole.
    fn fetch_end(&self) -> Result<(u64, Vec<u8>), Error> {
        self.part(&format!("bytes=-{END}"), |total| {
            let len = total.min(END);
            (total - len, len)
        })
    }

    /// The part of a file that `range` asks for: where it begins and how long it is follows from the
    /// size of the whole.
    fn part(
        &self,
        range: &str,
        place: impl Fn(u64) -> (u64, u64),
    ) -> Result<(u64, Vec<u8>), Error> {
        self.client.trying(TRIES, || {
            let bad = |why: &str| Error::BadAnswer { url: shown(&self.url), why: why.to_owned() };
            let mut stream = self.client.open(&self.url, &[("Range", range)])?;
            if stream.status == 200 {
                return Err(bad("it sends the whole file where a part is asked for"));
            }
            stream = stream.accepted(&[206])?;
            let said = stream.header("content-range").and_then(|text| {
                let (first, rest) = text.strip_prefix("bytes ")?.split_once('-')?;
                let (_, total) = rest.split_once('/')?;
                Some((first.parse::<u64>().ok()?, total.parse::<u64>().ok()?))
            });
            let (first, total) = said.ok_or_else(|| bad("it does not say which part it sends"))?;
            if total > LARGEST {
                return Err(bad(&format!("the file would have {total} bytes")));
            }
            let (start, want) = place(total);
            if first != start {
                return Err(bad("its part of the file is another one"));
            }
            let want = want as usize;
            let mut bytes = Vec::with_capacity(want);
            let mut buffer = vec![0; 64 << 10];
            while bytes.len() < want {
                match stream.read(&mut buffer, bytes.len() as u64)? {
                    0 => return Err(bad("its part of the file is cut off")),
                    n => bytes.extend_from_slice(&buffer[..n]),
                }
                self.client.check_cancelled()?;
            }
            bytes.truncate(want);
            // A body that was read to its end leaves its connection for the next request.
            let length = stream.header("content-length").and_then(|text| text.parse().ok());
            if length == Some(want) {
                stream.read(&mut buffer, want as u64)?;
            }
            Ok((total, bytes))
        })
    }
}
