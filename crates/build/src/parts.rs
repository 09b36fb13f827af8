//! Whether a module of a wheel is the package, or a part that it does without: see docs/format/wheel-contents.md.
//!
//! A package for CUDA says so: in its name, or in that it requires NVIDIA's packages. Of any other one a module counts as a
//! part where its path speaks of CUDA, other modules' paths do not, no other module is linked with it, and
//! the package does not import it before all else. What is not shown to be a part is needed.

use sconce_inspect::names;
use sconce_inspect::read::ReadAt;
use sconce_inspect::zip::Entry;

use crate::error::Error;
use crate::libraries::{requires_nvidia, speaks_of_cuda};
use crate::modules::{file_name, head, unpacked};
use crate::native::text;
use crate::overlaps::values;

/// The most other modules that are asked whether they are linked with a part.
const MODULES: usize = 12;
/// Of each so many packed bytes are read, and so many of what they unpack to.
const HEAD: u64 = 192 << 10;
const HEAD_UNPACKED: usize = 4 << 20;
/// The largest `__init__.py`.
const TEXT: u64 = 1 << 20;

/// Whether a package is there for CUDA, by its name and what it requires.
pub(crate) fn is_for_cuda(metadata: &str) -> bool {
    let name = values(metadata, "Name:").next().unwrap_or_default();
    speaks_of_cuda(name) || ends_in_cuda(name) || requires_nvidia(metadata)
}

/// "faiss-cu12", "spconv-cu120"
fn ends_in_cuda(name: &str) -> bool {
    name.rsplit_once("-cu").is_some_and(|(_, digits)| {
        digits.len() >= 2 && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Whether the module at a path of a wheel is one that the package does without.
///
/// # Errors
/// The wheel can't be read.
pub(crate) fn is_part(bytes: &dyn ReadAt, files: &[Entry], path: &str) -> Result<bool, Error> {
    if !speaks_of_cuda(path) {
        return Ok(false);
    }
    let mut others: Vec<&Entry> = files
        .iter()
        .filter(|entry| {
            let name = file_name(&entry.name);
            (names::is_module(name) || name.contains(".so."))
                && !entry.name.contains(".libs/")
                && !speaks_of_cuda(&entry.name)
        })
        .collect();
    if others.is_empty() {
        return Ok(false);
    }
    others.sort_by_key(|entry| entry.packed);
    for entry in others.into_iter().take(MODULES) {
        let file = unpacked(bytes, entry, HEAD)?;
        if links(&head(&*file, HEAD_UNPACKED), file_name(path)) {
            return Ok(false);
        }
    }
    let Some((package, _)) = path.split_once('/') else { return Ok(false) };
    let init = format!("{package}/__init__.py");
    let Some(init) = files.iter().find(|entry| entry.name == init) else { return Ok(true) };
    let source = text(bytes, init, TEXT)?;
    // One that is larger says nothing.
    Ok((!source.is_empty() || init.size == 0) && !imports(&source, path))
}

/// Whether a file of this name stands in a module's table of names.
fn links(start: &[u8], file: &str) -> bool {
    let name = [b"\0", file.as_bytes(), b"\0"].concat();
    start.windows(name.len()).any(|window| window == name)
}

/// Whether a package's first file imports a module unconditionally: with a statement that nothing stands before.
fn imports(source: &str, path: &str) -> bool {
    let names = path.split('/').skip(1).map(|part| part.split('.').next().unwrap_or(part));
    let names: Vec<&str> = names.collect();
    let word = |c: char| !(c.is_alphanumeric() || c == '_');
    source.lines().filter(|line| line.starts_with("import ") || line.starts_with("from ")).any(
        |line| {
            // A star brings what nobody sees here.
            line.contains('*') || line.split(word).any(|part| names.contains(&part))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_for_cuda() {
        for name in ["cupy-cuda12x", "onnxruntime-gpu", "faiss-cu12", "spconv-cu120", "pycuda"] {
            assert!(is_for_cuda(&format!("Name: {name}\n")), "{name}");
        }
        assert!(is_for_cuda("Name: x\nRequires-Dist: nvidia-cublas-cu12\n"));
        for metadata in ["Name: open3d\n", "Name: x\nRequires-Dist: nvidia-y; extra == 'gpu'\n"] {
            assert!(!is_for_cuda(metadata), "{metadata}");
        }
    }

    #[test]
    fn what_is_imported_at_once() {
        let path = "pkg/gpu/_cuda.cpython-313-x86_64-linux-gnu.so";
        for line in
            ["from . import _cuda", "import pkg.gpu", "from .gpu import x", "from .a import *"]
        {
            assert!(imports(line, path), "{line}");
        }
        for line in
            ["import os", "    from . import _cuda", "# from . import _cuda", "from . import cudax"]
        {
            assert!(!imports(line, path), "{line}");
        }
    }
}
