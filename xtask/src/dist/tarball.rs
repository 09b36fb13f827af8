//! The tarball, for machines without a package manager of ours; and tar archives as packages have them.

use std::collections::BTreeSet;
use std::io::{self, Write};

use liblzma::write::XzEncoder;
use tar::{Builder, EntryType, Header};

use super::{File, Release};

pub(super) fn make(release: &Release) -> Result<(String, Vec<u8>), String> {
    let stem = format!("sconce-{}-{}-linux", release.version, release.program.arch);
    let name = format!("{stem}.tar.xz");
    let mut files = vec![
        File::program("bin/sconce", release.program.bytes.clone()),
        File::new("LICENSE", release.licence.clone()),
        File::new("README.md", release.readme.clone()),
        File::new("README.zh.md", release.readme_zh.clone()),
        File::new("sconce.spdx.json", release.sbom.clone()),
    ];
    files.extend(release.share("share"));
    let bytes = tar(&format!("{stem}/"), &files, release.time).and_then(|tar| xz(&tar));
    Ok((name.clone(), bytes.map_err(|why| format!("{name}: {why}"))?))
}

/// An archive of files, links and the folders above them, all of root, their paths behind `root`.
pub(super) fn tar(root: &str, files: &[File], time: u64) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    let mut known = BTreeSet::new();
    let header = |kind, mode, size| {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(time);
        header
    };
    for file in files {
        let path = format!("{root}{}", file.path);
        for (at, _) in path.match_indices('/') {
            let folder = &path[..=at];
            if known.insert(folder.to_owned()) {
                append(&mut archive, header(EntryType::Directory, 0o755, 0), folder, &[])?;
            }
        }
        let size = file.bytes.len() as u64;
        let header = match file.link {
            None => header(EntryType::Regular, file.mode, size),
            Some(target) => {
                let mut header = header(EntryType::Symlink, file.mode, 0);
                header.set_link_name(target)?;
                header
            }
        };
        append(&mut archive, header, &path, &file.bytes)?;
    }
    archive.into_inner()
}

/// The path goes in as it is: dpkg wants `./`, which a `Path` has not.
fn append(
    archive: &mut Builder<Vec<u8>>,
    mut header: Header,
    path: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let name = &mut header.as_old_mut().name;
    if path.len() > name.len() {
        return Err(io::Error::other(format!("{path} is too long for a tar archive")));
    }
    name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    archive.append(&header, bytes)
}

pub(super) fn xz(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = XzEncoder::new(Vec::new(), 6);
    out.write_all(bytes)?;
    out.finish()
}
