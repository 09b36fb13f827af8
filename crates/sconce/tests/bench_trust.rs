//! `sconce bench` beside a GPU that says of itself what its product can't be: nothing that rests on it is as expected.

// Others use what this test does not: images.
#[allow(dead_code)]
mod world;

use std::fs;

use sconce_testkit::{FakeGpu, FakeNvml};
use world::World;

/// Very fast, and with so little memory that a product is a small one, which the fake computes in no time.
const FAST: &[(&str, &str)] = &[
    ("FAKE_GPU_TFLOPS", "1500"),
    ("FAKE_GPU_GB_S", "3000"),
    ("FAKE_GPU_HOST_GB_S", "120"),
    ("FAKE_GPU_FREE", "90000000"),
];
const RIGHT: &[(&str, &str)] = &[("FAKE_GPU_TFLOPS", "800"), ("FAKE_GPU_HOST_GB_S", "55"), FAST[3]];

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

    /// What is said of a figure where NVML says this beside what an H100 has.
    fn says(&self, figure: &str, nvml: &str, says: &[(&str, &str)]) -> String {
        let text = self.run(figure, nvml, says).1;
        let its = |line: &&str| line.split(' ').next() == Some(figure);
        text.lines().find(its).unwrap_or(&text).to_owned()
    }

    /// The exit code, and all that is said.
    fn run(&self, figure: &str, nvml: &str, says: &[(&str, &str)]) -> (i32, String) {
        self.nvml.becomes(&(FakeNvml::h100s(2) + "gpu.*.sm_mhz 1980\ngpu.*.reasons 0\n" + nvml));
        let mut command = self.world.sconce(&["bench", "--host", "--quick", "--seed", "7"]);
        command.args(["--only", figure]).env("LD_LIBRARY_PATH", self.nvml.folder());
        command.env("FAKE_NVML_WORLD", self.nvml.world()).env("PATH", "/usr/bin:/bin");
        let output = command.envs(says.iter().copied()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }
}

#[test]
fn what_a_product_has_bounds_what_its_machine_says() {
    let machine = Machine::new();
    let of = |machine: &Machine, figure: &str, nvml: &str, extra: &[(&str, &str)]| {
        let fast = machine.says(figure, nvml, &[FAST, extra].concat());
        (fast, machine.says(figure, nvml, &[RIGHT, extra].concat()))
    };
    let (wrong, unknown) = of(&machine, "bf16", "gpu.*.sm_max_mhz 9999\n", &[]);
    assert!(wrong.contains("WRONG") && wrong.contains("can do at 1980 MHz: 1124"), "{wrong}");
    let why =
        "can't tell: NVML says that its highest clock is 9999 MHz, and H100 SXM5 80GB has 1980 MHz";
    assert!(unknown.contains(why), "{unknown}");
    let (wrong, unknown) = of(&machine, "bf16", "", &[("FAKE_GPU_SMS", "1000")]);
    assert!(wrong.contains("WRONG") && wrong.contains("can do at 1980 MHz: 1124"), "{wrong}");
    let why = "can't tell: CUDA says that it has 1000 multiprocessors, and H100 SXM5 80GB has 132";
    assert!(unknown.contains(why), "{unknown}");
    let (wrong, unknown) = of(&machine, "bf16", "", &[("FAKE_GPU_CAPABILITY", "100")]);
    assert!(wrong.contains("WRONG"), "{wrong}");
    assert!(unknown.contains("its capability is 10.0, and H100 SXM5 80GB has 9.0"), "{unknown}");
    let (_, unknown) = of(&machine, "bf16", "", &[("FAKE_GPU_MEMORY", "999")]);
    assert!(
        unknown.contains("it has 999 GiB of memory, and H100 SXM5 80GB has 80 GB"),
        "{unknown}"
    );
    // A link of twice the lanes, or of a generation that came later.
    for (nvml, why) in [
        ("gpu.*.pcie_lanes 32\ngpu.*.pcie_lanes_max 32\n", "its PCIe link has 32 lanes, and H100"),
        ("gpu.*.pcie_lanes_max 32\n", "its PCIe link has 32 lanes, and H100"),
        (
            "gpu.*.pcie_generation 6\ngpu.*.pcie_generation_max 6\n",
            "its PCIe link is of generation 6, and H100 SXM5 80GB has 5",
        ),
    ] {
        let (wrong, unknown) =
            of(&machine, "host-to-device", nvml, &[("FAKE_GPU_FREE", "1200000000")]);
        assert!(wrong.contains(" is more than PCIe 5 x16 carries: 63.0"), "{nvml}: {wrong}");
        assert!(
            unknown.contains("can't tell: NVML says that ") && unknown.contains(why),
            "{unknown}"
        );
    }
    assert!(machine.says("bf16", "", RIGHT).contains("as expected"));
}

/// CUDA and NVML are asked about one GPU, by its place on the bus: where they speak of two, neither is gone by.
#[test]
fn one_gpu_of_two_names_or_two_of_one_uuid() {
    let machine = Machine::new();
    let other = "gpu.0.name NVIDIA H100 PCIe\n";
    for figure in ["bf16", "host-to-device"] {
        let free = if figure == "bf16" { "90000000" } else { "1200000000" };
        let right = [RIGHT, &[("FAKE_GPU_FREE", free)]].concat();
        let said = machine.says(figure, other, &right);
        let why = "can't tell: CUDA says that GPU 0 is NVIDIA H100 80GB HBM3, and NVML says that it is NVIDIA H100 PCIe";
        assert!(said.contains(why), "{said}");
        // Other words for the same product, or none, contradict nothing.
        for same in ["gpu.0.name H100 SXM5 80GB\n", "gpu.0.name -\n", "gpu.0.name \n"] {
            let said = machine.says(figure, same, &right);
            assert!(said.contains("as expected"), "{same}: {said}");
        }
        let twins = [right.as_slice(), &[("FAKE_GPU_COUNT", "2")]].concat();
        let why = "can't tell: GPU 0 and GPU 1 have one UUID";
        let (_, said) =
            machine.run(figure, "gpu.1.uuid GPU-00000000-0000-0000-0000-000000000000\n", &twins);
        assert!(said.contains(why) && !said.contains("as expected"), "{said}");
        let (_, said) =
            machine.run(figure, "", &[twins.as_slice(), &[("FAKE_GPU_TWINS", "1")]].concat());
        assert!(said.contains(why) && !said.contains("as expected"), "{said}");
        let (_, said) = machine.run(figure, "", &twins);
        assert!(said.contains("as expected") && !said.contains("can't tell"), "{said}");
    }
}
