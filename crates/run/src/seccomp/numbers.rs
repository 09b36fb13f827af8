//! Numbers of system calls, from `data/syscalls.tsv`.

use std::collections::HashMap;
use std::sync::OnceLock;

const TABLE: &str = include_str!("../../data/syscalls.tsv");

/// Bit 30 of a number marks a call of the x32 ABI (asm/unistd.h, `__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Where arm's private calls start, far above all others (asm/unistd.h, `__ARM_NR_BASE`).
const ARM_PRIVATE: u32 = 0x000f_0000;

/// A calling convention with system call numbers of its own; the order is that of the table's
/// columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    X32,
    X86,
    Aarch64,
    Arm,
}

impl Abi {
    /// The ABI that a profile calls `name`, if a filter can be made for it.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "SCMP_ARCH_X86_64" => Self::X86_64,
            "SCMP_ARCH_X32" => Self::X32,
            "SCMP_ARCH_X86" => Self::X86,
            "SCMP_ARCH_AARCH64" => Self::Aarch64,
            "SCMP_ARCH_ARM" => Self::Arm,
            _ => return None,
        })
    }

    /// What the kernel writes into `seccomp_data.arch` (linux/audit.h).
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Arguments are 32 bits wide: the kernel fills the upper half with zeros.
    pub(super) fn narrow(self) -> bool {
        matches!(self, Self::X86 | Self::Arm)
    }

    /// The number of a call as a filter sees it; `None` if this ABI does not have it.
    pub(super) fn number(self, call: &str) -> Option<u32> {
        let number = table().get(call)?[self as usize]?;
        Some(if self == Self::X32 { number | X32_BIT } else { number })
    }

    /// The first number and the last one that belong to ordinary calls of this ABI.
    pub(super) fn bounds(self) -> (u32, u32) {
        match self {
            Self::X86_64 => (0, X32_BIT - 1),
            Self::X32 => (X32_BIT, u32::MAX),
            Self::X86 | Self::Aarch64 => (0, u32::MAX),
            Self::Arm => (0, ARM_PRIVATE - 1),
        }
    }
}

/// Some architecture of Linux has a call of this name.
pub(super) fn known(call: &str) -> bool {
    table().contains_key(call)
}

pub(super) type Row = [Option<u32>; 5];

fn table() -> &'static HashMap<&'static str, Row> {
    static PARSED: OnceLock<HashMap<&'static str, Row>> = OnceLock::new();
    PARSED.get_or_init(|| rows().collect())
}

/// The table's rows: a name, and its numbers in the order of [`Abi`].
pub(super) fn rows() -> impl Iterator<Item = (&'static str, Row)> {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#')).skip(1);
    rows.filter_map(|line| {
        let mut fields = line.split('\t');
        let name = fields.next()?;
        let mut row = [None; 5];
        for (cell, field) in row.iter_mut().zip(fields) {
            *cell = field.parse().ok();
        }
        Some((name, row))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABIS: [Abi; 5] = [Abi::X86_64, Abi::X32, Abi::X86, Abi::Aarch64, Abi::Arm];

    #[test]
    fn every_row_is_complete_and_stands_once() {
        let lines: Vec<&str> = TABLE.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines[0], "name\tx86_64\tx32\tx86\taarch64\tarm");
        for pair in lines[1..].windows(2) {
            assert!(pair[0].split('\t').next() < pair[1].split('\t').next(), "order: {pair:?}");
        }
        for line in &lines[1..] {
            let cells: Vec<&str> = line.split('\t').skip(1).collect();
            assert_eq!(cells.len(), 5, "{line}");
            assert!(cells.iter().all(|cell| *cell == "-" || cell.parse::<u32>().is_ok()), "{line}");
        }
    }

    #[test]
    fn no_two_calls_share_a_number() {
        for abi in ABIS {
            let mut seen = HashMap::new();
            for (name, _) in rows() {
                let Some(number) = abi.number(name) else { continue };
                if let Some(other) = seen.insert(number, name) {
                    // asm/unistd.h of arm: one is defined as the other.
                    let pair = (other, name);
                    assert_eq!(pair, ("arm_sync_file_range", "sync_file_range2"), "{abi:?}");
                }
            }
        }
    }

    #[test]
    fn numbers_are_those_of_the_c_library() {
        let native = if cfg!(target_arch = "aarch64") { Abi::Aarch64 } else { Abi::X86_64 };
        for (name, number) in [
            ("read", libc::SYS_read),
            ("socket", libc::SYS_socket),
            ("unshare", libc::SYS_unshare),
            ("clone3", libc::SYS_clone3),
            ("openat2", libc::SYS_openat2),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("futex_waitv", libc::SYS_futex_waitv),
            ("mseal", libc::SYS_mseal),
        ] {
            assert_eq!(native.number(name), u32::try_from(number).ok(), "{name}");
        }
    }

    #[test]
    fn new_calls_are_known_everywhere() {
        for name in [
            "clone3",
            "openat2",
            "cachestat",
            "map_shadow_stack",
            "statmount",
            "listmount",
            "setxattrat",
            "open_tree_attr",
            "file_getattr",
            "listns",
            "rseq_slice_yield",
        ] {
            assert!(ABIS.iter().all(|abi| abi.number(name).is_some()), "{name}");
        }
    }
}
