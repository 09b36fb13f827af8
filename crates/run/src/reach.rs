//! Paths of this machine that a person names for `cp`, of which containers may have a part as their volume.
//!
//! What lies in such a volume is the container's to change: a link there leads where it wants. Links elsewhere are the
//! person's own and are followed; one in a volume is an error, and so is one that comes into a path once it is known.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;

use crate::places::MOST_LINKS;
use crate::volumes::without_links;

/// `path` without links. `volumes` are the folders that containers can write to, without links themselves.
///
/// # Errors
/// The kernel's, and a link in a volume.
pub fn reach(path: &Path, volumes: &[PathBuf]) -> io::Result<PathBuf> {
    let parts = |path: &Path| -> Vec<OsString> {
        path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
    };
    let mut left = parts(&std::path::absolute(path)?);
    let mut real = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = left.pop() {
        let next = match Path::new(&part).components().next() {
            Some(Component::Normal(_)) => real.join(&part),
            Some(Component::RootDir) => PathBuf::from("/"),
            Some(Component::ParentDir) => real.parent().unwrap_or(Path::new("/")).to_owned(),
            _ => continue,
        };
        if !next.symlink_metadata()?.is_symlink() {
            real = next;
            continue;
        }
        if volumes.iter().any(|volume| next.starts_with(volume)) {
            let why = format!("{} is a link in a volume of a container", next.display());
            return Err(io::Error::other(why));
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        left.extend(parts(&std::fs::read_link(&next)?));
    }
    Ok(real)
}

/// Opens what [`reach`] found, if no link has come into its path since.
///
/// # Errors
/// The kernel's, and such a link.
pub fn hold(real: &Path) -> io::Result<OwnedFd> {
    without_links(CWD, real).map_err(|errno| match errno {
        Errno::LOOP => {
            io::Error::other(format!("a link has come into the path {}", real.display()))
        }
        errno => errno.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_of_a_person_are_followed_and_those_of_a_container_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().canonicalize().expect("real").join(name);
        std::fs::create_dir_all(at("mine/vol/sub")).expect("folders");
        std::fs::create_dir(at("outside")).expect("a folder");
        symlink(at("outside"), at("mine/vol/t")).expect("a link");
        symlink("mine/vol", at("short")).expect("a link");
        symlink("mine/vol/t", at("through")).expect("a link");
        let volumes = [at("mine/vol")];
        let found = |path: &str| reach(&at(path), &volumes);
        assert_eq!(found("short/sub").expect("found"), at("mine/vol/sub"));
        assert_eq!(found("short/sub/../..").expect("found"), at("mine"));
        for path in ["mine/vol/t", "mine/vol/t/x", "short/t", "through", "mine/vol/t/.."] {
            let error = found(path).expect_err(path).to_string();
            assert!(error.contains("/mine/vol/t is a link in a volume"), "{path}: {error}");
        }
        // Without a container it is a person's.
        assert_eq!(reach(&at("through"), &[]).expect("found"), at("outside"));
        assert!(hold(&at("mine/vol/sub")).is_ok());
        let error = hold(&at("mine/vol/t")).expect_err("a link").to_string();
        assert!(error.contains("a link has come into the path"), "{error}");
    }
}
