//! What a driver means for builds of a library of which a program takes one.

use sconce_facts::DriverVersion;

use super::{Answer, Asked};
use crate::report::Report;
use crate::verdict::{Builds, Serving, Verdict};

impl Report {
    /// The driver whose libcuda is used: that of one which wins, else the one that was named.
    pub(super) fn effective(&self, asked: &Asked<'_>) -> Option<DriverVersion> {
        let driver = asked.driver?;
        let own = self.drivers.libcuda.as_ref().filter(|libcuda| libcuda.wins);
        Some(own.and_then(|libcuda| libcuda.version()).unwrap_or_else(|| driver.clone()))
    }

    /// Builds of which none has code for the GPU and runs with the driver, where there is nothing else to run.
    pub(super) fn builds(&self, asked: &Asked<'_>, verdict: &Verdict) -> Option<Answer> {
        let core = open(verdict).filter(|builds| builds.core && verdict.builds_alone);
        let core = core.filter(|builds| builds.serving(None).is_some());
        let lacks = core.map(|builds| self.lack(asked, builds));
        // One of several libraries without a build is a part of them.
        let lacks: Option<Vec<String>> = lacks.collect();
        lacks?.into_iter().next().map(Answer::no)
    }

    /// The same, where something else runs.
    pub(super) fn builds_in_part(&self, asked: &Asked<'_>, verdict: &Verdict) -> Option<String> {
        open(verdict).find_map(|builds| self.lack(asked, builds))
    }

    /// Builds of which it is not known with which driver they run.
    pub(super) fn builds_unknown(&self, asked: &Asked<'_>, verdict: &Verdict) -> Option<Answer> {
        let driver = self.effective(asked)?;
        let builds = open(verdict).find(|builds| builds.is_open(&driver))?;
        Some(Answer::cant_tell(format!(
            "it is not known whether one of its builds ({}) runs with driver {driver}",
            builds.names
        )))
    }

    /// The builds that run, where they are all there is; of several libraries those with the newest CUDA.
    pub(super) fn serving<'a>(
        &self,
        asked: &Asked<'_>,
        verdict: &'a Verdict,
    ) -> Option<Serving<'a>> {
        let driver = self.effective(asked);
        let core = open(verdict).filter(|builds| builds.core && verdict.builds_alone);
        let newest = core
            .filter_map(|builds| builds.serving(driver.as_ref()))
            .max_by_key(Serving::number)?;
        // With a newer runtime beside them that one says which drivers will do.
        let is_older = newest.number().first().copied() < self.drivers.cuda_major;
        (!is_older).then_some(newest)
    }

    fn lack(&self, asked: &Asked<'_>, builds: &Builds) -> Option<String> {
        let gpu = format!("{} (compute capability {})", asked.name, asked.capability);
        builds.lack(&gpu, &self.effective(asked)?)
    }
}

/// Those of which no torch says which is taken.
fn open(verdict: &Verdict) -> impl Iterator<Item = &Builds> {
    verdict.builds.iter().filter(|builds| !builds.is_decided())
}
