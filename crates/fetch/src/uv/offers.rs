//! What the resolver is shown of packages that are built from source: an empty wheel for each release that is
//! there as source, so that uv never runs a project's code; and the wheels that were built.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use sconce_lock::{IndexRequest, PythonRequest, SOURCE, Target, placeholder};

use super::ask::INDEXES;
use super::{UvError, folder};

/// An index with a placeholder for every offer, and its address.
pub(super) fn placeholders(
    request: &PythonRequest,
    scratch: &Path,
) -> Result<Option<(IndexRequest, String)>, UvError> {
    if request.offers.is_empty() {
        return Ok(None);
    }
    let wheels = scratch.join(SOURCE);
    fs::create_dir(&wheels).map_err(|source| UvError::io("create", &wheels, source))?;
    let target = Target { machine: request.machine, base: request.base };
    for offer in &request.offers {
        let path = wheels.join(placeholder(&offer.name, &offer.version, target));
        let info = format!("{}-{}.dist-info", offer.name.replace('-', "_"), offer.version);
        let python = offer.requires_python.as_deref().filter(|text| !text.contains(['\n', '\r']));
        let python = python.map(|text| format!("Requires-Python: {text}\n")).unwrap_or_default();
        let metadata = format!(
            "Metadata-Version: 2.1\nName: {}\nVersion: {}\n{python}",
            offer.name, offer.version
        );
        let wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned();
        let files = [("METADATA", metadata), ("WHEEL", wheel), ("RECORD", String::new())];
        let files = files.map(|(name, text)| (format!("{info}/{name}"), text));
        File::create_new(&path)
            .and_then(|mut file| file.write_all(&stored(&files)))
            .map_err(|source| UvError::io("create", &path, source))?;
    }
    let wheels =
        fs::canonicalize(&wheels).map_err(|source| UvError::io("find", &wheels, source))?;
    let address = folder::index(&wheels, &scratch.join(INDEXES).join(SOURCE))?;
    Ok(Some((IndexRequest { name: SOURCE.to_owned(), url: address.clone() }, address)))
}

/// A constraint for every wheel that was built: its package has no other release.
pub(super) fn built(request: &PythonRequest, scratch: &Path) -> Result<Vec<String>, UvError> {
    let mut constraints = Vec::with_capacity(request.built.len());
    for built in &request.built {
        let path = scratch.join(&built.file);
        // The bytes lie under their digest; uv wants the name of a wheel. A link would be followed.
        fs::hard_link(&built.path, &path)
            .or_else(|_| fs::copy(&built.path, &path).map(drop))
            .map_err(|source| UvError::io("create", &path, source))?;
        // `+` and `!` of a version are themselves in a path.
        constraints.push(format!("{} @ file://{}", built.name, path.display()));
    }
    Ok(constraints)
}

/// A zip archive of these files, not compressed (APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16).
fn stored(files: &[(String, String)]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, text) in files {
        let at = archive.len() as u32;
        let mut common = Vec::new();
        for field in [20_u16, 0, 0, 0, 0x21] {
            common.extend(field.to_le_bytes());
        }
        let size = text.len() as u32;
        for field in [crc32fast::hash(text.as_bytes()), size, size] {
            common.extend(field.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend(0_u16.to_le_bytes());
        archive.extend(0x0403_4b50_u32.to_le_bytes());
        archive.extend(&common);
        archive.extend(name.as_bytes());
        archive.extend(text.as_bytes());
        directory.extend(0x0201_4b50_u32.to_le_bytes());
        directory.extend(20_u16.to_le_bytes());
        directory.extend(&common);
        directory.extend([0; 6]);
        directory.extend(0_u32.to_le_bytes());
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (at, size, count) = (archive.len() as u32, directory.len() as u32, files.len() as u16);
    archive.extend(directory);
    archive.extend(0x0605_4b50_u32.to_le_bytes());
    archive.extend([0; 4]);
    archive.extend(count.to_le_bytes());
    archive.extend(count.to_le_bytes());
    archive.extend(size.to_le_bytes());
    archive.extend(at.to_le_bytes());
    archive.extend(0_u16.to_le_bytes());
    archive
}
