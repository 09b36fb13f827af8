//! What a fix says on one machine: commands that do what is meant there, and nothing else.

#[path = "../../gpu/tests/world/mod.rs"]
mod world;

mod report;

use report::case;
use sconce_doctor::{MigInstance, Os, Snapshot, Verdict, examine};
use sconce_gpu::Opening;
use world::world;

fn machine(name: &str) -> Snapshot {
    Snapshot::capture(&world(name).machine)
}

fn on(mut snapshot: Snapshot, id: &str, like: &[&str], version: &str) -> Snapshot {
    let like = like.iter().map(|word| (*word).to_owned()).collect();
    snapshot.os = Some(Os { id: id.into(), like, version: Some(version.into()) });
    snapshot
}

/// All commands of one rule's findings.
fn commands(snapshot: &Snapshot, rule: &str) -> Vec<String> {
    let findings = examine(snapshot, None).findings.into_iter();
    let found = findings.filter(|finding| finding.rule.id == rule);
    found.flat_map(|finding| finding.steps).flat_map(|step| step.commands).collect()
}

#[test]
fn libraries_of_the_modules_very_version() {
    let of = |id: &str, like: &[&str], version: &str| {
        commands(&on(case("no-libraries"), id, like, version), "driver-libraries-missing")
    };
    let module = case("no-libraries").driver.module.unwrap();
    let branch = module.split('.').next().unwrap();
    let ubuntu = of("ubuntu", &["debian"], "24.04");
    assert_eq!(
        ubuntu.last().unwrap(),
        &format!(
            "sh -c \"apt-get install -y 'libnvidia-compute-{branch}-server={module}*' || apt-get install -y \
             'libnvidia-compute-{branch}={module}*'\""
        )
    );
    assert_eq!(
        of("rocky", &["rhel", "centos", "fedora"], "9.6"),
        [format!("dnf install -y nvidia-driver-cuda-{module}")]
    );
    let suse = |branch: &str| {
        let mut machine = on(case("no-libraries"), "sles", &["suse"], "15.7");
        machine.driver.module = Some(format!("{branch}.1.2"));
        commands(&machine, "driver-libraries-missing")
    };
    assert_eq!(suse("580"), ["zypper --non-interactive install nvidia-compute-G06=580.1.2"]);
    assert!(suse("595").is_empty(), "the package has another name");
}

#[test]
fn fabric_manager_of_the_drivers_very_version() {
    let down = machine("hgx-fabric-old");
    let module = down.driver.module.clone().unwrap();
    let branch = module.split('.').next().unwrap().to_owned();
    let of = |id: &str, like: &[&str], version: &str| {
        commands(&on(down.clone(), id, like, version), "fabric-manager")
    };
    for (os, wanted) in [
        (
            ("ubuntu", &["debian"][..], "24.04"),
            format!("apt-get install -y 'nvidia-fabricmanager-{branch}={module}*'"),
        ),
        (
            ("debian", &[], "13"),
            format!("apt-get install -y 'nvidia-fabricmanager-{branch}={module}*'"),
        ),
        (("rocky", &["rhel"], "9.6"), format!("dnf install -y 'nvidia-fabric*manager*-{module}'")),
        (
            ("sles", &["suse"], "15.7"),
            format!("zypper --non-interactive install nvidia-fabricmanager-{branch}={module}"),
        ),
    ] {
        let said = of(os.0, os.1, os.2);
        assert!(said.contains(&wanted), "{os:?}: {wanted} is missing of {said:?}");
    }
}

/// Distributions that no vendor's repository serves: by their own packages, by the kernel that runs, and by what is written first.
#[test]
fn distributions_with_drivers_of_their_own() {
    let of = |id: &str, kernel: &str| {
        let mut seen = on(machine("no-driver"), id, &[], "1");
        seen.kernel = Some(kernel.to_owned());
        seen
    };
    for (id, kernel, wanted) in [
        ("arch", "6.17.9-arch1-1", "pacman -Syu nvidia-open nvidia-utils"),
        ("arch", "6.12.58-1-lts", "pacman -Syu nvidia-lts-open nvidia-utils"),
        (
            "arch",
            "6.17.9-zen1-1-zen",
            "pacman -Syu nvidia-open-dkms nvidia-utils linux-zen-headers",
        ),
        ("gentoo", "6.12.58-gentoo", "emerge x11-drivers/nvidia-drivers"),
        ("nixos", "6.12.58", "nixos-rebuild switch"),
    ] {
        let said = commands(&of(id, kernel), "driver-missing");
        assert!(said.iter().any(|one| one == wanted), "{id} {kernel}: {said:?}");
    }
    // A kernel whose package nobody here knows.
    let said = commands(&of("arch", "6.17.9-1-MANJARO"), "driver-missing");
    assert!(!said.iter().any(|one| one.starts_with("pacman")), "{said:?}");
    let text = examine(&of("nixos", "6.12.58"), None).text();
    assert!(text.contains("`hardware.nvidia.open = true;`"), "{text}");
}

/// The key that is enrolled is that of who signs the module.
#[test]
fn who_signs_the_module_where_dkms_does_not() {
    for (id, words, command) in [
        ("nixos", "take `lockdown=` out of `boot.kernelParams`", "nixos-rebuild switch"),
        ("gentoo", "`MODULES_SIGN_KEY`", "emerge @module-rebuild"),
    ] {
        let seen = on(machine("unsigned"), id, &[], "1");
        let said = commands(&seen, "secure-boot");
        assert!(said.iter().any(|one| one == command), "{id}: {said:?}");
        let text = examine(&seen, None).text();
        assert!(text.contains(words) && !text.contains("dkms"), "{id}: {text}");
    }
}

/// A command that takes the newest driver does not say that it installs a branch.
#[test]
fn a_branch_that_no_command_holds_is_not_promised() {
    for (id, like, version) in [
        ("rocky", &["rhel", "centos", "fedora"][..], "10.1"),
        ("fedora", &[], "43"),
        ("sles", &["suse"], "15.7"),
    ] {
        let text = examine(&on(machine("no-driver"), id, like, version), None).text();
        assert!(text.contains("branch 580, or a later one"), "{id}: {text}");
    }
}

#[test]
fn the_subnet_manager_needs_fabric_manager() {
    let mut snapshot = on(machine("b200-no-nvlsm"), "ubuntu", &["debian"], "24.04");
    let says = |snapshot: &Snapshot| commands(snapshot, "nvlsm").join("\n");
    assert!(!says(&snapshot).is_empty());
    snapshot.fabric_manager = false;
    snapshot.fabric_manager_version = None;
    assert!(says(&snapshot).contains("nvidia-fabricmanager-"), "{}", says(&snapshot));
    snapshot.fabric_manager = true;
    assert!(!says(&snapshot).contains("apt-get install -y 'nvidia-fabricmanager-"));
}

#[test]
fn modules_that_hold_the_drivers_go_first() {
    let mut snapshot = machine("half-upgraded");
    let says = |snapshot: &Snapshot| commands(snapshot, "driver-mismatch").join("\n");
    assert!(says(&snapshot).contains("modprobe -r nvidia_uvm nvidia_drm nvidia_modeset nvidia; modprobe -a nvidia nvidia_uvm'"), "{}", says(&snapshot));
    snapshot.modules.push("nvidia_peermem".to_owned());
    let wanted = "modprobe -r nvidia_peermem nvidia_uvm nvidia_drm nvidia_modeset nvidia; modprobe -a nvidia nvidia_uvm nvidia_peermem'";
    assert!(says(&snapshot).contains(wanted), "{}", says(&snapshot));
}

#[test]
fn an_error_that_asks_for_a_reset_on_the_last_gpu() {
    let one = case("xid-48");
    assert_eq!(examine(&one, None).verdict, Verdict::CantTell);
    // Another one works meanwhile.
    let mut two = one.clone();
    let mut gpu = two.gpus[0].clone();
    let mut pci = two.pci[0].clone();
    let mut node = two.nodes.iter().find(|node| node.path.ends_with("nvidia0")).unwrap().clone();
    (gpu.index, gpu.minor, gpu.bus_id) = (1, 1, "0000:f1:00.0".into());
    pci.bus_id.clone_from(&gpu.bus_id);
    (node.path, node.minor) = ("/dev/nvidia1".into(), 1);
    two.gpus.push(gpu);
    two.pci.push(pci);
    two.nodes.push(node);
    assert_eq!(examine(&two, None).verdict, Verdict::ReadyWithWarnings);
}

#[test]
fn the_nodes_of_an_instance_are_its_own() {
    // Instance 2 of GPU 0, whose nodes are 21 and 22; the nodes of another open.
    let mut snapshot = case("mig-nodes-forbidden");
    let gpu = &mut snapshot.gpus[0];
    (gpu.minor, gpu.instances) = (0, 1);
    gpu.mig = vec![MigInstance { gpu_instance: 2, compute_instance: 0 }];
    let proto = snapshot.nodes.iter().find(|node| node.path.ends_with("nvidia0")).unwrap().clone();
    snapshot.nodes.retain(|node| !node.path.starts_with("/dev/nvidia-caps"));
    let with = |numbers: &[u32]| {
        let mut snapshot = snapshot.clone();
        snapshot.nodes.extend(numbers.iter().map(|number| {
            let mut node = proto.clone();
            node.path = format!("/dev/nvidia-caps/nvidia-cap{number}").into();
            node.open = Opening::Fine;
            node
        }));
        examine(&snapshot, None).findings.iter().any(|finding| finding.rule.id == "mig-empty")
    };
    assert!(with(&[1, 2, 3, 4]) && with(&[21]) && with(&[22, 3]));
    assert!(!with(&[21, 22]));
}
