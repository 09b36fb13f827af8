//! What was called ready once and is not known, and causes in software that were called a broken card.

mod report;

use report::case;
use sconce_doctor::{Os, Rootless, Snapshot, Verdict, examine};

fn on(mut snapshot: Snapshot, id: &str, like: &[&str], version: &str) -> Snapshot {
    let like = like.iter().map(|word| (*word).to_owned()).collect();
    snapshot.os = Some(Os { id: id.into(), like, version: Some(version.into()) });
    snapshot
}

fn ids(snapshot: &Snapshot) -> Vec<&'static str> {
    examine(snapshot, None).findings.iter().map(|finding| finding.rule.id).collect()
}

/// Eight H100 of a board, well and without a word in the log.
fn board() -> Snapshot {
    let mut snapshot = case("x140");
    snapshot.kernel_log = Some(Vec::new());
    snapshot.errors.clear();
    snapshot
}

/// One H100 that is well.
fn one() -> Snapshot {
    let mut snapshot = case("xid-48");
    snapshot.kernel_log = Some(Vec::new());
    snapshot.errors.clear();
    snapshot
}

#[test]
fn a_board_whose_gpus_do_not_speak_of_its_fabric() {
    let mut snapshot = board();
    snapshot.nodes.retain(|node| !node.path.to_string_lossy().contains("nvswitch"));
    snapshot.fabric_manager = false;
    assert_eq!(examine(&snapshot, None).verdict, Verdict::Ready);
    for gpu in &mut snapshot.gpus {
        gpu.fabric = None;
    }
    assert_eq!(examine(&snapshot, None).verdict, Verdict::CantTell);
    snapshot.fabric_manager = true;
    assert_eq!(examine(&snapshot, None).verdict, Verdict::Ready);
    // Four are linked to each other.
    snapshot.fabric_manager = false;
    snapshot.gpus.truncate(4);
    snapshot.pci.truncate(4);
    assert_eq!(examine(&snapshot, None).verdict, Verdict::Ready);
}

#[test]
fn root_of_a_container_without_nodes_of_mig() {
    let mut snapshot = case("mig-nodes-missing");
    (snapshot.root, snapshot.container) = (true, true);
    assert_eq!(examine(&snapshot, None).verdict, Verdict::CantTell);
    snapshot.container = false;
    assert_eq!(examine(&snapshot, None).verdict, Verdict::Ready);
}

#[test]
fn a_libcuda_of_no_known_driver_comes_first() {
    let mut snapshot = one();
    snapshot.compat_libcuda = Some("/usr/local/cuda/compat/libcuda.so.1".into());
    for (driver, compat, verdict) in [
        ("580.65.06", None, Verdict::CantTell),
        ("545.23.08", Some("580.65.06"), Verdict::CantTell),
        ("535.104.05", Some("580.65.06"), Verdict::Ready),
        ("580.65.06", Some("525.60.13"), Verdict::Blocked),
    ] {
        snapshot.driver.module = Some(driver.into());
        snapshot.driver.libraries = Some(driver.into());
        snapshot.compat_version = compat.map(str::to_owned);
        assert_eq!(examine(&snapshot, None).verdict, verdict, "{driver} {compat:?}");
    }
}

#[test]
fn an_older_driver_in_place_of_a_newer_one() {
    let mut snapshot = on(case("upgraded-past-the-gpu"), "debian", &[], "12");
    snapshot.driver.module = snapshot.driver.libraries.clone();
    snapshot.gpus.clear();
    let text = examine(&snapshot, None).text();
    assert!(text.contains("apt-get install -y nvidia-driver-pinning-580"), "{text}");
    assert!(text.contains("--allow-downgrades"), "{text}");
}

#[test]
fn a_module_that_is_not_built_or_not_signed() {
    let mut snapshot = one();
    snapshot.schema = 2;
    snapshot.kernel = Some("6.8.0-1-generic".into());
    snapshot.driver.module = None;
    snapshot.driver.nvml = false;
    snapshot.driver.built_for = Some(Vec::new());
    snapshot.gpus.clear();
    snapshot.nodes.clear();
    snapshot.modules = vec!["nouveau".into()];
    snapshot.pci[0].driver = Some("nouveau".into());
    let text = examine(&snapshot, None).text();
    assert!(text.contains("[module-not-built]") && text.contains("blacklist nouveau"), "{text}");
    snapshot.modules.clear();
    snapshot.pci[0].driver = None;
    snapshot.driver.built_for = Some(vec!["6.8.0-1-generic".into()]);
    snapshot.secure_boot = Some(true);
    let text = examine(&snapshot, None).text();
    assert!(text.contains("Secure Boot is on") && text.contains("modinfo"), "{text}");
    snapshot.kernel_log = Some(vec!["Loading of module with unavailable key is rejected".into()]);
    let text = examine(&on(snapshot, "sles", &["suse"], "15.6"), None).text();
    assert!(text.contains("nvidia-pubkeys") && !text.contains("dkms"), "{text}");
}

#[test]
fn a_gpu_that_is_bound_to_nobody() {
    let mut snapshot = one();
    snapshot.schema = 2;
    snapshot.gpus.clear();
    snapshot.nodes.retain(|node| !node.path.ends_with("nvidia0"));
    snapshot.pci[0].driver = None;
    let text = examine(&snapshot, None).text();
    assert!(text.contains("bound to no driver") && text.contains("drivers/nvidia/bind"), "{text}");
}

#[test]
fn complaints_of_gpus_that_answer() {
    let bus = one().pci[0].bus_id.clone();
    for line in [
        format!("NVRM: GPU {bus}: RmInitAdapter failed! (0x26:0x56:1482)"),
        format!("NVRM: GPU {bus}: GPU has fallen off the bus."),
        "NVRM: API mismatch: the client has the version 570.124.06, but".to_owned(),
    ] {
        let mut snapshot = one();
        snapshot.kernel_log = Some(vec![line.clone()]);
        assert!(ids(&snapshot).contains(&"kernel-words"), "{line}");
        assert_eq!(examine(&snapshot, None).verdict, Verdict::Ready, "{line}");
    }
}

#[test]
fn what_a_snapshot_says_is_no_command() {
    let mut snapshot = on(case("no-libraries"), "ubuntu", &["debian"], "24.04");
    snapshot.driver.module = Some("580.1.2'; reboot; '".into());
    let report = examine(&snapshot, None);
    let steps = report.findings.iter().flat_map(|finding| &finding.steps);
    let mut commands = steps.flat_map(|step| &step.commands);
    assert!(!commands.any(|command| command.contains("reboot; ")));
}

#[test]
fn what_is_in_the_way_of_containers_without_root() {
    let free = Rootless { subordinate_ids: Some(true), cgroup2: Some(true), ..Rootless::default() };
    let says = |rootless: Rootless| {
        let mut snapshot = one();
        snapshot.root = false;
        snapshot.rootless = Some(rootless);
        let report = examine(&snapshot, None);
        let found = report.findings.iter().filter(|finding| finding.rule.id == "rootless");
        (report.verdict, found.count())
    };
    assert_eq!(says(free.clone()), (Verdict::Ready, 0));
    let forbidden = Some("user.max_user_namespaces".to_owned());
    let none = Rootless { forbidden_by: forbidden, ..free.clone() };
    assert_eq!(says(none), (Verdict::ReadyWithWarnings, 1));
    let apparmor = Rootless { apparmor: true, ..free.clone() };
    assert_eq!(says(apparmor), (Verdict::ReadyWithWarnings, 1));
    let bare = Rootless { subordinate_ids: Some(false), cgroup2: Some(false), ..free };
    assert_eq!(says(bare), (Verdict::Ready, 2));
}
