//! A machine whose GPUs are none, for tests of `sconce bench`: as fast and as wrong as a test says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use sconce_testkit::{FakeGpu, FakeNvml};
use serde_json::Value;

use crate::world::World;

/// So little memory that a product is a small one, which the fake computes in no time; as fast as an H100.
pub const RIGHT: &[(&str, &str)] =
    &[("FAKE_GPU_TFLOPS", "800"), ("FAKE_GPU_HOST_GB_S", "55"), ("FAKE_GPU_FREE", "90000000")];

pub struct Machine {
    pub world: World,
    pub nvml: FakeNvml,
}

impl Machine {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// One that has these libraries as well, by what they are made of and what they are called.
    pub fn with(libraries: &[(&str, &str)]) -> Self {
        let world = World::new();
        let folder = world.path("gpu");
        fs::create_dir_all(&folder).unwrap();
        let nvml = FakeNvml::new(&folder, &working(2));
        let gpu = FakeGpu::new(&folder).with("libcublasLt", "libcublasLt.so.13", &[]);
        let add = |gpu: FakeGpu, (source, name): &(&str, &str)| gpu.with(source, name, &[]);
        drop(libraries.iter().fold(gpu, add));
        Self { world, nvml }
    }

    /// `sconce bench --host` of the first GPU, NVML saying this beside what an H100 at its highest clock has.
    pub fn command(&self, words: &[&str], nvml: &str) -> Command {
        self.nvml.becomes(&(working(1) + nvml));
        self.bench(&[&["--host", "--seed", "7"], words].concat())
    }

    /// `sconce bench` with these words alone.
    pub fn bench(&self, words: &[&str]) -> Command {
        let mut command = self.plain(words);
        command.envs(RIGHT.iter().copied());
        command
    }

    /// The same beside a GPU of which nothing is said: its memory, and how fast it is, are what the libraries have.
    pub fn plain(&self, words: &[&str]) -> Command {
        let mut command = self.world.sconce(&["bench"]);
        command.args(words).env("LD_LIBRARY_PATH", self.nvml.folder());
        command.env("FAKE_NVML_WORLD", self.nvml.world()).env("PATH", "/usr/bin:/bin");
        command
    }

    /// These figures beside NVML's four GPUs, of which it says this, and with what the libraries say of themselves.
    pub fn of(&self, words: &[&str], figures: &str, nvml: &str, says: &[(&str, &str)]) -> Command {
        self.nvml.becomes(&(working(4) + nvml));
        let mut command = self.bench(&["--host", "--seed", "7", "--only", figures]);
        command.args(words).envs(says.iter().copied());
        command
    }

    /// Exit code and all that is said of these figures.
    pub fn run_as(
        &self,
        words: &[&str],
        figures: &str,
        nvml: &str,
        says: &[(&str, &str)],
    ) -> (i32, String) {
        all(&mut self.of(words, figures, nvml, says))
    }

    /// The same, at a first look.
    pub fn run(&self, figures: &str, nvml: &str, says: &[(&str, &str)]) -> (i32, String) {
        self.run_as(&["--quick"], figures, nvml, says)
    }

    /// The same, as it is said first: for what is to sound as on a busy host.
    pub fn once(
        &self,
        words: &[&str],
        figure: &str,
        nvml: &str,
        says: &[(&str, &str)],
    ) -> (i32, String) {
        once(&mut self.of(words, figure, nvml, says))
    }

    /// The exit code, and all that is said, in its order.
    pub fn says(&self, words: &[&str], nvml: &str) -> (i32, String) {
        let path = self.world.path("said");
        let run = || {
            let file = fs::File::create(&path).unwrap();
            let mut command = self.command(words, nvml);
            command.stderr(file.try_clone().unwrap()).stdout(file);
            let code = command.status().unwrap().code().unwrap_or(-1);
            (code, String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned())
        };
        unspoilt(run, |(_, said)| said)
    }

    /// The exit code, the document, and what was said beside it.
    pub fn json(&self, words: &[&str], nvml: &str) -> (i32, Value, String) {
        let mut command = self.command(words, nvml);
        command.arg("--json");
        let run = || {
            let output = command.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            (output, text)
        };
        let (output, _) = unspoilt(run, |(_, text)| text);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let document = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {said}"));
        (output.status.code().unwrap_or(-1), document, said)
    }

    /// A Python that is none, in an environment with this torch: it does what it is told to.
    pub fn python(&self, torch: &str, script: &str) -> String {
        let venv = self.world.path("venv");
        _ = fs::remove_dir_all(&venv);
        let packages = venv.join("lib/python3.12/site-packages");
        fs::create_dir_all(packages.join(format!("torch-{torch}.dist-info"))).unwrap();
        fs::create_dir_all(venv.join("bin")).unwrap();
        write_program(&venv.join("bin/python"), &format!("#!/bin/sh\n{script}\n"));
        venv.join("bin/python").to_string_lossy().into_owned()
    }
}

/// NVML's world: GPUs at their highest clock.
pub fn working(gpus: usize) -> String {
    FakeNvml::h100s(gpus) + "gpu.*.sm_mhz 1980\ngpu.*.reasons 0\n"
}

/// What a busy host spoils, which the GPU has no part in.
const SPOILT: [&str; 3] = [
    "a host that is slow or busy",
    "without a timer that the host bears out",
    "its repeats are far apart",
];

/// The exit code, and all that is said; what a busy host spoils is measured again, a few times.
pub fn all(command: &mut Command) -> (i32, String) {
    unspoilt(|| once(command), |(_, said)| said)
}

fn once(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

fn unspoilt<T>(mut run: impl FnMut() -> T, said: impl Fn(&T) -> &String) -> T {
    let mut last = run();
    for _ in 0..4 {
        if !SPOILT.iter().any(|words| said(&last).contains(words)) {
            break;
        }
        last = run();
    }
    last
}

/// Whether this holds, and what was said: where a busy host may spoil it, it holds once in a few times.
pub fn at_last(mut holds: impl FnMut() -> (bool, String)) {
    let mut last = holds();
    for _ in 0..4 {
        if last.0 {
            return;
        }
        last = holds();
    }
    assert!(last.0, "{}", last.1);
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
