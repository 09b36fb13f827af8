//! An environment has one CUDA: builds of which each would be taken for another one can't be meant together. Which of several
//! builds for that one is taken is not known either.

use std::collections::BTreeSet;

use super::{Answer, Asked};
use crate::cuda_asked;
use crate::report::Report;
use crate::verdict::{Builds, Verdict};

impl Report {
    /// Builds that serve the GPU, though no one CUDA takes one such of each library, or not the CUDA that packages ask for.
    pub(super) fn one_cuda(&self, asked: &Asked<'_>, verdict: &Verdict) -> Option<Answer> {
        if let Some(why) = verdict.builds.iter().find_map(Builds::some_of_torch) {
            return Some(Answer::cant_tell(why));
        }
        let driver = self.effective(asked);
        let open = verdict.builds.iter().filter(|builds| !builds.is_decided());
        let majors = |builds: &Builds| builds.majors(driver.as_ref());
        let serving: Vec<(&Builds, BTreeSet<u16>)> = open
            .map(|builds| (builds, majors(builds)))
            .filter(|(_, majors)| !majors.is_empty())
            .collect();
        if let Some(said) = cuda_asked::of(&self.contents, &self.machine) {
            let outside = serving.iter().find(|(_, majors)| majors.is_disjoint(&said.majors));
            if let Some((builds, majors)) = outside {
                return Some(Answer::cant_tell(format!(
                    "{}, and of {} what serves {}{} is for CUDA {}",
                    said.who,
                    builds.names,
                    asked.name,
                    asked.with(),
                    listed(majors)
                )));
            }
        }
        let (first, rest) = serving.split_first()?;
        let mut common = first.1.clone();
        for (builds, majors) in rest {
            common.retain(|major| majors.contains(major));
            if common.is_empty() {
                return Some(Answer::cant_tell(format!(
                    "what serves {}{} is for CUDA {} of {} and for CUDA {} of {}, and an environment has one CUDA",
                    asked.name,
                    asked.with(),
                    listed(&first.1),
                    first.0.names,
                    listed(majors),
                    builds.names
                )));
            }
        }
        None
    }
}

fn listed(majors: &BTreeSet<u16>) -> String {
    majors.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}
