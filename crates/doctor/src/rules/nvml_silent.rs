//! NVML blocks or refuses.

use super::Rule;
use crate::fix;
use crate::silence::code;
use crate::state::Trouble;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "nvml-silent",
    title: "NVML does not answer",
    why: "nvidia-smi and every monitor ask NVML. When it blocks, a GPU is mostly hung; when it refuses, it says why. `Failed to initialize NVML: Unknown Error` in a container is mostly that it lost its GPUs to a reload of systemd; on the machine itself the driver is in trouble, and whether CUDA starts can't be told from outside. Without NVML's library alone CUDA works",
    fix: "`nvidia-smi` shows the same; `dmesg --level err,warn` mostly says why; a hung GPU needs a restart of the machine",
    references: &["NVIDIA/nvidia-docker#1671", "NVIDIA/nvidia-container-toolkit#48"],
    check,
};

/// What a refusal of NVML says of CUDA; of any other nothing is known.
///
/// Source: nvml.h, nvmlReturn_t; a refusal without a cause of its own (999) comes with CUDA that fails
/// (NVIDIA/nvidia-docker#1671) and with CUDA that works (pytorch, which asks CUDA alone).
const MEANS: &[(u32, Severity)] = &[
    // The driver is not loaded, the GPU is lost, it wants a reset, another release is loaded: no CUDA program starts.
    (9, Severity::Stops),
    (15, Severity::Stops),
    (16, Severity::Stops),
    (18, Severity::Stops),
    // NVML's own library or a function of it is not there.
    (12, Severity::Warns),
    (13, Severity::Warns),
];

/// Words of a capture that did not come to ask: why is another rule's, or nobody's trouble.
const NOT_ASKED: &[&str] =
    &["can't be opened", "has no `", "holds no answers", "was not asked", "could not finish"];

fn severity(reason: &str) -> Severity {
    if NOT_ASKED.iter().any(|words| reason.contains(words)) {
        return Severity::Warns;
    }
    let known = code(reason).and_then(|code| MEANS.iter().find(|(known, _)| *known == code));
    known.map_or(Severity::Unknown, |(_, severity)| *severity)
}

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let driver = &snapshot.driver;
    if !driver.nvml
        && driver.nvml_silence.is_none()
        && driver.module.is_some()
        && driver.libraries.is_some()
    {
        let finding =
            Finding::new(&RULE, Severity::Unknown, "NVML did not answer, and nothing says why");
        return vec![finding];
    }
    let (Some(reason), Some(_)) = (&driver.nvml_silence, &driver.module) else {
        return not_asked(snapshot);
    };
    // Causes that have a rule of their own.
    let denied = snapshot.devices().iter().any(|device| device.trouble == Some(Trouble::Denied));
    if denied || snapshot.driver.module != snapshot.driver.libraries {
        return Vec::new();
    }
    let severity = severity(reason);
    let finding = Finding::new(&RULE, severity, "NVML does not answer").seen(reason.clone());
    if severity != Severity::Unknown {
        return vec![finding];
    }
    let why = "see whether the driver says why";
    let mut steps = Vec::new();
    if snapshot.container {
        let what = "if it worked before, its device rules were lost to a reload of systemd: start it again";
        steps.push(fix::restart(snapshot, what));
    }
    steps.push(Step::host(why, &["dmesg --level err,warn"]));
    if !snapshot.container {
        steps.extend(fix::reboot(snapshot));
    }
    vec![finding.fix(steps)]
}

/// GPUs that NVML may not ask: they are not lost, and nothing is known of them.
fn not_asked(snapshot: &Snapshot) -> Vec<Finding> {
    let devices = snapshot.devices().into_iter();
    let findings =
        devices.filter(|device| device.trouble == Some(Trouble::NotAsked)).map(|device| {
            let summary = format!("NVML does not answer for {}", device.name());
            let reason = device.gpu.and_then(|gpu| gpu.silence.clone()).unwrap_or_default();
            let mut steps = Vec::new();
            if !snapshot.root {
                let what = "look again as root, who may ask about every GPU";
                steps.push(Step::host(what, &["sconce doctor"]));
            }
            let what = "see who has it, and whether the driver says why";
            let command = format!("fuser -v /dev/nvidia{}", device.gpu.map_or(0, |gpu| gpu.minor));
            steps.push(Step::host(what, &[&command, "dmesg --level err,warn"]));
            Finding::new(&RULE, Severity::Unknown, summary)
                .seen(format!("NVML: {reason}"))
                .fix(steps)
        });
    findings.collect()
}

#[cfg(test)]
mod tests {
    use super::{Severity, severity};

    #[test]
    fn what_nvml_says_of_cuda() {
        for (reason, says) in [
            ("nvmlInit: GPU is lost (15)", Severity::Stops),
            ("nvmlInit: Unknown Error (999)", Severity::Unknown),
            ("nvmlInit: error (4711)", Severity::Unknown),
            ("NVML has not answered within 5 s", Severity::Unknown),
            ("nvmlInit: Shared Library Not Found (12)", Severity::Warns),
            ("/usr/lib/libnvidia-ml.so.1 can't be opened: no such file (999)", Severity::Warns),
        ] {
            assert_eq!(severity(reason), says, "{reason}");
        }
    }
}
