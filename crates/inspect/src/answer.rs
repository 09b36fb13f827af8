//! Does it run on this GPU, with this driver? One sentence, and yes or no.

use sconce_facts::{Capability, DriverVersion};
use serde::Serialize;

use crate::Error;
use crate::finding::{Finding, Kind, Severity};
use crate::names;
use crate::report::{Basis, Report};
use crate::verdict::{Outcome, Verdict};

/// The answer to `--for GPU --driver VERSION`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Whether it runs.
    pub ready: bool,
    /// Why, in one sentence.
    pub sentence: String,
}

impl Report {
    /// The verdict on GPUs of this capability, if any GPU of it is known.
    pub fn on(&self, capability: Capability) -> Option<&Verdict> {
        self.gpus.iter().find(|verdict| verdict.capability == capability)
    }

    /// The worst findings.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }

    /// Whether it runs on the GPU called `gpu` (a name, or a capability like `9.0` or `sm_90`) with
    /// this driver, and why, in one sentence.
    ///
    /// # Errors
    /// [`Error::UnknownGpu`].
    pub fn answer(&self, gpu: &str, driver: Option<&DriverVersion>) -> Result<Answer, Error> {
        let (name, capability) = match gpu.parse::<Capability>() {
            Ok(capability) => (capability.sm(), capability),
            Err(_) => match sconce_facts::gpu(gpu) {
                Ok(row) => (row.name.clone(), row.capability),
                Err(unknown) => {
                    return Err(Error::UnknownGpu { name: unknown.name, nearest: unknown.near });
                }
            },
        };
        let Some(verdict) = self.on(capability) else {
            return Err(Error::UnknownGpu { name: gpu.to_owned(), nearest: None });
        };
        let no = |sentence: String| Ok(Answer { ready: false, sentence });
        let host =
            sconce_facts::gpu(gpu).ok().and_then(|row| row.host).map(|host| host.to_string());
        if let Some(host) = host.filter(|host| *host != self.machine) {
            return no(format!(
                "No: {name} comes with {host} processors only, and this is for {}.",
                self.machine
            ));
        }
        let cuda = self.drivers.cuda.as_deref().unwrap_or("CUDA");
        if let (Basis::Facts, Some(torch)) = (self.basis, &self.contents.torch)
            && verdict.outcome == Outcome::NoGpuCode
            && torch.cuda.is_some()
        {
            let version = &torch.version;
            return no(format!(
                "Not known: nothing is known of torch {version}'s GPU code, and its wheel is not here."
            ));
        }
        match verdict.outcome {
            Outcome::NoGpuCode => {
                let what = match &self.contents.torch {
                    Some(torch) => format!("torch {} is a CPU-only build", torch.version),
                    None => "there is no GPU code in it".to_owned(),
                };
                return no(format!("No: {what}."));
            }
            Outcome::Not => {
                let gap = verdict.core_gap();
                let (library, has) = gap.map_or((String::new(), String::new()), |gap| {
                    let has: Vec<String> = gap.has.iter().map(ToString::to_string).collect();
                    (gap.library.clone(), has.join(", "))
                });
                return no(format!(
                    "No: {library} has no code for {name} (compute capability {capability}); it has {has}."
                ));
            }
            Outcome::Native | Outcome::Jit | Outcome::Partial => {}
        }
        let floor: Option<DriverVersion> =
            self.drivers.floor.as_deref().and_then(|text| text.parse().ok());
        if let Some((driver, floor)) = driver.zip(floor.as_ref())
            && driver < floor
        {
            return no(format!(
                "No: CUDA {cuda} needs driver {floor} or newer, and this one is {driver}."
            ));
        }
        if let Some(error) = self.errors().find(|error| error.kind != Kind::BadBytes) {
            return no(format!("No: {} ({}).", error.message.trim_end_matches('.'), error.subject));
        }
        let too_new = verdict.jit.iter().find_map(|(library, isa)| {
            let needed = names::ptx_driver(*isa)?;
            driver.filter(|driver| *driver < needed).map(|driver| (library, isa, needed, driver))
        });
        if let Some((library, (major, minor), needed, driver)) = too_new {
            return no(format!(
                "No: {library} has only PTX {major}.{minor} for {name}, which needs driver {needed}; this one is {driver}."
            ));
        }
        let with = driver.map_or(String::new(), |driver| format!(" with driver {driver}"));
        let sentence = match (verdict.outcome, verdict.gaps.first()) {
            (Outcome::Partial, Some(gap)) => format!(
                "Yes, in part: it runs on {name}{with}, but {} has nothing for it in {} of its {} parts.",
                gap.library,
                gap.of - gap.served.min(gap.of),
                gap.of
            ),
            (Outcome::Jit, _) => format!(
                "Yes: it runs on {name}{with}; the driver compiles {} of its libraries when they are first used.",
                verdict.jit.len()
            ),
            _ => format!(
                "Yes: it has machine code for {name} and CUDA {cuda} runs{}.",
                if with.is_empty() {
                    self.drivers
                        .floor
                        .as_ref()
                        .map_or(String::new(), |floor| format!(" from driver {floor} on"))
                } else {
                    with
                }
            ),
        };
        Ok(Answer { ready: true, sentence })
    }

    /// The whole report as JSON.
    ///
    /// # Errors
    /// Never for a report this crate made; serde's if it were.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}
