//! A `libnvidia-ml.so` that answers what a world file says (`nvml.c`), compiled for the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library in a folder of its own, and its world.
pub struct FakeNvml {
    folder: PathBuf,
}

impl FakeNvml {
    /// Compiles it into `folder`/lib, with this world.
    pub fn new(folder: &Path, world: &str) -> Self {
        Self::compiled(folder, world, &[])
    }

    /// One of an old driver, without the newer symbols.
    pub fn old(folder: &Path, world: &str) -> Self {
        Self::compiled(folder, world, &["-DOLD"])
    }

    fn compiled(folder: &Path, world: &str, defines: &[&str]) -> Self {
        let lib = folder.join("lib");
        fs::create_dir_all(&lib).expect("a folder for the library");
        let source = folder.join("nvml.c");
        fs::write(&source, include_str!("nvml.c")).expect("its source");
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-w", "-pthread", "-o"])
            .arg(lib.join("libnvidia-ml.so.1"))
            .args(defines)
            .arg(&source)
            .status();
        assert!(status.expect("a C compiler").success(), "the fake NVML is compiled");
        let fake = Self { folder: folder.to_owned() };
        fake.becomes(world);
        fake
    }

    /// One that was compiled into this folder before.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The library.
    pub fn library(&self) -> PathBuf {
        self.folder().join("libnvidia-ml.so.1")
    }

    /// Its folder, for `LD_LIBRARY_PATH`.
    pub fn folder(&self) -> PathBuf {
        self.folder.join("lib")
    }

    /// The world file, for `FAKE_NVML_WORLD`.
    pub fn world(&self) -> PathBuf {
        self.folder.join("nvml.world")
    }

    /// Another world from now on; whole or not at all.
    pub fn becomes(&self, world: &str) {
        let part = self.folder.join("nvml.world.part");
        fs::write(&part, world).expect("the world file");
        fs::rename(part, self.world()).expect("the world file in its place");
    }

    /// A world of so many idle H100s, as one was seen (driver 580.159.04). Lines that follow replace its own.
    pub fn h100s(count: usize) -> String {
        let mut world = format!(
            "driver 580.159.04\ngpus {count}\nevents 1\n\
             gpu.*.name NVIDIA H100 80GB HBM3\ngpu.*.util 0\ngpu.*.memutil 0\ngpu.*.sm_mhz 345\n\
             gpu.*.memory_mhz 2619\ngpu.*.sm_max_mhz 1980\ngpu.*.power_mw 72500\ngpu.*.power_limit_mw 700000\n\
             gpu.*.power_default_mw 700000\ngpu.*.temperature_c 31\ngpu.*.memory_temperature_c 38\ngpu.*.margin_c 55\n\
             gpu.*.reasons 1\ngpu.*.memory_total 85520809984\ngpu.*.memory_used 0\ngpu.*.memory_reserved 618659840\n\
             gpu.*.pcie_generation 5\ngpu.*.pcie_generation_max 5\ngpu.*.pcie_lanes 16\ngpu.*.pcie_lanes_max 16\n\
             gpu.*.pcie_replays 0\ngpu.*.energy_mj 123456789\ngpu.*.encoder 0\ngpu.*.decoder 0\n\
             gpu.*.ecc_corrected 0\ngpu.*.ecc_uncorrected 0\ngpu.*.ecc_life_corrected 0\ngpu.*.ecc_life_uncorrected 0\n\
             gpu.*.remapped_corrected 0\ngpu.*.remapped_uncorrected 0\ngpu.*.remapped_pending 0\ngpu.*.remapped_failed 0\n\
             gpu.*.nvlinks 18\ngpu.*.nvlink_replays 0\ngpu.*.nvlink_recoveries 0\ngpu.*.nvlink_crc 0\n\
             gpu.*.nvlink_tx_kib 1000\ngpu.*.nvlink_rx_kib 2000\ngpu.*.fabric_state 3\ngpu.*.mig_mode 0\n\
             gpu.*.processes \ngpu.*.drawing \ngpu.*.gpm 1\n"
        );
        for metric in [1, 2, 3, 4, 5, 10, 11, 12, 13, 20, 21, 60, 61] {
            world += &format!("gpu.*.gpm.{metric} 0\n");
        }
        for gpu in 0..count {
            let bus = 0x18 + gpu;
            world += &format!(
                "gpu.{gpu}.uuid GPU-00000000-0000-0000-0000-{gpu:012}\ngpu.{gpu}.minor {gpu}\n\
                 gpu.{gpu}.bus_id 00000000:{bus:02X}:00.0\n"
            );
        }
        world
    }
}
