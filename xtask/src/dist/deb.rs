//! The Debian package.
//!
//! Source: deb(5), deb-control(5); Debian policy, 12.1 (manual pages), 12.5 (copyright).

use flate2::{Compression, GzBuilder};
use std::io::{self, Write};

use super::tarball::{tar, xz};
use super::{File, Release};

/// One line on what the program is.
pub(super) const SUMMARY: &str =
    "From a bare NVIDIA driver to a running, verified PyTorch-CUDA container in one command";

pub(super) fn make(release: &Release) -> Result<(String, Vec<u8>), String> {
    let Release { version, program, .. } = release;
    let name = format!("sconce_{version}_{}.deb", program.debian_arch);
    let bytes = package(release).map_err(|why| format!("{name}: {why}"))?;
    Ok((name, bytes))
}

fn package(release: &Release) -> io::Result<Vec<u8>> {
    let Release { version, program, time, .. } = release;
    let mut files = vec![
        File::program("usr/bin/sconce", program.bytes.clone()),
        // podman takes one path for a runtime, and no word behind it.
        File::link("usr/bin/sconce-oci", "sconce"),
    ];
    for file in release.share("usr/share") {
        files.push(match file.path.contains("/man/") {
            true => File::new(format!("{}.gz", file.path), gzip(&file.bytes)?),
            false => file,
        });
    }
    let folder = "usr/share/doc/sconce";
    files.extend([
        File::new(format!("{folder}/copyright"), release.licence.clone()),
        File::new(format!("{folder}/README.md"), release.readme.clone()),
        File::new(format!("{folder}/README.zh.md"), release.readme_zh.clone()),
        File::new(format!("{folder}/sconce.spdx.json"), release.sbom.clone()),
    ]);
    let size = files.iter().map(|file| file.bytes.len().div_ceil(1024)).sum::<usize>();
    // Maintainer is a field that every package must have; there is no address yet.
    let control = format!(
        "Package: sconce\nVersion: {version}\nArchitecture: {}\nMaintainer: sconce maintainers <maintainers@sconce.invalid>\n\
         Installed-Size: {size}\nDepends: libc6 (>= 2.{}), libgcc-s1\nRecommends: ca-certificates, python3-pip, uidmap\n\
         Suggests: passt\nSection: admin\nPriority: optional\nDescription: {SUMMARY}\n It chooses driver, CUDA, cuDNN, NCCL and PyTorch \
         to fit each other and the GPU,\n locks them, builds the image bit for bit the same everywhere, starts it, and checks it.\n",
        program.debian_arch, program.glibc
    );
    let control = xz(&tar("./", &[File::new("control", control)], *time)?)?;
    let data = xz(&tar("./", &files, *time)?)?;
    let mut ar = b"!<arch>\n".to_vec();
    for (name, bytes) in [
        ("debian-binary", b"2.0\n".as_slice()),
        ("control.tar.xz", &control),
        ("data.tar.xz", &data),
    ] {
        // ar(5): name, time, owner, group, mode, size.
        writeln!(ar, "{name:<16}{time:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, "100644", bytes.len())?;
        ar.extend_from_slice(bytes);
        if bytes.len() % 2 == 1 {
            ar.push(b'\n');
        }
    }
    Ok(ar)
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = GzBuilder::new().write(Vec::new(), Compression::best());
    out.write_all(bytes)?;
    out.finish()
}
