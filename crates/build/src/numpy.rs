//! Which NumPy the modules of a wheel are built for, asked before it is downloaded.
//!
//! Modules ask for NumPy's C API by a name that stands in their data (`sconce_inspect::mentions::numpy`): built with
//! headers of NumPy 1 they have that of NumPy 1 alone, with those of NumPy 2 both.

use sconce_inspect::elf::Elf;
use sconce_inspect::mentions;
use sconce_inspect::names;
use sconce_inspect::read::Named;
use sconce_inspect::zip::Entry;
use sconce_lock::{NumpyApi, Wheel, leaves_numpy_open};

use crate::builder::Builder;
use crate::contents::contents;
use crate::error::Error;
use crate::modules::{archive, file_name, unpacked};
use crate::overlaps::values;

/// The most bytes that are fetched of one wheel for this: OpenCV's only module has 26 MB.
const LIMIT: u64 = 40 << 20;
/// The most packed bytes of its modules that are read.
const WHOLE: u64 = LIMIT - (2 << 20);
/// The most modules that are looked at, the smallest first.
const MODULES: usize = 24;

/// The NumPy that the modules of the wheel at `url` are built for; nothing where they use none, or where its METADATA says
/// which it can be used with.
///
/// # Errors
/// It can't be asked, or is too large.
pub(crate) fn numpy(
    builder: &Builder<'_>,
    wheel: &Wheel,
    url: &str,
) -> Result<Option<NumpyApi>, Error> {
    let contents = contents(builder, wheel, Some(url))?;
    let requires: Vec<&str> = values(&contents.metadata, "Requires-Dist:").collect();
    if !leaves_numpy_open(&requires) {
        return Ok(None);
    }
    let is_module =
        |entry: &&Entry| names::is_module(file_name(&entry.name)) && !entry.name.contains(".libs/");
    let mut modules: Vec<&Entry> = contents.files.iter().filter(is_module).collect();
    if modules.is_empty() {
        return Ok(None);
    }
    modules.sort_by_key(|entry| entry.packed);
    let bytes = archive(builder, wheel, url, LIMIT)?;
    let mut left = WHOLE;
    for entry in modules.into_iter().take(MODULES) {
        let Some(rest) = left.checked_sub(entry.packed) else {
            let why = format!(
                "it has {} MB, nothing smaller tells, and of one wheel {} MB are read",
                entry.packed.div_ceil(1 << 20),
                WHOLE >> 20
            );
            return Err(Error::Source { file: entry.name.clone(), why });
        };
        left = rest;
        let file = unpacked(&*bytes, entry, u64::MAX)?;
        let file = Named::new(&entry.name, &*file);
        let Ok(elf) = Elf::parse(file) else { continue };
        if let Some(major) = mentions::numpy(file, &elf)? {
            return Ok(Some(NumpyApi { major, of: entry.name.clone() }));
        }
    }
    Ok(None)
}
