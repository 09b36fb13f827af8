//! Where a place in the container really is: links of the image, and of volumes, followed.
//!
//! libcontainer follows links when it mounts. An image whose `/data` leads to `/dev` would make a
//! user's `-v DIR:/data` the container's `/dev`, and libcontainer make its device files in DIR, on the
//! host. So where links lead is found out before anything is mounted (runc: `checkProcMount`, and
//! CVE-2019-16884).

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::Tmpfs;
use crate::error::{Doing, Error};
use crate::volumes::Staged;

/// What the kernel's file systems are mounted on.
const KERNEL: [&str; 3] = ["/proc", "/dev", "/sys"];
/// Most links on one way, as the kernel has it (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// What will be mounted so far, in its order: a place without links, and what is shown there; nothing
/// is shown by a folder in memory.
#[derive(Default)]
struct Mounted<'a>(Vec<(PathBuf, Option<&'a Path>)>);

/// Something of the user's that is mounted.
#[derive(Clone, Copy)]
pub(crate) enum Mount<'a> {
    /// A volume.
    Volume(&'a Staged),
    /// A folder in memory.
    Memory(&'a Tmpfs),
}

impl<'a> Mount<'a> {
    /// Volumes and folders in memory in the order in which they are mounted: what lies below another
    /// comes after it.
    pub(crate) fn in_order(volumes: &'a [Staged], tmpfs: &'a [Tmpfs]) -> Vec<Self> {
        let mut all: Vec<_> =
            volumes.iter().map(Self::Volume).chain(tmpfs.iter().map(Self::Memory)).collect();
        all.sort_by_key(|mount| mount.target().components().count());
        all
    }

    fn target(self) -> &'a Path {
        match self {
            Self::Volume(volume) => &volume.target,
            Self::Memory(tmpfs) => &tmpfs.target,
        }
    }
}

/// Refuses what links lead to the container's root or to what is the kernel's. `mounts` come in the
/// order in which they will be made.
pub(crate) fn check(
    root: &Path,
    etc: &[(&'static str, PathBuf)],
    mounts: &[Mount<'_>],
) -> Result<(), Error> {
    let mut mounted = Mounted::default();
    for (name, _) in etc {
        if is_taken(&mounted.real(root, Path::new(name))?, Path::new(name)) {
            let why = "leads to what is the kernel's, and this machine's file is shown there";
            return Err(Error::Image { place: (*name).to_owned(), why });
        }
    }
    for mount in mounts {
        let target = mount.target();
        let real = mounted.real(root, target)?;
        let (option, source) = match mount {
            Mount::Volume(volume) => ("-v", Some(volume.source.as_path())),
            Mount::Memory(_) => ("--tmpfs", None),
        };
        if is_taken(&real, target) {
            return Err(Error::Invalid {
                option,
                given: target.display().to_string(),
                why: format!(
                    "links lead from there to {}, which is the container's own; choose another place",
                    real.display()
                ),
            });
        }
        let folder = source.is_none_or(Path::is_dir);
        let there = match is_the_kernels(&real) {
            true => None,
            false => mounted.behind(root, &real).and_then(|path| path.symlink_metadata().ok()),
        };
        if there.is_some_and(|there| there.is_dir() != folder) {
            let why = match folder {
                true => "it is a file in the container, and a folder can't be mounted on it",
                false => "it is a folder in the container, and a file can't be mounted on it",
            };
            let given = target.display().to_string();
            return Err(Error::Invalid { option, given, why: why.to_owned() });
        }
        mounted.0.push((real, source));
    }
    Ok(())
}

/// Nothing of the user's may be mounted on `real`, to which links lead from `target`.
fn is_taken(real: &Path, target: &Path) -> bool {
    real != target && (real == Path::new("/") || is_the_kernels(real))
}

fn is_the_kernels(place: &Path) -> bool {
    KERNEL.iter().any(|kernel| place.starts_with(kernel))
}

impl Mounted<'_> {
    /// `target` without links, as it will be when all this is mounted below `root`.
    fn real(&self, root: &Path, target: &Path) -> Result<PathBuf, Error> {
        let parts = |path: &Path| -> Vec<OsString> {
            path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
        };
        let mut left = parts(target);
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = left.pop() {
            let next = match Path::new(&part).components().next() {
                Some(Component::Normal(_)) => at.join(&part),
                Some(Component::RootDir) => PathBuf::from("/"),
                Some(Component::ParentDir) => at.parent().unwrap_or(Path::new("/")).to_owned(),
                _ => continue,
            };
            // What an image has below these is covered.
            let link = match is_the_kernels(&next) {
                true => None,
                false => self.behind(root, &next).and_then(|path| std::fs::read_link(path).ok()),
            };
            match link {
                None => at = next,
                Some(_) if links == MOST_LINKS => {
                    let source = io::Error::from_raw_os_error(libc::ELOOP);
                    return Err(source).doing_to("following the links of", target);
                }
                Some(link) => {
                    links += 1;
                    left.extend(parts(&link));
                }
            }
        }
        Ok(at)
    }

    /// Where on this machine `place` is, which has no links above its last part.
    fn behind(&self, root: &Path, place: &Path) -> Option<PathBuf> {
        let mut shown = Some((root, Path::new("/")));
        for (real, source) in &self.0 {
            if place.starts_with(real) {
                shown = source.map(|source| (source, real.as_path()));
            }
        }
        let (source, real) = shown?;
        let below = place.strip_prefix(real).ok()?;
        Some(if below.as_os_str().is_empty() { source.to_owned() } else { source.join(below) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_in_the_image_and_in_volumes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, data) = (folder.path().join("root"), folder.path().join("data"));
        for made in [root.join("proc"), root.join("run"), root.join("var"), data.clone()] {
            std::fs::create_dir_all(made).expect("a folder");
        }
        symlink("/", root.join("proc/self")).expect("one that is covered");
        for (name, to) in
            [("a", "/proc/self"), ("b", "a"), ("c", "../../dev/./x/.."), ("top", "."), ("o", "o")]
        {
            symlink(to, root.join(name)).expect("a link");
        }
        symlink("/run", root.join("var/run")).expect("a link");
        symlink("../proc", data.join("out")).expect("a link");
        let mut mounted = Mounted::default();
        let real = |mounted: &Mounted<'_>, target: &str| {
            mounted.real(&root, Path::new(target)).map(|path| path.display().to_string())
        };
        for (target, wanted) in [
            ("/a", "/proc/self"),
            ("/b/x", "/proc/self/x"),
            ("/c/y", "/dev/y"),
            ("/top/top", "/"),
            ("/var/run/x", "/run/x"),
            ("/new/x", "/new/x"),
            ("/data/out", "/data/out"),
        ] {
            assert_eq!(real(&mounted, target).expect(target), wanted, "{target}");
        }
        assert!(real(&mounted, "/o").is_err(), "a link to itself");
        mounted.0.push(("/data".into(), Some(&data)));
        assert_eq!(real(&mounted, "/data/out/x").expect("real"), "/proc/x");
        mounted.0.push(("/data".into(), None));
        assert_eq!(real(&mounted, "/data/out").expect("real"), "/data/out");
    }
}
