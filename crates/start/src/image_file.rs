//! Files of an image that are read on the host: only beneath the image's root, regular ones only, and
//! no larger than a limit. An image is not trusted: its `/etc/ld.so.cache` may be a link to `/dev/zero`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::Error;

/// The largest file that is read, bytes. A linker's cache of 10,000 libraries has 2 MB.
const LIMIT: u64 = 16 << 20;

/// The file at `path`, relative to the root, of the topmost of the layers that has it; nothing if none
/// has. Links are followed within one layer, and never out of it.
///
/// # Errors
/// It is no regular file, too large, or can't be read.
pub(crate) fn read(lowers: &[PathBuf], path: &str) -> Result<Option<Vec<u8>>, Error> {
    for lower in lowers {
        if let Some(bytes) = read_in(lower, path)? {
            return Ok(Some(bytes));
        }
        // A whiteout or a link that leads nowhere in this layer hides what is below.
        if lower.join(path).symlink_metadata().is_ok() {
            return Ok(None);
        }
    }
    Ok(None)
}

fn read_in(root: &Path, path: &str) -> Result<Option<Vec<u8>>, Error> {
    let failed =
        |source: std::io::Error| Error::File { what: "read", path: root.join(path), source };
    let wrong = |why: &str| Error::ImageFile { path: path.to_owned(), why: why.to_owned() };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root =
        rustix::fs::open(root, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // What it is is looked at before it is opened: opening a device can do something.
    let about = match rustix::fs::openat2(
        &root,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    ) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        other => {
            File::from(other.map_err(|error| failed(error.into()))?).metadata().map_err(failed)?
        }
    };
    if is_whiteout(&about) {
        return Ok(None);
    }
    if !about.is_file() {
        return Err(wrong("is no regular file"));
    }
    let file = rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve);
    let file = File::from(file.map_err(|error| failed(error.into()))?);
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(wrong("is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LIMIT {
        return Err(wrong("is larger than 16 MiB"));
    }
    Ok(Some(bytes))
}

/// How overlayfs keeps a deleted file: a character device 0/0 (kernel, filesystems/overlayfs).
fn is_whiteout(about: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    about.file_type().is_char_device() && about.rdev() == 0
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const PATH: &str = "etc/ld.so.cache";

    /// Two layers, the upper one first.
    fn layers() -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let layers = ["upper", "lower"].map(|name| folder.path().join(name)).to_vec();
        for layer in &layers {
            fs::create_dir_all(layer.join("etc")).unwrap();
        }
        fs::write(layers[1].join(PATH), "below").unwrap();
        (folder, layers)
    }

    #[test]
    fn the_topmost_layer_counts() {
        let (_folder, layers) = layers();
        assert_eq!(read(&layers, PATH).unwrap().unwrap(), b"below");
        fs::write(layers[0].join(PATH), "above").unwrap();
        assert_eq!(read(&layers, PATH).unwrap().unwrap(), b"above");
        assert_eq!(read(&layers, "etc/nothing").unwrap(), None);
    }

    #[test]
    fn links_stay_inside_and_devices_are_not_read() {
        let (folder, layers) = layers();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        let link = layers[0].join(PATH);
        // An absolute link means the image's own root; this one leads nowhere there.
        for target in ["/dev/zero", "../../secret", "/proc/self/environ"] {
            symlink(target, &link).unwrap();
            assert_eq!(read(&layers, PATH).unwrap(), None, "{target}");
            fs::remove_file(&link).unwrap();
        }
        symlink("/etc/other", &link).unwrap();
        fs::write(layers[0].join("etc/other"), "inside").unwrap();
        assert_eq!(read(&layers, PATH).unwrap().unwrap(), b"inside");
        fs::remove_file(&link).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &link, rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .unwrap();
        assert!(read(&layers, PATH).unwrap_err().to_string().contains("regular"));
        fs::remove_file(&link).unwrap();
        File::create(&link).unwrap().set_len(1 << 40).unwrap();
        assert!(read(&layers, PATH).unwrap_err().to_string().contains("16 MiB"));
    }
}
