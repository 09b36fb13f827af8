//! Packages that can't be installed together, and what is asked for against that: `exclude`, `prefer`.

use std::collections::{BTreeMap, BTreeSet};

use pep508_rs::{ExtraName, Requirement, VerbatimUrl};
use sconce_facts::Base;

use super::Resolution;
use super::companions::Wants;
use crate::blame;
use crate::candidate::{Request, candidates};
use crate::document::{TorchFacts, Wheel};
use crate::error::Error;
use crate::index::{Misnamed, Overlap, OverlapQuestion};
use crate::spec::{CudaRequest, TorchRequest};
use crate::wheel_name::normalise;

/// The most pairs of packages that an error names.
const MOST: usize = 8;
/// How deep extras that bring extras are followed.
const ROUNDS: usize = 16;

impl Resolution<'_> {
    /// Refuses a set in which two wheels install different files at one path, unless one of the two is
    /// preferred. What is preferred in this set, for its lock.
    pub(super) fn overlaps(
        &mut self,
        wheels: &[Wheel],
        torch: Option<&TorchFacts>,
        base: &'static Base,
    ) -> Result<Vec<String>, Error> {
        let asked = &self.spec.environment.prefer;
        let here = |name: &&String| wheels.iter().any(|wheel| wheel.name == **name);
        for name in asked.iter().filter(|name| !here(name)) {
            self.explanation.note(format!("`prefer` has {name}, and no package needs it"));
        }
        let mut prefer: Vec<String> = asked.iter().filter(here).cloned().collect();
        // What the user says of either of the two comes before it.
        let made = sconce_facts::overlays().iter().filter(|row| {
            let said = prefer.contains(&row.package) || prefer.contains(&row.over);
            here(&&row.package) && here(&&row.over) && !said
        });
        let made: Vec<String> = made.map(|row| row.package.clone()).collect();
        prefer.extend(made);
        let question = OverlapQuestion { wheels, python: &base.python, prefer: &prefer };
        let answer = self.index.overlaps(&question);
        if let Some((_, why)) = answer.unread.first() {
            let count = match answer.unread.len() {
                1 => "1 wheel".to_owned(),
                count => format!("{count} wheels"),
            };
            self.explanation.note(format!(
                "whether {count} can be installed beside the others shows when they are downloaded: {why}"
            ));
        }
        if let Some(Misnamed { file, path, says }) = answer.misnamed.first() {
            let why = format!("its METADATA is of {says}: a wheel is of the release in its name");
            return Err(match path {
                Some(path) => blame::wheel(self.spec, path, &why),
                None => Error::Resolver { words: format!("{file}: {why}") },
            });
        }
        match answer.found.as_slice() {
            [] => {
                self.tell_untried(&answer.requires, wheels, base);
                Ok(prefer)
            }
            found => {
                let needs = self.needs(&answer.requires, base);
                Err(self.refusal(found, wheels, torch, &needs))
            }
        }
    }
}

/// The packages that need each package of a set.
type Needs = BTreeMap<String, BTreeSet<String>>;

impl Resolution<'_> {
    /// Who needs whom in a set: conditions of METADATA count where they hold for the target, extras where they are asked
    /// for.
    fn needs(&self, requires: &BTreeMap<String, Vec<String>>, base: &'static Base) -> Needs {
        let target = self.target(base);
        let Ok(markers) = target.markers() else { return Needs::new() };
        let direct = self.direct(target).into_iter();
        let mut extras: BTreeMap<String, BTreeSet<String>> =
            direct.map(|direct| (direct.name, direct.extras)).collect();
        let mut needs = Needs::new();
        // Each round can only add extras; a set of packages has few.
        for _ in 0..ROUNDS {
            let before = extras.clone();
            for (package, lines) in requires {
                let asked: Vec<ExtraName> = extras
                    .get(package)
                    .into_iter()
                    .flatten()
                    .filter_map(|extra| extra.parse().ok())
                    .collect();
                for line in lines {
                    let Ok(wanted) = line.parse::<Requirement<VerbatimUrl>>() else { continue };
                    if !wanted.evaluate_markers(&markers, &asked) {
                        continue;
                    }
                    let name = normalise(wanted.name.as_ref());
                    if name != *package {
                        needs.entry(name.clone()).or_default().insert(package.clone());
                    }
                    extras
                        .entry(name)
                        .or_default()
                        .extend(wanted.extras.iter().map(ToString::to_string));
                }
            }
            if extras == before {
                break;
            }
        }
        needs
    }
}

impl Resolution<'_> {
    fn refusal(
        &self,
        found: &[Overlap],
        wheels: &[Wheel],
        torch: Option<&TorchFacts>,
        needs: &Needs,
    ) -> Error {
        let major = torch.and_then(|torch| torch.cuda).map(|cuda| cuda.major);
        let cudas = found.iter().find_map(|overlap| cudas(overlap, major, needs));
        let mut message = String::new();
        if let Some(Cudas { who, major, torch }) = &cudas {
            message =
                format!("{who} needs libraries of CUDA {major}, torch those of CUDA {torch}\n");
        }
        let mut lines: Vec<String> =
            found.iter().take(MOST).map(|overlap| line(overlap, wheels, needs)).collect();
        if found.len() > MOST {
            lines.push(format!("and {} more pairs of packages", found.len() - MOST));
        }
        message.push_str(&lines.join("\n"));
        let hint = match (cudas, found) {
            (Some(Cudas { who, major, .. }), _) => {
                let mut ways = Vec::new();
                if self.nobody_needs_torch(needs) {
                    ways.push(
                        "nothing that you ask for needs torch: `torch = false` under [environment] leaves it out"
                            .to_owned(),
                    );
                }
                if let Some(way) = self.torch_of_cuda(major) {
                    ways.push(format!(
                        "{way} under [environment] takes a torch for the CUDA of {who}"
                    ));
                }
                ways.push(format!(
                    "name a release of {who} for the CUDA of torch, or one without its own CUDA libraries"
                ));
                ways.join("; or ")
            }
            (None, [overlap]) => {
                let [first, second] = &overlap.packages;
                format!(
                    "keep one of the two: `exclude = [\"{first}\"]` or `exclude = [\"{second}\"]` under [environment] \
                     leaves that one out though something requires it; or keep both: `prefer = [\"{first}\"]` or \
                     `prefer = [\"{second}\"]` lets the files of that one win"
                )
            }
            (None, some @ [_, _, ..]) => {
                let all: Vec<_> = some.iter().map(|overlap| overlap.packages.clone()).collect();
                let list = |names: &[String]| {
                    let names: Vec<String> =
                        names.iter().map(|name| format!("\"{name}\"")).collect();
                    names.join(", ")
                };
                let named = list(&covering(&all));
                format!(
                    "`exclude = [{named}]` under [environment] leaves one of each pair out though something requires it; or \
                     `prefer = [{named}]` keeps all and lets the files of those win; or name the others of the pairs there"
                )
            }
            (None, []) => String::new(),
        };
        Error::Overlap { message, hint }
    }

    /// Whether torch is there since nobody said that it should not.
    fn nobody_needs_torch(&self, needs: &Needs) -> bool {
        self.spec.environment.torch == TorchRequest::Newest
            && self.direct_names().iter().all(|name| name != "torch")
            && needs.get("torch").is_none_or(BTreeSet::is_empty)
    }

    /// What takes a torch for another CUDA: `cuda`, or the version of torch where that was asked for and has none.
    fn torch_of_cuda(&self, major: u16) -> Option<String> {
        let wanted = CudaRequest::Version { major, minor: None };
        let request = Request { cuda: wanted, ..self.request.clone() };
        if !candidates(&request).0.is_empty() {
            return Some(format!("`cuda = \"{major}\"`"));
        }
        let found = self.candidate_that_has(&Wants::CudaMajor(major))?;
        Some(format!("`torch = \"{}\"`", found.release.version))
    }
}

/// Overrides for uv that leave packages out: an override with a marker that never holds stands in for
/// every requirement of its package (uv, "Dependency overrides").
pub(super) fn without(exclude: &[String], mut overrides: Vec<String>) -> Vec<String> {
    overrides.retain(|text| !exclude.contains(&name_of(text)));
    overrides.extend(exclude.iter().map(|name| format!("{name} ; python_version < '0'")));
    overrides
}

/// What torch pins, but for what is left out.
pub(super) fn pins_besides(exclude: &[String], pins: &[String]) -> Vec<String> {
    pins.iter().filter(|pin| !exclude.contains(&name_of(pin))).cloned().collect()
}

/// The name at the beginning of a requirement, normalised.
pub(super) fn name_of(requirement: &str) -> String {
    let part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let text = requirement.trim_start();
    normalise(&text[..text.find(|c| !part(c)).unwrap_or(text.len())])
}

/// Packages of which each pair has one: those in most pairs first.
fn covering(pairs: &[[String; 2]]) -> Vec<String> {
    let mut left: Vec<&[String; 2]> = pairs.iter().collect();
    let mut found = Vec::new();
    while !left.is_empty() {
        let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
        for name in left.iter().flat_map(|pair| pair.iter()) {
            *counts.entry(name).or_default() += 1;
        }
        let Some((name, _)) = counts.into_iter().rev().max_by_key(|(_, count)| *count) else {
            break;
        };
        let name = name.clone();
        left.retain(|pair| !pair.contains(&name));
        found.push(name);
    }
    found
}

/// `opencv-python 4.12 and opencv-python-headless 4.12 (needed by x) both own cv2: …`
fn line(overlap: &Overlap, wheels: &[Wheel], needs: &Needs) -> String {
    let Overlap { packages, path, more } = overlap;
    let named = |at: usize| {
        let name = &packages[at];
        let wheel = wheels.iter().find(|wheel| wheel.name == *name);
        let version = wheel.map(|wheel| format!(" {}", wheel.version)).unwrap_or_default();
        let needed = match needs.get(name) {
            None => String::new(),
            Some(some) => {
                let some: Vec<&str> = some.iter().map(String::as_str).collect();
                format!(" (needed by {})", some.join(", "))
            }
        };
        format!("{name}{version}{needed}")
    };
    // Programs of all packages lie in one folder.
    let owned = match path.split_once('/') {
        Some((folder, _)) if folder != "bin" => folder,
        _ => path,
    };
    let differ = match more {
        0 => format!("{path} is not the same in them"),
        1 => format!("{path} and 1 more file differ"),
        more => format!("{path} and {more} more files differ"),
    };
    let (first, second) = (named(0), named(1));
    match owned == path.as_str() {
        true => format!(
            "{first} and {second} both install {path}, each another one{}",
            match more {
                0 => String::new(),
                more => format!(", and {more} more files"),
            }
        ),
        false => format!("{first} and {second} both own {owned}: {differ}"),
    }
}

/// A package that brings another CUDA than torch's.
struct Cudas {
    who: String,
    major: u16,
    torch: u16,
}

/// The CUDA at the end of a package's name.
fn major(name: &str) -> Option<u16> {
    name.rsplit_once("-cu")?.1.parse().ok()
}

/// Whether an overlap is one of two CUDAs: NVIDIA's packages end in the CUDA that they are for, before 13
/// all of them.
fn cudas(overlap: &Overlap, torch: Option<u16>, needs: &Needs) -> Option<Cudas> {
    let torch = torch?;
    let all_of_nvidia = overlap.packages.iter().all(|name| name.starts_with("nvidia-"));
    let other = |at: &usize| major(&overlap.packages[*at]).filter(|major| *major != torch);
    let (at, major) =
        [0, 1].into_iter().find_map(|at| Some((at, other(&at)?))).filter(|_| all_of_nvidia)?;
    // Two packages for one CUDA get in each other's way with any torch.
    if self::major(&overlap.packages[1 - at]) == Some(major) {
        return None;
    }
    let by = needs.get(&overlap.packages[at]).into_iter().flatten();
    let by = by.into_iter().find(|name| !name.starts_with("nvidia-"));
    Some(Cudas { who: by.unwrap_or(&overlap.packages[at]).clone(), major, torch })
}
