//! Libraries of CUDA that packages need or open by name: a package of the set must have them.

use std::collections::BTreeSet;

use pep440_rs::Version;
use sconce_facts::{CudaVersion, Opens};

use super::Resolution;
use super::companions::{Disagreement, Wants};
use crate::document::{TorchFacts, Wheel};
use crate::index::{Libraries, Need};
use crate::source::SOURCE;

/// Beginnings of the names of packages that have NVIDIA's libraries.
const PROVIDERS: &[&str] = &["nvidia-", "cuda-", "cutensor-", "torch"];

/// What a package asks for and no package of the set has.
struct Missing {
    wheel: Wheel,
    /// Those without which its modules can't be loaded, or, by its row, do nothing on a GPU.
    needs: Vec<Need>,
    /// Those that it opens by name: a part of it may do without.
    opens: Vec<Need>,
    /// Those that a library of NVIDIA's which it has opens by name.
    parts: Vec<Need>,
    extras: Vec<String>,
    unread: Option<String>,
}

impl Resolution<'_> {
    /// The first package that needs libraries of another CUDA than this torch's, which no package of the set has.
    pub(super) fn lacks_libraries(
        &mut self,
        wheels: &[Wheel],
        torch: CudaVersion,
    ) -> Option<Disagreement> {
        let (missing, unknown) = self.missing(wheels);
        if unknown.is_some() {
            return None;
        }
        let parts = missing.iter().find_map(|missing| {
            let message = missing.words_of_parts()?;
            Some(Disagreement::new(&missing.wheel, message, Wants::NoTorch))
        });
        parts.or_else(|| {
            missing.iter().find_map(|missing| {
            let of_other =
                |need: &&Need| !need.part && need.cuda.is_some_and(|major| major != torch.major);
            let need = missing.needs.iter().find(of_other)?;
            let Wheel { name, version, .. } = &missing.wheel;
            let major = need.cuda?;
            let message = format!(
                "{name} {version} needs {} of CUDA {major} ({}), and this torch has CUDA {torch}",
                need.library, need.of
            );
            Some(Disagreement::new(&missing.wheel, message, Wants::CudaMajor(major)))
        })
        })
    }

    /// Says which libraries the packages of a set will not find.
    pub(super) fn tell_libraries(&mut self, wheels: &[Wheel], torch: Option<&TorchFacts>) {
        let (missing, unknown) = self.missing(wheels);
        // With a torch of CUDA the set is meant for a GPU.
        let major = torch.and_then(|torch| torch.cuda).map(|cuda| cuda.major);
        let on_gpu = torch.is_none_or(|torch| torch.cuda.is_some());
        for missing in missing {
            if let Some(words) = missing.words_of_parts() {
                self.explanation.note(words);
            }
            let Wheel { name, version, .. } = &missing.wheel;
            let (verb, asked) = match (missing.needs.as_slice(), missing.opens.as_slice()) {
                ([], []) => {
                    if let Some(unread) = missing.unread.filter(|_| on_gpu) {
                        self.explanation.note(format!(
                            "whether {name} {version} finds the libraries of CUDA that it uses could not be read: {unread}"
                        ));
                    }
                    continue;
                }
                ([], opens) => ("opens", opens),
                (needs, _) => ("needs", needs),
            };
            let libraries: Vec<&str> = asked.iter().map(|need| need.library.as_str()).collect();
            let libraries = libraries.join(", ");
            if let Some(why) = &unknown {
                self.explanation.note(format!(
                    "whether {name} {version} finds {libraries} could not be read: {why}"
                ));
                continue;
            }
            let major = major.or_else(|| asked.iter().find_map(|need| need.cuda));
            let packages: BTreeSet<&str> =
                asked.iter().filter_map(|need| need.brought_by(need.cuda.or(major))).collect();
            let mut ways = Vec::new();
            if !missing.extras.is_empty() {
                let extras = missing.extras.join(",");
                ways.push(format!("`{name}[{extras}]` asks for NVIDIA's packages"));
            }
            if !packages.is_empty() {
                let packages: Vec<&str> = packages.into_iter().collect();
                let brings = if packages.len() == 1 { "brings" } else { "bring" };
                ways.push(format!("{} {brings} it", packages.join(", ")));
            }
            let ways = match ways.is_empty() {
                true => String::new(),
                false => format!(": {}", ways.join("; ")),
            };
            let part = asked.iter().find(|need| need.part).filter(|_| asked.iter().all(|n| n.part));
            let when = match part {
                _ if verb == "opens" => " when it uses a GPU".to_owned(),
                Some(need) => format!(" for a part of it ({})", need.of),
                None => String::new(),
            };
            self.explanation.note(format!(
                "{name} {version} {verb} {libraries}{when}, and no package here has it{ways}"
            ));
        }
    }

    /// What the packages of a set ask for and none of it has; and why that is not sure, where some could not be asked.
    fn missing(&mut self, wheels: &[Wheel]) -> (Vec<Missing>, Option<String>) {
        // Of those with a row it is known, and what comes from source is built for this set.
        let asks = |wheel: &&Wheel| {
            wheel.may_be_native()
                && wheel.index != SOURCE
                && sconce_facts::companion(&wheel.name).is_none()
        };
        let native: Vec<&Wheel> = wheels.iter().filter(asks).collect();
        let unknown: Vec<Wheel> = native
            .iter()
            .filter(|wheel| row(wheel).is_none())
            .map(|&wheel| wheel.clone())
            .collect();
        self.ask_libraries(&unknown, true);
        let with_row: Vec<Wheel> = native
            .iter()
            .filter(|wheel| row(wheel).is_some())
            .map(|&wheel| wheel.clone())
            .collect();
        self.ask_libraries(&with_row, false);
        let mut missing = Vec::new();
        for wheel in native {
            let known = match (row(wheel), self.libraries.get(&(wheel.sha256, true))) {
                (Some(row), _) => {
                    let own = self.libraries.get(&(wheel.sha256, false));
                    let own = own.and_then(|own| own.as_ref().ok()).cloned().unwrap_or_default();
                    Libraries { needs: vec![need(row)], parts: own.parts, ..Libraries::default() }
                }
                (None, Some(Ok(known))) => known.clone(),
                // That a wheel could not be asked is said where its files are compared with those of others.
                (None, _) => continue,
            };
            let Libraries { needs, opens, parts, extras, unread, .. } = known;
            if [&needs, &opens, &parts].iter().any(|all| !all.is_empty()) || unread.is_some() {
                let wheel = wheel.clone();
                missing.push(Missing { wheel, needs, opens, parts, extras, unread });
            }
        }
        let asks =
            |one: &Missing| [&one.needs, &one.opens, &one.parts].iter().any(|all| !all.is_empty());
        if !missing.iter().any(asks) {
            return (missing, None);
        }
        let others: Vec<Wheel> =
            wheels.iter().filter(|wheel| !wheel.file.ends_with("-any.whl")).cloned().collect();
        self.ask_libraries(&others, false);
        let (mut has, mut why) = (BTreeSet::new(), None);
        for wheel in &others {
            match self.libraries.get(&(wheel.sha256, false)) {
                Some(Ok(known)) => has.extend(known.has.iter().map(String::as_str)),
                Some(Err(words)) if PROVIDERS.iter().any(|name| wheel.name.starts_with(name)) => {
                    why.get_or_insert_with(|| words.clone());
                }
                _ => {}
            }
        }
        let packages: BTreeSet<&str> = wheels.iter().map(|wheel| wheel.name.as_str()).collect();
        let stem_of = |library: &str| library.split(".so").next().map(str::to_owned);
        // That the package is there counts only where it is not seen to have another version of the library.
        let stems: BTreeSet<_> = has.iter().map(|library| stem_of(library)).collect();
        let there = |need: &Need| {
            has.contains(need.library.as_str())
                || !stems.contains(&stem_of(&need.library))
                    && [None, Some(13)].into_iter().any(|major| {
                        need.brought_by(major).is_some_and(|package| packages.contains(package))
                    })
        };
        for one in &mut missing {
            one.needs.retain(|need| !there(need));
            // A copy that was renamed finds no parts outside of its own folder (`of` has its hash then).
            one.parts.retain(|need| need.part || !has.contains(need.library.as_str()));
            // Of several versions of one library any does.
            let stem = |need: &Need| need.library.split(".so").next().map(str::to_owned);
            let found: BTreeSet<_> =
                one.opens.iter().filter(|need| there(need)).map(stem).collect();
            one.opens.retain(|need| !found.contains(&stem(need)));
        }
        (missing, why)
    }

    fn ask_libraries(&mut self, wheels: &[Wheel], code: bool) {
        let new = |wheel: &&Wheel| !self.libraries.contains_key(&(wheel.sha256, code));
        let new: Vec<Wheel> = wheels.iter().filter(new).cloned().collect();
        let answers = self.index.libraries(&new, code);
        let keys = new.iter().map(|wheel| (wheel.sha256, code));
        self.libraries.extend(keys.zip(answers));
    }
}

impl Missing {
    /// "ctranslate2 4.4.0 has a copy of cuDNN (x.libs/libcudnn-1.so.8) that opens libcudnn_ops_infer.so.8 …"
    fn words_of_parts(&self) -> Option<String> {
        let first = self.parts.first()?;
        let Wheel { name, version, .. } = &self.wheel;
        let more = match self.parts.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "{name} {version} brings {}, which opens {}{more} by name when it works, and they are not where it looks",
            first.of, first.library
        ))
    }
}

/// What the facts say that a release opens.
fn row(wheel: &Wheel) -> Option<&'static Opens> {
    opens(&wheel.name, &wheel.version)
}

/// The same by name and version.
pub(super) fn opens(package: &str, version: &str) -> Option<&'static Opens> {
    let version: Version = version.parse().ok()?;
    let within = |row: &&Opens| {
        let bound = |text: &str| text.parse::<Version>().ok();
        bound(&row.since).is_some_and(|since| since <= version)
            && bound(&row.until).is_some_and(|until| version <= until)
    };
    sconce_facts::opens(package).find(within)
}

fn need(row: &Opens) -> Need {
    Need {
        library: row.library.clone(),
        cuda: Some(row.cuda),
        package: Some(row.brought_by.clone()),
        package_13: None,
        of: "it opens it by name".to_owned(),
        part: false,
    }
}
