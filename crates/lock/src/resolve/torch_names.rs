//! Names that packages take from torch's libraries: a torch that lacks one can't load them.

use sconce_facts::Agree;

use super::Resolution;
use super::companions::{Disagreement, Wants};
use super::releases::day;
use crate::candidate::Candidate;
use crate::document::Wheel;
use crate::index::{TakenNames, TorchNames};
use crate::source::SOURCE;

/// A name that torch lacks, of which module, and how many more there are.
struct Lacking<'a> {
    of: &'a str,
    name: &'a str,
    more: usize,
}

impl Resolution<'_> {
    /// The first package with a module that takes a name which this torch does not have.
    pub(super) fn lacks_names(
        &mut self,
        wheels: &[Wheel],
        candidate: &Candidate,
    ) -> Option<Disagreement> {
        let torch = wheels.iter().find(|wheel| wheel.name == "torch")?;
        let asks = |wheel: &&Wheel| {
            // What a package warns about and does without keeps no torch away.
            let any = matches!(sconce_facts::companion(&wheel.name), Some(Agree::Any));
            wheel.may_be_native() && wheel.index != SOURCE && !any
        };
        let asked: Vec<(Wheel, bool)> = wheels
            .iter()
            .filter(asks)
            .map(|wheel| (wheel.clone(), sconce_facts::companion(&wheel.name).is_some()))
            .collect();
        let taken = self.index.taken_names(&asked);
        let takes = |taken: &Result<Vec<TakenNames>, String>| {
            taken.as_ref().is_ok_and(|taken| !taken.is_empty())
        };
        if !taken.iter().any(takes) {
            return None;
        }
        let offered = match self.index.torch_names(torch) {
            Ok(offered) => offered,
            Err(why) => {
                self.explanation.note(format!(
                    "whether the names that packages take from torch {} are in it could not be read: {why}",
                    torch.version
                ));
                return None;
            }
        };
        asked.iter().zip(&taken).find_map(|((wheel, _), taken)| {
            let lacking = lacking(taken.as_ref().ok()?, &offered)?;
            Some(self.without_names(wheel, &lacking, candidate))
        })
    }

    fn without_names(
        &self,
        wheel: &Wheel,
        lacking: &Lacking<'_>,
        candidate: &Candidate,
    ) -> Disagreement {
        let Wheel { name, version, .. } = wheel;
        let torch = &candidate.release.version;
        let more = match lacking.more {
            0 => String::new(),
            more => format!(" and {more} more names"),
        };
        let message = format!(
            "{name} {version} can't be loaded with torch {torch}: {} needs {}{more}, which this torch does not have",
            lacking.of, lacking.name
        );
        // The torch of the day on which the package came is the one that it was made for.
        let came = self.uploaded.get(&wheel.sha256).copied();
        let releases = sconce_facts::releases().iter().rev();
        let of_then = came.and_then(|came| {
            releases
                .into_iter()
                .find(|release| day(&release.uploaded).is_some_and(|day| day <= came))
        });
        let of_then = of_then.map(|release| release.version.as_str()).filter(|then| then != torch);
        let wants =
            of_then.and_then(minor).map_or_else(|| Wants::AnotherThan(torch.clone()), Wants::Torch);
        Disagreement::new(wheel, message, wants)
    }
}

/// Major and minor of a version.
fn minor(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

fn lacking<'a>(taken: &'a [TakenNames], offered: &TorchNames) -> Option<Lacking<'a>> {
    let lacks = |name: &&String| !offered.may_have(name);
    let all =
        || taken.iter().flat_map(|taken| taken.names.iter().map(move |name| (&taken.of, name)));
    let (of, name) = all().find(|(_, name)| lacks(name))?;
    let more = all().filter(|(_, name)| lacks(name)).map(|(_, name)| name);
    let more = more.collect::<std::collections::BTreeSet<_>>().len() - 1;
    Some(Lacking { of, name, more })
}
