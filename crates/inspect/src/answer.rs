//! Does it run on this GPU, with this driver? Yes, in part, no or can't tell, and why, in one sentence.

mod asked;
mod builds;
mod libcuda;
mod one_cuda;

use sconce_facts::{Capability, DriverVersion};
use serde::Serialize;

use crate::Error;
use crate::compilers;
use crate::elf::Machine;
use crate::finding::{Finding, Kind, Severity};
use crate::names;
use crate::report::{Basis, Report};
use crate::verdict::{Builds, Outcome, Verdict};
use asked::Asked;

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Says {
    /// It runs.
    Yes,
    /// It runs, but some of it will fail.
    InPart,
    /// It does not run.
    No,
    /// What was looked at does not decide it.
    CantTell,
}

/// The answer to `--for GPU --driver VERSION`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Whether it runs.
    pub says: Says,
    /// Why, in one sentence.
    pub sentence: String,
}

impl Answer {
    /// Whether it runs, if only in part.
    pub fn ready(&self) -> bool {
        matches!(self.says, Says::Yes | Says::InPart)
    }

    /// The same, where a lock was looked at that does not say what its project gets.
    #[must_use]
    pub fn of_a_stale_lock(self, why: &str) -> Self {
        let sentence = format!("Can't tell: {why}. Of the lock as it is: {}", self.sentence);
        Self { says: Says::CantTell, sentence }
    }

    fn no(why: String) -> Self {
        Self { says: Says::No, sentence: format!("No: {why}.") }
    }

    fn cant_tell(why: String) -> Self {
        Self { says: Says::CantTell, sentence: format!("Can't tell: {why}.") }
    }
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
    /// this driver, and why.
    ///
    /// # Errors
    /// [`Error::UnknownGpu`].
    pub fn answer(&self, gpu: &str, driver: Option<&DriverVersion>) -> Result<Answer, Error> {
        let asked = Asked::new(gpu, driver)?;
        if let Some(answer) = self.host(&asked) {
            return Ok(answer);
        }
        let Some(verdict) = self.on(asked.capability) else {
            return Err(Error::UnknownGpu { name: gpu.to_owned(), nearest: None });
        };
        // What is certainly in the way first, then what is not known, then what fails in part.
        let answer = self
            .gpu_and_driver(&asked, verdict)
            .or_else(|| self.libcuda(&asked))
            .or_else(|| self.code(&asked, verdict))
            .or_else(|| self.floor(&asked))
            .or_else(|| self.builds(&asked, verdict))
            .or_else(|| self.broken())
            .or_else(|| self.jit(&asked, verdict))
            .or_else(|| self.unknown(&asked))
            .or_else(|| self.builds_unknown(&asked, verdict))
            .or_else(|| self.one_cuda(&asked, verdict))
            .or_else(|| self.libcuda_unknown(&asked))
            .or_else(|| self.undecided())
            .or_else(|| self.compiler_unknown(&asked))
            .or_else(|| self.alone(&asked))
            .or_else(|| Self::by_name_alone(&asked, verdict))
            .or_else(|| self.in_part(&asked, verdict))
            .unwrap_or_else(|| self.yes(&asked, verdict));
        Ok(answer)
    }

    /// The processor that the GPU comes with.
    fn host(&self, asked: &Asked<'_>) -> Option<Answer> {
        let hosts: Option<Vec<&str>> =
            asked.gpus.iter().map(|gpu| gpu.host.map(|host| host.as_str())).collect();
        let host = hosts.filter(|hosts| hosts.iter().all(|host| *host != self.machine))?;
        let host = host.first()?;
        // Files of GPU code are for no processor.
        (self.machine != Machine::Cuda.name()).then(|| {
            Answer::no(format!(
                "{} comes with {host} processors only, and this is for {}",
                asked.name, self.machine
            ))
        })
    }

    /// Drivers that are too old or too new for the GPU itself.
    fn gpu_and_driver(&self, asked: &Asked<'_>, verdict: &Verdict) -> Option<Answer> {
        let row = asked.capability.row()?;
        let Asked { name, capability, .. } = asked;
        let last = row.last_branch();
        let needed = verdict.driver.as_deref().and_then(|text| text.parse::<DriverVersion>().ok());
        if let Some((needed, last)) = needed.zip(last)
            && needed.branch() > last
        {
            return Some(Answer::no(format!(
                "it needs driver {needed} or newer, and branch {last} is the last that runs {name} (compute capability {capability})"
            )));
        }
        let driver = asked.driver?;
        if let Some(last) = last.filter(|last| driver.branch() > *last) {
            return Some(Answer::no(format!(
                "branch {last} is the last driver that runs {name} (compute capability {capability}), and this one is {driver}"
            )));
        }
        let first = row.first_driver.as_ref().filter(|first| driver < *first)?;
        Some(Answer::no(format!(
            "{name} (compute capability {capability}) needs driver {first} or newer, and this one is {driver}"
        )))
    }

    /// Code for the GPU.
    fn code(&self, asked: &Asked<'_>, verdict: &Verdict) -> Option<Answer> {
        let torch = self.contents.torch.as_ref();
        // Beside a torch for CPUs NVIDIA's libraries, and modules that are linked with torch, are there for nobody.
        let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
        let unused = || {
            let mut libraries = self.libraries.iter();
            libraries.all(|library| library.with_torch || names::is_of_nvidia(&name(&library.path)))
        };
        if let Some(torch) = torch.filter(|torch| torch.cuda.is_none() && unused()) {
            return Some(Answer::no(format!("torch {} is a CPU-only build", torch.version)));
        }
        match verdict.outcome {
            Outcome::Unlinked => Some(Answer::cant_tell(
                "its GPU code is for the device linker, which makes code for a GPU only when the program asks for it".to_owned(),
            )),
            Outcome::NoGpuCode => Some(match torch {
                Some(torch) if self.basis == Basis::Facts => Answer::cant_tell(format!(
                    "nothing is known of torch {}'s GPU code, and its wheel is not here",
                    torch.version
                )),
                Some(torch) => Answer::no(format!(
                    "torch {} is built for CUDA {}, and there is no GPU code here",
                    torch.version,
                    torch.cuda.as_deref().unwrap_or("")
                )),
                None => {
                    let error = self.errors().next().map(|finding| format!("; {}", words(finding)));
                    Answer::cant_tell(format!(
                        "there is no GPU code in it, so nothing here decides it{}",
                        error.unwrap_or_default()
                    ))
                }
            }),
            Outcome::Not => {
                let gap = verdict.gaps.first()?;
                let has: Vec<String> = gap.has.iter().map(ToString::to_string).collect();
                let what = match gap.served {
                    0 => "has no code".to_owned(),
                    served => format!("has code in {served} of its {} parts only", gap.of),
                };
                Some(Answer::no(format!(
                    "{} {what} for {} (compute capability {}); it has {}",
                    gap.library,
                    asked.name,
                    asked.capability,
                    has.join(", ")
                )))
            }
            Outcome::Native | Outcome::Jit | Outcome::Partial => None,
        }
    }

    fn floor(&self, asked: &Asked<'_>) -> Option<Answer> {
        let floor: DriverVersion = self.drivers.floor.as_deref()?.parse().ok()?;
        let driver = asked.driver.filter(|driver| **driver < floor)?;
        // With a newer libcuda in its place it may.
        let own = self.drivers.libcuda.as_ref().filter(|libcuda| libcuda.wins);
        let own = own.and_then(|libcuda| libcuda.version());
        if own.is_some_and(|own| own >= floor) {
            return None;
        }
        let cuda = self.drivers.cuda.as_deref().unwrap_or("");
        Some(Answer::no(format!(
            "CUDA {cuda} needs driver {floor} or newer, and this one is {driver}"
        )))
    }

    /// Findings that stop it, and bytes that could not be read and may be what matters.
    fn broken(&self) -> Option<Answer> {
        let is_lost =
            |finding: &&Finding| matches!(finding.kind, Kind::BadBytes | Kind::Unreadable);
        let stops = self.errors().find(|finding| !is_lost(finding));
        let lost = || {
            self.errors()
                .filter(is_lost)
                .find(|finding| finding.gpu || finding.subject.contains(".so"))
        };
        stops
            .map(|finding| Answer::no(words(finding)))
            .or_else(|| lost().map(|finding| Answer::cant_tell(words(finding))))
    }

    /// What leaves open whether it runs.
    fn undecided(&self) -> Option<Answer> {
        let finding = self.findings.iter().find(|finding| finding.undecided)?;
        Some(Answer::cant_tell(words(finding)))
    }

    /// A compiler that does not know the GPU, and of which all depends.
    fn compiler_unknown(&self, asked: &Asked<'_>) -> Option<Answer> {
        compilers::all_with_one_too_old(&self.contents, asked.capability).map(Answer::cant_tell)
    }

    /// PTX that is all there is, and that the driver must be able to compile.
    fn jit(&self, asked: &Asked<'_>, verdict: &Verdict) -> Option<Answer> {
        // With code for the GPU in all the rest, what fails is a part.
        let part = self.contents.torch.is_some()
            && !verdict
                .jit
                .iter()
                .any(|(library, _)| library.rsplit('/').next().is_some_and(names::is_core));
        // Of builds that are alternatives it has been said already.
        let open = |path: &str| {
            let mut builds = verdict.builds.iter().filter(|builds| !builds.is_decided());
            builds.any(|builds| builds.has(path) && builds.serving(asked.driver).is_some())
        };
        verdict.jit.iter().filter(|(library, _)| !open(library)).find_map(|(library, isa)| {
            let (major, minor) = isa;
            let only = format!("{library} has only PTX {major}.{minor} for {}", asked.name);
            let Some(needed) = names::ptx_driver(*isa) else {
                return Some(Answer::cant_tell(format!(
                    "{only}, and it is not known which driver compiles that"
                )));
            };
            let driver = asked.driver?;
            let forward = self.forward(asked);
            // The compiler is a library of its own beside libcuda, and which one is found is not known.
            if let Some(own) = forward.filter(|own| driver < needed && *own >= *needed) {
                return Some(Answer::cant_tell(format!(
                    "{only}, which needs driver {needed}: whether the compiler of driver {own} is found beside its libcuda is not known"
                )));
            }
            (driver < needed).then(|| {
                let why = format!("{only}, which needs driver {needed}; this one is {driver}");
                match part {
                    true => {
                        Answer { says: Says::InPart, sentence: format!("Yes, in part: {why}.") }
                    }
                    false => Answer::no(why),
                }
            })
        })
    }

    /// What is not known of the driver.
    fn unknown(&self, asked: &Asked<'_>) -> Option<Answer> {
        asked.driver?;
        if let Some(why) = asked.unlisted() {
            return Some(Answer::cant_tell(why));
        }
        if self.drivers.floor.is_some() {
            return None;
        }
        Some(Answer::cant_tell(match &self.drivers.cuda {
            Some(cuda) => format!("it is not known which driver CUDA {cuda} needs"),
            None => format!(
                "it has code for {}, and nothing in it tells which CUDA it uses and so which driver it needs",
                asked.name
            ),
        }))
    }

    /// What a single file needs and does not have in itself.
    fn alone(&self, asked: &Asked<'_>) -> Option<Answer> {
        let of = |kind: Kind| {
            self.findings.iter().filter(move |finding| self.single && finding.kind == kind)
        };
        let needed: Vec<&str> =
            of(Kind::LibraryMissing).map(|finding| finding.subject.as_str()).collect();
        let opened = of(Kind::PluginMissing)
            .map(|finding| finding.message.split(", which").next().unwrap_or_default().to_owned());
        let needs = (!needed.is_empty()).then(|| format!("needs {}", needed.join(", ")));
        let all: Vec<String> = needs.into_iter().chain(opened).collect();
        (!all.is_empty()).then(|| {
            Answer::cant_tell(format!(
                "it has code for {}, but it {}, and this is the file alone",
                asked.name,
                all.join(", ")
            ))
        })
    }

    /// Whether a package goes on without the only code it has, its program alone tells.
    fn by_name_alone(asked: &Asked<'_>, verdict: &Verdict) -> Option<Answer> {
        let gap = verdict.gaps.first().filter(|_| verdict.by_name_alone)?;
        Some(Answer::cant_tell(format!(
            "nothing has code for {}, {} neither; its package loads that by its path, and may go on without it",
            asked.name, gap.library
        )))
    }

    /// What will fail while the rest runs.
    fn in_part(&self, asked: &Asked<'_>, verdict: &Verdict) -> Option<Answer> {
        let gap = verdict.gaps.first().map(|gap| format!("{} {}", gap.library, gap.words()));
        let lacking = || {
            let finding = self
                .findings
                .iter()
                .find(|finding| finding.gpu && finding.severity != Severity::Note)?;
            Some(words(finding))
        };
        let forward = self.forward(asked);
        let driver = forward.as_ref().or(asked.driver);
        let newer = || {
            let mut newer = self.drivers.newer.iter();
            let too_new = newer.find(|newer| {
                let floor = newer.floor.parse::<DriverVersion>();
                driver.is_some_and(|driver| floor.is_ok_and(|floor| *driver < floor))
            });
            Some(too_new?.words())
        };
        let compiler = || compilers::too_old(&self.contents, asked.capability);
        let builds = || self.builds_in_part(asked, verdict);
        let of_torch = || verdict.builds.iter().find_map(Builds::none_of_torch);
        let what = gap
            .or_else(builds)
            .or_else(of_torch)
            .or_else(newer)
            .or_else(lacking)
            .or_else(compiler)?;
        Some(Answer {
            says: Says::InPart,
            sentence: format!(
                "Yes, in part: it runs on {}{}, but {what}.",
                asked.name,
                asked.with()
            ),
        })
    }

    fn yes(&self, asked: &Asked<'_>, verdict: &Verdict) -> Answer {
        let listed = asked.listed_since();
        let needed = verdict
            .driver
            .as_deref()
            .and_then(|text| text.parse::<DriverVersion>().ok())
            .into_iter()
            .chain(listed.cloned())
            .max();
        let drivers = match (asked.driver, needed, verdict.last_driver) {
            (Some(driver), _, _) => format!(" with driver {driver}"),
            (None, Some(needed), Some(last)) => {
                format!(" from driver {needed} up to branch {}", last.trim_start_matches('R'))
            }
            (None, Some(needed), None) => format!(" from driver {needed} on"),
            (None, None, _) => String::new(),
        };
        let name = &asked.name;
        let serving = self.serving(asked, verdict);
        let compiled = serving.as_ref().is_some_and(|serving| serving.compiled);
        let cuda = serving.map(|serving| serving.cuda).or(self.drivers.cuda.as_deref());
        let sentence = match (verdict.outcome, cuda) {
            (outcome, _) if outcome == Outcome::Jit || compiled => format!(
                "Yes: it runs on {name}{drivers}; the driver compiles {} of its libraries when they are first used",
                verdict.jit.len().max(1)
            ),
            (_, Some(cuda)) => {
                format!("Yes: it has machine code for {name} and CUDA {cuda} runs{drivers}")
            }
            (_, None) => format!("Yes: it has machine code for {name}{drivers}"),
        };
        let sentence = match (self.forward(asked), &self.drivers.libcuda) {
            (Some(own), Some(libcuda)) => format!(
                "{sentence}; the libcuda of driver {own} stands in for its own ({}, forward compatibility)",
                libcuda.library
            ),
            _ => sentence,
        };
        // Of a driver that is named it has been said already whether it will do.
        let newer = self.drivers.newer.first().filter(|_| asked.driver.is_none());
        let newer = newer.map_or(String::new(), |newer| format!("; {}", newer.words()));
        let decides = |finding: &&Finding| finding.kind == Kind::HostLibrary && finding.gpu;
        let host = self.findings.iter().find(decides);
        let host = host
            .map_or(String::new(), |finding| format!("; {} {}", finding.subject, finding.message));
        let others = self.others();
        let builds = verdict
            .builds
            .iter()
            .map(|builds| format!("; {}", builds.words(self.effective(asked).as_ref())));
        let builds: String = builds.collect();
        Answer { says: Says::Yes, sentence: format!("{sentence}{builds}{newer}{host}{others}.") }
    }

    /// What a lock has besides its torch, of which nothing is known here.
    fn others(&self) -> String {
        let torch = self.contents.torch.as_ref().map_or("", |torch| torch.version.as_str());
        match self.not_judged {
            0 => String::new(),
            1 => format!(
                "; that is torch {torch} alone: 1 more package with native code is judged when its wheel is here, as after `sconce build`"
            ),
            count => format!(
                "; that is torch {torch} alone: {count} more packages with native code are judged when their wheels are here, as after `sconce build`"
            ),
        }
    }

    /// The whole report as JSON.
    ///
    /// # Errors
    /// Never for a report this crate made; serde's if it were.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

/// What a finding says, and of what.
fn words(finding: &Finding) -> String {
    let message = finding.message.trim_end_matches('.');
    match message.starts_with("is ") || message.starts_with("has ") {
        true => format!("{} {message}", finding.subject),
        false => format!("{message} ({})", finding.subject),
    }
}
