//! What a wheel that is not downloaded says about the CUDA that its native code is built for.
//!
//! Its METADATA tells whether it is for torch at all; `version.py` may name a CUDA
//! (`2.11.0+cu130`), and a module that needs libraries of torch and of a CUDA (`libcudart.so.13`) names its major.

use std::collections::BTreeSet;
use std::io;

use sconce_facts::Local;
use sconce_fetch::range::Remote;
use sconce_inspect::dynamic::Dynamic;
use sconce_inspect::elf::Elf;
use sconce_inspect::inflate::Inflated;
use sconce_inspect::read::{Named, ReadAt, Slice};
use sconce_inspect::zip::{self, Entry};
use sconce_lock::{Native, Wheel};

use crate::builder::Builder;
use crate::contents::contents;
use crate::error::Error;
use crate::modules::{archive, unpacked};
use crate::overlaps::values;

/// The most bytes that are fetched of one wheel: modules for torch have some megabytes.
const LIMIT: u64 = 48 << 20;
/// The most modules that are looked at, the smallest first.
const MODULES: usize = 12;
/// The largest version.py.
const TEXT: u64 = 4 << 20;

/// CUDA libraries whose major is in their name.
const LIBRARIES: &[&str] = &["libcudart.so.", "libnvrtc.so.", "libcublas.so."];

/// A wheel's bytes, as far as they are asked for.
pub(crate) struct Bytes<'a>(pub Remote<'a>);

impl ReadAt for Bytes<'_> {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
}

/// What the wheel at `url` is built for. `known` is set for packages that are for torch though their METADATA
/// does not say so.
pub(crate) fn native(
    builder: &Builder<'_>,
    wheel: &Wheel,
    known: bool,
    url: &str,
) -> Result<Native, Error> {
    let contents = contents(builder, wheel, Some(url))?;
    if !known && !needs_torch(&contents.metadata) {
        return Ok(Native::default());
    }
    let entries = &contents.files;
    let bytes = archive(builder, wheel, url, LIMIT)?;
    let bytes = &*bytes;
    let version = entries.iter().find(|entry| is_version(&entry.name));
    let version = version.map(|entry| text(bytes, entry, TEXT)).transpose()?;
    let said = version.as_deref().map(said).unwrap_or_default();
    let mut found = Native { cuda: said.cuda, major: said.cuda_major, why: None };
    let mut modules: Vec<&Entry> = entries.iter().filter(|entry| is_module(&entry.name)).collect();
    modules.sort_by_key(|entry| entry.packed);
    for entry in modules.into_iter().take(MODULES) {
        let Some((library, major)) = needs(bytes, entry, known)? else { continue };
        found.major = Some(major);
        found.why = Some(format!("{} needs {library}", entry.name));
        break;
    }
    Ok(found)
}

fn needs_torch(metadata: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    values(metadata, "Requires-Dist:").any(|line| line.split(|c| !plain(c)).next() == Some("torch"))
}

/// `torchaudio/version.py`, `pkg/_version.py`.
fn is_version(name: &str) -> bool {
    let mut parts = name.split('/');
    let (_, file, rest) = (parts.next(), parts.next(), parts.next());
    matches!(file, Some("version.py" | "_version.py")) && rest.is_none()
}

fn is_module(name: &str) -> bool {
    name.ends_with(".so") && !name.split('/').any(|part| part.ends_with(".libs"))
}

/// What a version in a text such as `__version__ = '2.11.0+cu130'` says.
fn said(text: &str) -> Local {
    let plain = |c: &char| c.is_ascii_alphanumeric() || ".-_".contains(*c);
    let local = text.split_once('+').map(|(_, rest)| rest.chars().take_while(plain).collect());
    local.map(|local: String| Local::parse(&local)).unwrap_or_default()
}

/// The CUDA library that a module for torch needs, and its major; `None` for any other module. Of a package that
/// is `known` to be for torch all modules count.
fn needs(bytes: &dyn ReadAt, entry: &Entry, known: bool) -> Result<Option<(String, u16)>, Error> {
    let module = unpacked(bytes, entry, u64::MAX)?;
    let module = Named::new(&entry.name, &*module);
    // What only has the name of a module is none.
    let Ok(elf) = Elf::parse(module) else { return Ok(None) };
    let Ok(Some(dynamic)) = Dynamic::parse(module, &elf) else { return Ok(None) };
    let needed: BTreeSet<String> = dynamic.needed.into_iter().collect();
    let of_torch = |name: &String| name.starts_with("libtorch") || name.starts_with("libc10");
    if !known && !needed.iter().any(of_torch) {
        return Ok(None);
    }
    let major = |name: &String| {
        let of = |library: &&str| name.strip_prefix(*library)?.split('.').next()?.parse().ok();
        Some((name.clone(), LIBRARIES.iter().find_map(of)?))
    };
    Ok(needed.iter().find_map(major))
}

/// The text of a file in a wheel; empty where it has more than `limit` bytes.
pub(crate) fn text(bytes: &dyn ReadAt, entry: &Entry, limit: u64) -> Result<String, Error> {
    if entry.size > limit {
        return Ok(String::new());
    }
    let file = Named::new("the wheel", bytes);
    let packed = Slice::new(bytes, zip::start(file, entry)?, entry.packed);
    let mut out = vec![0; entry.size as usize];
    let read = match entry.deflated {
        true => Inflated::raw(packed, entry.size).read_at(&mut out, 0),
        false => packed.read_at(&mut out, 0),
    };
    let at = std::path::Path::new(&entry.name);
    let read = read.map_err(crate::error::at("read", at))?;
    out.truncate(read);
    Ok(String::from_utf8_lossy(&out).into_owned())
}
