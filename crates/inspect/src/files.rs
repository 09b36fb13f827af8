//! Files and programs that packages need when they work, and that no metadata and no library names.

use crate::finding::{Finding, Kind, Severity};
use crate::names::{self, Files};
use crate::outside::Host;
use crate::packages::{Contents, Package, release};
use crate::report::Options;
use crate::tree::Tree;

/// Those that are nowhere.
pub fn check(tree: &Tree, options: &Options, contents: &Contents) -> Vec<Finding> {
    let mut out = Vec::new();
    for row in names::files() {
        let of_row = |package: &&Package| {
            let since = row.since.as_deref().and_then(release);
            row.is_of(&package.name)
                && since.is_none_or(|since| release(&package.version) >= Some(since))
        };
        // Of packages that need the same one is enough to say it.
        let Some(package) = contents.packages.iter().find(of_row) else { continue };
        // A wheel's metadata alone says nothing about its files, and one of several wheels nothing about the others.
        let elsewhere = options.partial && row.fix.is_some();
        if package.files > 0 && !elsewhere {
            let place = Place { tree, host: options.host.as_ref(), package };
            out.extend(absent(row, package, &place, contents));
        }
    }
    out
}

/// Where the paths of a row are looked for.
struct Place<'a> {
    tree: &'a Tree,
    host: Option<&'a Host>,
    package: &'a Package,
}

impl Place<'_> {
    fn below_root(&self, path: &str) -> String {
        if let Some(path) = path.strip_prefix('/') {
            return path.to_owned();
        }
        let site = self.package.metadata.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{site}/{path}").trim_start_matches('/').to_owned()
    }

    fn is_there(&self, path: &str) -> bool {
        self.tree.resolve(&self.below_root(path)).is_some()
    }

    fn works(&self, row: &Files, path: &str) -> bool {
        let place = self.below_root(path);
        let here = match row.program {
            true => self.tree.is_program(&place),
            false => self.tree.resolve(&place).is_some(),
        };
        // What a virtual environment lacks the machine may have.
        here || self.host.is_some_and(|host| match row.program {
            true => host.has_program(path),
            false => host.has_file(path),
        })
    }
}

fn absent(
    row: &Files,
    package: &Package,
    place: &Place<'_>,
    contents: &Contents,
) -> Option<Finding> {
    if row.one_of.iter().any(|path| place.works(row, path)) {
        return None;
    }
    let there = row.one_of.iter().find(|path| place.is_there(path));
    // One that is gone is told of with all that are.
    if row.if_listed && there.is_none() {
        return None;
    }
    let name = row.one_of.first().and_then(|path| path.rsplit('/').next()).unwrap_or("");
    let Package { name: of, version, .. } = package;
    let message = match (there, &row.fix) {
        (Some(path), _) => format!("{of} {version}: {path} is there and can't be executed"),
        (None, Some(_)) => format!("{of} {version} needs {name}, which is nowhere"),
        (None, None) => format!("{of} {version} has no {name}"),
    };
    let severity = match row.stops && contents.torch.is_none() {
        true => Severity::Error,
        false => Severity::Warning,
    };
    Some(
        Finding::new(severity, Kind::FileMissing, of.clone(), message)
            .evidence([format!("seen as: {}", row.fails)])
            .fix(row.fix.clone().unwrap_or_else(|| format!("install {of}=={version} again")))
            .gpu(true),
    )
}
