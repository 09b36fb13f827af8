//! `sconce bench` beside a GPU that says of itself what its product can't be: nothing that rests on it is as expected.

use std::time::{Duration, Instant};

use super::machine::{Machine, RIGHT};
use serde_json::Value;

/// Very fast, and with so little memory that a product is a small one, which the fake computes in no time.
const FAST: &[(&str, &str)] = &[
    ("FAKE_GPU_TFLOPS", "1500"),
    ("FAKE_GPU_GB_S", "3000"),
    ("FAKE_GPU_HOST_GB_S", "120"),
    ("FAKE_GPU_FREE", "90000000"),
];

/// The line of a figure.
fn line(machine: &Machine, figure: &str, nvml: &str, says: &[(&str, &str)]) -> String {
    let text = machine.run(figure, nvml, says).1;
    let its = |line: &&str| line.split(' ').next() == Some(figure);
    text.lines().find(its).unwrap_or(&text).to_owned()
}

/// The document.
fn document(machine: &Machine, figure: &str, nvml: &str, says: &[(&str, &str)]) -> Value {
    let mut command = machine.of(&["--quick", "--json"], figure, nvml, says);
    serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
}

#[test]
fn what_a_product_has_bounds_what_its_machine_says() {
    let machine = Machine::new();
    let of = |machine: &Machine, figure: &str, nvml: &str, extra: &[(&str, &str)]| {
        let fast = line(machine, figure, nvml, &[FAST, extra].concat());
        (fast, line(machine, figure, nvml, &[RIGHT, extra].concat()))
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
    assert!(line(&machine, "bf16", "", RIGHT).contains("as expected"));
}

/// CUDA and NVML are asked about one GPU, by its place on the bus: where they speak of two, neither is gone by.
#[test]
fn one_gpu_of_two_names_or_two_of_one_uuid() {
    let machine = Machine::new();
    let other = "gpu.0.name NVIDIA H100 PCIe\n";
    for figure in ["bf16", "host-to-device"] {
        let free = if figure == "bf16" { "90000000" } else { "1200000000" };
        let right = [RIGHT, &[("FAKE_GPU_FREE", free)]].concat();
        let said = line(&machine, figure, other, &right);
        let why = "can't tell: CUDA says that GPU 0 is NVIDIA H100 80GB HBM3, and NVML says that it is NVIDIA H100 PCIe";
        assert!(said.contains(why), "{said}");
        // Other words for the same product, or none, contradict nothing.
        for same in ["gpu.0.name H100 SXM5 80GB\n", "gpu.0.name -\n", "gpu.0.name \n"] {
            let said = line(&machine, figure, same, &right);
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

/// What no GPU has is not shown, causes nothing, and makes nothing right or wrong.
#[test]
fn clocks_power_and_heat_that_can_not_be() {
    let machine = Machine::new();
    let slow = [&[("FAKE_GPU_TFLOPS", "500")], &RIGHT[1..]].concat();
    for clock in ["0", "4294967295", "9999"] {
        let said = line(&machine, "bf16", &format!("gpu.*.sm_mhz {clock}\n"), &slow);
        assert!(said.contains("LOW, without a known cause") && !said.contains("MHz"), "{said}");
    }
    let idle = "gpu.*.sm_mhz 1200\ngpu.*.reasons ";
    for reasons in ["18446744073709551615", "4294967295"] {
        let said = line(&machine, "bf16", &format!("{idle}{reasons}\n"), &slow);
        let why = "LOW: its clock was at 1200 of 1980 MHz, and NVML does not say why";
        assert!(said.ends_with(why), "{said}");
    }
    for (key, values) in [
        ("power_limit_mw", ["0", "4294967295", "99000000"]),
        ("power_default_mw", ["0", "4294967295", "99000000"]),
    ] {
        for value in values {
            let (_, said) = machine.run("bf16", &format!("gpu.*.{key} {value}\n"), &slow);
            assert!(said.contains("LOW, without a known cause"), "{key} {value}: {said}");
            assert_eq!(said.contains(", 700 W,"), key != "power_limit_mw", "{value}: {said}");
        }
    }
    for (value, why) in [
        ("0", "NVML does not say its highest clock"),
        ("4294967295", "NVML does not say its highest clock"),
        ("100", "NVML says that its highest clock is 100 MHz, and H100 SXM5 80GB has 1980 MHz"),
    ] {
        let (code, said) = machine.run("bf16", &format!("gpu.*.sm_max_mhz {value}\n"), RIGHT);
        assert!(
            code == 0 && said.contains(&format!("can't tell: {why}")),
            "{value}: {code} {said}"
        );
    }
    for key in ["pcie_generation", "pcie_generation_max", "pcie_lanes", "pcie_lanes_max"] {
        let right = [RIGHT, &[("FAKE_GPU_FREE", "1200000000")]].concat();
        let said = line(&machine, "host-to-device", &format!("gpu.*.{key} 4294967295\n"), &right);
        assert!(said.contains("can't tell: NVML does not say its PCIe link"), "{key}: {said}");
    }
    for (power, heat) in [("0", "0"), ("4294967295", "4294967295"), ("99000000", "999")] {
        let nvml =
            format!("gpu.*.power_mw {power}\ngpu.*.temperature_c {heat}\ngpu.*.memory_mhz 0\n");
        let text = document(&machine, "bf16", &nvml, RIGHT);
        let seen = &text["figures"][0]["evidence"];
        assert_eq!(seen["sm_mhz"][1], 1980.0, "{text:#}");
        for key in ["power_w", "temperature_c", "memory_mhz"] {
            assert!(seen[key].is_null(), "{text:#}");
        }
    }
}

/// A timer that answers nonsense is the cause, by name, and there is no figure.
#[test]
fn timers_that_answer_nonsense() {
    let machine = Machine::new();
    for figure in ["bf16", "memory-copy", "host-to-device", "peer"] {
        let free = if figure == "bf16" { "90000000" } else { "1200000000" };
        for (timer, answer) in [("nan", "NaN"), ("-1", "-1"), ("inf", "inf"), ("-inf", "-inf")] {
            let says =
                [("FAKE_GPU_COUNT", "2"), ("FAKE_GPU_TIMER", timer), ("FAKE_GPU_FREE", free)];
            let (code, said) = machine.run(figure, "", &says);
            let why =
                format!("not measured: cuEventElapsedTime answered {answer} ms, which can't be");
            assert!(code == 12 && said.contains(&why), "{figure} {timer}: {code} {said}");
            assert!(said.ends_with("nothing could be measured\n"), "{figure} {timer}: {said}");
        }
    }
}

/// NVML answers for a while and then no more: what was measured is kept, and what is missing is said.
#[test]
fn nvml_that_hangs_while_something_is_measured() {
    let machine = Machine::new();
    let begun = Instant::now();
    let (code, said) = machine.run("bf16", "gpu.*.clocks_before_hang 8\n", RIGHT);
    assert!(code == 11 && said.contains("as expected"), "{code} {said}");
    let why = "not measured: no answer for 5 s while `products` was measured: clocks, power";
    assert!(said.contains(why) && said.ends_with("; not measured: nvml\n"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}
