//! The smallest set of packages that some names need.
//!
//! `Pre-Depends` and `Depends` are followed, nothing else: no `Recommends`, and no `Essential`
//! set beside it, for an image isn't a machine. What has one answer is taken first; a choice
//! (`a | b`, or a virtual package) waits until then, for often one of its answers is there
//! already; else the first alternative that exists is taken, and of several packages that
//! provide it the most important one, then the first by name. The set is checked at the end:
//! every dependency holds and nothing conflicts. There is no back-tracking: the archive is made
//! so that first choices fit together, and where they don't, the error says which two.
//! Source: Debian Policy §7.2 to §7.5.

use std::collections::{BTreeMap, VecDeque};

use sconce_blob::Digest;
use serde::{Deserialize, Serialize};

use crate::packages::{Package, Packages};
use crate::relation::{self, Group, Relation, display_group};
use crate::renamed::renamed;
use crate::{Error, Target};

/// A package, exactly: what a lock keeps of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `all` or the target's architecture.
    pub architecture: String,
    /// The suite that listed it, such as `trixie-security`; it says which archive has the file.
    pub suite: String,
    /// The .deb, relative to the archive's address.
    pub filename: String,
    /// The .deb's length, bytes.
    pub size: u64,
    /// The .deb's digest.
    pub sha256: Digest,
}

impl From<&Package> for Pin {
    fn from(package: &Package) -> Self {
        Self {
            name: package.name.clone(),
            version: package.version.to_string(),
            architecture: package.architecture.clone(),
            suite: package.suite.clone(),
            filename: package.filename.clone(),
            size: package.size,
            sha256: package.sha256,
        }
    }
}

/// A dependency that is left out on purpose, a row of `data/flavours.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Omission {
    /// Whose dependency, or `*` for everyone's.
    pub package: String,
    /// On what.
    pub needs: String,
    /// Why the package does without.
    pub reason: String,
}

/// The packages that `roots` need, by name; each root's dependencies but for `omissions`.
pub fn resolve(
    roots: &[String],
    omissions: &[Omission],
    packages: &Packages,
    target: Target,
) -> Result<Vec<Pin>, Error> {
    let mut work = Work { packages, omissions, target, chosen: BTreeMap::new() };
    let mut queue = VecDeque::new();
    for root in roots {
        let package = work.named(root)?;
        work.choose(package, &mut queue)?;
    }
    let mut choices: VecDeque<(&Package, Group)> = VecDeque::new();
    loop {
        if let Some((package, group)) = queue.pop_front() {
            match work.only_answer(&group) {
                _ if work.holds(&group) => {}
                Some(answer) => work.choose(answer, &mut queue)?,
                None => choices.push_back((package, group)),
            }
        } else if let Some((package, group)) = choices.pop_front() {
            if !work.holds(&group) {
                let answer = work.best_answer(&group);
                let answer = answer.ok_or_else(|| unsatisfied(package, &group))?;
                work.choose(answer, &mut queue)?;
            }
        } else {
            break;
        }
    }
    work.check()?;
    Ok(work.chosen.values().map(|chosen| Pin::from(chosen.package)).collect())
}

struct Chosen<'a> {
    package: &'a Package,
    needs: Vec<Group>,
}

struct Work<'a> {
    packages: &'a Packages,
    omissions: &'a [Omission],
    target: Target,
    chosen: BTreeMap<&'a str, Chosen<'a>>,
}

impl<'a> Work<'a> {
    /// A root: a real package, or the first that provides it.
    fn named(&self, name: &str) -> Result<&'a Package, Error> {
        if !relation::is_package_name(name) {
            return Err(Error::PackageName { name: name.chars().take(128).collect() });
        }
        let found = self.packages.get(name).or_else(|| self.packages.providers(name).next());
        found.ok_or_else(|| Error::UnknownPackage {
            name: name.to_owned(),
            release: self.target.release.codename.clone(),
            arch: self.target.arch.to_string(),
            nearest: self
                .now_called(name)
                .or_else(|| self.packages.nearest(name))
                .map(str::to_owned),
        })
    }

    /// What has the files of a package that is no more; before trixie without the `t64`.
    fn now_called(&self, name: &str) -> Option<&'static str> {
        let new = renamed(name)?;
        [new, new.trim_end_matches("t64")].into_iter().find(|new| self.packages.get(new).is_some())
    }

    fn choose(
        &mut self,
        package: &'a Package,
        queue: &mut VecDeque<(&'a Package, Group)>,
    ) -> Result<(), Error> {
        if self.chosen.contains_key(package.name.as_str()) {
            return Ok(());
        }
        let mut needs = parse(package, &package.depends)?;
        needs.retain(|group| !group.iter().any(|relation| self.omits(package, relation)));
        queue.extend(needs.iter().map(|group| (package, group.clone())));
        self.chosen.insert(&package.name, Chosen { package, needs });
        Ok(())
    }

    fn omits(&self, package: &Package, relation: &Relation) -> bool {
        self.omissions.iter().any(|row| {
            (row.package == "*" || row.package == package.name) && row.needs == relation.name
        })
    }

    /// The package to satisfy the group with: the first alternative that exists, and of it the
    /// real package before those that provide it.
    fn best_answer(&self, group: &[Relation]) -> Option<&'a Package> {
        let packages = self.packages;
        group.iter().find_map(|relation| {
            let real = packages.get(&relation.name).into_iter();
            let mut all = real.chain(packages.providers(&relation.name));
            all.find(|package| satisfies(package, relation))
        })
    }

    /// The package of a group without a choice: one real package, and no alternative.
    fn only_answer(&self, group: &[Relation]) -> Option<&'a Package> {
        let [relation] = group else { return None };
        let real = self.packages.get(&relation.name)?;
        satisfies(real, relation).then_some(real)
    }

    /// Whether one of the packages chosen satisfies the group.
    fn holds(&self, group: &[Relation]) -> bool {
        group.iter().any(|relation| {
            let real = self.packages.get(&relation.name).into_iter();
            real.chain(self.packages.providers(&relation.name)).any(|package| {
                self.chosen.contains_key(package.name.as_str()) && satisfies(package, relation)
            })
        })
    }

    fn check(&self) -> Result<(), Error> {
        for chosen in self.chosen.values() {
            let package = chosen.package;
            if let Some(group) = chosen.needs.iter().find(|group| !self.holds(group)) {
                return Err(unsatisfied(package, group));
            }
            for relation in parse(package, &package.conflicts)?.into_iter().flatten() {
                let hit = self.chosen.values().map(|other| other.package).find(|other| {
                    // A package may conflict with what it provides itself (Policy §7.4).
                    other.name != package.name && satisfies(other, &relation)
                });
                if let Some(other) = hit {
                    return Err(Error::Conflict {
                        package: package.name.clone(),
                        other: other.name.clone(),
                        relation: relation.to_string(),
                    });
                }
            }
        }
        Ok(())
    }
}

fn unsatisfied(package: &Package, group: &[Relation]) -> Error {
    Error::Unsatisfied { package: package.name.clone(), relation: display_group(group) }
}

fn parse(package: &Package, field: &str) -> Result<Vec<Group>, Error> {
    relation::parse(field).map_err(|piece| Error::Relation { package: package.name.clone(), piece })
}

/// Whether a package is, or provides, what a relation asks for. All packages are of one
/// architecture or of `all`, so qualifiers always fit, but for a foreign one.
fn satisfies(package: &Package, relation: &Relation) -> bool {
    let ours = match relation.qualifier.as_deref() {
        None | Some("any" | "native") => true,
        Some(arch) => arch == package.architecture,
    };
    let fits = |version| match (&relation.version, version) {
        (None, _) => true,
        (Some((operator, bound)), Some(version)) => operator.admits(version, bound),
        // A bound is never met by an unversioned `Provides` (Policy §7.5).
        (Some(_), None) => false,
    };
    let real = package.name == relation.name && fits(Some(&package.version));
    let mut provided = package.provides.iter().filter(|(name, _)| *name == relation.name);
    ours && (real || provided.any(|(_, version)| fits(version.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Origin;
    use expect_test::{Expect, expect};

    /// One package a line: `name version | field: value | ...`.
    fn world(text: &str) -> Packages {
        let mut list = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut parts = line.split(';').map(str::trim);
            let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
            list += &format!(
                "Package: {name}\nVersion: {version}\nArchitecture: all\nSize: 1\nFilename: \
                 pool/{name}.deb\nSHA256: {}\n",
                "0".repeat(64)
            );
            parts.for_each(|field| list += &format!("{field}\n"));
            list.push('\n');
        }
        let mut packages = Packages::new();
        let origin = Origin { url: "list", suite: "trixie" };
        packages.add(list.as_bytes(), origin, crate::Arch::Amd64).unwrap();
        packages.finish();
        packages
    }

    fn check(roots: &str, packages: &str, expect: Expect) {
        let roots: Vec<_> = roots.split(' ').map(str::to_owned).collect();
        let omit = [Omission { package: "*".into(), needs: "debconf".into(), reason: "".into() }];
        let target = Target::new("trixie", "amd64").unwrap();
        let found = match resolve(&roots, &omit, &world(packages), target) {
            Ok(pins) => pins.iter().map(|pin| format!("{} {}", pin.name, pin.version)).collect(),
            Err(error) => vec![format!("{error}; {}", error.hint().unwrap_or_default())],
        };
        expect.assert_eq(&found.join("\n"));
    }

    #[test]
    fn dependencies_choices_and_virtual_packages() {
        let packages = "
            app 1; Pre-Depends: libc (>= 2); Depends: awk, x | y, debconf, python3:any, z (= 1)
            libc 2.36-9
            mawk 1; Provides: awk; Priority: required
            gawk 1; Provides: awk; Priority: optional
            x 1
            y 1
            tool 1; Depends: y
            python3 3.13
            zz 9; Provides: z (= 1)
            recommended 1
        ";
        check(
            "app tool",
            packages,
            expect![[r#"
            app 1
            libc 2.36-9
            mawk 1
            python3 3.13
            tool 1
            y 1
            zz 9"#]],
        );
    }

    #[test]
    fn cycles_end() {
        check(
            "a",
            "a 1; Depends: b\n b 1; Depends: a (= 1)",
            expect![[r#"
            a 1
            b 1"#]],
        );
    }

    #[test]
    fn refusals() {
        check(
            "a",
            "a 1; Depends: b (>> 1) | c\n b 1",
            expect![[
                "a needs `b (>> 1) | c`, which nothing in the archive satisfies; leave out one of `base.packages`"
            ]],
        );
        // An unversioned Provides meets no bound.
        check(
            "a",
            "a 1; Depends: v (>= 1)\n b 1; Provides: v",
            expect![[
                "a needs `v (>= 1)`, which nothing in the archive satisfies; leave out one of `base.packages`"
            ]],
        );
        check(
            "a b",
            "a 1; Breaks: b (<< 2)\n b 1",
            expect![[
                "a can't stand beside b: it conflicts with `b (<< 2)`; leave out one of `base.packages`"
            ]],
        );
        check(
            "a b",
            "a 1; Provides: v; Conflicts: v\n b 1; Provides: v",
            expect![[
                "a can't stand beside b: it conflicts with `v`; leave out one of `base.packages`"
            ]],
        );
        check(
            "cmakee",
            "cmake 3",
            expect![["Debian trixie has no package `cmakee` for amd64; did you mean `cmake`?"]],
        );
        check(
            "libgl1-mesa-glx",
            "libgl1 1\n libglu1-mesa 9",
            expect![[
                "Debian trixie has no package `libgl1-mesa-glx` for amd64; did you mean `libgl1`?"
            ]],
        );
        check(
            "libssl1.1",
            "libssl3 3",
            expect![[
                "Debian trixie has no package `libssl1.1` for amd64; did you mean `libssl3`?"
            ]],
        );
        check(
            "../a",
            "cmake 3",
            expect![[
                "`../a` is not a package's name; `base.packages` takes names of binary packages of Debian's main component"
            ]],
        );
    }
}
