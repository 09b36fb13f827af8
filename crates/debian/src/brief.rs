//! What is read of a list of packages, kept for another time in place of the list.
//!
//! It is a `Packages` itself, of the fields that are read, compressed by gzip, with the version of this form in
//! a first line. It is kept under the SHA-256 of the list it is of.

use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::Arch;
use crate::control::{Stanza, write_field};
use crate::packages::{self, Origin, Package};

/// The first line: raised when other fields are read, or others mean the same.
const HEAD: &str = "Sconce-Packages: 1\n";
/// The largest that is read, plain, bytes. Trixie's has 27 million.
const LIMIT: u64 = 512 << 20;

/// Writes what is kept of a list, package by package.
pub(crate) struct Brief {
    out: GzEncoder<Vec<u8>>,
    stanza: String,
}

impl Brief {
    pub(crate) fn new() -> Self {
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        // Nothing fails that goes to memory; `finish` would say it.
        let _ = out.write_all(HEAD.as_bytes());
        Self { out, stanza: String::new() }
    }

    /// Adds a package with so many of its fields as are read.
    pub(crate) fn add(&mut self, stanza: &Stanza, fields: &[&str]) {
        self.stanza.clear();
        for (name, value) in stanza.fields() {
            if fields.iter().any(|field| field.eq_ignore_ascii_case(name)) {
                write_field(&mut self.stanza, name, value);
            }
        }
        self.stanza.push('\n');
        let _ = self.out.write_all(self.stanza.as_bytes());
    }

    /// What is to be kept.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        self.out.finish()
    }
}

/// The packages of a list that was kept; nothing where it is damaged or of another version: then the archive
/// is asked.
pub(crate) fn read(kept: &[u8], origin: Origin<'_>, arch: Arch) -> Option<Vec<Package>> {
    let mut plain = BufReader::with_capacity(1 << 16, GzDecoder::new(kept).take(LIMIT));
    let mut head = String::new();
    (&mut plain).take(HEAD.len() as u64).read_to_string(&mut head).ok()?;
    if head != HEAD {
        return None;
    }
    let list = packages::read(&mut plain, origin, arch, None).ok()?;
    // The checksum at the end is read with the last byte.
    plain.fill_buf().ok().filter(|rest| rest.is_empty()).map(|_| list)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "Package: a\nVersion: 1\nArchitecture: all\nFilename: pool/a.deb\nSize: 1\n\
        SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\
        Depends: b,\n c\nDescription: left out\n\nPackage: b\nVersion: 2\nArchitecture: arm64\n\
        Filename: pool/b.deb\nSize: 1\n\
        SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";

    #[test]
    fn what_is_kept_reads_as_the_list_and_nothing_else_is_believed() {
        let origin = Origin { url: "list", suite: "trixie" };
        let mut brief = Brief::new();
        let list = packages::read(LIST.as_bytes(), origin, Arch::Amd64, Some(&mut brief)).unwrap();
        let kept = brief.finish().unwrap();
        let mut text = String::new();
        GzDecoder::new(kept.as_slice()).read_to_string(&mut text).unwrap();
        assert!(!text.contains("left out") && !text.contains("arm64"), "{text}");
        let again = read(&kept, origin, Arch::Amd64).unwrap();
        assert_eq!(format!("{again:?}"), format!("{list:?}"));
        assert_eq!((again.len(), again[0].depends.as_str()), (1, "b,\nc"));
        for end in 0..kept.len() {
            assert!(read(&kept[..end], origin, Arch::Amd64).is_none(), "cut at {end}");
        }
        for at in 10..kept.len() {
            let mut bad = kept.clone();
            bad[at] ^= 1;
            let found = read(&bad, origin, Arch::Amd64);
            assert!(found.is_none(), "{at}");
        }
        let mut other = GzEncoder::new(Vec::new(), Compression::fast());
        other.write_all(text.replace(": 1\n", ": 0\n").as_bytes()).unwrap();
        assert!(read(&other.finish().unwrap(), origin, Arch::Amd64).is_none());
    }
}
