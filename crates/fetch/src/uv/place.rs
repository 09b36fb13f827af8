//! Where a uv of sconce's own lies: where nobody but root and this user can have put it.
//!
//! A store that a group shares, or that others read, is no such place: each member would run what another left.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sconce_open::effective_user as me;

use super::UvError;

/// Root's own home (Filesystem Hierarchy Standard, 3.14), whatever HOME `sudo` has kept.
const OF_ROOT: &str = "/root";

/// The first folder that nobody else can exchange: that of the store where there is one, else the user's cache (XDG Base
/// Directory Specification).
pub(super) fn closed(
    store: Option<&Path>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, UvError> {
    let folder = |name| env(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    let caches = [
        folder("XDG_CACHE_HOME"),
        folder("HOME").map(|home| home.join(".cache")),
        (me() == 0).then(|| Path::new(OF_ROOT).join(".cache")),
    ];
    let caches = caches.into_iter().flatten().map(|cache| cache.join("sconce/tools"));
    let mut why = Vec::new();
    for tools in store.map(Path::to_owned).into_iter().chain(caches) {
        match sconce_open::closed_folder(&tools) {
            Ok(()) => return Ok(tools),
            Err(error) => why.push(format!("{}: {error}", tools.display())),
        }
    }
    if why.is_empty() {
        why.push("neither XDG_CACHE_HOME nor HOME is set".to_owned());
    }
    Err(UvError::NoPlace { why: why.join("; ") })
}

/// That what is there on the way from `tools` to `program` is a folder or file, and root's or this user's.
pub(super) fn check(tools: &Path, program: &Path) -> Result<(), String> {
    for path in program.ancestors().take_while(|path| *path != tools) {
        let Ok(about) = fs::symlink_metadata(path) else { continue };
        if about.is_symlink() || ![0, me()].contains(&about.uid()) {
            let what = if about.is_symlink() { "a link" } else { "another user's" };
            return Err(format!("`{}` is {what}: remove it", path.display()));
        }
    }
    Ok(())
}
