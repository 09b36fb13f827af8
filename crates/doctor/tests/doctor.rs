//! The rules on described machines (`crates/gpu/tests/worlds`), and the manual's page.

#[path = "../../gpu/tests/world/mod.rs"]
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use expect_test::{Expect, expect, expect_file};
use sconce_doctor::{Others, Rootless, Snapshot, Subject, Verdict, examine, page, rules};
use world::world;

fn snapshot(name: &str) -> Snapshot {
    Snapshot::capture(&world(name).machine)
}

/// Verdict and findings of a world, one line each.
fn check(name: &str, subject: Option<&Subject>, says: Expect) {
    let report = examine(&snapshot(name), subject);
    let mut out = format!("{:?} ({})\n", report.verdict, report.verdict.exit_code());
    for finding in &report.findings {
        out += &format!("{:?} {}: {}\n", finding.severity, finding.rule.id, finding.summary);
        for seen in &finding.evidence {
            out += &format!("    {seen}\n");
        }
    }
    says.assert_eq(&out);
}

#[test]
fn healthy_machines() {
    check(
        "h100",
        None,
        expect![[r#"
        Ready (0)
    "#]],
    );
    check(
        "laptop",
        None,
        expect![[r#"
        Ready (0)
        Notes driver-too-old: the driver 550.54.14 is too old for the newest CUDA
            CUDA 13 starts at driver 580.65.06
    "#]],
    );
    check(
        "a100-mig",
        None,
        expect![[r#"
            Ready (0)
            Notes mig-several: 2 MIG instances are here; each CUDA process uses one of them
            Notes driver-too-old: the driver 535.104.05 is too old for the newest CUDA
                CUDA 13 starts at driver 580.65.06
        "#]],
    );
    check(
        "bare",
        None,
        expect![[r#"
            NoGpu (10)
        "#]],
    );
}

/// What NVML alone knows, and one that knows nothing.
#[test]
fn what_nvml_says() {
    check(
        "worn",
        None,
        expect![[r#"
            ReadyWithWarnings (0)
            Warns compute-mode: GPU 0 (NVIDIA H100 80GB HBM3) lets no process compute
                compute mode Prohibited
            Warns compute-mode: GPU 1 (NVIDIA H100 80GB HBM3) lets one process compute at a time, and one does; only through MPS do more
                compute mode ExclusiveProcess
            Warns gpu-memory: GPU 0 (NVIDIA H100 80GB HBM3) replaces a failing memory row at its next reset
            Notes gpu-in-use: 75 of 79 GiB of GPU 1 are in use
                1 process(es) compute on it
        "#]],
    );
    check(
        "mute",
        None,
        expect![[r#"
            Blocked (1)
            Stops gpu-lost: GPU 0 (NVIDIA H100 80GB HBM3) at 0000:04:00.0 is lost
                NVML answers for others, and nothing for this one
        "#]],
    );
}

#[test]
fn a_driver_replaced_under_a_container() {
    check(
        "driver-replaced",
        None,
        expect![[r#"
            Blocked (1)
            Stops driver-mismatch: Driver/library version mismatch: the loaded module is 595.71.05, the libraries are 580.159.04
                libraries in /usr/lib/x86_64-linux-gnu
        "#]],
    );
}

#[test]
fn fabric_manager_of_another_release() {
    check(
        "hgx-fabric-old",
        None,
        expect![[r#"
            Blocked (1)
            Stops fabric-manager: fabric manager is of version 580.65.06, the driver is 580.159.04
                4 NVSwitches are here and fabric manager is not running
                the NVLink fabric of 8 GPU(s) is not up
                GPU 0: InProgress, GPU 1: InProgress, GPU 2: InProgress, GPU 3: InProgress, GPU 4: InProgress, GPU 5: InProgress, GPU 6: InProgress, GPU 7: InProgress
        "#]],
    );
}

/// Recorded on a real machine with --save, its kernel's local name cut.
/// The world of the same name describes that machine, and looks the same.
#[test]
fn a_recorded_h100() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/h100-vm.json");
    let recorded = Snapshot::load(&path).unwrap();
    expect![[r#"
        1x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
        ready: nothing stands in the way
    "#]]
    .assert_eq(&examine(&recorded, None).text());
    let mut described: Snapshot = serde_json::from_str(&snapshot("h100-vm").json()).unwrap();
    described.kernel.clone_from(&recorded.kernel);
    // The snapshot was taken before these were asked for.
    described.driver.open = None;
    (described.schema, described.gpus[0].answers) = (1, None);
    (described.gpus[0].used_bytes, described.gpus[0].processes) = (None, None);
    assert_eq!(described, serde_json::from_str::<Snapshot>(&recorded.json()).unwrap());
}

/// A host of four, each with 18 NVLinks to each of the others.
#[test]
fn a_recorded_host_of_four_h100() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/h100-x4-vm.json");
    let recorded = Snapshot::load(&path).unwrap();
    expect![[r#"
        4x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
        ready: nothing stands in the way
    "#]]
    .assert_eq(&examine(&recorded, None).text());
}

/// With all that is asked today: a driver's real answers.
#[test]
fn a_recorded_h200() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/h200-vm.json");
    let recorded = Snapshot::load(&path).unwrap();
    expect![[r#"
        1x NVIDIA H200, driver 580.159.04 (CUDA up to 13.0)
        ready: nothing stands in the way
    "#]]
    .assert_eq(&examine(&recorded, None).text());
    let gpu = &recorded.gpus[0];
    assert!(gpu.remapped.is_some() && gpu.compute_mode.is_some() && gpu.used_bytes.is_some());
    assert_eq!(gpu.processes, Some(0));
    // An image for Blackwell alone does not run there, nor one that needs a later driver.
    let blackwell = Subject {
        name: "an image".into(),
        cuda_major: Some(13),
        driver_floor: None,
        architectures: vec!["sm_100".parse().unwrap()],
        ..Subject::default()
    };
    let report = examine(&recorded, Some(&blackwell));
    assert!(report.findings.iter().any(|finding| finding.rule.id == "gpu-not-covered"));
}

#[test]
fn drivers_that_can_not_work() {
    check(
        "no-driver",
        None,
        expect![[r#"
        Blocked (1)
        Stops driver-missing: 1 NVIDIA GPU(s) are on the PCI bus and no driver is installed
            0000:04:00.0: 10de:2330 (H100 SXM5 80GB)
    "#]],
    );
    check(
        "half-upgraded",
        None,
        expect![[r#"
        Blocked (1)
        Stops driver-mismatch: Driver/library version mismatch: the loaded module is 575.57.08, the libraries are 580.159.04
            libraries in /usr/lib/x86_64-linux-gnu
        Notes driver-too-old: the driver 575.57.08 is too old for the newest CUDA
            CUDA 13 starts at driver 580.65.06
    "#]],
    );
    check(
        "old-node",
        None,
        expect![[r#"
        Blocked (1)
        Stops node-stale: /dev/nvidia-uvm is not the driver's: its major number is 236
            /proc/devices says 510 for the driver
    "#]],
    );
    check(
        "wsl",
        None,
        expect![[r#"
        Blocked (1)
        Stops wsl: this is WSL, whose GPUs sconce does not inject
            /dev/dxg or /usr/lib/wsl, and no NVIDIA kernel module
    "#]],
    );
    check(
        "no-uvm",
        None,
        expect![[r#"
        Blocked (1)
        Stops uvm-missing: /dev/nvidia-uvm is missing: CUDA can't start
            the module nvidia_uvm is not loaded
    "#]],
    );
    check(
        "hgx-fabric-down",
        None,
        expect![[r#"
            Blocked (1)
            Stops fabric-manager: 4 NVSwitches are here and fabric manager is not running
                the NVLink fabric of 8 GPU(s) is not up
                GPU 0: InProgress, GPU 1: InProgress, GPU 2: InProgress, GPU 3: InProgress, GPU 4: InProgress, GPU 5: InProgress, GPU 6: InProgress, GPU 7: InProgress
        "#]],
    );
}

#[test]
fn containers_that_can_not_work() {
    check(
        "small-shm",
        None,
        expect![[r#"
        ReadyWithWarnings (0)
        Warns small-shm: /dev/shm has 64 MiB: DataLoader workers and NCCL will fill it
    "#]],
    );
    check(
        "denied",
        None,
        expect![[r#"
            Blocked (1)
            Stops node-denied: /dev/nvidia0, /dev/nvidiactl can't be opened
                EACCES: its mode forbids it (/dev/nvidia0 195:0, mode 0660)
                EPERM: the device cgroup or a security module forbids it (/dev/nvidiactl 195:255, mode 0666)
        "#]],
    );
}

#[test]
fn a_sick_machine() {
    check(
        "sick",
        None,
        expect![[r#"
            Blocked (1)
            Stops forward-compat: a compatibility libcuda comes first that is older than the driver: cuInit fails with error 803
                /usr/local/cuda/compat/libcuda.so.1
                it is of driver 575.1.1, the driver is 580.159.04
            Warns gpu-lost: H100 SXM5 80GB at 0000:9d:00.0 is on the bus and the driver does not show it
                NVRM: Xid (PCI:0000:9d:00): 79, pid=4711, name=secret-model, GPU has fallen off the bus.
            Warns visible-devices: CUDA_VISIBLE_DEVICES hides every GPU
                CUDA_VISIBLE_DEVICES=7
            Warns memlock: InfiniBand is here and only 64 KiB of memory may be locked
            Warns gpudirect-rdma: InfiniBand is here, and nothing lets it reach the GPUs' memory
                neither nvidia_peermem nor the open kernel module is loaded
            Warns peer-to-peer: traffic between GPUs may take a detour
                the IOMMU translates for devices
            Warns cdi-stale: the CDI document /etc/cdi/nvidia.yaml is stale
                /dev/nvidia7 is not there
            Notes xid: Xid 31 on GPU 0: GPU memory page fault
                NVRM: Xid (PCI:0000:04:00): 31, pid=12, name=python, Ch 00000008
            Notes cdi-stale: the CDI document /etc/cdi/broken.json can't be read
                EOF while parsing an object at line 1 column 1
            Notes library-path: LD_LIBRARY_PATH leads to other CUDA libraries
                /usr/local/cuda/compat:/home/ada/cuda-12/lib64
            Notes host-name: the host's own name does not resolve
            Notes device-cgroup: GPU nodes have no /dev/char links: a reload of systemd takes GPUs from containers
                missing: /dev/char/195:254 (/dev/nvidia-modeset), /dev/char/510:0 (/dev/nvidia-uvm), /dev/char/510:1 (/dev/nvidia-uvm-tools), /dev/char/195:0 (/dev/nvidia0), /dev/char/195:1 (/dev/nvidia1), /dev/char/195:255 (/dev/nvidiactl)
        "#]],
    );
}

/// Torch alone is judged by a lock; without torch nothing is, and no yes is said.
#[test]
fn what_is_not_judged_is_said() {
    let subject = |without_torch, others| Subject {
        name: "mine".into(),
        cuda_major: Some(13),
        without_torch,
        others,
        ..Subject::default()
    };
    let arm = Subject { processor: Some("aarch64".into()), ..subject(false, Others::None) };
    let mut out = String::new();
    for subject in [
        subject(false, Others::None),
        subject(false, Others::Packages(1)),
        subject(false, Others::Unknown),
        subject(true, Others::None),
        subject(true, Others::Packages(2)),
        subject(true, Others::Unknown),
        arm,
    ] {
        let world = world("h100");
        let report = examine(&Snapshot::capture(&world.machine), Some(&subject));
        out += &format!("{:?}", report.verdict);
        for finding in &report.findings {
            out += &format!("; {:?} {}: {}", finding.severity, finding.rule.id, finding.summary);
        }
        out += "\n";
    }
    expect![[r#"
        Ready
        Ready; Notes not-judged: of mine only torch was judged; whether its other package with compiled code runs on this GPU is not known
        Ready; Notes not-judged: of mine only torch was judged; whether what else it holds runs on this GPU is not known
        Ready
        CantTell; Unknown not-judged: mine has no torch; whether its 2 packages with compiled code run on this GPU is not known
        CantTell; Unknown not-judged: mine has no torch; whether what it holds runs on this GPU is not known
        Blocked; Stops other-processor: mine is for aarch64, and this machine is x86_64
    "#]].assert_eq(&out);
}

#[test]
fn an_image_for_another_machine() {
    let subject = Subject {
        name: "torch 2.15.0".into(),
        cuda_major: Some(13),
        driver_floor: None,
        architectures: ["sm_80", "sm_90"].map(|sm| sm.parse().unwrap()).to_vec(),
        ..Subject::default()
    };
    check(
        "h100",
        Some(&subject),
        expect![[r#"
        Ready (0)
    "#]],
    );
    check(
        "a100-mig",
        Some(&subject),
        expect![[r#"
        Blocked (1)
        Stops driver-too-old: torch 2.15.0 (CUDA 13) needs driver 580.65.06, this one is 535.104.05
        Notes mig-several: 2 MIG instances are here; each CUDA process uses one of them
    "#]],
    );
    let old = Subject { architectures: vec!["sm_70".parse().unwrap()], ..subject };
    check(
        "h100",
        Some(&old),
        expect![[r#"
        Blocked (1)
        Stops gpu-not-covered: torch 2.15.0 has no code for GPU 0 (NVIDIA H100 80GB HBM3, sm_90)
            it has sm_70
    "#]],
    );
}

/// Each rule is reached by some world, so that none is dead.
#[test]
fn every_rule_is_met() {
    let worlds = [
        "h100",
        "laptop",
        "a100-mig",
        "bare",
        "no-driver",
        "half-upgraded",
        "wsl",
        "no-uvm",
        "hgx-fabric-down",
        "small-shm",
        "denied",
        "sick",
        "only-libraries",
        "only-module",
        "mig-empty",
        "volta",
        "worn",
        "old-node",
        "not-built",
        "unsigned",
        "cluster-node",
        "b200-no-nvlsm",
        "volta-open",
        "no-window",
        "vgpu",
        "excluded",
    ];
    let subject = Subject {
        name: "an image".into(),
        cuda_major: Some(13),
        driver_floor: None,
        architectures: vec!["sm_120".parse().unwrap()],
        ..Subject::default()
    };
    let cpu = Subject { name: "a CPU build".into(), ..Subject::default() };
    let unread = Subject {
        name: "a lock".into(),
        without_torch: true,
        processor: Some("riscv64".into()),
        others: Others::Unknown,
        ..Subject::default()
    };
    let undecided = Some("is not locked".to_owned());
    let bare = Subject { name: "a project".into(), undecided, ..Subject::default() };
    let mut met = BTreeSet::new();
    let mut snapshots: Vec<Snapshot> = worlds.into_iter().map(snapshot).collect();
    // No world has the settings of a kernel, nor a complaint of a GPU that answers.
    let mut settings = snapshot("laptop");
    let apparmor = Rootless { apparmor: true, ..Rootless::default() };
    (settings.rootless, settings.container) = (Some(apparmor), false);
    settings.kernel_log = Some(vec!["NVRM: API mismatch: the client has the version 1".into()]);
    snapshots.push(settings);
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/cases");
    let mut host = Snapshot::load(&cases.join("small-bar1.json")).unwrap();
    let words = format!(
        "NVRM: The NVIDIA GPU {} installed in this vGPU host system is not supported by open nvidia.ko.",
        host.pci[0].bus_id
    );
    (host.gpus, host.kernel_log) = (Vec::new(), Some(vec![words]));
    (host.driver.open, host.nodes) = (Some(true), Vec::new());
    let mut jetson = snapshot("bare");
    (jetson.kernel, jetson.modules) = (Some("5.15.148-tegra".into()), vec!["nvgpu".into()]);
    // A driver that works without its module.
    let mut odd = snapshot("h100");
    odd.modules.clear();
    snapshots.extend([host, jetson, odd]);
    for snapshot in snapshots {
        for subject in [None, Some(&subject), Some(&cpu), Some(&unread), Some(&bare)] {
            met.extend(examine(&snapshot, subject).findings.iter().map(|finding| finding.rule.id));
        }
    }
    for case in fs::read_dir(cases).unwrap() {
        let snapshot = Snapshot::load(&case.unwrap().path()).unwrap();
        met.extend(examine(&snapshot, None).findings.iter().map(|finding| finding.rule.id));
    }
    let all: BTreeSet<&str> = rules::RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(all.len(), rules::RULES.len(), "two rules of one name");
    assert_eq!(
        all.difference(&met).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "rules no world meets"
    );
}

#[test]
fn the_report_as_text_and_json() {
    let report = examine(&snapshot("half-upgraded"), None);
    expect![[r#"
        1x NVIDIA H100 80GB HBM3, driver 575.57.08 (CUDA up to 13.0)
        blocked: a container with GPUs can't work here as it is

        STOPS  Driver/library version mismatch: the loaded module is 575.57.08, the libraries are 580.159.04 [driver-mismatch]
               seen: libraries in /usr/lib/x86_64-linux-gnu
               fix:  restart the machine: `systemctl reboot`
               then: or stop what uses the GPUs (`fuser -v /dev/nvidia*` lists it), then load the modules again: `systemctl stop nvidia-persistenced`, `sh -c 'modprobe -r nvidia_uvm nvidia_drm nvidia_modeset nvidia; modprobe -a nvidia nvidia_uvm'`
               see:  NVIDIA/nvidia-container-toolkit#394

        notes  the driver 575.57.08 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]].assert_eq(&report.text());
    let json = report.json();
    assert_eq!((json["verdict"].as_str(), json["exit_code"].as_u64()), (Some("blocked"), Some(1)));
    assert_eq!(json["findings"][0]["rule"], "driver-mismatch");
}

#[test]
fn the_manual_is_what_the_rules_say() {
    expect_file!["../../../docs/doctor.md"].assert_eq(&page());
}

/// Whatever machine the tests run on, looking at it ends and judges.
#[test]
fn this_machine_is_judged() {
    let snapshot = Snapshot::capture(&sconce_gpu::Machine::host());
    let report = examine(&snapshot, None);
    let nothing = snapshot.pci.is_empty() && snapshot.driver.module.is_none() && !snapshot.wsl;
    assert_eq!(nothing, report.verdict == Verdict::NoGpu, "{}", report.text());
}
