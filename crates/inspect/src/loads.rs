//! Libraries that a package loads by their full paths before its own modules ask for them.
//!
//! Source: the `loads` rows of `data/names.toml`. torch's own are in [`crate::preload`].

use crate::loader::{Found, Loader, Process};
use crate::names::{self, Loads};
use crate::packages::{Contents, release};
use crate::scan::Library;

/// What packages load by full path.
pub struct LoadedByPath<'a> {
    loader: &'a Loader<'a>,
    rows: Vec<&'static Loads>,
}

impl<'a> LoadedByPath<'a> {
    /// By the packages that there are.
    pub fn new(loader: &'a Loader<'a>, contents: &Contents) -> Self {
        let rows = names::loads().iter().filter(|row| holds(row, contents)).collect();
        Self { loader, rows }
    }

    /// Whether the package of the module at `path` has loaded the library called `name` before.
    pub fn has(&self, path: &str, name: &str) -> bool {
        let mut rows = self.rows.iter().filter(|row| is_in(path, &row.folders));
        rows.any(|row| {
            let copies = self.loader.named(name).iter().filter_map(|at| self.loader.library(*at));
            begins(&row.libraries, name)
                && copies
                    .filter(|copy| copy.machine == self.loader.machine())
                    .any(|copy| row.places.iter().any(|place| lies_in(&copy.path, place)))
        })
    }

    /// Whether the package of the library number `root` loads others before that one.
    pub fn loads_first(&self, root: usize) -> bool {
        let module = self.loader.library(root);
        module.is_some_and(|module| self.first(module).next().is_some())
    }

    fn first<'r>(&'r self, module: &'r Library) -> impl Iterator<Item = &'r &'static Loads> {
        self.rows.iter().filter(|row| row.first && is_in(&module.path, &row.folders))
    }

    /// Loads into `process`, which begins with the library number `root`, what the package of that one has loaded before it.
    pub fn load_first(&self, process: &mut Process, root: usize) {
        let Some(module) = self.loader.library(root) else { return };
        for row in self.first(module) {
            let is_one = |library: &Library| {
                library.dynamic.is_some()
                    && library.machine == self.loader.machine()
                    && begins(&row.libraries, library.soname())
                    && row.places.iter().any(|place| lies_in(&library.path, place))
            };
            for (at, _) in self.loader.all().filter(|(_, library)| is_one(library)) {
                self.loader.open(process, at, Found::Preloaded);
            }
        }
        process.retry();
    }

    /// Whether the package of the module at `path` does without the library called `name`.
    pub fn is_spare(&self, path: &str, name: &str) -> bool {
        self.rows.iter().any(|row| is_in(path, &row.folders) && begins(&row.spare, name))
    }
}

fn begins(starts: &[String], name: &str) -> bool {
    starts.iter().any(|start| name.starts_with(start.as_str()))
}

fn holds(row: &Loads, contents: &Contents) -> bool {
    let packages = || contents.packages.iter();
    let with = row.with.as_ref().is_none_or(|with| packages().any(|package| package.name == *with));
    let since = row.since.as_ref().is_none_or(|since| {
        let mut own = packages().filter(|package| package.name.starts_with(&since.package));
        own.any(|package| release(&package.version) >= release(&since.release))
    });
    with && since
}

/// The path below the folder of sys.path.
pub(crate) fn below_site(path: &str) -> &str {
    let sites = ["site-packages/", "dist-packages/"];
    let start = sites.iter().find_map(|site| Some(path.rfind(site)? + site.len()));
    &path[start.unwrap_or(0)..]
}

fn is_in(path: &str, folders: &[String]) -> bool {
    let first = below_site(path).split('/').next().unwrap_or("");
    folders.iter().any(|folder| folder == first)
}

fn lies_in(path: &str, place: &str) -> bool {
    let Some((folder, _)) = below_site(path).rsplit_once('/') else { return false };
    let (mut own, mut wanted) = (folder.split('/'), place.split('/'));
    loop {
        match (own.next(), wanted.next()) {
            (None, None) => return true,
            (Some(own), Some(wanted)) if wanted == "*" || own == wanted => {}
            _ => return false,
        }
    }
}
