//! `--user`, resolved against the image's own `/etc/passwd` and `/etc/group`, and the
//! careful way to open a file of an image.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Doing, Error};
use crate::ids::Maps;

/// Most that is read of a passwd or group file.
const LARGEST: u64 = 16 << 20;

/// One line of passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: String,
}

/// Who the command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
    /// The image has an entry for it.
    pub(crate) known: bool,
}

/// The first entry of a passwd file's text that fits; lines that cannot be read are none.
pub(crate) fn find(passwd: &str, fits: impl Fn(&Entry) -> bool) -> Option<Entry> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
        let entry = Entry {
            name: (*name).to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: (*home).to_owned(),
        };
        fits(&entry).then_some(entry)
    })
}

/// Resolves `name`, `uid`, `name:group` or `uid:gid`; nothing given is root. `more` are groups by
/// name or number.
pub(crate) fn resolve(
    given: Option<&str>,
    more: &[String],
    passwd: &str,
    group: &str,
) -> Result<Identity, Error> {
    let given = given.unwrap_or("0");
    let invalid = |why: String| Error::Invalid { option: "--user", given: given.to_owned(), why };
    let (user, wanted_group) = match given.split_once(':') {
        // As Docker: a group alone is root's.
        Some(("", group)) => ("0", Some(group)),
        Some((user, group)) => (user, Some(group)),
        None => (given, None),
    };
    let entry = match user.parse::<u32>() {
        Ok(uid) => find(passwd, |entry| entry.uid == uid).unwrap_or(Entry {
            name: String::new(),
            uid,
            gid: 0,
            home: if uid == 0 { "/root" } else { "/" }.to_owned(),
        }),
        Err(_) => find(passwd, |entry| entry.name == user)
            .ok_or_else(|| invalid(format!("the image has no user '{user}'")))?,
    };
    let groups = || {
        group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, members, ..] = fields.as_slice() else { return None };
            Some((*name, gid.parse::<u32>().ok()?, *members))
        })
    };
    let gid = match wanted_group {
        None => entry.gid,
        Some(wanted) => match wanted.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => groups()
                .find(|(name, ..)| *name == wanted)
                .map(|(_, gid, _)| gid)
                .ok_or_else(|| invalid(format!("the image has no group '{wanted}'")))?,
        },
    };
    // As Docker: the groups a named user is a member of, unless a group was asked for.
    let mut memberships: Vec<u32> = if wanted_group.is_some() || entry.name.is_empty() {
        Vec::new()
    } else {
        groups()
            .filter(|(_, id, members)| *id != gid && members.split(',').any(|m| m == entry.name))
            .map(|(_, gid, _)| gid)
            .collect()
    };
    for wanted in more {
        let named = || groups().find(|(name, ..)| name == wanted).map(|(_, gid, _)| gid);
        let id = wanted.parse().ok().or_else(named).ok_or_else(|| Error::Invalid {
            option: "--group-add",
            given: wanted.clone(),
            why: format!("the image has no group '{wanted}'"),
        })?;
        if !memberships.contains(&id) {
            memberships.push(id);
        }
    }
    let known = !entry.name.is_empty() || entry.uid == 0;
    let home = if entry.home.is_empty() { "/".to_owned() } else { entry.home };
    Ok(Identity { uid: entry.uid, gid, groups: memberships, home, known })
}

/// Refuses a user that a user namespace does not have. `given` is what named it.
pub(crate) fn check_mapped(
    given: Option<&str>,
    identity: &Identity,
    maps: &Maps,
) -> Result<(), Error> {
    if maps.have(identity.uid, identity.gid) {
        return Ok(());
    }
    let why = match maps.have(1, 1) {
        _ if !maps.inside_namespace() => "ids go up to 4294967294",
        false => {
            "without root, other users need the uidmap package and lines in /etc/subuid and /etc/subgid"
        }
        true => {
            "without root, users go as far as your ranges in /etc/subuid and /etc/subgid: longer ones are needed"
        }
    };
    Err(Error::Invalid {
        option: "--user",
        given: given.unwrap_or_default().to_owned(),
        why: why.to_owned(),
    })
}

/// How often a walk is tried again that the kernel gave up because something was renamed or mounted meanwhile, anywhere on
/// the machine (openat2(2), EAGAIN): other containers that start are enough.
const TRIES: usize = 64;

/// Opens a path as the container would: links are followed inside the image only.
fn open_in(root: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let open = || rustix::fs::openat2(&root, path, flags, mode, ResolveFlags::IN_ROOT);
    let mut opened = open();
    for _ in 1..TRIES {
        if !matches!(opened, Err(Errno::AGAIN)) {
            break;
        }
        opened = open();
    }
    opened
}

/// The text of a file of the image, the empty text where there is none. Links are followed
/// inside the image only, and what isn't a regular file isn't read.
pub(crate) fn read_in(root: impl AsFd, path: &str) -> Result<String, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open_in(root, Path::new(path), flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        other => File::from(other.doing(format!("opening the image's {path}"))?),
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).doing(format!("reading the image's {path}"))?;
    if bytes.len() as u64 > LARGEST {
        let most = LARGEST >> 20;
        return Err(Error::Container(format!("the image's {path} is larger than {most} MiB")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Gives a user whom the image does not know a home and an entry in its `/etc/passwd`: caches of
/// Hugging Face, numba and pip lie in a home, and `getpass.getuser()`, which torch's compiler
/// calls, fails without an entry.
pub(crate) fn make_known(
    root: impl AsFd,
    identity: &mut Identity,
    passwd: &str,
) -> Result<(), Error> {
    let home = format!("/home/{}", identity.uid);
    create_folder_in(root.as_fd(), Path::new(&home))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = open_in(root.as_fd(), Path::new(&home), flags, Mode::empty())
        .doing(format!("opening the image's {home}"))?;
    let owner = (rustix::fs::Uid::from_raw(identity.uid), rustix::fs::Gid::from_raw(identity.gid));
    rustix::fs::fchown(&folder, Some(owner.0), Some(owner.1))
        .doing(format!("giving {home} to its user"))?;
    rustix::fs::fchmod(&folder, Mode::RWXU).doing(format!("setting the mode of {home}"))?;
    let newline = if passwd.is_empty() || passwd.ends_with('\n') { "" } else { "\n" };
    let line = format!("{newline}user{0}:x:{0}:{1}::{home}:/bin/sh\n", identity.uid, identity.gid);
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mode = Mode::from_raw_mode(0o644);
    let what = "writing the image's /etc/passwd";
    create_folder_in(root.as_fd(), Path::new("/etc"))?;
    let file = open_in(root, Path::new("/etc/passwd"), flags, mode).doing(what)?;
    if File::from(file.try_clone().doing(what)?).metadata().is_ok_and(|about| about.is_file()) {
        std::io::Write::write_all(&mut File::from(file), line.as_bytes()).doing(what)?;
    }
    identity.home = home;
    Ok(())
}

/// Refuses an image that has something other than a folder where the kernel's file systems are mounted.
pub(crate) fn check_folders_in(root: impl AsFd) -> Result<(), Error> {
    for place in ["/proc", "/dev", "/sys"] {
        let name = place.trim_start_matches('/');
        let about = rustix::fs::statat(root.as_fd(), name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        let kind = about.map(|about| rustix::fs::FileType::from_raw_mode(about.st_mode));
        if kind.is_ok_and(|kind| kind != rustix::fs::FileType::Directory) {
            let why = "is not a folder, and the kernel's files are shown there";
            return Err(Error::Image { place: place.to_owned(), why });
        }
    }
    Ok(())
}

/// Removes `path` inside the image where it is a symbolic link; a folder is refused.
pub(crate) fn remove_link_in(root: impl AsFd, path: &str) -> Result<(), Error> {
    let path = Path::new(path);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let what = || format!("replacing the image's {}", path.display());
    let folder = match open_in(root, parent, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other.doing(what())?,
    };
    let about = rustix::fs::statat(&folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    let kind = about.map(|about| rustix::fs::FileType::from_raw_mode(about.st_mode));
    if kind == Ok(rustix::fs::FileType::Directory) {
        let why = "is a folder, and this machine's file is shown there";
        return Err(Error::Image { place: path.display().to_string(), why });
    }
    if kind == Ok(rustix::fs::FileType::Symlink) {
        rustix::fs::unlinkat(&folder, name, rustix::fs::AtFlags::empty()).doing(what())?;
    }
    Ok(())
}

/// Makes `path` and its parents inside the image where they are missing, as Docker does for
/// a working directory; links are followed inside the image only.
pub(crate) fn create_folder_in(root: impl AsFd, path: &Path) -> Result<(), Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &Path| open_in(root.as_fd(), path, flags, Mode::empty());
    let what = || format!("creating {} in the container", path.display());
    let mut parent: OwnedFd = open(Path::new("/")).doing(what())?;
    let mut walked = Path::new("/").to_path_buf();
    for part in path.components().filter(|part| matches!(part, Component::Normal(_))) {
        walked.push(part);
        parent = match open(&walked) {
            Err(Errno::NOENT) => {
                let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
                match rustix::fs::mkdirat(&parent, Path::new(part.as_os_str()), mode) {
                    Err(Errno::EXIST) => {
                        let why = format!("{} is a link to what is not there", walked.display());
                        return Err(std::io::Error::other(why)).doing(what());
                    }
                    made => made.doing(what())?,
                }
                open(&walked).doing(what())?
            }
            other => other.doing(what())?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:1001::/home/ann:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nann:x:1001:\nvideo:x:44:bob,ann\n";

    #[track_caller]
    fn check(given: Option<&str>, uid: u32, gid: u32, groups: &[u32], home: &str) {
        let known = uid != 7;
        let expected = Identity { uid, gid, groups: groups.to_vec(), home: home.to_owned(), known };
        assert_eq!(resolve(given, &[], PASSWD, GROUP).expect("resolves"), expected);
    }

    #[test]
    fn users_are_resolved_as_docker_does() {
        check(None, 0, 0, &[], "/root");
        check(Some("ann"), 1000, 1001, &[44], "/home/ann");
        check(Some("1000"), 1000, 1001, &[44], "/home/ann");
        check(Some("ann:video"), 1000, 44, &[], "/home/ann");
        check(Some("7:8"), 7, 8, &[], "/");
        check(Some(":video"), 0, 44, &[], "/root");
        let more = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            resolve(Some("ann"), &names, PASSWD, GROUP).map(|identity| identity.groups)
        };
        assert_eq!(more(&["7", "video", "ann"]).expect("resolves"), [44, 7, 1001]);
        assert!(more(&["render"]).expect_err("unknown").to_string().contains("--group-add"));
        for bad in ["eve", "ann:nobody", "-1", ""] {
            let error = resolve(Some(bad), &[], PASSWD, GROUP).expect_err(bad);
            assert!(error.to_string().contains("the image has no"), "{error}");
        }
    }

    #[test]
    fn files_outside_the_root_are_not_reached() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("etc")).expect("etc");
        std::fs::write(folder.path().join("secret"), "secret").expect("secret");
        std::os::unix::fs::symlink("../../../secret", root.join("etc/passwd")).expect("link");
        let fd = File::open(&root).expect("root");
        assert_eq!(read_in(&fd, "/etc/passwd").expect("reads"), "");
        std::fs::write(root.join("secret"), "own").expect("own");
        assert_eq!(read_in(&fd, "/etc/passwd").expect("reads"), "own");
        std::os::unix::fs::symlink("/../out", root.join("out")).expect("link");
        assert!(create_folder_in(&fd, Path::new("/a/b/c")).is_ok());
        assert!(root.join("a/b/c").is_dir());
        assert!(
            create_folder_in(&fd, Path::new("/out/x")).is_err(),
            "a dangling link is not a folder"
        );
        assert!(!folder.path().join("out").exists());
    }

    /// What others rename meanwhile, anywhere on the machine, makes the kernel give a walk up that goes by `..`.
    #[test]
    fn a_busy_machine_fails_no_walk() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("root/a/b")).unwrap();
        let root = File::open(folder.path().join("root")).unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        std::fs::write(&one, "").unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    std::fs::rename(&one, &other).unwrap();
                    std::fs::rename(&other, &one).unwrap();
                }
            });
            let walk = |_| {
                let path = Path::new("a/b/../b/../b/../b/../b");
                open_in(&root, path, OFlags::PATH, Mode::empty()).map(drop)
            };
            let failed = (0..20_000).map(walk).find_map(Result::err);
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(failed, None);
        });
    }
}
