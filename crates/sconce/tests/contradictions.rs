//! Snapshots of healthy machines in which one thing was changed, so that no machine is as they say: `sconce doctor --from`
//! calls none of them ready.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// An H100 of four, with all that is asked today.
const H100: &str = "h100-x4-vm.json";
/// An H100 in MIG mode with one instance, whose nodes root may open without their permission bits.
const MIG: &str = "cases/mig-nodes-missing.json";

fn snapshot(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../doctor/tests/snapshots");
    let bytes = std::fs::read(folder.join(name)).unwrap();
    let mut seen: Value = serde_json::from_slice(&bytes).unwrap();
    if name == MIG {
        (seen["container"], seen["root"]) = (json!(false), json!(true));
    }
    seen
}

/// The exit code and all that is printed about this snapshot.
fn doctor(snapshot: &Value, words: &[&str]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let file: PathBuf = dir.path().join("snapshot.json");
    std::fs::write(&file, snapshot.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
    command.args(["doctor", "--from"]).arg(&file).args(words);
    let output = command.env("SCONCE_HOME", dir.path().join("store")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), said)
}

/// A value is put to these places (JSON pointers) of the snapshot; null where it was absent.
fn edited(base: &str, edits: &[(&str, Value)]) -> Value {
    let mut seen = snapshot(base);
    for (place, value) in edits {
        let (parent, key) = place.rsplit_once('/').unwrap();
        let parent = seen.pointer_mut(parent).unwrap_or_else(|| panic!("{base} has no {parent}"));
        match parent {
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value.clone(),
            parent => parent[key] = value.clone(),
        }
    }
    seen
}

/// A snapshot, what is put where, the exit code, and what is said.
type Row = (&'static str, Vec<(String, Value)>, i32, &'static str);

#[test]
fn machines_that_can_not_be() {
    let (kernel, log) = ("NVRM: loading NVIDIA UNIX", "/kernel_log");
    let of = |rest: &str| json!([format!("{kernel} {rest}")]);
    let one = |place: &str, value: Value| vec![(place.to_owned(), value)];
    let rows: Vec<Row> = vec![
        // Another driver of the kernel's has the GPUs, or none.
        (H100, one("/pci", held("vfio-pci")), 1, "is held by vfio-pci"),
        (H100, one("/pci", held("nouveau")), 1, "is held by nouveau"),
        (H100, one("/pci", held("NovaCore")), 1, "is held by NovaCore"),
        (H100, one("/pci/0/driver", json!(null)), 12, "yet no kernel driver is bound to it"),
        (H100, one("/pci", json!([])), 12, "yet the PCI bus has no GPU there"),
        (H100, one("/pci/3/bus_id", json!("0000:77:00.0")), 12, "yet the PCI bus has no GPU there"),
        (H100, one("/pci/0/bus_id", json!("0000:00:07.0")), 12, "yet both are at 0000:00:07.0"),
        (H100, one("/pci/0/device", json!("2b85")), 12, "by its PCI id, 2b85, it is a RTX 5090"),
        (H100, one("/gpus/0/model", json!("NVIDIA H100 PCIe")), 12, "it is a H100 SXM5 80GB"),
        (H100, one("/gpus/0/model", json!("NVIDIA H100 NVL")), 12, "it is a H100 SXM5 80GB"),
        (H100, one("/gpus/0/model", json!("NVIDIA H100 96GB HBM3")), 12, "it is a H100 SXM5 80GB"),
        // Memory that no card of this kind has.
        (H100, one("/gpus/0/memory_bytes", json!(8_u64 << 30)), 12, "have 80 GB"),
        (H100, one("/gpus/0/memory_bytes", json!(141_u64 << 30)), 12, "have 80 GB"),
        // Numbers.
        (H100, one("/gpus/0/index", json!(1)), 12, "yet both are GPU 1"),
        (H100, one("/nodes/0/minor", json!(7)), 12, "another device's node"),
        (H100, one("/nodes/0/major", json!(195)), 12, "another device's node"),
        (H100, one("/nodes/1/path", json!("/dev/nvidia-uvm")), 12, "listed twice"),
        (H100, one("/pci/0/bars", json!([16_777_216, 1000, 33_554_432])), 12, "1000 bytes"),
        // Windows without an address.
        (H100, one("/pci/0/bars", json!([0, 0, 0])), 12, "(BAR); yet the driver shows it"),
        (H100, one("/pci/0/bars", json!([16777216, 0, 33554432])), 12, "yet the driver shows it"),
        (H100, one("/pci/0/bars", json!([])), 12, "yet the driver shows it"),
        // The kernel's modules.
        (H100, one("/modules", json!([])), 12, "yet `nvidia` is not among the kernel's modules"),
        (H100, one("/modules", json!(["nouveau"])), 12, "yet `nvidia` is not among"),
        (H100, one("/modules", json!(["nvidia"])), 12, "/dev/nvidia-uvm opens, yet `nvidia_uvm`"),
        // Versions.
        (H100, one("/driver/cuda", json!(0)), 12, "yet `0` is none of it"),
        (H100, one("/driver/cuda", json!(13)), 12, "yet `13` is none of it"),
        (H100, one("/driver/cuda", json!(99990)), 12, "CUDA 99.99, yet driver 580.159.04 does not"),
        (H100, one("/driver/cuda", json!(13010)), 12, "CUDA 13.1, yet driver 580.159.04 does not"),
        (H100, one("/driver/cuda", json!(12080)), 12, "CUDA 12.8, yet driver 580.159.04 does not"),
        (H100, one("/driver/module", json!("535.104.05")), 1, "version mismatch"),
        (H100, one("/driver/module", json!(null)), 1, "its kernel module is not loaded"),
        (H100, one("/driver/libraries", json!(null)), 1, "libcuda was found nowhere"),
        (H100, one("/driver/folder", json!(null)), 12, "yet they lie nowhere"),
        (
            H100,
            one(log, of("Open Kernel Module for x86_64  550.54.14  Release Build")),
            12,
            "yet the kernel's log has that of 550.54.14 loaded",
        ),
        // The processor.
        (H100, one("/arch", json!("")), 12, "the processor is said to be ``"),
        (H100, one("/arch", json!("riscv64")), 12, "the processor is said to be `riscv64`"),
        (H100, one("/arch", json!("aarch64")), 12, "log has the driver for x86_64 loaded"),
        (
            H100,
            one("/driver/folder", json!("/usr/lib/aarch64-linux-gnu")),
            12,
            "the processor is x86_64, yet the driver's libraries lie in /usr/lib/aarch64-linux-gnu",
        ),
        (
            "cases/gb200-no-imex-channel.json",
            one("/arch", json!("x86_64")),
            12,
            "with aarch64 alone",
        ),
        // NVML.
        (H100, one("/driver/nvml", json!(false)), 12, "NVML did not answer"),
        (
            H100,
            one("/driver/nvml_silence", json!("NVML was not asked: a node hangs")),
            12,
            "NVML answered, yet it did not: NVML was not asked",
        ),
        (
            H100,
            vec![
                ("/driver/nvml".into(), json!(false)),
                ("/driver/nvml_silence".into(), json!("NVML was not asked: a node hangs")),
            ],
            12,
            "NVML did not answer, yet it did for GPU 0",
        ),
        (H100, one("/gpus/0/answers", json!(false)), 0, "is lost"),
        (H100, one("/nodes", json!([])), 1, "missing device nodes"),
        // GPUs.
        (H100, one("/gpus", json!([])), 1, "the driver does not show it"),
        (H100, one("/gpus/0/minor", json!(1)), 12, "yet both are /dev/nvidia1"),
        (H100, one("/gpus/0/memory_bytes", json!(0)), 12, "yet it has 0 bytes of memory"),
        (
            H100,
            one("/gpus/0/used_bytes", json!(90_000_000_000_u64)),
            12,
            "90000000000 of them are in use",
        ),
        (H100, one("/gpus/0/capability", json!("0.0")), 12, "capability 9.0, yet it says 0.0"),
        (H100, one("/gpus/0/capability", json!("12.0")), 12, "capability 9.0, yet it says 12.0"),
        (
            H100,
            one("/gpus/0/model", json!("NVIDIA Banana 9000")),
            12,
            "Banana 9000) at 0000:00:06.0 is called so, yet by its PCI id, 2330, it is a H100",
        ),
        (
            H100,
            vec![
                ("/gpus/0/model".into(), json!("NVIDIA Banana 9000")),
                ("/gpus/0/capability".into(), json!("77.7")),
                ("/pci/0/device".into(), json!("ffff")),
            ],
            12,
            "says compute capability 77.7, yet driver 580.159.04 knows no GPU of that",
        ),
        // MIG.
        (
            H100,
            one("/gpus/0/instances", json!(2)),
            12,
            "is not in MIG mode, yet it has MIG instances",
        ),
        (
            MIG,
            one("/gpus/0/mig_mode", json!(false)),
            12,
            "is not in MIG mode, yet it has MIG instances",
        ),
        (MIG, one("/gpus/0/instances", json!(2)), 12, "has 2 MIG instances, yet 1 are listed"),
        (
            MIG,
            one("/gpus/0/instances", json!(9)),
            12,
            "9 MIG instances, yet its kind has 7 at most",
        ),
        (MIG, one("/gpus/0/instances", json!(0)), 1, "is in MIG mode and has no instance"),
        (
            MIG,
            one("/gpus/0/mig/0/gpu_instance", json!(15)),
            12,
            "has MIG instance 15/0, yet no GPU has that place",
        ),
        (
            "cases/persistence-off.json",
            vec![
                ("/gpus/0/mig_mode".into(), json!(true)),
                ("/gpus/0/instances".into(), json!(1)),
                ("/gpus/0/mig".into(), json!([{ "gpu_instance": 0, "compute_instance": 0 }])),
                ("/gpus/0/model".into(), json!("Tesla T4")),
                ("/gpus/0/capability".into(), json!("7.5")),
                ("/pci/0/device".into(), json!("1eb8")),
            ],
            12,
            "is in MIG mode, yet GPUs of its kind have none",
        ),
    ];
    for sound in [H100, MIG] {
        assert_eq!(doctor(&snapshot(sound), &[]).0, 0, "{sound}");
    }
    let mut wrong = String::new();
    for (base, edits, exit, says) in rows {
        let edits: Vec<(&str, Value)> =
            edits.iter().map(|(place, value)| (place.as_str(), value.clone())).collect();
        let (code, said) = doctor(&edited(base, &edits), &[]);
        let ready = said.lines().any(|line| line.starts_with("ready: "));
        if code != exit || !said.contains(says) || ready {
            wrong += &format!("{base} {edits:?}\n  wanted {exit} `{says}`, got {code}:\n{said}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The four GPUs, held by a kernel driver.
fn held(driver: &str) -> Value {
    let mut pci = snapshot(H100)["pci"].clone();
    for one in pci.as_array_mut().unwrap() {
        one["driver"] = json!(driver);
    }
    pci
}

/// An image or a lock has code for some architectures: on a GPU of which none is known it may not run.
#[test]
fn a_gpu_of_no_known_capability() {
    let mut seen = edited(H100, &[("/gpus/0/capability", json!(null))]);
    seen["gpus"].as_array_mut().unwrap().truncate(1);
    seen["pci"].as_array_mut().unwrap().truncate(1);
    let (code, said) = doctor(&seen, &["torch:2.15.0"]);
    let words = "the compute capability of GPU 0 (NVIDIA H100 80GB HBM3) is not known";
    assert!(code == 12 && said.contains(words), "{code} {said}");
}

/// Editors of Windows put a mark of the byte order before text.
#[test]
fn a_snapshot_that_begins_with_a_byte_order_mark() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("snapshot.json");
    std::fs::write(&file, format!("\u{feff}{}", snapshot(H100))).unwrap();
    let doctor =
        Command::new(env!("CARGO_BIN_EXE_sconce")).args(["doctor", "--from"]).arg(&file).output();
    let output = doctor.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What real machines show that looks odd and is none of it.
#[test]
fn machines_that_can_be() {
    let null = || json!(null);
    for edits in [
        // Snapshots of schema 1, and what could not be read.
        vec![("/pci/0/driver", null()), ("/pci/0/bars", null()), ("/pci/0/link", null())],
        vec![("/driver/cuda", null())],
        vec![("/kernel_log", null())],
        vec![("/gpus/0/memory_bytes", null()), ("/gpus/0/used_bytes", null())],
        // A sample's name, and one of a virtual GPU.
        vec![("/gpus/0/model", json!("NVIDIA Graphics Device"))],
        vec![
            ("/gpus/0/model", json!("GRID Banana-8C")),
            ("/gpus/0/health/vgpu", json!({ "licensed": true })),
        ],
        // A card that is not known here, of a capability that is.
        vec![
            ("/gpus/0/model", json!("NVIDIA GeForce RTX 4090 Laptop GPU")),
            ("/gpus/0/capability", json!("8.9")),
            ("/pci/0/device", json!("2717")),
        ],
        // Newer than all that is known here, with a driver that is.
        vec![
            ("/gpus/0/model", json!("NVIDIA R100")),
            ("/gpus/0/capability", json!("14.0")),
            ("/pci/0/device", json!("ffff")),
            ("/driver/module", json!("700.10.01")),
            ("/driver/libraries", json!("700.10.01")),
            ("/driver/cuda", json!(15000)),
            ("/kernel_log", null()),
        ],
        // The libcuda of CUDA's compatibility package.
        vec![
            ("/driver/cuda", json!(13020)),
            ("/compat_libcuda", json!("/usr/local/cuda/compat/libcuda.so.1")),
            ("/compat_version", json!("595.71.05")),
        ],
        vec![("/modules", json!(["gdrdrv", "nouveau", "nvidia", "nvidia_uvm"]))],
    ] {
        let (code, said) = doctor(&edited(H100, &edits), &[]);
        assert!(code == 0 && !said.contains("[contradiction]"), "{edits:?}: {code}\n{said}");
    }
}
