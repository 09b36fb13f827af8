//! What fits, where a package and the torch beside it do not.

use std::collections::{BTreeMap, BTreeSet};

use pep508_rs::{ExtraName, Requirement, VerbatimUrl};
use sconce_facts::{Agree, CudaVersion, Variant};

use super::companions::Wants;
use super::group::range;
use super::libraries::opens;
use super::overlaps::name_of;
use super::releases::releases;
use super::torch::{Try, Unfit};
use super::{MOST_QUESTIONS, Resolution};
use crate::candidate::{Candidate, Request, candidates, consider};
use crate::document::Wheel;
use crate::error::{Beside, Error};
use crate::spec::{CudaRequest, TorchRequest};
use crate::wheel_name::normalise;

/// The newest releases of a package among which one that fits is looked for: six questions.
const RELEASES: usize = 63;

/// Of those, the newest that are tried one by one.
const NEWEST: usize = 3;

/// Packages that keep torches away of which an error speaks.
pub(super) const MOST: usize = 3;

impl Resolution<'_> {
    /// The error where no torch is left: what does not fit which torch, and the ways out that were tried and work.
    pub(super) fn nothing_fits(
        &mut self,
        misfits: Vec<(Box<Beside>, Wants, Candidate)>,
        set: &Unfit,
    ) -> Error {
        let mut misfits: Vec<_> = misfits.into_iter().take(MOST).collect();
        if misfits.is_empty() {
            return self.unsatisfiable(Vec::new(), Vec::new());
        }
        let (mut first, wants, candidate) = misfits.remove(0);
        // Where the version of torch is open, all of them were tried.
        if self.spec.environment.torch != TorchRequest::Newest {
            self.index.looking_for(&format!("a torch that {} fits", first.package));
            first.fits = self.torch_that_has(&wants);
        }
        let mut releases = Vec::from_iter(self.release_that_fits(&first.package, &candidate));
        if releases.is_empty() {
            let others = misfits.iter().map(|(other, _, beside)| (other.package.clone(), *beside));
            let all = std::iter::once((first.package.clone(), candidate)).chain(others);
            first.loosened = self.loosened(all.collect());
        }
        if releases.is_empty() && first.loosened.is_none() && wants == Wants::NoTorch {
            releases.extend(self.newest_beside_any(&first.package, &candidate));
        }
        for (other, _, candidate) in misfits {
            // Without that bound all of it can be had.
            if first.loosened.is_none() {
                releases.extend(self.release_that_fits(&other.package, &candidate));
            }
            first.others.push((other.torch, other.message));
        }
        if releases.is_empty() && first.loosened.is_none() {
            first.needed_by = self.needing(&first.package, set);
        }
        first.releases = releases;
        Error::Beside(first)
    }

    /// The newest torch that has what a package wants and with which all that is asked for can be had, with the version
    /// of torch left open: "torch = "2.14.1" (CUDA 13.0)".
    fn torch_that_has(&mut self, wants: &Wants) -> Option<String> {
        let open = Request { torch: TorchRequest::Newest, ..self.request.clone() };
        let (all, _) = candidates(&open);
        let machine = self.request.machine;
        // What fits the first of its wants may lack the next.
        let mut wanted = vec![wants.clone()];
        for _ in 0..MOST {
            let fits = |one: &&Candidate| wanted.iter().all(|wants| wants.met_by(one, machine));
            let found = *all.iter().find(fits)?;
            match self.attempt(&[found]) {
                Ok(Try::Found(_)) => {
                    return Some(format!(
                        "torch = \"{}\"{}",
                        found.release.version,
                        wants.of(&found)
                    ));
                }
                Ok(Try::Misfit(misfit)) => {
                    let more = misfit.wants().filter(|more| !wanted.contains(more)).cloned();
                    wanted.push(more?);
                }
                _ => return None,
            }
        }
        None
    }

    /// The newest torch that has what a package wants, by the facts.
    pub(super) fn candidate_that_has(&self, wants: &Wants) -> Option<Candidate> {
        let open = Request { torch: TorchRequest::Newest, ..self.request.clone() };
        let (all, _) = candidates(&open);
        all.into_iter().find(|one| wants.met_by(one, self.request.machine))
    }

    /// The newest CUDA that a package wants and for which there is a build of the very torch that was asked for.
    pub(super) fn cuda_that_fits(
        &self,
        wants: &Wants,
        candidate: &Candidate,
    ) -> Option<CudaVersion> {
        let fits = |cuda: CudaVersion| {
            let cuda_wanted = CudaRequest::Version { major: cuda.major, minor: Some(cuda.minor) };
            let request = Request { cuda: cuda_wanted, ..self.request.clone() };
            let found = consider(candidate.release, &request, true).ok()?;
            // One without architectures is planned, and nobody has seen it.
            (wants.has(cuda) && found.architectures.is_some()).then_some(cuda)
        };
        let variants = candidate.release.variants.iter().filter_map(Variant::cuda);
        variants.filter_map(fits).max()
    }

    /// A release with which all fits a torch, and that torch: the newest of the package itself where an older one was
    /// asked for, that of the package for torch's CUDA, or the newest of the package's older ones: "bitsandbytes 0.50.2".
    fn release_that_fits(
        &mut self,
        package: &str,
        candidate: &Candidate,
    ) -> Option<(String, String)> {
        let torch = candidate.release.version.clone();
        self.index.looking_for(&format!("a release of {package} that fits torch {torch}"));
        let target = self.target(candidate.base);
        let direct = self.direct(target).into_iter().find(|direct| direct.name == package);
        if direct.as_ref().is_some_and(|direct| !direct.specifiers.is_empty())
            && let Some(newest) = self.fits(package, (package, None), candidate)
        {
            return Some((newest, torch));
        }
        let other = candidate.cuda.and_then(|cuda| for_cuda(package, cuda.major));
        if let Some(other) = other.filter(|_| direct.is_some())
            && let Some(found) = self.fits(package, (&other, None), candidate)
        {
            return Some((found, torch));
        }
        let listed = self.index.releases(&[package.to_owned()]).ok()?;
        let all = releases(package, listed.get(package)?, target);
        let fit = all.into_iter().filter(|(v, one)| one.wheel_fits && !v.any_prerelease());
        let mut versions: Vec<String> = fit.map(|(version, _)| version.to_string()).collect();
        let first = versions.len().saturating_sub(RELEASES);
        versions.drain(..first);
        // Of a package that goes with each torch, the one that fits is among the newest.
        for _ in 0..NEWEST {
            let version = versions.pop()?;
            if let Some(found) = self.fits(package, (package, Some(&version)), candidate) {
                return Some((found, torch));
            }
        }
        // Else it goes from one CUDA to the next once, if at all.
        let (mut low, mut high, mut found) = (0, versions.len(), None);
        while low < high {
            let middle = usize::midpoint(low, high);
            let version = versions.get(middle).map(String::as_str);
            match self.fits(package, (package, version), candidate) {
                Some(fits) => (low, found) = (middle + 1, Some(fits)),
                None => high = middle,
            }
        }
        found.map(|found| (found, torch))
    }

    /// The newest release of a package, where it fits the newest torch of another CUDA major; and that torch.
    pub(super) fn newest_beside_any(
        &mut self,
        package: &str,
        but: &Candidate,
    ) -> Option<(String, String)> {
        let open = Request { torch: TorchRequest::Newest, ..self.request.clone() };
        let (all, _) = candidates(&open);
        let mut seen: Vec<Option<u16>> = vec![but.cuda.map(|cuda| cuda.major)];
        for candidate in all {
            let major = candidate.cuda.map(|cuda| cuda.major);
            if seen.contains(&major) {
                continue;
            }
            seen.push(major);
            let candidate = candidate.on(but.base, &self.request).unwrap_or(candidate);
            let newest = self.fits(package, (package, None), &candidate);
            if let Some(newest) = newest.or_else(|| self.fits_with_others_held(package, candidate))
            {
                return Some((newest, candidate.release.version.clone()));
            }
        }
        None
    }

    /// A release by name and version, where all that is asked for can be had with it in the place of a package, and fits.
    fn fits(
        &mut self,
        package: &str,
        (name, version): (&str, Option<&str>),
        candidate: &Candidate,
    ) -> Option<String> {
        let known = version.is_some_and(|version| is_for_other_cuda((name, version), candidate));
        if self.questions >= MOST_QUESTIONS || known {
            return None;
        }
        let pin = version.map(|version| format!("=={version}")).unwrap_or_default();
        self.instead = Some((package.to_owned(), format!("{name}{pin}")));
        let backend = candidate.channel.backend();
        let torch = Some(range(&[*candidate]));
        let constraints = candidate.constraints();
        self.trying = true;
        let answer = self.ask(candidate.base, torch, candidate.cuda, &constraints, backend);
        self.trying = false;
        self.instead = None;
        let wheels = self.wheels(&answer.ok()?, candidate.base).ok()?;
        let found = wheels.iter().find(|wheel| wheel.name == name)?;
        let found = format!("{name} {}", found.version);
        self.disagreement(&wheels, candidate).is_none().then_some(found)
    }

    /// Whether the resolver picks the same file of a package on this Python beside every torch: neither it nor what it
    /// needs needs torch, or something that torch pins.
    pub(super) fn comes_with_any_torch(
        &mut self,
        package: &str,
        wheels: &[Wheel],
        candidate: &Candidate,
    ) -> bool {
        let target = self.target(candidate.base);
        let Ok(markers) = target.markers() else { return false };
        let pins = candidate.requires(self.request.machine).iter();
        let mut of_torch: BTreeSet<String> =
            pins.filter(|pin| pin.contains("==")).map(|pin| name_of(pin)).collect();
        of_torch.insert("torch".to_owned());
        let direct = self.direct(target).into_iter();
        let mut extras: BTreeMap<String, BTreeSet<String>> =
            direct.map(|direct| (direct.name, direct.extras)).collect();
        let (mut asked, mut next) = (BTreeSet::new(), vec![package.to_owned()]);
        while !next.is_empty() {
            let moves = |name: &String| of_torch.contains(name) || name.starts_with("nvidia-");
            if next.iter().any(moves) {
                return false;
            }
            let here: Vec<Wheel> =
                wheels.iter().filter(|wheel| next.contains(&wheel.name)).cloned().collect();
            asked.extend(next.drain(..));
            let answers = self.index.requires(&here);
            for (wheel, lines) in here.iter().zip(answers) {
                let Ok(lines) = lines else { return false };
                let own = extras.get(&wheel.name).into_iter().flatten();
                let own: Vec<ExtraName> = own.filter_map(|extra| extra.parse().ok()).collect();
                for line in lines {
                    let Ok(wanted) = line.parse::<Requirement<VerbatimUrl>>() else { continue };
                    if !wanted.evaluate_markers(&markers, &own) {
                        continue;
                    }
                    let name = normalise(wanted.name.as_ref());
                    let more = wanted.extras.iter().map(ToString::to_string);
                    let known = extras.entry(name.clone()).or_default();
                    let before = known.len();
                    known.extend(more);
                    if known.len() > before || !asked.contains(&name) {
                        next.push(name);
                    }
                }
            }
        }
        true
    }
}

/// Whether the facts have it that a release needs libraries of another CUDA than a torch has: then nobody need be asked.
pub(super) fn is_for_other_cuda((package, version): (&str, &str), candidate: &Candidate) -> bool {
    let Some(cuda) = candidate.cuda else { return false };
    let opened = opens(package, version).map(|row| row.cuda);
    let built = sconce_facts::built_for(package, version)
        .filter(|_| sconce_facts::companion(package) == Some(Agree::Minor));
    opened.is_some_and(|major| major != cuda.major) || built.is_some_and(|built| built != cuda)
}

/// What a package is called for another CUDA, where its name has the CUDA at its end: "cupy-cuda13x" of "cupy-cuda12x".
fn for_cuda(package: &str, major: u16) -> Option<String> {
    let (name, _) = package.rsplit_once("-cu")?;
    let rest = package.get(name.len() + "-cu".len()..)?;
    let word = rest.trim_start_matches("da");
    let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
    let behind = word.get(digits.len()..)?;
    let is_major = digits.len() == 2 && matches!(behind, "" | "x") && digits != major.to_string();
    let before = package.len() - word.len();
    is_major.then(|| format!("{}{major}{behind}", package.get(..before).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::for_cuda;

    #[test]
    fn names_with_a_cuda() {
        assert_eq!(for_cuda("cupy-cuda12x", 13).as_deref(), Some("cupy-cuda13x"));
        assert_eq!(for_cuda("faiss-gpu-cu12", 13).as_deref(), Some("faiss-gpu-cu13"));
        for none in
            ["cupy-cuda13x", "onnxruntime-gpu", "a-cuda", "a-cu121", "a-cu12-extra", "-cu", "ü-cuü"]
        {
            assert_eq!(for_cuda(none, 13), None, "{none}");
        }
    }
}
