//! The memory of another process, read through `/proc/PID/mem`, and the symbols of what is loaded there. Nothing is stopped and nothing
//! is written: what is read may change meanwhile, so every pointer is only believed as far as it can be read.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Most entries of a dynamic section, and most symbols of one chain of a hash table.
const MOST: u64 = 4096;

/// The memory of a process.
#[derive(Debug)]
pub(crate) struct Memory(File);

impl Memory {
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/mem")).map(Self)
    }

    pub(crate) fn read(&self, at: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.0.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }

    pub(crate) fn u64(&self, at: u64) -> Option<u64> {
        Some(u64::from_ne_bytes(self.read(at, 8)?.try_into().ok()?))
    }

    pub(crate) fn u32(&self, at: u64) -> Option<u32> {
        Some(u32::from_ne_bytes(self.read(at, 4)?.try_into().ok()?))
    }

    /// What a pointer at this place points at; `None` where it is null.
    pub(crate) fn pointer(&self, at: u64) -> Option<u64> {
        self.u64(at).filter(|pointer| *pointer != 0)
    }

    /// The address of a symbol that the ELF object loaded at `base` exports.
    pub(crate) fn symbol(&self, base: u64, name: &str) -> Option<u64> {
        let header = self.read(base, 64)?;
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        // 64 bits, of this machine's byte order.
        if header[..5] != *b"\x7fELF\x02" {
            return None;
        }
        let headers = base.checked_add(u64::from_ne_bytes(header[32..40].try_into().ok()?))?;
        let (mut bias, mut dynamic) = (None, None);
        for at in 0..u64::from(half(56)) {
            let at = headers.checked_add(at * u64::from(half(54)))?;
            let address = self.u64(at.checked_add(16)?)?;
            match self.u32(at)? {
                // The first segment that is loaded has the header in it.
                1 if bias.is_none() => bias = Some(base.wrapping_sub(address & !0xfff)),
                2 => dynamic = Some(address),
                _ => {}
            }
        }
        let bias = bias?;
        let dynamic = dynamic?.wrapping_add(bias);
        let (mut strings, mut symbols, mut gnu) = (None, None, None);
        for at in 0..MOST {
            let at = dynamic.checked_add(at * 16)?;
            let (tag, value) = (self.u64(at)?, self.u64(at.checked_add(8)?)?);
            // glibc has put addresses in, musl leaves them as they are in the file.
            let value = if value < base { value.wrapping_add(bias) } else { value };
            match tag {
                0 => break,
                5 => strings = Some(value),
                6 => symbols = Some(value),
                0x6fff_fef5 => gnu = Some(value),
                _ => {}
            }
        }
        let (strings, symbols, gnu) = (strings?, symbols?, gnu?);
        let (buckets, first) = (self.u32(gnu)?, self.u32(gnu.checked_add(4)?)?);
        let table = gnu.checked_add(16 + 8 * u64::from(self.u32(gnu.checked_add(8)?)?))?;
        let hash = gnu_hash(name);
        let bucket = u64::from(hash.checked_rem(buckets)?);
        let mut index = self.u32(table.checked_add(4 * bucket)?)?;
        let chain = table.checked_add(4 * u64::from(buckets))?;
        for _ in 0..MOST {
            let link = self.u32(chain.checked_add(4 * u64::from(index.checked_sub(first)?))?)?;
            if link | 1 == hash | 1 {
                let symbol = self.read(symbols.checked_add(24 * u64::from(index))?, 24)?;
                let at = u64::from(u32::from_ne_bytes(symbol[..4].try_into().ok()?));
                let known = self.read(strings.checked_add(at)?, name.len() + 1)?;
                if known.strip_suffix(b"\0") == Some(name.as_bytes()) {
                    let value = u64::from_ne_bytes(symbol[8..16].try_into().ok()?);
                    return (symbol[6..8] != [0, 0]).then_some(value.wrapping_add(bias));
                }
            }
            if link & 1 == 1 {
                return None;
            }
            index = index.checked_add(1)?;
        }
        None
    }
}

/// The hash of `DT_GNU_HASH`.
fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381, |hash: u32, byte| hash.wrapping_mul(33).wrapping_add(byte.into()))
}

/// Where a Python may be in the memory of a process: its program, and libraries named libpython; each with its file's name.
pub(crate) fn pythons(pid: u32) -> io::Result<Vec<(String, u64)>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let program = program.display().to_string();
    let program = program.trim_end_matches(" (deleted)");
    let mut found: Vec<(String, u64)> = Vec::new();
    for line in maps.lines() {
        let mut fields = line.splitn(6, ' ');
        let (Some(range), Some(offset)) = (fields.next(), fields.nth(1)) else { continue };
        let path = fields.nth(2).unwrap_or_default().trim().trim_end_matches(" (deleted)");
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let library = name.starts_with("libpython");
        if offset.trim_start_matches('0').is_empty() && (library || path == program) {
            let base = range.split('-').next().and_then(|at| u64::from_str_radix(at, 16).ok());
            let Some(base) = base.filter(|_| found.len() < 8) else { continue };
            // The library has it where there is one.
            found.insert(if library { 0 } else { found.len() }, (name, base));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_of_this_very_process() {
        let memory = Memory::open(std::process::id()).unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps.lines().find(|line| line.contains("/libc.so.6")).unwrap();
        let base = u64::from_str_radix(libc.split('-').next().unwrap(), 16).unwrap();
        let address = memory.symbol(base, "getpid").unwrap();
        assert!(address > base && memory.read(address, 4).is_some());
        assert_eq!(memory.symbol(base, "no_such_function_anywhere"), None);
        assert_eq!(memory.symbol(0, "getpid"), None);
        // What is no ELF object.
        let junk = [0x7f_u8; 256];
        assert_eq!(memory.symbol(junk.as_ptr() as u64, "getpid"), None);
        assert_eq!(memory.u64(u64::MAX - 3), None);
    }
}
