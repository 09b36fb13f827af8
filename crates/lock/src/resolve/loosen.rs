//! Requirements of the user's own that keep the releases away that fit, and packages that others need.

use pep508_rs::{Requirement, VerbatimUrl};

use super::Resolution;
use super::companions::Wants;
use super::torch::Unfit;
use super::ways_out::MOST;
use crate::candidate::{Candidate, candidates};
use crate::error::{Beside, Loosened};
use crate::wheel_name::normalise;

impl Resolution<'_> {
    /// The torches with which packages that go with each of them may be had in older releases: those that packages did not
    /// fit, and the newest that has what one of them wants.
    pub(super) fn worth_trying(
        &self,
        misfits: &[(Box<Beside>, Wants, Candidate)],
    ) -> Vec<Candidate> {
        let (all, _) = candidates(&self.request);
        let machine = self.request.machine;
        let has = |wants: &Wants| all.iter().find(|one| wants.met_by(one, machine)).copied();
        let misfits = || misfits.iter().take(MOST);
        let mut found: Vec<Candidate> = misfits().map(|(.., candidate)| *candidate).collect();
        for other in misfits().filter_map(|(_, wants, _)| has(wants)) {
            if found.iter().all(|one| one.release.version != other.release.version) {
                found.push(other);
            }
        }
        found
    }

    /// The first of these packages that all can be had with, but for what the user asks of its version.
    pub(super) fn loosened(&mut self, packages: Vec<(String, Candidate)>) -> Option<Loosened> {
        packages.into_iter().find_map(|(package, candidate)| {
            // What was asked on the way here must not keep a way out from being found.
            self.questions = 0;
            let bound = self.own_bound(&package, &candidate)?;
            let (release, torch) = self.newest_beside_any(&package, &candidate)?;
            Some(Loosened { bound, release, torch })
        })
    }

    /// What the user's own requirements ask of a package's version: "ctranslate2<4.5".
    fn own_bound(&self, package: &str, candidate: &Candidate) -> Option<String> {
        let directs = self.direct(self.target(candidate.base));
        let direct = directs.into_iter().find(|direct| direct.name == package)?;
        let asked: Vec<String> = direct.specifiers.iter().map(ToString::to_string).collect();
        let asked: Vec<&str> =
            asked.iter().map(|asked| asked.as_str()).filter(|asked| !asked.is_empty()).collect();
        (!asked.is_empty()).then(|| format!("{package}{}", asked.join(",")))
    }

    /// The newest release of a package with which all that is asked for can be had beside a torch, where packages that go
    /// with each torch are held to those of that one.
    pub(super) fn fits_with_others_held(
        &mut self,
        package: &str,
        candidate: Candidate,
    ) -> Option<String> {
        self.instead = Some((package.to_owned(), package.to_owned()));
        // What is noted of a set that is only tried is not to be said.
        let notes = self.explanation.notes.len();
        let found = self.fitted(candidate);
        self.explanation.notes.truncate(notes);
        self.held.clear();
        self.instead = None;
        let found = found.ok()??;
        let wheel = found.wheels.iter().find(|wheel| wheel.name == package)?;
        Some(format!("{package} {}", wheel.version))
    }

    /// The packages of a set that need another one of it, with their versions.
    pub(super) fn needing(&mut self, package: &str, set: &Unfit) -> Vec<String> {
        let Ok(markers) = self.target(set.candidate.base).markers() else { return Vec::new() };
        let needs = |lines: &[String]| {
            let parsed =
                lines.iter().filter_map(|line| line.parse::<Requirement<VerbatimUrl>>().ok());
            let mut named = parsed.filter(|one| normalise(one.name.as_ref()) == package);
            named.any(|one| one.evaluate_markers(&markers, &[]))
        };
        let answers = self.index.requires(&set.wheels);
        let all = set.wheels.iter().zip(answers);
        let needing = all.filter(|(_, lines)| lines.as_ref().is_ok_and(|lines| needs(lines)));
        needing.map(|(wheel, _)| format!("{} {}", wheel.name, wheel.version)).collect()
    }
}
