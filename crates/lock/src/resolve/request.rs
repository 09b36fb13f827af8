//! What a person wants, as far as it can be told without an index: GPUs, processor, driver, bases.

use sconce_facts::{Base, Machine};

use super::Host;
use crate::candidate::{self, Request, wanted_gpu};
use crate::error::Error;
use crate::explain::Explanation;
use crate::python::{offered, there_is, with_python};
use crate::spec::{CudaRequest, DriverRequest, GpuRequest, Spec};

pub(crate) fn request(
    spec: &Spec,
    host: &Host,
    explanation: &mut Explanation,
) -> Result<Request, Error> {
    let environment = &spec.environment;
    let refuse =
        |message: String, hint: &str| Error::Request { message, hint: Some(hint.to_owned()) };
    let gpus = match &environment.gpus {
        GpuRequest::Any => Vec::new(),
        GpuRequest::Named(names) => {
            let gpus: Result<Vec<_>, _> = names.iter().map(|name| wanted_gpu(name)).collect();
            gpus.map_err(|error| refuse(error.to_string(), "a capability like \"9.0\" works too"))?
        }
        GpuRequest::Host if host.gpus.is_empty() => {
            return Err(refuse(
                "gpus = \"host\", and this machine has no NVIDIA GPU that can be seen".into(),
                "name the GPUs instead: gpus = [\"h100\"]",
            ));
        }
        GpuRequest::Host => host
            .gpus
            .iter()
            .map(|gpu| candidate::WantedGpu {
                label: gpu.name.clone(),
                capability: gpu.capability,
                host: host.machine,
                first_driver: None,
            })
            .collect(),
    };
    if environment.cuda == CudaRequest::Cpu && !gpus.is_empty() {
        let message = "cuda = \"cpu\" is a build that can't use the GPUs asked for".to_owned();
        return Err(refuse(message, "leave out one of `cuda` and `gpus`"));
    }
    let machine = machine(spec, host, &gpus, explanation)?;
    let driver = match &environment.driver {
        DriverRequest::Any => None,
        DriverRequest::Version(driver) => {
            explanation.choose("driver", driver.as_str(), "asked for", Vec::new());
            Some(driver.clone())
        }
        // Another machine's image says nothing about this one's driver.
        DriverRequest::Auto => host.driver.clone().filter(|_| host.machine == Some(machine)),
    };
    match (&environment.driver, &driver) {
        (DriverRequest::Auto, Some(driver)) => {
            let why = "this machine's driver; `driver = \"any\"` asks for nothing";
            explanation.choose("driver", driver.as_str(), why, Vec::new());
        }
        (DriverRequest::Auto, None) => {
            let why = "none on this machine and none asked for, so no floor";
            explanation.choose("driver", "any", why, Vec::new());
        }
        _ => {}
    }
    for gpu in &gpus {
        let last = gpu.capability.row().and_then(sconce_facts::CapabilityRow::last_branch);
        if let (Some(last), Some(driver)) = (last, &driver)
            && driver.branch() > last
        {
            let what = format!(
                "branch {last} is the last driver that runs {}, and this is for driver {driver}",
                gpu.label
            );
            if matches!(environment.driver, DriverRequest::Version(_)) {
                let hint =
                    format!("take a driver of branch {last} or before, or leave that GPU out");
                return Err(refuse(what, &hint));
            }
            explanation.note(what);
        }
        let Some(driver) = &driver else { continue };
        let listed = gpu.first_driver.as_ref().filter(|first| driver < *first);
        if let Some(oldest) = gpu.oldest_driver().filter(|oldest| driver < *oldest) {
            let what =
                format!("{gpu} needs driver {oldest} or newer, and this is for driver {driver}");
            if matches!(environment.driver, DriverRequest::Version(_)) {
                let hint = match listed.filter(|listed| *listed > oldest) {
                    Some(listed) => format!(
                        "take driver {listed} or newer, the first that lists it, or leave that GPU out"
                    ),
                    None => format!("take driver {oldest} or newer, or leave that GPU out"),
                };
                return Err(refuse(what, &hint));
            }
            explanation.note(what);
        } else if let Some(first) = listed {
            explanation.note(format!(
                "driver {driver} may not know {}: the first open driver that lists it is {first}",
                gpu.label
            ));
        }
    }
    Ok(Request {
        torch: environment.torch.clone(),
        machine,
        gpus,
        driver,
        cuda: environment.cuda.clone(),
        flavour: environment.flavour,
        bases: bases(spec)?,
    })
}

fn machine(
    spec: &Spec,
    host: &Host,
    gpus: &[candidate::WantedGpu],
    explanation: &mut Explanation,
) -> Result<Machine, Error> {
    let bound = gpus.iter().find_map(|gpu| gpu.host.map(|machine| (gpu, machine)));
    let (machine, why) = match (spec.environment.platform, bound) {
        (Some(asked), Some((gpu, needs))) if asked != needs => {
            return Err(Error::Request {
                message: format!(
                    "{} stands beside an {needs} processor, and platform = \"{asked}\" is asked for",
                    gpu.label
                ),
                hint: Some(format!("platform = \"{needs}\", or leave it out")),
            });
        }
        (Some(asked), _) => (asked, "asked for".to_owned()),
        (None, Some((gpu, needs))) => (needs, format!("the processor beside {}", gpu.label)),
        (None, None) => match host.machine {
            Some(machine) => (machine, "this machine's processor".to_owned()),
            None => (Machine::X86_64, "this machine's processor has no CUDA builds".to_owned()),
        },
    };
    if let Some((with, _)) = bound.filter(|_| spec.environment.gpus != GpuRequest::Host) {
        let others = gpus.iter().filter(|gpu| gpu.host.is_none());
        for gpu in others {
            explanation.note(format!(
                "one image is for one processor: this one is {machine}, for {}; a {} in another machine needs an \
                 image of its own",
                with.label, gpu.label
            ));
        }
    }
    explanation.choose("platform", machine.as_str(), why, Vec::new());
    Ok(machine)
}

fn bases(spec: &Spec) -> Result<Vec<&'static Base>, Error> {
    let refuse = |message: String, hint: String| Error::Request { message, hint: Some(hint) };
    let python = spec.environment.python.as_deref();
    let release = spec.base.debian.as_deref();
    let mut bases = match python {
        None => offered(release),
        Some(python) => with_python(python, release).into_iter().collect(),
    };
    for (path, word, wanted) in spec.environment.pythons() {
        let has = |base: &&Base| {
            base.python_full
                .parse()
                .is_ok_and(|version: pep440_rs::Version| wanted.contains(&version))
        };
        let left: Vec<_> = bases.iter().copied().filter(|base| has(base)).collect();
        if left.is_empty() && !bases.is_empty() {
            let path = path.display();
            return Err(match python {
                Some(python) => refuse(
                    format!("{path}: {word} is {wanted}, and python = {python:?}"),
                    format!("leave `python` out: {word} decides then"),
                ),
                None => refuse(
                    format!("{path}: {word} is {wanted}, and no Python here is that"),
                    there_is(),
                ),
            });
        }
        bases = left;
    }
    let Some(first) = bases.first() else {
        let python = python.unwrap_or("auto");
        return Err(refuse(format!("there is no Python {python} for images"), there_is()));
    };
    if first.is_free_threaded() && !spec.environment.from_source.is_empty() {
        return Err(refuse(
            format!("wheels for Python {} are not built from source here", first.python),
            format!("leave out `from-source`, or take python = {:?}", first.python_version()),
        ));
    }
    Ok(bases)
}
