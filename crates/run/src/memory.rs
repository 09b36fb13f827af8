//! How much memory there is, and so how large `/dev/shm` is.
//!
//! Docker's 64 MB stop DataLoader workers with "Bus error" and NCCL with "No space left on
//! device" (pytorch#5040, nccl#290). Half of the memory is what the kernel itself gives a
//! tmpfs (Documentation/filesystems/tmpfs.rst).

use std::fs;
use std::path::Path;

/// Never less than this, however small the machine.
const LEAST: u64 = 256 << 20;

/// Half of the memory this process may use: the machine's or its cgroup's, or `limit` where
/// that is less.
#[must_use]
pub fn default_shm_bytes(limit: Option<u64>) -> u64 {
    let machine = machine_memory();
    let cgroup = crate::cgroup::memory_limit();
    let least = [machine, cgroup, limit].into_iter().flatten().min();
    (least.unwrap_or(2 * LEAST) / 2).max(LEAST)
}

/// The machine's memory in bytes; nothing where the kernel does not say.
#[must_use]
pub fn machine_memory() -> Option<u64> {
    fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text))
}

/// `MemTotal` of `/proc/meminfo` in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The number in a file, if it is there and is one.
pub(crate) fn number_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_least() {
        assert_eq!(total("MemTotal:       24684084 kB\nMemFree: 1 kB\n"), Some(24_684_084 * 1024));
        assert_eq!(total("MemTotal: x\n"), None);
        assert_eq!(default_shm_bytes(Some(1 << 30)), 512 << 20);
        assert_eq!(default_shm_bytes(Some(1 << 20)), LEAST);
        assert!(default_shm_bytes(None) >= LEAST);
    }
}
