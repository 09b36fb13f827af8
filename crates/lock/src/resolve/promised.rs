//! GPUs and a driver that are asked for by name, and packages with GPU code of their own: that lies in modules of hundreds of megabytes, packed
//! as one, so it is not asked for before a wheel is downloaded. Torch's is in the facts.

use pep508_rs::{Requirement, VerbatimUrl};

use super::Resolution;
use crate::document::Wheel;
use crate::requests::{DriverRequest, GpuRequest};

/// So many packages are named.
const NAMED: usize = 4;

impl Resolution<'_> {
    /// Says whose code for the GPUs that sconce.toml names is looked at by `sconce build` alone, and of whom it is not looked at
    /// whether they run with the driver that it names: torch alone is chosen by that.
    pub(super) fn tell_promised(&mut self, wheels: &[Wheel]) {
        let environment = &self.spec.environment;
        let gpus = match &environment.gpus {
            GpuRequest::Named(gpus) => gpus.clone(),
            _ => Vec::new(),
        };
        let driver = match &environment.driver {
            DriverRequest::Version(driver) => Some(driver.clone()),
            _ => None,
        };
        if gpus.is_empty() && driver.is_none() {
            return;
        }
        let native: Vec<Wheel> =
            wheels.iter().filter(|wheel| wheel.may_be_native()).cloned().collect();
        let answers = self.index.requires(&native);
        let for_torch =
            |lines: &Result<Vec<String>, String>| lines.iter().flatten().any(|line| is_torch(line));
        let for_cuda = |wheel: &Wheel| {
            let known =
                self.libraries.get(&(wheel.sha256, true)).and_then(|known| known.as_ref().ok());
            let lists = known.map(|known| [&known.needs, &known.opens]);
            sconce_facts::companion(&wheel.name).is_some()
                || lists.is_some_and(|lists| lists.iter().any(|list| !list.is_empty()))
        };
        let found = native.iter().zip(&answers);
        let found = found.filter(|(wheel, lines)| for_cuda(wheel) || for_torch(lines));
        let mut names: Vec<String> =
            found.map(|(wheel, _)| format!("{} {}", wheel.name, wheel.version)).collect();
        if names.is_empty() {
            return;
        }
        if names.len() > NAMED {
            let more = names.len() - NAMED;
            names.truncate(NAMED);
            names.push(format!("{more} more"));
        }
        let names = names.join(", ");
        if !gpus.is_empty() {
            self.explanation.note(format!(
                "whether {names} has code for {} is not known before its wheel is here: `sconce build` looks at it",
                gpus.join(", ")
            ));
        }
        if let Some(driver) = driver {
            let gpu = gpus.first().map_or("GPU", String::as_str);
            self.explanation.note(format!(
                "torch is chosen for driver {driver}; whether {names} runs with it, `sconce inspect --for {gpu} --driver {driver} FOLDER` says after `sconce build`"
            ));
        }
    }
}

/// Whether a line of METADATA requires torch, an extra's aside.
fn is_torch(line: &str) -> bool {
    line.parse::<Requirement<VerbatimUrl>>()
        .is_ok_and(|one| one.name.as_ref() == "torch" && !line.contains("extra =="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_torch() {
        for line in ["torch", "torch>=2.3", "torch==2.9.0 ; python_version > '3.9'"] {
            assert!(is_torch(line), "{line}");
        }
        for line in ["torchvision", "torch ; extra == 'torch'", "numpy", ""] {
            assert!(!is_torch(line), "{line}");
        }
    }
}
