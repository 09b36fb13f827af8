//! `/etc/ld.so.cache`: which file the loader takes for a library's name.
//!
//! Source: glibc `sysdeps/generic/dl-cache.h`. The new format (`glibc-ld.so.cache1.1`) may stand
//! alone or behind the old one (`ld.so-1.7.0`). Entries for special processors (glibc-hwcaps) and
//! for other architectures are left out.

use crate::Error;
use crate::elf::Machine;
use crate::read::{Fields, Named, text_at};

const OLD: &[u8] = b"ld.so-1.7.0";
const NEW: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;
const NEW_HEADER: usize = 48;
const NEW_ENTRY: usize = 24;
/// Debian's with everything installed has some 200 KiB.
const MAX_SIZE: u64 = 16 << 20;
const WHAT: &str = "ld.so.cache";

/// One name and the file it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The library's SONAME.
    pub name: String,
    /// Absolute path of the file.
    pub path: String,
}

/// The entries for `machine`, in the cache's order.
///
/// # Errors
/// [`Error::Malformed`] when it is no such cache or its counts lie; [`Error::Read`].
pub fn parse(file: Named<'_>, machine: Machine) -> Result<Vec<Entry>, Error> {
    let bytes = file.range(0, file.size(), MAX_SIZE, WHAT)?;
    // FLAG_ELF_LIBC6 (3) with the architecture's own flag (dl-cache.h).
    let flag = match machine {
        Machine::Aarch64 => 0x0a03,
        _ => 0x0303,
    };
    let start = if bytes.starts_with(NEW) {
        0
    } else if bytes.starts_with(OLD) {
        let count = Fields(&bytes).u32(12) as usize;
        let end = count.checked_mul(OLD_ENTRY).and_then(|len| len.checked_add(OLD_HEADER));
        let Some(end) = end.filter(|end| *end <= bytes.len()) else {
            return Err(file.malformed(12, WHAT, format!("{count} entries do not fit")));
        };
        let next = end.next_multiple_of(8);
        if !bytes.get(next..).is_some_and(|rest| rest.starts_with(NEW)) {
            return Ok(old(&bytes, count, end));
        }
        next
    } else {
        return Err(file.malformed(0, WHAT, "no cache of glibc's"));
    };
    let cache = bytes.get(start..).unwrap_or_default();
    let count = Fields(cache).u32(20) as usize;
    let fits = count
        .checked_mul(NEW_ENTRY)
        .is_some_and(|len| len <= cache.len().saturating_sub(NEW_HEADER));
    if !fits {
        return Err(file.malformed(start as u64 + 20, WHAT, format!("{count} entries do not fit")));
    }
    Ok(cache
        .get(NEW_HEADER..)
        .unwrap_or_default()
        .chunks_exact(NEW_ENTRY)
        .take(count)
        .map(Fields)
        .filter(|row| row.u32(0) == flag && row.u64(16) == 0)
        .map(|row| entry(cache, row.u32(4) as usize, row.u32(8) as usize))
        .filter(|entry| !entry.name.is_empty())
        .collect())
}

/// A cache in the old format alone; texts are counted from the end of its entries.
fn old(bytes: &[u8], count: usize, strings: usize) -> Vec<Entry> {
    let table = bytes.get(strings..).unwrap_or_default();
    bytes
        .get(OLD_HEADER..strings)
        .unwrap_or_default()
        .chunks_exact(OLD_ENTRY)
        .take(count)
        .map(Fields)
        .filter(|row| row.u32(0) & 0xff == 3)
        .map(|row| entry(table, row.u32(4) as usize, row.u32(8) as usize))
        .filter(|entry| !entry.name.is_empty())
        .collect()
}

fn entry(table: &[u8], name: usize, path: usize) -> Entry {
    Entry { name: text_at(table, name).to_owned(), path: text_at(table, path).to_owned() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A cache in the new format.
    pub fn forge(entries: &[(u32, u64, &str, &str)]) -> Vec<u8> {
        let mut out = NEW.to_vec();
        let mut strings = Vec::new();
        let base = NEW_HEADER + entries.len() * NEW_ENTRY;
        let mut rows = Vec::new();
        for (flags, hwcap, name, path) in entries {
            rows.extend(flags.to_le_bytes());
            for text in [name, path] {
                rows.extend(((base + strings.len()) as u32).to_le_bytes());
                strings.extend(text.as_bytes());
                strings.push(0);
            }
            rows.extend(0u32.to_le_bytes());
            rows.extend(hwcap.to_le_bytes());
        }
        out.extend((entries.len() as u32).to_le_bytes());
        out.extend((strings.len() as u32).to_le_bytes());
        out.resize(NEW_HEADER, 0);
        out.extend(rows);
        out.extend(strings);
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<Entry>, Error> {
        parse(Named::new("etc/ld.so.cache", &bytes.to_vec()), Machine::X86_64)
    }

    fn sample() -> Vec<u8> {
        forge(&[
            (0x0303, 1 << 62, "libz.so.1", "/usr/lib/glibc-hwcaps/x86-64-v3/libz.so.1"),
            (0x0303, 0, "libz.so.1", "/usr/lib/libz.so.1"),
            (0x0a03, 0, "libz.so.1", "/usr/lib/aarch64/libz.so.1"),
        ])
    }

    #[test]
    fn the_machines_own_entries() {
        let wanted = Entry { name: "libz.so.1".into(), path: "/usr/lib/libz.so.1".into() };
        assert_eq!(read(&sample()).unwrap(), std::slice::from_ref(&wanted));

        // Behind a cache of the old format, without entries and with one.
        let mut both = b"ld.so-1.7.0\0".to_vec();
        both.extend(1u32.to_le_bytes());
        both.extend([0; OLD_ENTRY + 4]);
        both.extend(sample());
        assert_eq!(read(&both).unwrap(), std::slice::from_ref(&wanted));

        let mut old = b"ld.so-1.7.0\0".to_vec();
        old.extend(1u32.to_le_bytes());
        for field in [3u32, 0, 10] {
            old.extend(field.to_le_bytes());
        }
        old.extend(b"libz.so.1\0/usr/lib/libz.so.1\0");
        assert_eq!(read(&old).unwrap(), [wanted]);
    }

    #[test]
    fn lies_are_refused_and_any_byte_may_change() {
        assert!(read(b"not a cache").is_err());
        let good = sample();
        for at in 0..good.len() {
            for value in [0, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = read(&bad);
            }
            let _ = read(&good[..at]);
        }
        let mut bad = good;
        bad[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read(&bad).unwrap_err().offset(), Some(20));
    }

    #[test]
    fn this_machines_own_cache() {
        let Ok(bytes) = std::fs::read("/etc/ld.so.cache") else { return };
        let machine =
            if cfg!(target_arch = "aarch64") { Machine::Aarch64 } else { Machine::X86_64 };
        let entries = parse(Named::new("etc/ld.so.cache", &bytes), machine).unwrap();
        assert!(entries.iter().any(|entry| entry.name == "libc.so.6"), "{entries:?}");
    }
}
