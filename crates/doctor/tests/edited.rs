//! Machines described before, with one thing changed: the cause and the cure follow what was changed.

mod report;

use report::case;
use sconce_doctor::{MigInstance, Node, Snapshot, Verdict, examine};
use sconce_gpu::Opening;
use sconce_gpu::nvml::Fabric;

/// The first finding's rule, all of the text holding `words` and nothing of `never`.
fn says(what: &str, seen: &Snapshot, verdict: Verdict, rule: &str, words: &[&str], never: &[&str]) {
    let report = examine(seen, None);
    let text = report.text();
    let first = report.findings.first().map_or("", |finding| finding.rule.id);
    assert_eq!((report.verdict, first), (verdict, rule), "{what}:\n{text}");
    for words in words {
        assert!(text.contains(words), "{what}: no `{words}` in\n{text}");
    }
    for never in never {
        assert!(!text.contains(never), "{what}: `{never}` in\n{text}");
    }
}

/// One A100, all well.
fn well() -> Snapshot {
    case("small-bar1")
}

fn node<'a>(seen: &'a mut Snapshot, name: &str) -> &'a mut Node {
    seen.nodes.iter_mut().find(|node| node.path.ends_with(name)).unwrap()
}

#[test]
fn a_node_with_other_numbers_is_not_the_driver_s() {
    for open in [Opening::Fine, Opening::Dead, Opening::Forbidden] {
        let mut seen = well();
        node(&mut seen, "nvidia0").minor = 1;
        node(&mut seen, "nvidia0").open = open;
        let words = ["195:0", "`rm /dev/nvidia0`, `nvidia-modprobe -c 0`"];
        says("minor", &seen, Verdict::Blocked, "node-stale", &words, &["gpu-lost", "node-denied"]);
        let mut seen = well();
        node(&mut seen, "nvidia0").major = 196;
        node(&mut seen, "nvidia0").open = open;
        says("major", &seen, Verdict::Blocked, "node-stale", &["always 195"], &["gpu-lost"]);
        let mut seen = well();
        node(&mut seen, "nvidiactl").minor = 7;
        node(&mut seen, "nvidiactl").open = open;
        let words = ["195:255", "`nvidia-modprobe -c 255`"];
        says("control", &seen, Verdict::Blocked, "node-stale", &words, &["node-denied"]);
    }
}

#[test]
fn a_node_is_made_by_the_option_for_its_kind() {
    let mut seen = well();
    seen.gpus[0].mig_mode = true;
    seen.gpus[0].instances = 1;
    seen.gpus[0].mig = vec![MigInstance { gpu_instance: 1, compute_instance: 0 }];
    for minor in [12, 13] {
        let mut cap = node(&mut seen, "nvidia0").clone();
        cap.path = format!("/dev/nvidia-caps/nvidia-cap{minor}").into();
        (cap.major, cap.driver_major, cap.minor) = (511, Some(510), minor);
        seen.nodes.push(cap);
    }
    let words = [
        "`nvidia-modprobe -f /proc/driver/nvidia/capabilities/gpu0/mig/gi1/access`",
        "`nvidia-modprobe -f /proc/driver/nvidia/capabilities/gpu0/mig/gi1/ci0/access`",
    ];
    says("caps", &seen, Verdict::Blocked, "node-stale", &words, &["nvidia-modprobe -u"]);
    let mut seen = well();
    node(&mut seen, "nvidia-uvm").driver_major = Some(511);
    says("uvm", &seen, Verdict::Blocked, "node-stale", &["`nvidia-modprobe -u -c 0`"], &[]);
}

fn silent(reason: &str) -> Snapshot {
    let mut seen = well();
    seen.gpus[0].answers = Some(false);
    seen.gpus[0].silence = Some(reason.into());
    seen
}

#[test]
fn what_nvml_says_of_a_gpu_is_its_cause() {
    use Verdict::{Blocked, CantTell};
    let lost = "gpu-lost";
    for (reason, verdict, rule, words, never) in [
        ("GPU requires reset", Blocked, "recovery-action", "nvidia-smi --gpu-reset", lost),
        ("Reset required (16)", Blocked, "recovery-action", "nvidia-smi --gpu-reset", lost),
        ("Insufficient External Power (8)", Blocked, "power-cable", "power connector", lost),
        ("Insufficient External Power", Blocked, "power-cable", "power connector", lost),
        ("Insufficient Permissions (4)", CantTell, "nvml-silent", "fuser -v /dev/nvidia0", lost),
        ("In use by another client", CantTell, "nvml-silent", "fuser -v /dev/nvidia0", lost),
        ("error (19)", CantTell, "nvml-silent", "fuser -v /dev/nvidia0", lost),
        ("GPU is lost (15)", Blocked, lost, "systemctl reboot", "--gpu-reset"),
        ("Unknown Error (999)", Blocked, lost, "systemctl reboot", "--gpu-reset"),
    ] {
        says(reason, &silent(reason), verdict, rule, &[words], &[never]);
        // Some of its calls are answered.
        let mut seen = silent(reason);
        seen.gpus[0].answers = Some(true);
        says(&format!("{reason}, of one call"), &seen, verdict, rule, &[words], &[never]);
    }
    let mut seen = silent("GPU requires reset");
    let bus = seen.gpus[0].bus_id.trim_end_matches(".0").to_owned();
    seen.kernel_log.get_or_insert_default().push(format!(
        "NVRM: Xid (PCI:{bus}): 154, pid=…, name=…, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"
    ));
    says("xid 154", &seen, Blocked, "recovery-action", &["--gpu-reset", "GPU Reset"], &[lost]);
}

/// An error that the catalogue does not have, and a recovery that nobody can read, are no "ready".
#[test]
fn what_the_catalogue_does_not_have_can_not_be_told() {
    let with = |rest: &str| {
        let mut seen = well();
        let bus = seen.gpus[0].bus_id.trim_end_matches(".0").to_owned();
        seen.kernel_log.get_or_insert_default().push(format!("NVRM: Xid (PCI:{bus}): {rest}"));
        seen
    };
    let page = "https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html";
    for (rest, words) in [
        (
            "4000, pid=1, name=a, Something new",
            "not in NVIDIA's catalogue of 2026-11-25: can't tell",
        ),
        ("1, pid=1, name=a, Something old", "catalogue of 2026-11-25 calls it unused: can't tell"),
        (
            "154, pid=1, name=a, GPU recovery action changed",
            "the line does not say to what: can't tell",
        ),
        ("154, pid=1, name=a, it went to sleep (0)", "the line does not say to what: can't tell"),
    ] {
        says(
            rest,
            &with(rest),
            Verdict::CantTell,
            "xid",
            &[words, page, "nvidia-bug-report.sh"],
            &[],
        );
    }
    let change = |to: &str| {
        with(&format!("154, pid=1, name=a, GPU recovery action changed from 0x0 (None) to {to}"))
    };
    let (peers, reset) =
        ("stop every program that uses this GPU or its NVLink peers", "--gpu-reset");
    for (to, words, never) in [
        ("0x1 (GPU Reset Required)", &[reset][..], &[peers, "reboot"][..]),
        ("0x2 (Node Reboot Required)", &["systemctl reboot"], &[reset]),
        ("0x3 (Drain P2P)", &[peers], &[reset, "reboot"]),
        ("0x4 (Drain and Reset)", &[peers, reset], &["reboot"]),
        ("0x9 (Something New)", &["look up what the driver asks for in", page], &[reset, "reboot"]),
    ] {
        says(to, &change(to), Verdict::Blocked, "recovery-action", words, never);
    }
    let done = with(
        "154, pid=1, name=a, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)",
    );
    says("done", &done, Verdict::Ready, "", &[], &[reset]);
}

#[test]
fn a_host_of_virtual_gpus() {
    for (open, kind, other) in [(true, "open", "proprietary"), (false, "proprietary", "open")] {
        for lines in [1, 3] {
            let mut seen = well();
            seen.gpus.clear();
            seen.nodes.retain(|node| !node.path.ends_with("nvidia0"));
            seen.driver.open = Some(open);
            let bus = &seen.pci[0].bus_id;
            let words = [
                format!("NVRM: The NVIDIA GPU {bus} (PCI ID: 10de:20b2)"),
                "NVRM: installed in this vGPU host system is not supported by".to_owned(),
                format!("NVRM: {kind} nvidia.ko."),
            ];
            let words = match lines {
                1 => vec![words.join(" ")],
                _ => words.to_vec(),
            };
            seen.kernel_log.get_or_insert_default().extend(words);
            let stay = format!("install the {other} kernel modules of its driver");
            let never = ["older than Turing", "gpu-lost"];
            says(kind, &seen, Verdict::Blocked, "vgpu-host", &[&stay], &never);
        }
    }
}

#[test]
fn the_fabric_of_a_rack_is_brought_up_by_its_switch_trays() {
    let mut seen = case("gb200-no-imex-channel");
    seen.gpus[0].fabric = Some(Fabric::InProgress);
    let never = ["nvlsm]", "ib_umad", "systemctl"];
    says("rack", &seen, Verdict::Blocked, "fabric-manager", &["switch trays"], &never);
}

#[test]
fn a_jetson_is_told_that_it_is_one() {
    for module in [Some("540.4.0".to_owned()), None] {
        let mut seen = well();
        seen.pci.clear();
        seen.gpus.clear();
        seen.nodes.clear();
        seen.modules = vec!["nvgpu".into()];
        seen.kernel = Some("5.15.148-tegra".into());
        seen.driver.module = module;
        seen.driver.libraries = Some("540.4.0".into());
        let report = examine(&seen, None);
        assert_eq!(report.verdict.exit_code(), 1);
        let stops: Vec<&str> = report.findings.iter().map(|finding| finding.rule.id).collect();
        assert_eq!(stops, ["jetson"]);
        assert!(report.text().contains("this is a Jetson; sconce does not serve its GPU"));
    }
}

/// The facts say that this driver can't serve this GPU, and the driver shows it: one of them is wrong.
#[test]
fn a_gpu_that_is_shown_against_the_facts_is_not_ready() {
    for (model, device, driver, open, rule) in [
        ("NVIDIA GeForce RTX 5090", "2b85", "550.163.01", true, "driver-older-than-gpu"),
        ("NVIDIA GeForce RTX 5090", "2b85", "580.95.05", false, "needs-open-module"),
        ("NVIDIA GB10", "2e12", "580.95.05", false, "needs-open-module"),
        ("Tesla V100-SXM2-32GB", "1db5", "590.44.01", false, "driver-dropped-gpu"),
        ("Tesla V100-SXM2-32GB", "1db5", "580.95.05", true, "needs-proprietary-module"),
    ] {
        let mut seen = well();
        seen.pci[0].device = device.into();
        seen.gpus[0].model = model.into();
        seen.gpus[0].capability = None;
        seen.driver.module = Some(driver.into());
        seen.driver.libraries = Some(driver.into());
        seen.driver.open = Some(open);
        says(model, &seen, Verdict::CantTell, rule, &["yet the driver shows it"], &[]);
    }
}

/// A V100 with a libcuda for forward compatibility: of the last branch that knows it, and of one that no longer does.
#[test]
fn a_compatibility_libcuda_that_dropped_the_gpu() {
    let with = |version: &str| {
        let mut seen = case("v100-page-waits");
        (seen.kernel_log, seen.errors) = (None, Vec::new());
        seen.compat_libcuda = Some("/usr/local/cuda/compat/libcuda.so.1".into());
        seen.compat_version = Some(version.to_owned());
        seen
    };
    let meant = "as forward compatibility means it";
    let never = ["no longer knows the GPU"];
    says("580", &with("580.65.06"), Verdict::Ready, "forward-compat", &[meant], &never);
    let words = ["no longer knows the GPU", "branch 580 is the last that runs GPU 0 (Tesla V100"];
    says("590", &with("590.44.01"), Verdict::Blocked, "forward-compat", &words, &[meant]);
}

#[test]
fn an_instance_that_no_gpu_has() {
    let mut seen = well();
    let value = "MIG-0a1b2c3d-0000-0000-0000-000000000000".to_owned();
    seen.environment.insert("CUDA_VISIBLE_DEVICES".to_owned(), value);
    let words = ["hides every GPU"];
    says("none", &seen, Verdict::ReadyWithWarnings, "visible-devices", &words, &[]);
}
