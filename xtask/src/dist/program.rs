//! The program itself: for which processor it is, and the oldest glibc that it runs with.

use std::fs;
use std::path::Path;

use sconce_inspect::elf::Machine;
use sconce_inspect::scan;

/// Libraries that every system of a manylinux tag has (PEP 600; auditwheel's policy).
const EVERYWHERE: [&str; 9] = [
    "ld-linux-aarch64.so.1",
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libutil.so.1",
];

/// A built program.
pub(super) struct Program {
    pub bytes: Vec<u8>,
    /// The minor version of glibc 2 that it needs.
    pub glibc: u32,
    /// As wheels and `uname -m` name it.
    pub arch: &'static str,
    /// As Debian names it.
    pub debian_arch: &'static str,
}

impl Program {
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let bytes = fs::read(path).map_err(|why| super::failed(path, &why))?;
        let wrong = |why: &str| format!("{}: {why}", path.display());
        let library = scan::library("sconce", &bytes).map_err(|why| wrong(&why.to_string()))?;
        let library = library.ok_or_else(|| wrong("this is no ELF file"))?;
        let dynamic = library.dynamic.ok_or_else(|| wrong("it has no dynamic section"))?;
        if let Some(other) = dynamic.needed.iter().find(|name| !EVERYWHERE.contains(&name.as_str()))
        {
            return Err(wrong(&format!("it needs {other}, which not every system has")));
        }
        let glibc = dynamic.versions_needed.iter().filter_map(|need| {
            let minor = need.version.strip_prefix("GLIBC_2.")?;
            minor.split('.').next()?.parse::<u32>().ok()
        });
        let (arch, debian_arch) = match library.machine {
            Machine::X86_64 => ("x86_64", "amd64"),
            Machine::Aarch64 => ("aarch64", "arm64"),
            _ => return Err(wrong("it is for another processor than x86-64 and arm64")),
        };
        let glibc = glibc.max().ok_or_else(|| wrong("it names no version of glibc"))?;
        Ok(Self { bytes, glibc, arch, debian_arch })
    }
}
