//! Where the paths lead that a project's files name.
//!
//! Whoever can write into a project's folder, a container that has it for one, can exchange a folder for
//! a link at any moment: between a look at a path and its use it would lead elsewhere. So the folder and
//! each path are resolved once, what is judged and what is used are both the outcome, and it is opened
//! without following any link (`sconce_open`, the functions named `unfollowed`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::place::{Place, file_url, place};

/// The paths of one project. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Leads {
    folder: PathBuf,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    paths: BTreeMap<PathBuf, Option<PathBuf>>,
    /// What a person accepts outside the folder; nothing until somebody has judged.
    accepted: Option<Vec<PathBuf>>,
}

/// Two specifications ask for the same thing wherever they stand.
impl PartialEq for Leads {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Leads {}

impl Leads {
    /// Those of a project in `folder`, which is resolved here.
    pub fn of(folder: &Path) -> Self {
        Self {
            folder: resolved(folder).unwrap_or_else(|| folder.to_owned()),
            known: Arc::default(),
        }
    }

    /// The project's folder: absolute, links followed. Empty for what has none.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path, absolute and links followed, as it was when this was first asked; a relative one counts from
    /// the folder. What is not there counts by the nearest folder above it that is; nothing for `..` behind
    /// something that is not there, which leads nowhere that can be told.
    pub fn real(&self, path: &Path) -> Option<PathBuf> {
        let path = self.folder.join(path);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.paths.entry(path).or_insert_with_key(|path| resolved(path)).clone()
    }

    /// [`Leads::real`] of an address, if it names a file or folder of this machine.
    pub fn local(&self, address: &str) -> Option<PathBuf> {
        match place(address) {
            Place::Local(path) => Some(self.real(Path::new(&path)).unwrap_or(path.into())),
            Place::Network(_) => None,
        }
    }

    /// The address of a file or folder of this machine from [`Leads::local`]; others as they are.
    pub fn address(&self, address: &str) -> String {
        self.local(address).map_or_else(|| address.to_owned(), |path| file_url(&path))
    }

    /// Says what may be read outside the folder: files, and folders with all that is in them.
    pub fn accept(&self, paths: impl IntoIterator<Item = PathBuf>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.accepted.get_or_insert_default().extend(paths);
    }

    /// Where files may be that the project names: its folder and what was accepted. Nothing where nobody
    /// has judged, and for what has no folder: then they may be anywhere.
    pub fn allowed(&self) -> Option<Vec<PathBuf>> {
        if self.folder.as_os_str().is_empty() {
            return None;
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let accepted = known.accepted.as_ref()?;
        Some(std::iter::once(&self.folder).chain(accepted).cloned().collect())
    }
}

fn resolved(path: &Path) -> Option<PathBuf> {
    let mut missing = Vec::new();
    let mut there = path;
    let real = loop {
        let here = if there.as_os_str().is_empty() { Path::new(".") } else { there };
        if let Ok(real) = here.canonicalize() {
            break real;
        }
        let (Some(name), Some(parent)) = (there.file_name(), there.parent()) else { return None };
        missing.push(name);
        there = parent;
    };
    Some(missing.iter().rev().fold(real, |path, name| path.join(name)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_is_resolved_once() {
        let above = tempfile::tempdir().unwrap();
        let above = above.path().canonicalize().unwrap();
        let folder = above.join("project");
        fs::create_dir_all(folder.join("d")).unwrap();
        symlink("..", folder.join("l")).unwrap();
        symlink("project", above.join("named")).unwrap();
        let leads = Leads::of(&above.join("named"));
        assert_eq!(leads.folder(), folder);
        let real = |path: &str| leads.real(Path::new(path));
        assert_eq!(real("./d"), Some(folder.join("d")));
        assert_eq!(real("l"), Some(above.clone()));
        assert_eq!(real("d/new/er"), Some(folder.join("d/new/er")));
        assert_eq!(real("no/../d"), None);
        assert_eq!(leads.local("file:///no/w%20x"), Some("/no/w x".into()));
        assert_eq!(leads.address("./d"), format!("file://{}/d", folder.display()));
        assert_eq!(leads.address("https://h.invalid/d"), "https://h.invalid/d");
        fs::rename(folder.join("d"), folder.join("away")).unwrap();
        symlink("/etc", folder.join("d")).unwrap();
        fs::rename(above.join("project"), above.join("old")).unwrap();
        symlink("/etc", above.join("project")).unwrap();
        assert_eq!(leads.clone().real(Path::new("d")), Some(folder.join("d")));
        assert_eq!(leads.folder(), folder);
    }

    #[test]
    fn what_is_accepted_is_allowed_beside_the_folder() {
        let leads = Leads::of(Path::new("/"));
        assert_eq!(leads.allowed(), None);
        leads.clone().accept(["/srv".into()]);
        assert_eq!(leads.allowed(), Some(vec!["/".into(), "/srv".into()]));
        assert_eq!(Leads::default().allowed(), None);
    }
}
