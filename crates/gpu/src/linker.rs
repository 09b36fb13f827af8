//! The dynamic linker's cache, `/etc/ld.so.cache`: read, and written with entries added.
//!
//! Format: glibc's `sysdeps/generic/dl-cache.h`. Offsets are from the start of the new-format header:
//! 20 bytes magic and version `glibc-ld.so.cache1.1`, u32 number of entries, u32 length of the
//! strings, u8 flags (2 = little-endian), 3 bytes padding, u32 offset of extensions, 12 bytes unused;
//! then entries of 24 bytes: i32 flags, u32 key, u32 value, u32 OS version, u64 hardware
//! capabilities; then the strings. An old-format cache (`ld.so-1.7.0`, entries of 12 bytes) may
//! stand before it, the new one then at the next multiple of 8.
//!
//! ld.so searches the entries by bisection: they must be sorted by `_dl_cache_libcmp`, highest
//! first, in which runs of digits compare as numbers and a digit is greater than any other byte.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use crate::Error;

const OLD: &[u8] = b"ld.so-1.7.0";
const NEW: &[u8; 20] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
const MOST_ENTRIES: usize = 1 << 20;
/// A hardware-capability word with this high half names an extension's row (`glibc-hwcaps`).
const HWCAP_EXTENSION: u32 = 1 << 30;

/// One line of `ldconfig -p`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `libcuda.so.1`.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Kind of library: 0x0303 is x86-64 glibc, 0x0a03 aarch64 glibc.
    pub flags: i32,
    /// Hardware capabilities it wants; 0 for none.
    pub hardware: u64,
}

impl Entry {
    /// A library of glibc for `arch` (`x86_64`, `aarch64`).
    pub fn new(name: &str, path: impl Into<PathBuf>, arch: &str) -> Self {
        Self { name: name.into(), path: path.into(), flags: kind(arch), hardware: 0 }
    }
}

/// The cache's flags of a 64-bit glibc library.
fn kind(arch: &str) -> i32 {
    if arch == "aarch64" { 0x0a03 } else { 0x0303 }
}

/// The entries of a cache.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>, Error> {
    let bad = |offset, reason| Error::LinkerCache { offset, reason };
    let mut start = 0;
    if bytes.starts_with(OLD) {
        let count = word(bytes, 12).ok_or(bad(12, "cut off"))? as usize;
        if count > MOST_ENTRIES {
            return Err(bad(12, "too many entries"));
        }
        start = (16 + count * 12).next_multiple_of(8);
    }
    let cache = bytes.get(start..).unwrap_or_default();
    if !cache.starts_with(NEW) {
        return Err(bad(start, "no glibc-ld.so.cache1.1"));
    }
    let count = word(cache, 20).ok_or(bad(start + 20, "cut off"))? as usize;
    if count > MOST_ENTRIES {
        return Err(bad(start + 20, "too many entries"));
    }
    let mut entries = Vec::new();
    for index in 0..count {
        let at = HEADER + index * ENTRY;
        let row = cache.get(at..at + ENTRY).ok_or(bad(start + at, "cut off"))?;
        let text = |field| {
            let offset = word(row, field).unwrap_or(0) as usize;
            let rest = cache.get(offset..).filter(|_| offset >= HEADER);
            let rest = rest.and_then(|rest| rest.split(|byte| *byte == 0).next());
            let short = rest.filter(|text| text.len() < 4096);
            short
                .and_then(|text| std::str::from_utf8(text).ok())
                .ok_or(bad(start + at + field, "names no text"))
        };
        let (name, path) = (text(4)?, text(8)?);
        let low = word(row, 16).unwrap_or(0);
        let high = word(row, 20).unwrap_or(0);
        entries.push(Entry {
            name: name.to_owned(),
            path: PathBuf::from(path),
            flags: word(row, 0).unwrap_or(0) as i32,
            hardware: u64::from(high) << 32 | u64::from(low),
        });
    }
    Ok(entries)
}

/// A cache with `more` added; an entry of the same name and kind gives way. Entries that need the
/// cache's extension (libraries under `glibc-hwcaps`) are left out: the linker finds the plain
/// ones beside them.
pub fn with(cache: Option<&[u8]>, more: &[Entry]) -> Result<Vec<u8>, Error> {
    let mut entries = cache.map(parse).transpose()?.unwrap_or_default();
    entries.retain(|old| {
        (old.hardware >> 32) as u32 & HWCAP_EXTENSION == 0
            && !more.iter().any(|new| new.name == old.name && new.flags == old.flags)
    });
    entries.extend_from_slice(more);
    Ok(write(entries))
}

/// The bytes of a cache with these entries.
fn write(mut entries: Vec<Entry>) -> Vec<u8> {
    entries.sort_by(|a, b| {
        compare(b.name.as_bytes(), a.name.as_bytes())
            .then_with(|| b.flags.cmp(&a.flags))
            .then_with(|| b.hardware.cmp(&a.hardware))
            .then_with(|| a.path.cmp(&b.path))
    });
    let mut rows = Vec::with_capacity(entries.len() * ENTRY);
    let mut strings = Vec::new();
    let base = HEADER + entries.len() * ENTRY;
    for entry in &entries {
        let mut place = |text: &[u8]| {
            let at = (base + strings.len()) as u32;
            strings.extend_from_slice(text);
            strings.push(0);
            at
        };
        let key = place(entry.name.as_bytes());
        let value = place(entry.path.as_os_str().as_encoded_bytes());
        rows.extend_from_slice(&entry.flags.to_le_bytes());
        rows.extend_from_slice(&key.to_le_bytes());
        rows.extend_from_slice(&value.to_le_bytes());
        rows.extend_from_slice(&0u32.to_le_bytes());
        rows.extend_from_slice(&entry.hardware.to_le_bytes());
    }
    let mut bytes = Vec::with_capacity(base + strings.len());
    bytes.extend_from_slice(NEW);
    bytes.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(strings.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[2, 0, 0, 0]);
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(&rows);
    bytes.extend_from_slice(&strings);
    bytes
}

/// `_dl_cache_libcmp` of glibc's `elf/dl-cache.c`.
fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        match (a.first(), b.first()) {
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (number_a, rest_a) = number(a);
                let (number_b, rest_b) = number(b);
                match number_a.cmp(&number_b) {
                    Ordering::Equal => (a, b) = (rest_a, rest_b),
                    different => return different,
                }
            }
            (Some(x), _) if x.is_ascii_digit() => return Ordering::Greater,
            (_, Some(y)) if y.is_ascii_digit() => return Ordering::Less,
            (Some(x), Some(y)) if x == y => (a, b) = (&a[1..], &b[1..]),
            (x, y) => return x.copied().unwrap_or(0).cmp(&y.copied().unwrap_or(0)),
        }
    }
}

fn number(text: &[u8]) -> (u64, &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    let value = digits.iter().fold(0u64, |value, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    (value, rest)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The folders in which `name` lies for `arch`, in the cache's order.
pub(crate) fn folders_of(entries: &[Entry], name: &str, arch: &str) -> Vec<PathBuf> {
    let kind = kind(arch);
    let found = entries.iter().filter(|entry| entry.name == name && entry.flags == kind);
    found.filter_map(|entry| Some(Path::new(&entry.path).parent()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn entry(name: &str) -> Entry {
        Entry::new(name, format!("/usr/lib/x86_64-linux-gnu/{name}"), "x86_64")
    }

    /// The only judge of a cache is ldconfig, which every glibc machine has.
    #[test]
    fn ldconfig_reads_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cache");
        std::fs::write(&file, write(vec![entry("liba.so.2"), entry("libcuda.so.1")])).unwrap();
        let output =
            Command::new("/sbin/ldconfig").arg("-p").arg("-C").arg(&file).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(
            printed
                .contains("libcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1"),
            "{printed}"
        );
    }

    /// ldconfig of this machine sorts as we do, or the linker's bisection would miss libraries.
    #[test]
    fn order_is_that_of_ldconfig() {
        let bytes = std::fs::read("/etc/ld.so.cache").unwrap();
        let entries = parse(&bytes).unwrap();
        assert!(entries.len() > 10, "this machine's cache is nearly empty");
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let mut sorted = names.clone();
        sorted.sort_by(|a, b| compare(b.as_bytes(), a.as_bytes()));
        assert_eq!(names, sorted);
    }

    #[test]
    fn an_old_entry_gives_way() {
        let old = write(vec![entry("libcuda.so.1"), entry("libz.so.1"), entry("libz.so.10")]);
        let new = Entry::new("libcuda.so.1", "/opt/libcuda.so.1", "x86_64");
        let cache = with(Some(&old), std::slice::from_ref(&new)).unwrap();
        let entries = parse(&cache).unwrap();
        assert_eq!(entries, [entry("libz.so.10"), entry("libz.so.1"), new]);
        let old_format = [OLD, &[0][..], &1u32.to_le_bytes(), &[0; 12], &[0; 4], &cache].concat();
        assert_eq!(parse(&old_format).unwrap(), entries);
    }

    #[test]
    fn no_damage_makes_it_panic() {
        let cache = write(vec![entry("libcuda.so.1"), entry("libz.so.1")]);
        for length in 0..cache.len() {
            let _ = parse(&cache[..length]);
        }
        for at in 0..cache.len() {
            for value in [0, 0x7f, 0xff] {
                let mut damaged = cache.clone();
                damaged[at] = value;
                let _ = parse(&damaged);
            }
        }
        assert!(parse(b"").is_err());
    }
}
