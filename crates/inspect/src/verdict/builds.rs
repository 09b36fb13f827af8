//! Builds of a library for several CUDAs, of which a program takes one: which of them serve a GPU, and with which drivers.
//!
//! A build that has code for the GPU and one that runs with the driver are not enough: one must do both.

use std::collections::{BTreeMap, BTreeSet};

use sconce_facts::{Capability, DriverVersion};

use super::{Service, library_service};
use crate::by_cuda::{ByCuda, number};
use crate::drivers;
use crate::names;
use crate::scan::Scan;

/// The builds of a library for several CUDAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Builds {
    /// What their names have in common: `libbitsandbytes_cuda*`.
    pub names: String,
    /// Their paths.
    paths: BTreeSet<String>,
    /// All of them, the oldest CUDA first.
    each: Vec<Build>,
    /// The CUDA of torch, which decides.
    torch: Option<String>,
    /// Whether they are what there is to run.
    pub core: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Build {
    cuda: String,
    major: u16,
    service: Service,
    /// The first driver with which it runs, if that is known.
    needs: Option<DriverVersion>,
}

impl Build {
    fn serves(&self) -> bool {
        !self.service.fails()
    }

    fn runs_with(&self, driver: &DriverVersion) -> bool {
        self.needs.as_ref().is_some_and(|needs| needs <= driver)
    }
}

/// The builds that serve a GPU with a driver.
pub struct Serving<'a> {
    /// The oldest CUDA of them.
    pub cuda: &'a str,
    /// Whether the driver compiles the code of all of them.
    pub compiled: bool,
}

impl Serving<'_> {
    /// Their CUDA as numbers.
    pub fn number(&self) -> Vec<u16> {
        number(self.cuda)
    }
}

impl Builds {
    /// Whether torch's CUDA decides which is taken: then it is judged as any library.
    pub const fn is_decided(&self) -> bool {
        self.torch.is_some()
    }

    /// The lowest driver with which a build that serves the GPU runs.
    pub fn needs(&self) -> Option<&DriverVersion> {
        let serving = self.each.iter().filter(|build| build.serves());
        serving.filter_map(|build| build.needs.as_ref()).min()
    }

    /// Those that have code for the GPU and run with this driver.
    pub fn serving(&self, driver: Option<&DriverVersion>) -> Option<Serving<'_>> {
        let with = |build: &&Build| match driver.or_else(|| self.needs()) {
            Some(driver) => build.serves() && build.runs_with(driver),
            None => build.serves(),
        };
        let first = self.each.iter().find(with)?;
        let compiled =
            self.each.iter().filter(with).all(|build| matches!(build.service, Service::Jit { .. }));
        Some(Serving { cuda: &first.cuda, compiled })
    }

    /// What each lacks, where none has code for the GPU and runs with `driver`. Nothing where it is not known with which
    /// driver one with code runs.
    pub fn lack(&self, gpu: &str, driver: &DriverVersion) -> Option<String> {
        let served = self.each.iter().any(Build::serves);
        if !served || self.serving(Some(driver)).is_some() || self.is_open(driver) {
            return None;
        }
        let lacks = self.without(Some(gpu), Some(driver)).join(", ");
        Some(format!("of its builds ({}) {lacks}, and this one is {driver}", self.names))
    }

    /// Whether it is not known if one with code for the GPU runs with `driver`.
    pub fn is_open(&self, driver: &DriverVersion) -> bool {
        let open = |build: &Build| build.serves() && build.needs.is_none();
        self.serving(Some(driver)).is_none() && self.each.iter().any(open)
    }

    /// The CUDA majors of those that have code for the GPU and run with this driver.
    pub fn majors(&self, driver: Option<&DriverVersion>) -> BTreeSet<u16> {
        let with =
            |build: &&Build| build.serves() && driver.is_none_or(|driver| build.runs_with(driver));
        self.each.iter().filter(with).map(|build| build.major).collect()
    }

    /// Those that torch's CUDA leaves: of its own release and major, else all of its major. Which of several is taken its
    /// package decides. Nothing where it is known how that chooses, or where there is no torch.
    fn of_torch(&self) -> Option<(&str, Vec<&Build>)> {
        let torch = self.torch.as_deref().filter(|_| self.names.contains('/'))?;
        let major = torch.split('.').next()?.parse::<u16>().ok()?;
        let is_own = |build: &Build| build.cuda == torch || build.cuda == major.to_string();
        let is_exact = self.each.iter().any(|build| build.cuda == torch);
        let fits = |build: &&Build| match is_exact {
            true => is_own(build),
            false => build.major == major,
        };
        Some((torch, self.each.iter().filter(fits).collect()))
    }

    /// That none of them is for torch's CUDA, in words. Where it is known how their package chooses, that is judged instead.
    pub fn none_of_torch(&self) -> Option<String> {
        let (torch, left) = self.of_torch()?;
        let cudas: Vec<&str> = self.each.iter().map(|build| build.cuda.as_str()).collect();
        left.is_empty().then(|| {
            format!(
                "of {}, which is there for CUDA {}, none is for torch's, {torch}",
                self.names,
                cudas.join(", ")
            )
        })
    }

    /// That torch's CUDA leaves some that have code for the GPU and some that have none, in words.
    pub fn some_of_torch(&self) -> Option<String> {
        let (torch, left) = self.of_torch()?;
        let (with, without): (Vec<&Build>, Vec<&Build>) =
            left.into_iter().partition(|build| build.serves());
        if with.is_empty() || without.is_empty() {
            return None;
        }
        let cudas = |builds: Vec<&Build>| {
            let cudas: Vec<String> = builds.iter().map(|build| build.cuda.clone()).collect();
            cudas.join(", ")
        };
        Some(format!(
            "of {} what is there for CUDA {} has code for it and what is there for CUDA {} has none, and which of them a torch for CUDA {torch} takes is not known",
            self.names,
            cudas(with),
            cudas(without)
        ))
    }

    /// Whether the library at `path` is one of them.
    pub fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Which of them serve the GPU, with this driver if one is named, and which is taken.
    pub fn words(&self, driver: Option<&DriverVersion>) -> String {
        let of = format!("of its builds ({})", self.names);
        let torch = self.torch.as_ref();
        let is_of = |torch: &&String| self.each.iter().any(|b| b.serves() && b.cuda == **torch);
        if let Some(torch) = torch.filter(is_of) {
            return format!("{of} that for CUDA {torch} is taken, torch's own");
        }
        // With torch, its CUDA says what driver is needed.
        let driver = driver.filter(|_| torch.is_none());
        let with =
            |build: &&Build| build.serves() && driver.is_none_or(|driver| build.runs_with(driver));
        let with: Vec<&str> =
            self.each.iter().filter(with).map(|build| build.cuda.as_str()).collect();
        let too_new = driver.is_some_and(|driver| {
            self.each.iter().any(|build| build.serves() && !build.runs_with(driver))
        });
        let runs = match (too_new, with.len()) {
            (false, _) => "",
            (true, 1) => " and runs with that driver",
            (true, _) => " and run with that driver",
        };
        let without: Vec<String> =
            self.without(None, driver).into_iter().map(|lack| format!(", {lack}")).collect();
        format!(
            "{of} {} {} it{runs}{}: the one for {} CUDA is taken",
            those(&with),
            has(&with),
            without.concat(),
            if self.names.contains('/') { "the environment's" } else { "torch's" }
        )
    }

    /// What those lack that don't serve the GPU with `driver`, the ones that lack the same together.
    fn without(&self, gpu: Option<&str>, driver: Option<&DriverVersion>) -> Vec<String> {
        let mut lacks: Vec<(Lack<'_>, Vec<&str>)> = Vec::new();
        for build in &self.each {
            let lack = match (&build.needs, driver) {
                _ if !build.serves() => Lack::Code,
                (Some(needs), Some(driver)) if driver < needs => Lack::Driver(needs),
                (None, Some(_)) => Lack::Known,
                _ => continue,
            };
            match lacks.iter_mut().find(|(known, _)| *known == lack) {
                Some((_, cudas)) => cudas.push(&build.cuda),
                None => lacks.push((lack, vec![&build.cuda])),
            }
        }
        let words = |(lack, cudas): (Lack<'_>, Vec<&str>)| {
            let (those, has) = (those(&cudas), has(&cudas));
            match (lack, gpu) {
                (Lack::Code, None) => format!("{those} {has} not"),
                (Lack::Code, Some(gpu)) => format!("{those} {has} no code for {gpu}"),
                (Lack::Driver(needs), _) if cudas.len() == 1 => {
                    format!("{those} needs driver {needs} or newer")
                }
                (Lack::Driver(needs), _) => format!("{those} need driver {needs} or newer"),
                (Lack::Known, _) => format!("of {those} the driver is not known"),
            }
        };
        lacks.into_iter().map(words).collect()
    }
}

/// What a build lacks.
#[derive(PartialEq, Eq)]
enum Lack<'a> {
    /// Code for the GPU.
    Code,
    /// A driver as new as this.
    Driver(&'a DriverVersion),
    /// A driver that is known to run it.
    Known,
}

fn those(cudas: &[&str]) -> String {
    match cudas {
        [one] => format!("that for CUDA {one}"),
        some => format!("those for CUDA {}", some.join(", ")),
    }
}

const fn has(cudas: &[&str]) -> &'static str {
    if cudas.len() == 1 { "has" } else { "have" }
}

/// The builds among which a CUDA chooses, and which of them serve `gpu`; `core` are the libraries that are what there is
/// to run, `cuda` is torch's.
pub(super) fn of(
    scan: &Scan,
    by_cuda: &ByCuda,
    gpu: Capability,
    cuda: Option<&str>,
    core: &BTreeSet<&str>,
) -> Vec<Builds> {
    let mut found: BTreeMap<String, Builds> = BTreeMap::new();
    for library in &scan.libraries {
        let other = || {
            let build = by_cuda.alone(library)?;
            cuda.is_some_and(|cuda| !build.is_of_major_of(cuda)).then_some(build)
        };
        let build = by_cuda.build(library).or_else(other);
        let Some((build, service)) = build.zip(library_service(library, gpu)) else { continue };
        let builds = found.entry(build.group.clone()).or_insert_with(|| Builds {
            names: build.shown().to_owned(),
            paths: BTreeSet::new(),
            each: Vec::new(),
            torch: cuda.map(str::to_owned),
            core: false,
        });
        builds.paths.insert(library.path.clone());
        builds.core |= core.contains(library.path.as_str());
        // What is called a build for one CUDA may be made with a newer one.
        let made = drivers::major(library).and_then(sconce_facts::floor);
        let floor = build.floor().map(|floor| made.map_or(floor, |made| floor.max(&made.driver)));
        let needs = match service {
            // What the driver compiles it must know as well.
            Service::Jit { isa } => floor.zip(names::ptx_driver(isa)).map(|(a, b)| a.max(b)),
            _ => floor,
        };
        let (cuda, major) = (build.cuda, build.major);
        let own = Build { needs: needs.cloned(), service, cuda, major };
        match builds.each.iter_mut().find(|other| other.cuda == own.cuda) {
            Some(other) if own.service.rank() < other.service.rank() => *other = own,
            Some(_) => {}
            None => builds.each.push(own),
        }
    }
    let mut found: Vec<Builds> = found.into_values().collect();
    for builds in &mut found {
        builds.each.sort_by_key(|build| number(&build.cuda));
    }
    found
}
