//! What is known of a release of torch, as a report: for a lock whose wheels are not here.

use sconce_facts::{CudaVersion, DriverVersion, Sm, SmKind};

use crate::drivers::Drivers;
use crate::elf::Machine;
use crate::fatbin::{Code, Fatbin, Form, Tally, Target, Variant};
use crate::packages::Torch;
use crate::report::{Basis, Options, Report, inspect};
use crate::scan::{Library, Scan};
use crate::tree::Tree;
use crate::verdict;

/// What a lock says of its torch.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its version.
    pub version: &'a str,
    /// Its CUDA; `None` for a CPU build.
    pub cuda: Option<CudaVersion>,
    /// The lowest driver it starts on.
    pub driver: Option<&'a DriverVersion>,
    /// What its GPU code is compiled for; empty where that is not known.
    pub architectures: &'a [Sm],
}

/// A report on `subject` for `machine` (as `uname -m` spells it) without a single byte of it.
pub fn by_facts(subject: &str, machine: &str, torch: Option<Known<'_>>) -> Report {
    let options = Options { partial: true, basis: Basis::Facts, ..Options::default() };
    let mut report = inspect(subject, &Tree::new(), &options, &|_, _| {});
    machine.clone_into(&mut report.machine);
    let Some(torch) = torch else { return report };
    report.contents.torch = Some(Torch {
        version: torch.version.to_owned(),
        cuda: torch.cuda.map(|cuda| cuda.to_string()),
        path: String::new(),
    });
    report.drivers = Drivers {
        cuda: torch.cuda.map(|cuda| cuda.to_string()),
        cuda_major: torch.cuda.map(|cuda| cuda.major),
        floor: torch.driver.map(|driver| driver.as_str().to_owned()),
        ..Drivers::default()
    };
    let mut scan = Scan::default();
    if !torch.architectures.is_empty() {
        scan.libraries.push(library(&torch));
    }
    report.gpus = verdict::verdicts(&scan, machine, torch.driver, None);
    report
}

/// A library with this code in one container.
fn library(torch: &Known<'_>) -> Library {
    let mut gpu = Fatbin::default();
    gpu.containers = 1;
    let one = Tally { entries: 1, ..Tally::default() };
    gpu.codes = torch.architectures.iter().map(|sm| (code(*sm), one)).collect();
    gpu.sets.insert(gpu.codes.keys().copied().collect(), 1);
    let path = format!("torch {}", torch.version);
    Library { gpu, ..Library::unread(&path, 0, Machine::X86_64) }
}

fn code(sm: Sm) -> Code {
    let variant = match sm.kind {
        SmKind::Plain => Variant::Plain,
        SmKind::Family => Variant::Family,
        SmKind::Exact => Variant::Specific,
    };
    let number = u32::from(sm.capability.major) * 10 + u32::from(sm.capability.minor);
    Code { form: Form::Cubin, target: Target { number, variant } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_by_facts_and_says_so() {
        let driver: DriverVersion = "525.60.13".parse().unwrap();
        let architectures = ["sm_80".parse().unwrap(), "sm_90a".parse().unwrap()];
        let known = Known {
            version: "2.1.0",
            cuda: Some("12.1".parse().unwrap()),
            driver: Some(&driver),
            architectures: &architectures,
        };
        let report = by_facts("sconce.lock", "x86_64", Some(known));
        let answer = |report: &Report, gpu: &str, driver: &str| {
            report.answer(gpu, Some(&driver.parse().unwrap())).unwrap()
        };
        assert!(answer(&report, "h100", "535.104.05").ready());
        assert!(!answer(&report, "h100", "470.82.01").ready());
        let no = answer(&report, "v100", "535.104.05");
        assert_eq!(
            no.sentence,
            "No: torch 2.1.0 has no code for V100 SXM2 (compute capability 7.0); it has sm_80, sm_90a."
        );
        assert!(report.page(false).contains("by what is known of this torch"));

        // A lock has more than its torch, and nothing is known of that.
        let others = Report { not_judged: 3, ..report };
        let yes = answer(&others, "h100", "535.104.05").sentence;
        let words = "that is torch 2.1.0 alone: 3 more packages with native code are judged when their wheels are here";
        assert!(yes.contains(words), "{yes}");
        assert!(others.page(false).contains("nothing is said of 3 more packages"));

        let unknown = by_facts("x", "x86_64", Some(Known { architectures: &[], ..known }));
        assert!(
            answer(&unknown, "h100", "535.104.05")
                .sentence
                .starts_with("Can't tell: nothing is known")
        );
        let cpu = Known { architectures: &[], cuda: None, driver: None, ..known };
        let cpu = by_facts("x", "x86_64", Some(cpu));
        assert_eq!(
            answer(&cpu, "h100", "535.104.05").sentence,
            "No: torch 2.1.0 is a CPU-only build."
        );
    }
}
