//! Names that native code takes from torch's libraries, asked of wheels before they are downloaded.
//!
//! torch promises no C++ ABI: a module that was built for one release is refused by the loader beside another where a
//! function is gone or has another signature. Most of torch's names can't be asked for little: libtorch_cpu.so has its
//! tables at the end of 120 packed megabytes. Those of `c10/` can, as libc10.so has half a megabyte; and those of the
//! stable C API, as torch's wheel has its headers. docs/format/wheel-contents.md says what is fetched.

use std::collections::BTreeSet;

use sconce_inspect::dynamic::Dynamic;
use sconce_inspect::elf::Elf;
use sconce_inspect::names;
use sconce_inspect::read::Named;
use sconce_inspect::symbols::{Symbols, gnu_hash};
use sconce_inspect::zip::Entry;
use sconce_lock::{TakenNames, TorchNames, Wheel};

use crate::builder::Builder;
use crate::contents::contents;
use crate::error::Error;
use crate::modules::{archive, file_name, unpacked};
use crate::native::text;
use crate::overlaps::values;

/// The most bytes that are fetched of one wheel for this.
const LIMIT: u64 = 40 << 20;
/// The most packed bytes of a wheel's modules that are read.
const MODULES_BYTES: u64 = 24 << 20;
/// The most modules that are looked at, the smallest first.
const MODULES: usize = 16;
/// The most names that are kept of one module.
const NAMES: usize = 2048;
/// The largest library of torch that is read, unpacked.
const LIBRARY: u64 = 16 << 20;
/// The largest header.
const HEADER: u64 = 1 << 20;
/// Where torch's wheel has the headers of its stable C API.
const HEADERS: [&str; 2] =
    ["torch/include/torch/csrc/inductor/aoti_torch/", "torch/include/torch/csrc/stable/c/"];

/// What a wheel of torch offers of such names.
///
/// # Errors
/// It can't be asked, or is not a wheel.
pub(crate) fn offered(
    builder: &Builder<'_>,
    torch: &Wheel,
    url: &str,
) -> Result<TorchNames, Error> {
    let contents = contents(builder, torch, Some(url))?;
    let bytes = archive(builder, torch, url, LIMIT)?;
    let mut found = TorchNames::default();
    let mut hashes = BTreeSet::new();
    for library in sconce_facts::torch_homes() {
        let path = format!("torch/lib/{library}");
        let Some(entry) = contents.files.iter().find(|entry| entry.name == path) else { continue };
        if entry.size > LIBRARY {
            continue;
        }
        let file = unpacked(&*bytes, entry, u64::MAX)?;
        if let Some(symbols) = symbols(&entry.name, &*file) {
            hashes.extend(symbols.offered().map(gnu_hash));
            found.libraries.push(library.to_owned());
        }
    }
    let headers = contents.files.iter().filter(|entry| {
        entry.name.ends_with(".h") && HEADERS.iter().any(|folder| entry.name.starts_with(folder))
    });
    for entry in headers {
        let header = text(&*bytes, entry, HEADER)?;
        let words = header.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let before = hashes.len();
        hashes.extend(words.filter(|word| is_stable(word)).map(gnu_hash));
        found.headers |= hashes.len() > before;
    }
    found.hashes = hashes.into_iter().collect();
    Ok(found)
}

/// What the modules of a wheel take of such names; nothing of one that is not for torch, or whose METADATA names one release
/// of torch. `known` is set for packages that are for torch though their METADATA does not say so.
///
/// # Errors
/// It can't be asked, or is not a wheel.
pub(crate) fn taken(
    builder: &Builder<'_>,
    wheel: &Wheel,
    known: bool,
    url: &str,
) -> Result<Vec<TakenNames>, Error> {
    let contents = contents(builder, wheel, Some(url))?;
    let requirement = values(&contents.metadata, "Requires-Dist:").find(|line| is_of_torch(line));
    match requirement {
        None if !known => return Ok(Vec::new()),
        Some(line) if line.contains("==") && !line.contains(';') => return Ok(Vec::new()),
        _ => {}
    }
    let mut modules: Vec<&Entry> =
        contents.files.iter().filter(|entry| is_module(&entry.name)).collect();
    modules.sort_by_key(|entry| entry.packed);
    let bytes = archive(builder, wheel, url, LIMIT)?;
    let mut left = MODULES_BYTES;
    let mut found = Vec::new();
    for entry in modules.into_iter().take(MODULES) {
        // What is larger is left to the imports in the built image.
        let Some(rest) = left.checked_sub(entry.packed) else { break };
        left = rest;
        let file = unpacked(&*bytes, entry, u64::MAX)?;
        let Some(symbols) = symbols(&entry.name, &*file) else { continue };
        let names = symbols.imports().map(|import| import.name);
        let names =
            names.filter(|name| is_stable(name) || sconce_facts::torch_home(name).is_some());
        let names: Vec<String> = names.take(NAMES).map(str::to_owned).collect();
        if !names.is_empty() {
            found.push(TakenNames { of: entry.name.clone(), names });
        }
    }
    Ok(found)
}

/// Whether this is a name of torch's stable C API.
fn is_stable(name: &str) -> bool {
    ["aoti_torch_", "torch_"].iter().any(|start| name.starts_with(start))
}

fn is_of_torch(line: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    line.split(|c| !plain(c)).next() == Some("torch")
}

/// A library of a package; those of which there is one for each torch (`libgraphbolt_pytorch_2.4.0.so`,
/// `libtorch_c_dlpack_addon_torch25-cpu.so`) are left out: most of them are for another torch, and none of those is loaded.
fn is_module(path: &str) -> bool {
    let name = file_name(path);
    let stem = name.split(".so").next().unwrap_or(name);
    let for_one_torch = stem
        .split("torch")
        .skip(1)
        .any(|rest| rest.trim_start_matches(['_', '-']).starts_with(|c: char| c.is_ascii_digit()));
    (names::is_module(name) || name.contains(".so"))
        && !path.split('/').any(|part| part.ends_with(".libs"))
        && !for_one_torch
}

/// The tables of a library; nothing of what has only the name of one.
fn symbols(name: &str, file: &dyn sconce_inspect::read::ReadAt) -> Option<Symbols> {
    let file = Named::new(name, file);
    let elf = Elf::parse(file).ok()?;
    let dynamic = Dynamic::parse(file, &elf).ok()??;
    Symbols::read(file, &dynamic).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_for_one_torch_of_many() {
        assert!(is_module("torchtext/lib/libtorchtext.so") && is_module("x/_C.abi3.so"));
        assert!(is_module("x/libtorch_x.so") && is_module("torchaudio/lib/_torchaudio.abi3.so"));
        for other in [
            "dgl/graphbolt/libgraphbolt_pytorch_2.4.0.so",
            "x/libtorch_c_dlpack_addon_torch25-cpu.so",
            "x.libs/libgomp-1.so.1",
            "x/a.py",
        ] {
            assert!(!is_module(other), "{other}");
        }
    }

    #[test]
    fn requirements_of_torch() {
        assert!(is_of_torch("torch>=2.3") && is_of_torch("torch (==2.3.0)"));
        assert!(!is_of_torch("torchaudio") && !is_of_torch("torch-scatter"));
    }
}
