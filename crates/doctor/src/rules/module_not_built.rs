//! A kernel without the driver.

use super::{Rule, gpu_held};
use crate::fix;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "module-not-built",
    title: "The driver's module was not built for this kernel",
    why: "Each kernel needs a module built for it. After a kernel upgrade without headers, or with a failed build, the new kernel starts without the driver",
    fix: "install the kernel's headers and build it: `dkms autoinstall`, then `modprobe nvidia`; or start the older kernel",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    not_built(snapshot).into_iter().collect()
}

/// The finding, for those who ask whether it is the cause.
pub(super) fn not_built(snapshot: &Snapshot) -> Option<Finding> {
    let built = snapshot.driver.built_for.as_ref()?;
    let kernel = snapshot.kernel.as_ref()?;
    let installed = snapshot.driver.libraries.is_some() || !built.is_empty();
    // WSL's kernel has no module of NVIDIA's and needs none.
    let elsewhere = snapshot.container || snapshot.wsl;
    if snapshot.driver.module.is_some() || elsewhere || !installed {
        return None;
    }
    // It has no GPU to load for; or it has spoken since the machine started, and lies where nobody looked.
    let spoke = snapshot.kernel_log.iter().flatten().any(|line| line.starts_with("NVRM: "));
    if gpu_held::keep_the_module_out(snapshot) || (built.is_empty() && spoke) {
        return None;
    }
    let build = Step::host(
        "build the module and load it",
        &["dkms autoinstall", "modprobe -a nvidia nvidia_uvm"],
    );
    // As this system does it.
    let build = fix::fitted(snapshot, build);
    let with_dkms = build.commands.iter().any(|command| command.starts_with("dkms"));
    let refused = refused(snapshot);
    let finding = match (built.contains(kernel), refused) {
        (true, None) => return None,
        (true, Some(line)) => {
            let summary = format!(
                "this kernel, {kernel}, refuses the driver's module: it was built for another"
            );
            let finding = Finding::new(&RULE, Severity::Stops, summary).seen(line);
            if !with_dkms {
                return Some(finding.fix(vec![build]));
            }
            // dkms takes it for built.
            let again = "build it again for this kernel (`dkms status` says what dkms calls it, `dkms install --force` builds and installs it), then load it";
            let steps = vec![Step::host(again, &["modprobe -a nvidia nvidia_uvm"])];
            return Some(finding.fix(steps));
        }
        (false, _) => {
            let summary = format!("the driver's module was not built for this kernel, {kernel}");
            let finding = Finding::new(&RULE, Severity::Stops, summary);
            match built.is_empty() {
                true => finding.seen("no kernel of this machine has it"),
                false => finding.seen(format!("it is there for {}", built.join(", "))),
            }
        }
    };
    // Built, it would find the GPUs taken.
    let nouveau = snapshot.modules.iter().any(|name| name == "nouveau")
        || snapshot.pci.iter().any(|pci| pci.driver.as_deref() == Some("nouveau"));
    let (finding, keep_out) = match nouveau {
        true => (
            finding.seen("the nouveau module is loaded and has the GPUs"),
            fix::without(snapshot, &["nouveau"]),
        ),
        false => (finding, Vec::new()),
    };
    // Kernel module packages: SUSE has no dkms, and its packages build or link the module when they are installed.
    let suse = snapshot.os.as_ref().is_some_and(|os| {
        ["sles", "suse"]
            .iter()
            .any(|name| os.id.contains(name) || os.like.iter().any(|like| like.contains(name)))
    });
    if suse {
        let again = "install the package of the driver's module again, which makes it for this kernel (`rpm -qa 'nvidia*kmp*'` names it, `zypper install --force` installs it), then load it";
        let mut steps = vec![Step::host(again, &["modprobe -a nvidia nvidia_uvm"])];
        steps.extend(keep_out);
        return Some(finding.fix(steps));
    }
    let mut steps = vec![
        fix::install(snapshot, "kernel-headers", None, "install the headers of this kernel"),
        build,
    ];
    if with_dkms {
        steps.push(Step::host(
            "if the build fails, its log below /var/lib/dkms/nvidia says why: mostly a kernel newer than the driver",
            &[],
        ));
    }
    steps.extend(keep_out);
    Some(finding.fix(steps))
}

/// The kernel's word that a module of the driver's was built for another (the kernel's kernel/module/main.c,
/// `check_modinfo`, and version.c, `check_version`).
fn refused(snapshot: &Snapshot) -> Option<&str> {
    const SAYS: [&str; 2] = ["version magic", "disagrees about version of symbol"];
    let lines = snapshot.kernel_log.iter().flatten().map(String::as_str);
    let mut lines = lines.filter(|line| line.starts_with("nvidia"));
    lines.find(|line| SAYS.iter().any(|words| line.contains(words)))
}
