//! The driver's programs, and the loader that some of them bring with them.
//!
//! A program of NVIDIA's own packages starts with the platform's loader, and so it does in any
//! container of the same processor. A driver that was built elsewhere (Nix, some clouds' images) names
//! a loader of its own in `PT_INTERP` and its libraries in `DT_RUNPATH`: in a container that has neither
//! `nvidia-smi` ends with `no such file or directory`. Both come along then, and all three keep the
//! places that they have on the machine.
//! ELF: System V ABI, "Program Header" and "Dynamic Section"; ld.so(8) for `$ORIGIN`.

use std::path::{Component, Path, PathBuf};

use crate::driver::{DRIVER_CONTAINER, Library};
use crate::machine::Machine;

/// The programs that a container gets, as NVIDIA's toolkit chooses them.
const PROGRAMS: &[&str] = &[
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
    "nvidia-debugdump",
    "nvidia-imex",
    "nvidia-imex-ctl",
    "nvidia-persistenced",
    "nvidia-smi",
];

/// Where programs go in the container.
pub(crate) const FOLDER: &str = "/usr/bin";

/// Loaders that every glibc image has (glibc's ABI, `shlib-versions`).
const LOADERS: &[&str] = &["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];

/// Files taken from one folder of a program's own libraries; a glibc has some 20.
const MOST_FILES: usize = 64;
/// Folders that one program may name.
const MOST_FOLDERS: usize = 8;
/// Program headers and dynamic entries read of one file.
const MOST_HEADERS: usize = 256;

/// A program with a loader of its own, or a file that it needs beside itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Companion {
    /// Where the program looks for it in the container.
    pub container: PathBuf,
    /// The file on the machine; of the driver's libraries those that a container has anyway: a
    /// link to them is enough.
    pub host: PathBuf,
}

/// The driver's programs: beside its libraries for a prefix, in the usual folders otherwise.
pub(crate) fn find(machine: &Machine, folder: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(root) = machine.driver_root() {
        folders.extend(["usr/bin", "usr/sbin", "bin"].map(|below| root.join(below)));
    }
    folders.extend(folder.parent().map(|prefix| prefix.join("bin")));
    if let Ok(below) = folder.strip_prefix(DRIVER_CONTAINER)
        && below.components().next().is_some()
    {
        folders.push(Path::new(DRIVER_CONTAINER).join("usr/bin"));
    }
    if machine.driver_root().is_none() {
        let usual = ["/usr/bin", "/usr/sbin", "/usr/local/nvidia/bin", "/bin"];
        folders.extend(usual.iter().map(PathBuf::from));
    }
    let first = |name: &&str| {
        folders.iter().map(|folder| folder.join(name)).find(|path| machine.is_file(path))
    };
    PROGRAMS.iter().filter_map(first).collect()
}

/// What programs with a loader of their own need beside themselves, each container path once.
pub(crate) fn companions(
    machine: &Machine,
    programs: &[PathBuf],
    libraries: &[Library],
) -> Vec<Companion> {
    let mut found: Vec<Companion> = Vec::new();
    for program in programs {
        let Ok(Some(bytes)) = machine.read(program) else { continue };
        let Some(start) = start(&bytes) else { continue };
        if LOADERS.contains(&start.interpreter.as_str()) {
            continue;
        }
        let loader = PathBuf::from(&start.interpreter);
        let (Some(host), true) = (resolve(machine, &loader), is_private(&loader)) else { continue };
        let Some(program) = machine.resolve(program).filter(|path| is_private(path)) else {
            continue;
        };
        let mut add = |container: PathBuf, host: PathBuf| {
            if !found.iter().any(|known| known.container == container) {
                found.push(Companion { container, host });
            }
        };
        let beside = loader.parent().map(Path::to_owned);
        add(loader, host);
        add(program.clone(), program.clone());
        let origin = program.parent().unwrap_or(Path::new("/")).to_string_lossy();
        let search = start.search.iter().filter_map(|text| {
            flat(Path::new(&text.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin)))
        });
        for there in beside.into_iter().chain(search).take(MOST_FOLDERS) {
            let Some(here) = resolve(machine, &there).filter(|_| is_private(&there.join("x")))
            else {
                continue;
            };
            let drivers = libraries.iter().any(|library| library.path.parent() == Some(&here));
            for library in libraries {
                // nvidia-smi opens NVML by its SONAME, found through the same search path.
                let names = library.links.iter().chain([&library.name]);
                let wanted = names.filter(|name| {
                    drivers || matches!(name.as_str(), "libnvidia-ml.so.1" | "libcuda.so.1")
                });
                // VDPAU's library lies in a folder of its own, and no program of these opens it.
                let wanted = wanted.filter(|name| !name.starts_with("libvdpau"));
                wanted.for_each(|name| add(there.join(name), library.path.clone()));
            }
            if drivers {
                continue;
            }
            let names = machine.names(&here).into_iter().filter(|name| name.contains(".so"));
            for name in names.take(MOST_FILES) {
                if let Some(file) = machine.resolve(&here.join(&name))
                    && machine.is_file(&file)
                {
                    add(there.join(name), file);
                }
            }
        }
    }
    found.sort();
    found
}

/// The path on the machine, or below the driver's own root.
fn resolve(machine: &Machine, path: &Path) -> Option<PathBuf> {
    let below = |root: &Path| machine.resolve(&root.join(path.strip_prefix("/").unwrap_or(path)));
    machine.resolve(path).or_else(|| below(machine.driver_root()?))
}

/// Whether a file may be put there: nowhere that belongs to the image or to the kernel.
fn is_private(file: &Path) -> bool {
    const TAKEN: &[&str] = &[
        "/",
        "/bin",
        "/sbin",
        "/lib",
        "/lib64",
        "/usr",
        "/usr/bin",
        "/usr/sbin",
        "/usr/lib",
        "/usr/lib64",
        "/usr/local",
        "/usr/local/lib",
        "/usr/local/bin",
    ];
    const CLOSED: &[&str] = &["/proc", "/sys", "/dev", "/etc", "/run", "/tmp", "/var", "/root"];
    let Some(folder) = file.parent().filter(|folder| folder.is_absolute()) else { return false };
    !TAKEN.iter().any(|taken| folder == Path::new(taken))
        && !folder.to_string_lossy().contains("-linux-gnu")
        && !CLOSED.iter().any(|closed| folder.starts_with(closed))
}

/// An absolute path without `.` and `..`, or nothing if it is not one.
fn flat(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = out.pop(),
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out.is_absolute().then_some(out)
}

/// How a program starts.
struct Start {
    interpreter: String,
    /// `DT_RPATH` and `DT_RUNPATH`, as written.
    search: Vec<String>,
}

/// Reads it from a 64-bit little-endian ELF file; nothing if it is not one, or starts without a loader.
fn start(bytes: &[u8]) -> Option<Start> {
    const LOAD: u32 = 1;
    const DYNAMIC: u32 = 2;
    const INTERPRETER: u32 = 3;
    const STRINGS: u64 = 5;
    const RPATH: u64 = 15;
    const RUNPATH: u64 = 29;
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size) = (place(number(bytes, 32)?)?, usize::from(half(bytes, 54)?));
    let count = usize::from(half(bytes, 56)?).min(MOST_HEADERS);
    // Kind, offset, address and length in the file.
    let headers: Vec<(u32, usize, u64, usize)> = (0..count)
        .filter_map(|index| {
            let at = table.checked_add(index.checked_mul(size)?)?;
            let kind = u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?);
            let field = |offset| number(bytes, at.checked_add(offset)?);
            Some((kind, place(field(8)?)?, field(16)?, place(field(32)?)?))
        })
        .collect();
    let part = |wanted| headers.iter().find(|header| header.0 == wanted);
    let (_, offset, _, length) = part(INTERPRETER)?;
    let interpreter = text(bytes.get(*offset..offset.checked_add(*length)?)?)?;
    let mut search = Vec::new();
    if let Some((_, offset, _, length)) = part(DYNAMIC) {
        let entries: Vec<(u64, u64)> = (0..(length / 16).min(MOST_HEADERS))
            .filter_map(|index| offset.checked_add(index * 16))
            .filter_map(|at| Some((number(bytes, at)?, number(bytes, at.checked_add(8)?)?)))
            .take_while(|(tag, _)| *tag != 0)
            .collect();
        let strings = entries.iter().find(|(tag, _)| *tag == STRINGS).and_then(|(_, address)| {
            headers.iter().filter(|header| header.0 == LOAD).find_map(
                |(_, offset, start, length)| {
                    let below = place(address.checked_sub(*start)?)?;
                    (below < *length).then(|| offset.checked_add(below))?
                },
            )
        });
        for (_, value) in entries.iter().filter(|(tag, _)| matches!(*tag, RPATH | RUNPATH)) {
            let at = strings.and_then(|strings| strings.checked_add(place(*value)?));
            let found = at.and_then(|at| text(bytes.get(at..)?));
            search.extend(found.iter().flat_map(|list| list.split(':')).map(str::to_owned));
        }
    }
    Some(Start { interpreter, search })
}

fn place(value: u64) -> Option<usize> {
    usize::try_from(value).ok()
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// Up to the first NUL, at most 4096 bytes.
fn text(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.get(..4096).unwrap_or(bytes);
    let end = bytes.iter().position(|byte| *byte == 0)?;
    String::from_utf8(bytes.get(..end)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test itself is a program with a loader.
    #[test]
    fn a_real_program_is_read_and_no_damage_panics() {
        let bytes = std::fs::read("/bin/sh").unwrap();
        assert!(LOADERS.contains(&start(&bytes).unwrap().interpreter.as_str()));
        for length in 0..bytes.len().min(2048) {
            let _ = start(&bytes[..length]);
        }
        for at in 0..1024 {
            for value in [0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let _ = start(&damaged);
            }
        }
    }

    #[test]
    fn places_of_the_image_are_not_taken() {
        let private = |path: &str| is_private(Path::new(path));
        assert!(private("/usr/local/nvidia/glibc/ld.so") && private("/nix/store/x/lib/ld.so"));
        for taken in ["/lib64/ld.so", "/usr/lib/x86_64-linux-gnu/ld.so", "/etc/ld.so", "ld.so", "/"]
        {
            assert!(!private(taken), "{taken}");
        }
        assert_eq!(flat(Path::new("/usr/bin/../glibc/.")).unwrap(), Path::new("/usr/glibc"));
        assert_eq!(flat(Path::new("lib")), None);
    }
}
