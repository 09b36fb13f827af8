//! Which libraries of CUDA the native code of a wheel needs or opens by name, asked before it is downloaded.
//!
//! The linker puts the names of needed libraries near the start of a file, in `.dynstr` (System V ABI, "Dynamic
//! Section"): the first packed bytes of a module tell them, whatever its size. What auditwheel has worked on has them at
//! its end, and names of libraries that are opened lie in `.rodata`: such a module is read whole, where it is not too
//! large. docs/format/wheel-contents.md says how much is fetched.

use std::collections::BTreeSet;

use sconce_inspect::dynamic::Dynamic;
use sconce_inspect::elf::Elf;
use sconce_inspect::read::{Named, ReadAt};
use sconce_inspect::zip::Entry;
use sconce_inspect::{mentions, names};
use sconce_lock::{Libraries, Need, Wheel};

use crate::builder::Builder;
use crate::contents::{Contents, contents};
use crate::error::Error;
use crate::modules::{archive, file_name, head, unpacked};
use crate::overlaps::values;
use crate::parts;

/// The most bytes that are fetched of one wheel for this.
const LIMIT: u64 = 64 << 20;
/// The most packed bytes of its modules that are read whole: of packages for CUDA most have a handful of 3 to 11 MB.
const WHOLE: u64 = 56 << 20;
/// The most modules that are looked at.
const MODULES: usize = 12;
/// Of a module so many packed bytes are read first.
const HEAD: u64 = 192 << 10;
/// And so many of what they unpack to are searched.
const HEAD_UNPACKED: usize = 4 << 20;
/// Every library that is linked with another names the C library: where it stands is the table of names.
const LIBC: &[u8] = b"\0libc.so.6\0";

/// What the wheel at `url` has of NVIDIA's libraries, and what it asks for; with `code` its modules are read.
///
/// # Errors
/// It can't be asked, or is not a wheel.
pub(crate) fn libraries(
    builder: &Builder<'_>,
    wheel: &Wheel,
    code: bool,
    url: Option<&str>,
) -> Result<Libraries, Error> {
    let contents = contents(builder, wheel, url)?;
    let files = contents.files.iter().map(|entry| file_name(&entry.name));
    let mut found = Libraries {
        has: files.filter(|name| is_of_cuda(name)).map(str::to_owned).collect(),
        parts: parts_of_nvidia(&contents.files),
        extras: extras(&contents.metadata),
        ..Libraries::default()
    };
    let described = is_described_so(&contents);
    let asks = code && (described || is_named_so(&contents));
    let Some(url) = url.filter(|_| asks) else { return Ok(found) };
    let modules = modules(&contents.files);
    let bytes = archive(builder, wheel, url, LIMIT)?;
    Reading { bytes: &*bytes, modules, left: WHOLE }.read(&mut found)?;
    if !parts::is_for_cuda(&contents.metadata) {
        for need in &mut found.needs {
            need.part = parts::is_part(&*bytes, &contents.files, &need.of)?;
        }
    }
    if !described || requires_nvidia(&contents.metadata) {
        // That a file's name speaks of CUDA is not enough for a word of doubt, and what asks for NVIDIA's packages itself
        // has them.
        found.unread = None;
    }
    let own: BTreeSet<&str> = contents.files.iter().map(|entry| file_name(&entry.name)).collect();
    found.needs.retain(|need| !own.contains(need.library.as_str()));
    found.opens.retain(|need| !own.contains(need.library.as_str()));
    Ok(found)
}

/// What libraries of NVIDIA's among these files open by name, by the rows of what is known, and that is not among them. A
/// name that auditwheel has put a hash into is not the one that is opened.
fn parts_of_nvidia(files: &[Entry]) -> Vec<Need> {
    let own: BTreeSet<&str> = files.iter().map(|entry| file_name(&entry.name)).collect();
    let mut found = Vec::new();
    for entry in files {
        let name = file_name(&entry.name);
        let plain = names::unmangled(name);
        let row = names::plugins(name).filter(|row| !row.part && names::is_of_nvidia(&plain));
        let opened = row.into_iter().flat_map(|row| &row.names);
        let absent = opened.filter(|name| !name.ends_with('*') && !own.contains(name.as_str()));
        found.extend(absent.map(|library| Need {
            library: library.clone(),
            cuda: None,
            package: names::pypi_package(library).map(str::to_owned),
            package_13: None,
            of: entry.name.clone(),
            // It has a name of its own, and so looks in its own folder alone.
            part: plain != name,
        }));
    }
    found
}

/// The modules to look at: those that are called like a library of CUDA first, then those whose path speaks of it, the
/// smallest first.
fn modules(files: &[Entry]) -> Vec<&Entry> {
    let is_module = |entry: &&Entry| {
        let name = file_name(&entry.name);
        let library = name.ends_with(".so") || name.contains(".so.");
        library && !is_of_cuda(&names::unmangled(name)) && entry.size >= 64
    };
    let mut modules: Vec<&Entry> = files.iter().filter(is_module).collect();
    // `cublas.cpython-312-x86_64-linux-gnu.so` is all but certain to need a library.
    let like_a_library = |entry: &Entry| {
        let name = file_name(&entry.name);
        let stem = name.split(['.', '-']).next().unwrap_or(name).trim_start_matches("lib");
        names::is_opened(&format!("lib{stem}.so.1"))
    };
    modules
        .sort_by_key(|entry| (!like_a_library(entry), !speaks_of_cuda(&entry.name), entry.packed));
    modules.truncate(MODULES);
    modules
}

/// Whether a library of this name is one of those that come with CUDA or for it.
fn is_of_cuda(name: &str) -> bool {
    names::cuda_major(name).is_some() || names::is_opened(name)
}

/// Whether a library that a module needs is one to ask for: of CUDA, and not one of those that packages do without, but for
/// the module that needs it (cuTENSOR, NCCL).
fn matters(name: &str) -> bool {
    let plain = names::unmangled(name);
    names::cuda_major(&plain).is_some() || (names::is_opened(&plain) && !names::is_spare(&plain))
}

pub(crate) fn speaks_of_cuda(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    // Not within a word: ICU has a `libicudata`.
    let begins = |at: usize| {
        let before = text.get(..at).unwrap_or_default();
        !before.ends_with(|c: char| c.is_ascii_alphabetic())
            || ["lib", "py"].iter().any(|start| before.ends_with(start))
    };
    ["cuda", "cublas", "cudnn", "nvidia", "gpu"]
        .iter()
        .any(|word| text.match_indices(word).any(|(at, _)| begins(at)))
}

/// Whether what describes a wheel says that it is for CUDA.
fn is_described_so(contents: &Contents) -> bool {
    let fields = ["Name:", "Summary:", "Keywords:", "Classifier:"];
    let metadata = contents.metadata.as_str();
    let described = |field: &&str| values(metadata, field).any(speaks_of_cuda);
    fields.iter().any(described) || requires_nvidia(metadata)
}

/// Whether METADATA itself asks for packages of NVIDIA's, whatever extras are wanted.
pub(crate) fn requires_nvidia(metadata: &str) -> bool {
    let asks = |line: &str| line.starts_with("nvidia-") && !line.contains("extra ==");
    values(metadata, "Requires-Dist:").any(asks)
}

/// Whether the name of one of its modules does.
fn is_named_so(contents: &Contents) -> bool {
    contents.files.iter().any(|entry| {
        let name = file_name(&entry.name);
        (name.ends_with(".so") || name.contains(".so.")) && speaks_of_cuda(&entry.name)
    })
}

/// The extras under which METADATA asks for NVIDIA's libraries.
fn extras(metadata: &str) -> Vec<String> {
    let of_cuda = |line: &&str| line.starts_with("nvidia-") || line.starts_with("cuda-toolkit");
    let mut found: Vec<String> = values(metadata, "Requires-Dist:")
        .filter(of_cuda)
        .filter_map(|line| {
            let (_, rest) = line.split_once("extra == ")?;
            let name = rest.trim_start_matches(['"', '\'']);
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            Some(name[..name.find(|c| !plain(c)).unwrap_or(name.len())].to_owned())
        })
        .filter(|name| !name.is_empty())
        .collect();
    found.dedup();
    found
}

struct Reading<'a> {
    bytes: &'a dyn ReadAt,
    modules: Vec<&'a Entry>,
    /// Packed bytes that whole modules may still have.
    left: u64,
}

impl Reading<'_> {
    fn read(mut self, found: &mut Libraries) -> Result<(), Error> {
        let mut rest = Vec::new();
        for entry in std::mem::take(&mut self.modules) {
            let file = unpacked(self.bytes, entry, HEAD)?;
            let start = head(&*file, HEAD_UNPACKED);
            if !Elf::sniff(&start) {
                continue;
            }
            let named = needed(&start);
            let known = named.is_some();
            let mut named = named.unwrap_or_default();
            // Modules for torch are asked where a package needs torch; else the package does without them.
            if named.iter().any(|name| names::is_of_torch(name)) {
                continue;
            }
            named.retain(|name| matters(name));
            take(&mut found.needs, entry, named);
            // One that tells its CUDA is enough: a wheel is built with one.
            if found.needs.iter().any(|need| need.cuda.is_some()) {
                return Ok(());
            }
            rest.push((entry, known));
        }
        for (entry, known) in rest {
            if entry.packed > self.left {
                if found.unread.is_none() {
                    let what = if known { "opens by name" } else { "needs" };
                    found.unread = Some(format!(
                        "what {} {what}: it has {} MB, and of one wheel {} MB are read",
                        entry.name,
                        entry.packed.div_ceil(1 << 20),
                        WHOLE >> 20
                    ));
                }
                continue;
            }
            self.left -= entry.packed;
            self.whole(entry, found)?;
            if found.needs.iter().any(|need| need.cuda.is_some()) {
                break;
            }
        }
        Ok(())
    }

    fn whole(&self, entry: &Entry, found: &mut Libraries) -> Result<(), Error> {
        let file = unpacked(self.bytes, entry, u64::MAX)?;
        let file = Named::new(&entry.name, &*file);
        // What only has the name of a module is none.
        let Ok(elf) = Elf::parse(file) else { return Ok(()) };
        let dynamic = Dynamic::parse(file, &elf).ok().flatten();
        let needed = dynamic.map(|dynamic| dynamic.needed).unwrap_or_default();
        if needed.iter().any(|name| names::is_of_torch(name)) {
            return Ok(());
        }
        let opened = mentions::names(file, &elf).unwrap_or_default();
        let needed = needed.into_iter().filter(|name| matters(name));
        take(&mut found.needs, entry, needed.collect());
        let opened = opened.into_iter().filter(|name| !names::is_spare(name));
        take(&mut found.opens, entry, opened.collect());
        Ok(())
    }
}

fn take(into: &mut Vec<Need>, entry: &Entry, libraries: Vec<String>) {
    for library in libraries {
        if into.iter().any(|need| need.library == library) {
            continue;
        }
        let plain = names::unmangled(&library);
        let cuda = names::cuda_major(&plain);
        let package = |major| names::pypi_package_for(&plain, major).map(str::to_owned);
        into.push(Need {
            of: entry.name.clone(),
            cuda,
            package: package(cuda),
            package_13: package(Some(13)),
            library,
            part: false,
        });
    }
}

/// The libraries of CUDA and of torch that a file needs, by the names in the table that its start has; none where the table is not
/// there.
fn needed(start: &[u8]) -> Option<Vec<String>> {
    let libc = start.windows(LIBC.len()).position(|window| window == LIBC)?;
    let is_text = |byte: &u8| matches!(*byte, 0 | 0x20..=0x7e);
    let first = start[..libc].iter().rposition(|byte| !is_text(byte)).map_or(0, |at| at + 1);
    let len = start[libc..].iter().position(|byte| !is_text(byte));
    let table = &start[first..len.map_or(start.len(), |len| libc + len)];
    let texts = table.split(|byte| *byte == 0).filter_map(|text| str::from_utf8(text).ok());
    let of_interest = |name: &&str| {
        let library = name.starts_with("lib") && name.contains(".so");
        library && (names::is_of_torch(name) || is_of_cuda(&names::unmangled(name)))
    };
    Some(texts.filter(of_interest).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_table_alone() {
        let start = b"\x7fELF\x02\x00\xff\0_init\0libcublas.so.12\0libc.so.6\0GLIBC_2.4\0\x90\x90\0libcudart.so.13\0";
        assert_eq!(needed(start).unwrap(), ["libcublas.so.12"]);
        assert_eq!(needed(b"\0libcublas.so.12\0").map(|names| names.len()), None, "no table");
        assert!(needed(b"\0libc.so.6\0libm.so.6\0").unwrap().is_empty());
    }

    #[test]
    fn words_of_cuda() {
        for text in ["x/libicudata.so.70", "x/barracuda.so", "Name: tool"] {
            assert!(!speaks_of_cuda(text), "{text}");
        }
        for text in ["x/libcudart.so", "Environment :: GPU", "x/_cuda.so", "pycuda", "For CUDA 12"]
        {
            assert!(speaks_of_cuda(text), "{text}");
        }
    }

    #[test]
    fn extras_with_cuda() {
        let metadata = "Name: x\nRequires-Dist: numpy\n\
                        Requires-Dist: cuda-toolkit[cublas]==12.*; extra == \"ctk\"\n\
                        Requires-Dist: nvidia-cublas-cu12 ==12.5 ; extra == 'and-cuda'\n\
                        Requires-Dist: nvidia-cufft-cu12 ; extra == 'and-cuda'\n\
                        Requires-Dist: pytest ; extra == 'test'\n\nRequires-Dist: nvidia-x; extra == 'text'\n";
        assert_eq!(extras(metadata), ["ctk", "and-cuda"]);
        assert!(extras("").is_empty() && extras("Requires-Dist: nvidia-x; extra == \n").is_empty());
    }
}
