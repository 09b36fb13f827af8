//! The wheel: the program as a script, so that `pip install sconce` and `uvx sconce` have it.
//!
//! Source: PyPA, "Binary distribution format" (`.data/scripts`, `.data/data`), "Core metadata", "Recording installed
//! projects" (RECORD); PEP 600 (manylinux tags); PEP 639 (licences); PEP 770 (`.dist-info/sboms`).

use std::io::{Cursor, Write};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::{File, Release};

pub(super) fn make(release: &Release) -> Result<(String, Vec<u8>), String> {
    let Release { version, program, .. } = release;
    let tag = format!("py3-none-manylinux_2_{}_{}", program.glibc, program.arch);
    let (data, info) = (format!("sconce-{version}.data"), format!("sconce-{version}.dist-info"));
    let metadata = format!(
        "Metadata-Version: 2.4\nName: sconce\nVersion: {version}\nSummary: {}\nLicense-Expression: Apache-2.0\n\
         License-File: LICENSE\nClassifier: Environment :: GPU :: NVIDIA CUDA\nClassifier: Operating System :: POSIX :: Linux\n\
         Requires-Python: >=3.7\nDescription-Content-Type: text/markdown; charset=UTF-8\n\n{}",
        super::deb::SUMMARY,
        release.readme
    );
    let wheel = format!(
        "Wheel-Version: 1.0\nGenerator: xtask {version}\nRoot-Is-Purelib: false\nTag: {tag}\n"
    );
    let mut files = vec![File::program(format!("{data}/scripts/sconce"), program.bytes.clone())];
    files.extend(release.share(&format!("{data}/data/share")));
    files.extend([
        File::new(format!("{info}/METADATA"), metadata),
        File::new(format!("{info}/WHEEL"), wheel),
        File::new(format!("{info}/licenses/LICENSE"), release.licence.clone()),
        File::new(format!("{info}/sboms/sconce.spdx.json"), release.sbom.clone()),
    ]);
    let mut record = String::new();
    for file in &files {
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(&file.bytes));
        record += &format!("{},sha256={hash},{}\n", file.path, file.bytes.len());
    }
    record += &format!("{info}/RECORD,,\n");
    files.push(File::new(format!("{info}/RECORD"), record));
    let name = format!("sconce-{version}-{tag}.whl");
    let bytes = archive(&files).map_err(|why| format!("{name}: {why}"))?;
    Ok((name, bytes))
}

/// All files with the time that zip begins with: nobody reads that of a wheel.
fn archive(files: &[File]) -> zip::result::ZipResult<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for file in files {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(9))
            .last_modified_time(DateTime::default())
            .unix_permissions(file.mode);
        zip.start_file(&file.path, options)?;
        zip.write_all(&file.bytes)?;
    }
    Ok(zip.finish()?.into_inner())
}
