//! Which torch releases fit a request, from the facts alone, and why the others do not.

use std::fmt;

use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{Requirement, VerbatimUrl};
use sconce_facts::{
    Base, Capability, CudaVersion, DriverVersion, Machine, Release, Sm, UnknownName, Variant,
};

use crate::spec::{CudaRequest, Flavour, TorchRequest};
use crate::target::Target;

/// A GPU that the image must run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedGpu {
    /// As people call it: "H100", "capability 9.0".
    pub label: String,
    pub capability: Capability,
    /// The processor beside it, where there is one kind only.
    pub host: Option<Machine>,
    /// The first driver that knows it.
    pub first_driver: Option<DriverVersion>,
}

impl fmt::Display for WantedGpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.label, self.capability.sm())
    }
}

impl WantedGpu {
    /// The first driver that runs any GPU of its capability, where that is known.
    pub fn oldest_driver(&self) -> Option<&'static DriverVersion> {
        self.capability.row()?.first_driver.as_ref()
    }
}

/// The GPU that a name or a capability stands for.
pub(crate) fn wanted_gpu(name: &str) -> Result<WantedGpu, UnknownName> {
    if let Ok(capability) = name.parse::<Capability>() {
        if capability.row().is_none() {
            let known: Vec<_> =
                sconce_facts::capabilities().iter().map(|row| row.cc.to_string()).collect();
            let known = known.iter().map(String::as_str);
            return Err(UnknownName::new("compute capability", name, known));
        }
        let label = format!("capability {capability}");
        return Ok(WantedGpu { label, capability, host: None, first_driver: None });
    }
    let gpu = sconce_facts::gpu(name)?;
    Ok(WantedGpu {
        label: name.to_uppercase(),
        capability: gpu.capability,
        host: gpu.host,
        first_driver: gpu.first_driver.clone(),
    })
}

/// Everything that decides which torch fits.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub torch: TorchRequest,
    pub machine: Machine,
    pub gpus: Vec<WantedGpu>,
    pub driver: Option<DriverVersion>,
    pub cuda: CudaRequest,
    pub flavour: Flavour,
    /// The bases that are left of it, the preferred first.
    pub bases: Vec<&'static Base>,
}

/// Where a build comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Channel {
    /// The default index.
    Pypi,
    /// PyTorch's own, for a CUDA release.
    Variant(&'static Variant),
    /// PyTorch's own, without CUDA.
    Cpu,
}

impl Channel {
    /// uv's name for it.
    pub fn backend(self) -> Option<String> {
        match self {
            Self::Pypi => None,
            Self::Variant(variant) => Some(variant.name.clone()),
            Self::Cpu => Some("cpu".to_owned()),
        }
    }
}

/// A release that fits the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub release: &'static Release,
    pub base: &'static Base,
    pub channel: Channel,
    pub cuda: Option<CudaVersion>,
    /// `None` where nobody documented it.
    pub architectures: Option<&'static [Sm]>,
}

impl Candidate {
    /// The pins of its wheel that can be checked; those of PyTorch's own builds are not in the facts.
    pub fn requires(&self, machine: Machine) -> &'static [String] {
        match self.channel {
            Channel::Pypi => &self.release.build(machine).requires,
            Channel::Variant(_) | Channel::Cpu => &[],
        }
    }

    /// The same release on another base, if it has a wheel for its Python.
    pub fn on(&self, base: &'static Base, request: &Request) -> Option<Self> {
        let has = self.release.build(request.machine).python.contains(&base.python_tag());
        (has && request.bases.contains(&base)).then_some(Self { base, ..*self })
    }

    /// Constraints that keep known trouble out.
    pub fn constraints(&self) -> Vec<&'static str> {
        let caveats = sconce_facts::caveats(&self.release.version, &[]);
        caveats.filter_map(|caveat| caveat.constraint.as_deref()).collect()
    }
}

/// Why a release does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The version was not asked for.
    NotAsked,
    /// It has another CUDA.
    OtherCuda { has: CudaVersion, wanted: String },
    /// Its wheel for this machine is a CPU build.
    CpuBuild { machine: Machine },
    /// It has no code for a GPU.
    NoCode { gpu: WantedGpu, machine: Machine, has: Vec<Sm> },
    /// The driver is below its CUDA's floor.
    OldDriver { driver: DriverVersion, cuda: CudaVersion, floor: DriverVersion },
    /// NVIDIA's wheels for its CUDA have no nvcc.
    NoNvcc { cuda: CudaVersion },
    /// It has no wheel for any Python left.
    NoPython { pythons: Vec<String>, has: Vec<String> },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => f.write_str("not the version asked for"),
            Self::OtherCuda { has, wanted } => {
                write!(f, "built with CUDA {has}, and CUDA {wanted} is wanted")
            }
            Self::CpuBuild { machine } => {
                write!(f, "its {machine} wheel is a CPU build: it can't use a GPU")
            }
            Self::NoCode { gpu, machine, has } => {
                let has: Vec<_> = has.iter().map(ToString::to_string).collect();
                write!(f, "its {machine} wheel has no code for {gpu}; it has {}", has.join(", "))
            }
            Self::OldDriver { driver, cuda, floor } => {
                write!(
                    f,
                    "built with CUDA {cuda}, which needs driver {floor} or newer; the driver is {driver}"
                )?;
                // A branch without more: some of it may be new enough.
                match driver.branch() == floor.branch() && !driver.as_str().contains('.') {
                    true => f.write_str(", which is read as the first of its branch"),
                    false => Ok(()),
                }
            }
            Self::NoNvcc { cuda } => write!(
                f,
                "flavour \"devel\" needs nvcc, and NVIDIA's wheels for CUDA {} have none",
                cuda.major
            ),
            Self::NoPython { pythons, has } => write!(
                f,
                "it has no wheel for Python {}; it has {}",
                pythons.join(" or "),
                has.join(", ")
            ),
        }
    }
}

/// Whether a release fits. `own_index` allows PyTorch's own index where PyPI's wheel has another CUDA.
pub(crate) fn consider(
    release: &'static Release,
    request: &Request,
    own_index: bool,
) -> Result<Candidate, Reason> {
    if !asked(&request.torch, release) {
        return Err(Reason::NotAsked);
    }
    let machine = request.machine;
    let build = release.build(machine);
    let channel = channel(release, request, own_index)?;
    let (cuda, architectures) = match channel {
        Channel::Pypi if build.cuda_build => {
            (Some(release.cuda), Some(build.architectures.as_slice()))
        }
        Channel::Pypi | Channel::Cpu => (None, Some(&[][..])),
        Channel::Variant(variant) => (variant.cuda(), variant.architectures(machine)),
    };
    if !request.gpus.is_empty() && cuda.is_none() {
        return Err(Reason::CpuBuild { machine });
    }
    if let Some(has) = architectures {
        let served = |gpu: &&WantedGpu| !has.iter().any(|sm| sm.runs_on(gpu.capability));
        if let Some(gpu) = request.gpus.iter().find(served) {
            return Err(Reason::NoCode { gpu: gpu.clone(), machine, has: has.to_vec() });
        }
    }
    if let (Some(driver), Some(cuda)) = (&request.driver, cuda) {
        driver_fits(driver, cuda)?;
    }
    if let (Flavour::Devel, Some(cuda)) = (request.flavour, cuda)
        && !sconce_facts::devel(cuda).is_some_and(|row| row.nvcc)
    {
        return Err(Reason::NoNvcc { cuda });
    }
    let base = base(release, request)?;
    Ok(Candidate { release, base, channel, cuda, architectures })
}

/// Whether a driver starts what is built with a CUDA: it needs the floor of the CUDA's major, no more
/// (minor-version compatibility; torch's wheels hold machine code for their GPUs, so PTX does not matter).
pub(crate) fn driver_fits(driver: &DriverVersion, cuda: CudaVersion) -> Result<(), Reason> {
    match cuda.floor() {
        Some(row) if *driver < row.driver => {
            Err(Reason::OldDriver { driver: driver.clone(), cuda, floor: row.driver.clone() })
        }
        _ => Ok(()),
    }
}

/// All releases that fit, newest first, and the newer ones that do not with their reasons. PyTorch's own index is
/// looked at only when PyPI alone has nothing that fits.
pub(crate) fn candidates(request: &Request) -> (Vec<Candidate>, Vec<(&'static Release, Reason)>) {
    let (found, refused) = pass(request, false);
    let named = matches!(request.cuda, CudaRequest::Version { .. } | CudaRequest::Cpu);
    if found.is_empty() && named { pass(request, true) } else { (found, refused) }
}

fn pass(request: &Request, own: bool) -> (Vec<Candidate>, Vec<(&'static Release, Reason)>) {
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for release in sconce_facts::releases().iter().rev() {
        match consider(release, request, own) {
            Ok(candidate) => found.push(candidate),
            Err(Reason::NotAsked) => {}
            Err(reason) => refused.push((release, reason)),
        }
    }
    (found, refused)
}

fn asked(request: &TorchRequest, release: &Release) -> bool {
    match request {
        TorchRequest::Newest => !release.asked,
        TorchRequest::None => false,
        TorchRequest::Versions(specifiers) => {
            allows(specifiers, release) && (!release.asked || only_old(specifiers))
        }
    }
}

fn allows(specifiers: &VersionSpecifiers, release: &Release) -> bool {
    release.version.parse().is_ok_and(|version: Version| specifiers.contains(&version))
}

/// Whether a range allows a release that the facts know.
pub(crate) fn is_known(specifiers: &VersionSpecifiers) -> bool {
    sconce_facts::releases().iter().any(|release| allows(specifiers, release))
}

/// Whether a range allows none but releases that are taken only where they are asked for.
pub(crate) fn only_old(specifiers: &VersionSpecifiers) -> bool {
    let mut allowed =
        sconce_facts::releases().iter().filter(|release| allows(specifiers, release)).peekable();
    allowed.peek().is_some() && allowed.all(|release| release.asked)
}

fn channel(release: &'static Release, request: &Request, own: bool) -> Result<Channel, Reason> {
    let build = release.build(request.machine);
    match request.cuda {
        CudaRequest::Auto => Ok(Channel::Pypi),
        CudaRequest::Cpu if !build.cuda_build => Ok(Channel::Pypi),
        CudaRequest::Cpu if own => Ok(Channel::Cpu),
        CudaRequest::Cpu => Err(Reason::OtherCuda { has: release.cuda, wanted: "none".into() }),
        CudaRequest::Version { major, minor } => {
            let fits = |cuda: CudaVersion| {
                cuda.major == major && minor.is_none_or(|minor| cuda.minor == minor)
            };
            if build.cuda_build && fits(release.cuda) {
                return Ok(Channel::Pypi);
            }
            let variants = release.variants.iter().filter(|v| v.cuda().is_some_and(fits));
            match variants.max_by_key(|variant| variant.cuda()) {
                Some(variant) if own => Ok(Channel::Variant(variant)),
                _ if !build.cuda_build => Err(Reason::CpuBuild { machine: request.machine }),
                _ => {
                    let minor = minor.map(|minor| format!(".{minor}")).unwrap_or_default();
                    Err(Reason::OtherCuda { has: release.cuda, wanted: format!("{major}{minor}") })
                }
            }
        }
    }
}

/// The first base whose Python has a wheel; of those, the first where Triton (so torch.compile) is in the set.
fn base(release: &Release, request: &Request) -> Result<&'static Base, Reason> {
    let build = release.build(request.machine);
    let mut with_wheel =
        request.bases.iter().copied().filter(|base| build.python.contains(&base.python_tag()));
    let first = with_wheel.clone().next();
    let machine = request.machine;
    with_wheel
        .find(|&base| triton_in(&build.requires, Target { machine, base }))
        .or(first)
        .ok_or_else(|| Reason::NoPython {
            pythons: request.bases.iter().map(|base| base.python.clone()).collect(),
            has: build.python.clone(),
        })
}

/// Whether a wheel's pins bring Triton to a target.
pub(crate) fn triton_in(requires: &[String], target: Target) -> bool {
    let Ok(markers) = target.markers() else { return false };
    let of = |text: &String| text.parse::<Requirement<VerbatimUrl>>().ok();
    requires
        .iter()
        .filter_map(of)
        .any(|r| r.name.as_ref() == "triton" && r.evaluate_markers(&markers, &[]))
}

/// Whether a range reaches beyond the newest release that the facts know.
pub(crate) fn reaches_beyond(specifiers: &VersionSpecifiers) -> bool {
    let Ok(newest) = sconce_facts::newest_release().version.parse::<Version>() else {
        return false;
    };
    let next = |version: &Version| {
        let mut release = version.release().to_vec();
        release.push(1);
        Version::new(release)
    };
    let named = specifiers.iter().map(|specifier| specifier.version());
    let mut probes: Vec<Version> = named.flat_map(|v| [v.clone(), next(v)]).collect();
    probes.push(next(&newest));
    probes.push(Version::new([newest.release().first().copied().unwrap_or(2) + 1, 0]));
    probes.iter().any(|probe| *probe > newest && specifiers.contains(probe))
}
