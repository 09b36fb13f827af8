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
pub(crate) const MOST_LINKS: usize = 40;

/// What libcontainer makes in the container's /dev (config-linux.md, "Default Devices", and the mounts of
/// [`crate::spec`]).
const DEV_FOLDERS: [&str; 4] = ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"];
/// Of these, what is mounted: terminals, memory and queues.
const DEV_MOUNTS: [&str; 3] = ["/dev/pts", "/dev/shm", "/dev/mqueue"];
const DEV_FILES: [&str; 13] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/console",
    "/dev/ptmx",
    "/dev/fd",
    "/dev/stdin",
    "/dev/stdout",
    "/dev/stderr",
    "/dev/core",
];

/// What will be mounted so far, in its order.
#[derive(Default)]
pub(crate) struct Mounted<'a>(Vec<One<'a>>);

/// One mount: a place without links, and what is shown there; nothing is shown by a folder in memory.
struct One<'a> {
    real: PathBuf,
    source: Option<&'a Path>,
    read_only: bool,
}

/// What is at a place of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Nothing,
    Folder,
    File,
}

impl There {
    fn at(path: &Path) -> Self {
        match path.symlink_metadata() {
            Err(_) => Self::Nothing,
            Ok(about) if about.is_dir() => Self::Folder,
            Ok(_) => Self::File,
        }
    }
}

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

/// Refuses what can't be mounted: where links lead to the container's root or to what is the kernel's, a
/// folder on a file and the reverse, and what would have to be made where nothing can be. `mounts` come in
/// the order in which they will be made, `nodes` are the places of device files.
pub(crate) fn check<'a>(
    root: &Path,
    etc: &'a [(&'static str, PathBuf)],
    mounts: &[Mount<'a>],
    nodes: impl Iterator<Item = &'a Path>,
) -> Result<Mounted<'a>, Error> {
    let mut mounted = Mounted::default();
    for (name, file) in etc {
        let real = mounted.real(root, Path::new(name))?;
        if is_taken(&real, Path::new(name)) {
            let why = "leads to what is the kernel's, and this machine's file is shown there";
            return Err(Error::Image { place: (*name).to_owned(), why });
        }
        let folder = real.parent().unwrap_or(Path::new("/"));
        if real != Path::new(name) && mounted.there(root, folder) != There::Folder {
            let why =
                "is behind a link that leads to no folder, and this machine's file is shown there";
            return Err(Error::Image { place: (*name).to_owned(), why });
        }
        mounted.0.push(One { real, source: Some(file), read_only: false });
    }
    for mount in mounts {
        let target = mount.target();
        let real = mounted.real(root, target)?;
        let (option, source, read_only) = match mount {
            Mount::Volume(volume) => ("-v", Some(volume.source.as_path()), volume.read_only),
            Mount::Memory(_) => ("--tmpfs", None, false),
        };
        let wrong = |why| Error::Invalid { option, given: target.display().to_string(), why };
        if is_taken(&real, target) {
            return Err(wrong(format!(
                "links lead from there to {}, which is the container's own; choose another place",
                real.display()
            )));
        }
        let folder = source.is_none_or(Path::is_dir);
        mounted.takes(root, &real, folder).map_err(wrong)?;
        mounted.0.push(One { real, source, read_only });
    }
    for target in nodes {
        let real = mounted.real(root, target)?;
        let wrong = |why: &str| Error::Invalid {
            option: "--device",
            given: target.display().to_string(),
            why: why.to_owned(),
        };
        if !real.starts_with("/dev") {
            return Err(wrong("device files are in /dev only; choose a place there"));
        }
        mounted.takes(root, &real, false).map_err(|why| wrong(&why))?;
        let apart = |folder: &&&str| real.starts_with(folder) && mounted.over(&real).is_none();
        if let Some(folder) = DEV_MOUNTS.iter().find(apart) {
            let why = format!(
                "{folder} is a file system of its own and takes no device files; choose another place in /dev"
            );
            return Err(wrong(&why));
        }
    }
    Ok(mounted)
}

/// Nothing of the user's may be mounted on `real`, to which links lead from `target`.
fn is_taken(real: &Path, target: &Path) -> bool {
    real != target && (real == Path::new("/") || is_the_kernels(real))
}

fn is_the_kernels(place: &Path) -> bool {
    KERNEL.iter().any(|kernel| place.starts_with(kernel))
}

impl Mounted<'_> {
    /// Where each volume and folder in memory is mounted, in their order: behind the links of the image, also those that
    /// lead to what is not there, which is made.
    pub(crate) fn places(&self, etc: usize) -> Vec<PathBuf> {
        self.0.iter().skip(etc).map(|one| one.real.clone()).collect()
    }

    /// Refuses a working folder that would have to be made in what is the kernel's.
    pub(crate) fn starts_in(&self, root: &Path, workdir: &Path) -> Result<(), Error> {
        let real = self.real(root, workdir)?;
        if !is_the_kernels(&real)
            || self.over(&real).is_some()
            || self.there(root, &real) == There::Folder
        {
            return Ok(());
        }
        Err(Error::Invalid {
            option: "working folder",
            given: workdir.display().to_string(),
            why: "there is no such folder, and none can be made in /proc, /sys and /dev".to_owned(),
        })
    }

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

    /// Whether a folder or file can be mounted on `real`; in words, why not.
    fn takes(&self, root: &Path, real: &Path, folder: bool) -> Result<(), String> {
        for above in real.ancestors().skip(1) {
            if self.there(root, above) == There::File {
                let above = above.display();
                return Err(format!("{above} is a file in the container: nothing can be below it"));
            }
        }
        match (self.there(root, real), folder) {
            (There::File, true) => {
                Err("it is a file in the container, and a folder can't be mounted on it".to_owned())
            }
            (There::Folder, false) => {
                Err("it is a folder in the container, and a file can't be mounted on it".to_owned())
            }
            (There::File, false) if DEV_FILES.iter().any(|known| real == Path::new(known)) => {
                Err("it is a device file of the container's own".to_owned())
            }
            (There::Nothing, _) => match self.over(real) {
                Some(One { real, read_only: true, .. }) => Err(format!(
                    "it is not there in the read-only volume at {}, and can't be made",
                    real.display()
                )),
                None if ["/proc", "/sys"].iter().any(|kernel| real.starts_with(kernel)) => {
                    Err("it is not there, and nothing can be made in /proc and /sys".to_owned())
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The mount that `place` is in, if it is not the container's root or the kernel's.
    fn over(&self, place: &Path) -> Option<&One<'_>> {
        self.0.iter().rev().find(|mount| place.starts_with(&mount.real))
    }

    fn there(&self, root: &Path, place: &Path) -> There {
        if self.over(place).is_none() && is_the_kernels(place) {
            let listed = |places: &[&str]| places.iter().any(|known| place == Path::new(known));
            return match place.starts_with("/dev") {
                true if listed(&DEV_FOLDERS) => There::Folder,
                true if listed(&DEV_FILES) => There::File,
                true => There::Nothing,
                // What is not of one process is the same in all containers.
                false => There::at(place),
            };
        }
        match (self.behind(root, place), self.over(place)) {
            (Some(path), _) => There::at(&path),
            (None, Some(mount)) if mount.real == place => There::Folder,
            (None, _) => There::Nothing,
        }
    }

    /// Where on this machine `place` is, which has no links above its last part.
    fn behind(&self, root: &Path, place: &Path) -> Option<PathBuf> {
        let (source, real) = match self.over(place) {
            Some(mount) => (mount.source?, mount.real.as_path()),
            None => (root, Path::new("/")),
        };
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
        let one = |source| One { real: "/data".into(), source, read_only: false };
        mounted.0.push(one(Some(data.as_path())));
        assert_eq!(real(&mounted, "/data/out/x").expect("real"), "/proc/x");
        mounted.0.push(one(None));
        assert_eq!(real(&mounted, "/data/out").expect("real"), "/data/out");
    }
}
