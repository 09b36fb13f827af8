//! `sconce probe`, as `sconce verify` runs it inside a container, against forged driver libraries and a
//! forged nvidia-smi: what it answers where all is well, and where the driver lies, crashes or hangs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::{Expect, expect};

const LIBCUDA: &str = include_str!("../../cuda/tests/forged/libcuda.c");
const LIBNVRTC: &str = include_str!("../../cuda/tests/forged/libnvrtc.c");
/// Two boards, as little as NVML must answer.
const LIBNVML: &str = r#"
#include <stdio.h>
#include <string.h>
int nvmlInit_v2(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { strncpy(text, "580.159.04", length); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(index + 1ul); return 0; }
#ifndef NAMELESS
int nvmlDeviceGetUUID(void *device, char *text, unsigned length) { snprintf(text, length, "GPU-%p", device); return 0; }
#endif
"#;
const SMI: &str = "#!/bin/sh\necho 'NVIDIA H100, 580.159.04'\necho 'NVIDIA H100, 580.159.04'\n";

/// A machine's libraries and programs in a folder.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        world.library("libcuda.so.1", LIBCUDA, &[]);
        world.library("libnvidia-ml.so.1", LIBNVML, &[]);
        world.smi(SMI);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn library(&self, name: &str, source: &str, defines: &[&str]) {
        let file = self.path("source.c");
        fs::write(&file, source).unwrap();
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-w", "-o"]).arg(self.path(name)).arg(&file);
        cc.args(defines.iter().map(|define| format!("-D{define}")));
        assert!(cc.status().unwrap().success());
    }

    fn smi(&self, script: &str) {
        let path = self.path("bin/nvidia-smi");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    /// What the probe writes, without its times, and with this folder as FOLDER.
    fn probe(&self, arguments: &[&str], says: Expect) {
        let results = self.path("results");
        fs::write(&results, "").unwrap();
        let mut probe = Command::new(env!("CARGO_BIN_EXE_sconce"));
        probe.arg("probe").arg("--results").arg(&results).args(arguments);
        probe.env("LD_LIBRARY_PATH", self.dir.path()).env_remove("PYTHONPATH");
        probe.env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()));
        let output = probe.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = fs::read_to_string(&results).unwrap();
        let text = text.replace(&*self.dir.path().to_string_lossy(), "FOLDER");
        let lines = text.lines().map(|line| line.split(",\"seconds\"").next().unwrap());
        says.assert_eq(&lines.collect::<Vec<_>>().join("\n"));
    }
}

const TWO: [&str; 4] = ["--gpus", "2", "--boards", "2"];

fn ask<'a>(checks: &[&'a str]) -> Vec<&'a str> {
    [&TWO[..], checks].concat()
}

/// NVRTC lies in the packages of the Python that is named, which may be a link out of a virtual
/// environment.
#[test]
fn all_is_well() {
    let world = World::new();
    let packages = "installation/lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13";
    world.library(packages, LIBNVRTC, &[]);
    for folder in ["installation/bin", "venv/bin"] {
        fs::create_dir_all(world.path(folder)).unwrap();
    }
    fs::write(world.path("installation/bin/python3.12"), "").unwrap();
    std::os::unix::fs::symlink(
        Path::new("../../installation/bin/python3.12"),
        world.path("venv/bin/python"),
    )
    .unwrap();
    let python = world.path("venv/bin/python");
    let mut arguments = vec!["--python", python.to_str().unwrap()];
    arguments.extend(ask(&["nvidia-smi:20", "nvml:20", "cuda-driver:20", "nvrtc:20"]));
    world.probe(&arguments, expect![[r#"
        {"check":"nvidia-smi","verdict":"pass","detail":"NVIDIA H100, 580.159.04; NVIDIA H100, 580.159.04"
        {"check":"nvml","verdict":"pass","detail":"driver 580.159.04, 2 boards"
        {"check":"cuda-driver","verdict":"pass","detail":"CUDA 13.0: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA (9.0, 80 GiB), BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB (9.0, 80 GiB)"
        {"check":"nvrtc","verdict":"pass","detail":"NVRTC 13.2 (FOLDER/installation/lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13): sm_90 right on 2 devices""#]]);
}

#[test]
fn fewer_than_were_given() {
    let world = World::new();
    world.smi("#!/bin/sh\necho 'NVIDIA H100, 580'\n");
    let arguments = ["--gpus", "3", "--boards", "3", "nvidia-smi:20", "nvml:20", "cuda-driver:20"];
    world.probe(
        &arguments,
        expect![[r#"
        {"check":"nvidia-smi","verdict":"fail","detail":"nvidia-smi shows 1 board; 3 given"
        {"check":"nvml","verdict":"fail","detail":"NVML shows 2 boards; 3 given"
        {"check":"cuda-driver","verdict":"fail","detail":"CUDA shows 2 devices; 3 given""#]],
    );
}

#[test]
fn the_driver_is_in_trouble() {
    let world = World::new();
    world.smi("#!/bin/sh\necho 'No devices were found' >&2\nexit 6\n");
    world.library("libnvidia-ml.so.1", LIBNVML, &["NAMELESS"]);
    world.library("libcuda.so.1", LIBCUDA, &["CRASHES"]);
    let checks = ask(&["nvidia-smi:20", "nvml:20", "cuda-driver:20", "unheard-of:20"]);
    world.probe(&checks, expect![[r#"
        {"check":"nvidia-smi","verdict":"fail","detail":"nvidia-smi ended with exit code 6; last words: No devices were found"
        {"check":"nvml","verdict":"fail","detail":"NVML gives a UUID for 0 of 2"
        {"check":"cuda-driver","verdict":"fail","detail":"it ended with signal 6"
        {"check":"unheard-of","verdict":"fail","detail":"this sconce does not know that check""#]]);
    world.library("libcuda.so.1", LIBCUDA, &["BLOCKS"]);
    world.probe(
        &ask(&["cuda-driver:1", "nvml:20"]),
        expect![[r#"
        {"check":"cuda-driver","verdict":"fail","detail":"no end after 1 s"
        {"check":"nvml","verdict":"fail","detail":"NVML gives a UUID for 0 of 2""#]],
    );
}

#[test]
fn a_kernel_that_computes_wrongly() {
    let world = World::new();
    world.library("libnvrtc.so.13", LIBNVRTC, &[]);
    world.library("libcuda.so.1", LIBCUDA, &["WRONG=(i==5)"]);
    world.probe(&ask(&["nvrtc:20"]), expect![[r#"{"check":"nvrtc","verdict":"fail","detail":"1 of 100003 numbers are wrong on device 0""#]]);
}

#[test]
fn nothing_is_there() {
    let world = World::new();
    for name in ["libcuda.so.1", "libnvidia-ml.so.1", "bin/nvidia-smi"] {
        fs::remove_file(world.path(name)).unwrap();
    }
    world.probe(&ask(&["nvml:20", "cuda-driver:20"]), expect![[r#"
        {"check":"nvml","verdict":"fail","detail":"libnvidia-ml.so.1 can't be opened: dlopen failed: libnvidia-ml.so.1: cannot open shared object file: No such file or directory"
        {"check":"cuda-driver","verdict":"fail","detail":"libcuda.so.1 can't be opened: dlopen failed: libcuda.so.1: cannot open shared object file: No such file or directory""#]]);
}
