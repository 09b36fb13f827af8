//! A file on a server, read in parts (RFC 9110, 14: range requests).

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

use url::Url;

use crate::error::Error;
use crate::http::{Client, local_path, parse, shown};

/// Bytes of one request.
const BLOCK: u64 = 256 << 10;

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
}

impl<'a> Remote<'a> {
    /// The file at `url`; not more than `limit` bytes of it are ever fetched.
    ///
    /// # Errors
    /// It is not there, or the server does not send parts.
    pub fn open(client: &'a Client, url: &str, limit: u64) -> Result<Self, Error> {
        let url = parse(url)?;
        let blocks = Mutex::default();
        let mut remote = Self { client, url, size: 0, limit, blocks };
        match local_path(&remote.url)? {
            Some(path) => {
                let about = sconce_open::file(&path).and_then(|file| file.metadata());
                let fault = |source| Error::File { action: "read", path: path.clone(), source };
                remote.size = about.map_err(fault)?.len();
            }
            None => {
                let (total, bytes) = remote.fetch(0)?;
                remote.size = total;
                remote.kept().insert(0, bytes);
            }
        }
        Ok(remote)
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
            let block = at / BLOCK;
            let mut kept = self.kept();
            if !kept.contains_key(&block) {
                let fetched = kept.values().map(|bytes| bytes.len() as u64).sum::<u64>();
                if fetched + BLOCK > self.limit {
                    return Err(io::Error::other(format!("more than {} bytes of it", self.limit)));
                }
                let (total, bytes) = self.fetch(block).map_err(io::Error::other)?;
                if total != self.size {
                    let why = format!("it had {} bytes and now has {total}", self.size);
                    let url = shown(&self.url);
                    return Err(io::Error::other(Error::BadAnswer { url, why }));
                }
                kept.insert(block, bytes);
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

    /// A block, and the size of the whole.
    fn fetch(&self, block: u64) -> Result<(u64, Vec<u8>), Error> {
        let start = block * BLOCK;
        let range = format!("bytes={start}-{}", start + BLOCK - 1);
        self.client.patiently(|| {
            let bad = |why: &str| Error::BadAnswer { url: shown(&self.url), why: why.to_owned() };
            let mut stream = self.client.open(&self.url, &[("Range", &range)])?;
            if stream.status == 200 {
                return Err(bad("it sends the whole file where a part is asked for"));
            }
            stream = stream.accepted(&[206])?;
            let total = stream
                .header("content-range")
                .and_then(|text| text.strip_prefix(&format!("bytes {start}-"))?.split_once('/'))
                .and_then(|(_, total)| total.parse::<u64>().ok())
                .ok_or_else(|| bad("its part of the file is another one"))?;
            if total > LARGEST {
                return Err(bad(&format!("the file would have {total} bytes")));
            }
            let want = total.saturating_sub(start).min(BLOCK) as usize;
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
            Ok((total, bytes))
        })
    }
}
