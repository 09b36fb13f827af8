//! Libraries that come in several builds, of which a program takes one: can it take any?
//!
//! Rows of `data/names.toml` say how some programs choose. Builds that no row knows show themselves: files of one folder
//! whose names differ in a number alone, and that lack one library in different versions (`libtorchcodec4.so` needs
//! `libavcodec.so.58` and `libtorchcodec5.so` `libavcodec.so.59`).

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::finding::{Finding, Kind, Severity};
use crate::loader::{Loader, Process};
use crate::names::{self, Alternative, Choice};
use crate::packages::{self, Contents};

/// The builds of one library.
#[derive(Default)]
struct Group {
    /// Their paths.
    paths: BTreeSet<String>,
    /// The libraries that one or more of them need.
    needed: BTreeSet<String>,
    /// Whether one of them finds all it needs.
    whole: bool,
    /// What each of the others lacks.
    broken: BTreeMap<String, Vec<String>>,
    /// What of that is nowhere, so that no package can have loaded it before.
    nowhere: BTreeMap<String, Vec<String>>,
    /// Whether they are builds for different versions of what they need; asked once for each library that lacks, when
    /// all have been taken.
    differ: OnceCell<bool>,
}

/// The libraries of an environment that come in several builds, by folder and by name without the number.
pub struct Builds {
    groups: BTreeMap<String, Group>,
}

impl Builds {
    /// The libraries of the tree that differ from another in a number only.
    pub fn of(loader: &Loader<'_>) -> Self {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        for (_, library) in loader.all().filter(|(_, library)| !library.outside) {
            let Some((group, dynamic)) = group(&library.path).zip(library.dynamic.as_ref()) else {
                continue;
            };
            let group = groups.entry(group).or_default();
            group.paths.insert(library.path.clone());
            group.needed.extend(dynamic.needed.iter().cloned());
        }
        let by_cuda = |path: &String| {
            names::alternative(name(path)).is_some_and(|row| row.by == Choice::Cuda)
        };
        groups.retain(|_, group| group.paths.len() > 1 || group.paths.iter().any(by_cuda));
        Self { groups }
    }

    /// Takes what the builds in `process` find, where torch is imported in the process `torch`.
    pub fn take(&mut self, loader: &Loader<'_>, process: &Process, torch: &Process) {
        let there = |name: &str| torch.get(name).is_some() || loader.comes_from_outside(name);
        let lacks: Vec<_> = process.missing.iter().filter(|lack| !there(&lack.name)).collect();
        for (at, loaded) in process.loaded.iter().enumerate() {
            let Some(library) = loader.library(loaded.library) else { continue };
            let Some(group) = group(&library.path).and_then(|group| self.groups.get_mut(&group))
            else {
                continue;
            };
            let own = lacks.iter().filter(|lack| process.is_for(lack.by, at));
            let own: Vec<String> = own.map(|lack| lack.name.clone()).collect();
            if own.is_empty() {
                group.whole = true;
            } else {
                let nowhere = own.iter().filter(|name| loader.named(name).is_empty());
                let nowhere: Vec<String> = nowhere.cloned().collect();
                if !nowhere.is_empty() {
                    group.nowhere.insert(library.path.clone(), nowhere);
                }
                group.broken.insert(library.path.clone(), own);
            }
        }
    }

    /// Whether the program does without the library at `path`: it takes another build, or it is told of with all its
    /// builds.
    pub fn has(&self, path: &str) -> bool {
        names::alternative(name(path)).is_some()
            || group(path).is_some_and(|group| self.groups.get(&group).is_some_and(Group::differ))
    }

    /// Libraries of which no build can be taken, and which their program can't do without.
    pub fn findings(self, contents: &Contents) -> Vec<Finding> {
        let not_for_cuda = self.not_for_cuda(contents);
        let cuda = contents.cuda_major();
        let torch = contents.torch.as_ref().and_then(|torch| torch.cuda.as_deref());
        let mut found: Vec<Finding> =
            self.groups.values().filter_map(|group| group.finding(cuda, torch)).collect();
        found.extend(not_for_cuda);
        found
    }

    /// Builds for several CUDAs, of which none is for torch's.
    fn not_for_cuda(&self, contents: &Contents) -> Vec<Finding> {
        let Some(cuda) = contents.torch.as_ref().and_then(|torch| torch.cuda.as_deref()) else {
            return Vec::new();
        };
        let wanted: String = cuda.chars().filter(char::is_ascii_digit).collect();
        let mut rows: BTreeMap<&str, (&Alternative, BTreeSet<&str>, &str)> = BTreeMap::new();
        for path in self.groups.values().flat_map(|group| &group.paths) {
            let row = names::alternative(name(path)).filter(|row| row.by == Choice::Cuda);
            let Some(row) = row else { continue };
            let (_, builds, _) =
                rows.entry(&row.names).or_insert_with(|| (row, BTreeSet::new(), path));
            builds.insert(row.build(name(path)));
        }
        let lacks = rows.into_values().filter(|(row, builds, _)| {
            let is_near = |build: &&str| build.len() > 2 && wanted.get(..2) == build.get(..2);
            let near = takes_nearest(row, contents) && builds.iter().any(is_near);
            !near && !builds.contains(wanted.as_str())
        });
        lacks
            .map(|(row, builds, path)| {
                let builds: Vec<&str> = builds.into_iter().collect();
                let message = format!(
                    "has no build for CUDA {cuda}, which torch is built with; it has {}",
                    builds.join(", ")
                );
                let package = row.package.first().map_or(row.names.as_str(), String::as_str);
                // All that it does on a GPU is in the build that is not there.
                Finding::new(Severity::Error, Kind::LibraryMissing, path, message)
                    .fix(format!("install a {package} that has a build for CUDA {cuda}"))
                    .gpu(true)
            })
            .collect()
    }
}

impl Group {
    /// Whether they are builds for different versions of what they need.
    fn differ(&self) -> bool {
        *self.differ.get_or_init(|| self.lack_versions())
    }

    fn lack_versions(&self) -> bool {
        let mut versions: BTreeMap<String, u64> = BTreeMap::new();
        for name in &self.needed {
            *versions.entry(names::stem(name)).or_default() += 1;
        }
        let lacks: BTreeSet<&String> = self.broken.values().flatten().collect();
        let several =
            |lack: &&String| versions.get(&names::stem(lack)).is_some_and(|count| *count > 1);
        lacks.iter().any(several)
    }

    /// Of builds for several CUDAs the one that is taken with torch's CUDA, or without torch all of them, can't be loaded.
    fn none_for_cuda(&self, torch: Option<&str>) -> Option<Finding> {
        let digits =
            torch.map(|cuda| cuda.chars().filter(char::is_ascii_digit).collect::<String>());
        let build =
            |path: &str| names::alternative(name(path)).map(|row| row.build(name(path)).to_owned());
        let is_meant = |path: &&String| build(path) == digits;
        let (path, lacks) = match (&digits, self.nowhere.iter().find(|(path, _)| is_meant(path))) {
            (Some(_), Some(meant)) => meant,
            // Another one of the same major may be taken where there is none for torch's CUDA.
            (Some(_), None) if self.paths.iter().any(|path| is_meant(&path)) => return None,
            _ if self.nowhere.len() < self.paths.len() => return None,
            _ => self.nowhere.iter().next_back()?,
        };
        let lack = lacks.first()?;
        let message = match digits {
            Some(_) => format!("can't be loaded: it needs {lack}, which is nowhere"),
            None => format!(
                "none of {} builds can be loaded: this one needs {lack}, which is nowhere",
                self.nowhere.len()
            ),
        };
        let all =
            self.nowhere.iter().map(|(path, lacks)| format!("{path} needs {}", lacks.join(", ")));
        let fix = names::how_to_get(lack, names::cuda_major(lack));
        // All that it does on a GPU is in that build.
        Some(
            Finding::new(Severity::Error, Kind::LibraryMissing, path.clone(), message)
                .evidence(all)
                .fix(fix.unwrap_or_else(|| format!("install what brings {lack}")))
                .gpu(true),
        )
    }

    fn finding(&self, cuda: Option<u16>, torch: Option<&str>) -> Option<Finding> {
        let (path, lacks) = self.broken.iter().next_back()?;
        let row = names::alternative(name(path));
        let by_cuda = row.is_some_and(|row| row.by == Choice::Cuda);
        if by_cuda {
            return self.none_for_cuda(torch);
        }
        if self.whole || row.is_some_and(|row| row.spare) || !self.differ() {
            return None;
        }
        let lack = lacks.first()?;
        let message = format!(
            "none of {} builds can be loaded: this one needs {lack}, which is nowhere",
            self.broken.len()
        );
        let all =
            self.broken.iter().map(|(path, lacks)| format!("{path} needs {}", lacks.join(", ")));
        let fix = names::how_to_get(lack, cuda);
        Some(
            Finding::new(Severity::Warning, Kind::LibraryMissing, path.clone(), message)
                .evidence(all)
                .fix(fix.unwrap_or_else(|| format!("install what brings {lack}")))
                .gpu(true),
        )
    }
}

fn takes_nearest(row: &Alternative, contents: &Contents) -> bool {
    let release = |text: &str| packages::numbers(text);
    let since = row.nearest_since.as_deref().and_then(release);
    let mut installed =
        contents.packages.iter().filter(|package| row.package.contains(&package.name));
    since.is_some_and(|since| {
        installed.any(|package| release(&package.version).is_some_and(|own| own >= since))
    })
}

/// `x/libfoo*.so` of `x/libfoo4.so`.
fn group(path: &str) -> Option<String> {
    let name = name(path);
    let (stem, rest) = names::unnumbered(name)?;
    Some(format!("{}{stem}*{rest}", path.strip_suffix(name)?))
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
