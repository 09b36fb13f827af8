//! `sconce bench` beside a GPU that lies about itself, its clock or its work: no figure stands under another GPU's name, and none that
//! nobody has seen computed.

// Others use what this test does not: images.
#[allow(dead_code)]
mod world;

use std::fs;

use sconce_testkit::{FakeGpu, FakeNvml};
use world::World;

/// Small products, as fast as an H100's.
const RIGHT: &[(&str, &str)] = &[("FAKE_GPU_TFLOPS", "800"), ("FAKE_GPU_FREE", "90000000")];
/// Room for arrays and copies.
const LARGE: (&str, &str) = ("FAKE_GPU_FREE", "1200000000");

struct Machine {
    world: World,
    nvml: FakeNvml,
}

impl Machine {
    fn new() -> Self {
        let world = World::new();
        let folder = world.path("gpu");
        fs::create_dir_all(&folder).unwrap();
        let nvml = FakeNvml::new(&folder, "");
        drop(FakeGpu::new(&folder).with("libcublasLt", "libcublasLt.so.13", &[]));
        Self { world, nvml }
    }

    /// Exit code and all that is said, NVML saying this beside what four H100s at their highest clock have.
    fn run(&self, figures: &str, nvml: &str, says: &[(&str, &str)]) -> (i32, String) {
        self.nvml.becomes(&(FakeNvml::h100s(4) + "gpu.*.sm_mhz 1980\ngpu.*.reasons 0\n" + nvml));
        let mut command = self.world.sconce(&["bench", "--host", "--quick", "--seed", "7"]);
        command.args(["--only", figures]).env("LD_LIBRARY_PATH", self.nvml.folder());
        command.env("FAKE_NVML_WORLD", self.nvml.world()).env("PATH", "/usr/bin:/bin");
        command.envs(RIGHT.iter().copied()).envs(says.iter().copied());
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }
}

/// CUDA numbers anew in each process: what was GPU 1 when GPUs were listed is GPU 0 when it is measured.
#[test]
fn a_gpu_that_vanishes_gives_its_number_to_no_other() {
    let machine = Machine::new();
    let gone = machine.world.path("gone");
    let (code, said) = machine.run(
        "bf16",
        "",
        &[("FAKE_GPU_COUNT", "3"), ("FAKE_GPU_GONE", &gone.to_string_lossy())],
    );
    assert!(code == 12 && !said.contains("as expected"), "{code} {said}");
    for gpu in [0, 1] {
        let why = format!(
            "products gpu {gpu}                not measured: CUDA's GPU of this number is another one than was listed: its UUID was 00000000-0000-0000-0000-00000000000{gpu}, and is 00000000-0000-0000-0000-00000000000{}",
            gpu + 1
        );
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&said).contains(&words(&why)), "{said}");
    }
    assert!(said.contains("CUDA does not show it any more: 2 of 3 GPUs"), "{said}");
}

/// CUDA and NVML speak of two GPUs, or two GPUs are at one place.
#[test]
fn identities_that_do_not_fit() {
    let machine = Machine::new();
    let two = ("FAKE_GPU_COUNT", "2");
    let swapped = "gpu.0.uuid GPU-00000000-0000-0000-0000-000000000001\ngpu.1.uuid GPU-00000000-0000-0000-0000-000000000000\n";
    let (_, said) = machine.run("bf16", swapped, &[two]);
    let why = "can't tell: CUDA's UUID of GPU 0 is 00000000-0000-0000-0000-000000000000, and NVML's of the GPU at its place on the bus is 00000000-0000-0000-0000-000000000001";
    assert!(said.contains(why) && !said.contains("as expected"), "{said}");
    let (_, said) = machine.run("bf16", "gpu.*.uuid -\n", &[two, ("FAKE_GPU_ONE_PLACE", "1")]);
    let why = "can't tell: GPU 0 and GPU 1 are at one place on the bus, 0000:18:00.0";
    assert!(said.contains(why) && !said.contains("as expected"), "{said}");
}

/// A figure that the clock beside it does not allow: one of the two is not true.
#[test]
fn a_figure_beyond_its_clock_is_not_as_expected() {
    let machine = Machine::new();
    for clock in ["300", "600"] {
        let (_, said) = machine.run("bf16,bf16-sustained", &format!("gpu.*.sm_mhz {clock}\n"), &[]);
        let why =
            format!("is beyond what its clock allows: NVML saw {clock} MHz at most, at which");
        assert_eq!(said.matches(&why).count(), 2, "{said}");
        assert!(!said.contains("as expected"), "{said}");
    }
    let (code, said) = machine.run("bf16-sustained", "gpu.*.sm_mhz 300\n", &[]);
    assert!(said.contains(" % of its peak there") && code == 0, "{code} {said}");
    // A clock a little lower than it was in a burst is none.
    let (code, said) = machine.run("bf16", "gpu.*.sm_mhz 1350\n", &[]);
    assert!(code == 0 && said.contains("as expected"), "{said}");
}

/// A timer that says less than the host's clock makes slow work look fast.
#[test]
fn a_timer_that_says_a_part_of_the_time() {
    let machine = Machine::new();
    for (figure, speed, times) in [
        ("bf16", ("FAKE_GPU_TFLOPS", "80"), "0.1"),
        ("bf16", ("FAKE_GPU_TFLOPS", "400"), "0.5"),
        ("memory-copy", ("FAKE_GPU_GB_S", "1500"), "0.5"),
        ("host-to-device", ("FAKE_GPU_HOST_GB_S", "28"), "0.5"),
        ("bf16", ("FAKE_GPU_TFLOPS", "800"), "2"),
    ] {
        let mut says = vec![speed, ("FAKE_GPU_TIMER_TIMES", times)];
        if figure != "bf16" {
            says.push(LARGE);
        }
        let (code, said) = machine.run(figure, "", &says);
        let why = "not measured: cuEventElapsedTime answered ";
        assert!(code == 12 && said.contains(why), "{figure} {times}: {code} {said}");
        assert!(said.contains(" ms by the host's clock: without a timer"), "{figure}: {said}");
    }
}

/// A GPU that does the first launch of a burst, and for the others only takes its time.
#[test]
fn what_is_timed_is_what_is_compared() {
    let machine = Machine::new();
    let first = ("FAKE_GPU_WRONG", "first");
    let (code, said) = machine.run("bf16,bf16-sustained", "", &[first]);
    let why = "WRONG: the last of the timed launches: 1048576 of 1048576 numbers of the result were not written";
    assert!(code == 1 && said.contains(why) && !said.contains("as expected"), "{code} {said}");
    let memory = "memory-read,memory-write,memory-copy,memory-triad,host-to-device,device-to-host";
    let (code, said) = machine.run(memory, "", &[first, LARGE]);
    assert!(code == 1 && said.matches("WRONG: ").count() == 6, "{code} {said}");
    assert!(said.contains("timed launches read is "), "{said}");
    // Of two GPUs.
    let (code, said) = machine.run("peer", "", &[first, LARGE, ("FAKE_GPU_COUNT", "2")]);
    assert!(code == 1 && said.contains("WRONG: the copy is not what was copied"), "{code} {said}");
}
