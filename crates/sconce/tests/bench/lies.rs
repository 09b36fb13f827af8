//! `sconce bench` beside a GPU that lies about itself, its clock or its work: no figure stands under another GPU's name, and none that
//! nobody has seen computed.

use super::machine::{Machine, all, at_last};

const QUICK: &[&str] = &["--quick"];
/// Room for arrays and copies.
const LARGE: (&str, &str) = ("FAKE_GPU_FREE", "1200000000");

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
        at_last(|| {
            let (code, said) = machine.once(QUICK, figure, "", &says);
            let why = "not measured: cuEventElapsedTime answered ";
            let without = said.contains(" ms by the host's clock: without a timer");
            (
                code == 12 && said.contains(why) && without,
                format!("{figure} {times}: {code} {said}"),
            )
        });
    }
}

/// What the host's clock can't bear out is not as expected: a tenth more than there was, or a twentieth.
#[test]
fn a_timer_that_says_a_little_less_is_not_gone_by() {
    let machine = Machine::new();
    for (figure, speed, times) in [
        ("bf16", ("FAKE_GPU_TFLOPS", "520"), "0.65"),
        ("bf16", ("FAKE_GPU_TFLOPS", "720"), "0.9"),
        ("bf16-sustained", ("FAKE_GPU_TFLOPS", "760"), "0.95"),
        ("memory-copy", ("FAKE_GPU_GB_S", "2850"), "0.95"),
        ("host-to-device", ("FAKE_GPU_HOST_GB_S", "52"), "0.95"),
    ] {
        let mut says = vec![speed, ("FAKE_GPU_TIMER_TIMES", times)];
        if !figure.starts_with("bf16") {
            says.push(LARGE);
        }
        let unknown = "away from CUDA's timer, where 3 % is allowed: a host that is slow or busy, or a timer that is wrong";
        let why = match times {
            "0.65" => "without a timer that the host bears out there is no figure",
            _ => unknown,
        };
        let wanted = if times == "0.65" { 12 } else { 0 };
        at_last(|| {
            let (code, said) = machine.once(QUICK, figure, "", &says);
            assert!(!said.contains("as expected"), "{figure} {times}: {said}");
            (said.contains(why) && code == wanted, format!("{figure} {times}: {code} {said}"))
        });
    }
    // A host that wakes half a millisecond late is slow, and the timer is right.
    let (code, said) = machine.run("bf16", "", &[("FAKE_GPU_WAKES_US", "500")]);
    assert!(code == 0 && said.contains("as expected"), "{code} {said}");
}

/// A timer that says too much makes a faithful GPU look slow: it is low where it is so by the host's clock as well.
#[test]
fn a_timer_that_says_too_much_makes_no_gpu_low() {
    let machine = Machine::new();
    for times in ["1.08", "1.1", "1.15", "1.2"] {
        at_last(|| {
            let says = [("FAKE_GPU_TIMER_TIMES", times)];
            let (code, said) = machine.once(QUICK, "bf16", "", &says);
            let why = "can't tell: the host's clock is ";
            (code == 0 && said.contains(why) && !said.contains("LOW"), format!("{times}: {said}"))
        });
    }
    for (speed, times) in [("500", "1.1"), ("690", "0.95")] {
        let says = [("FAKE_GPU_TFLOPS", speed), ("FAKE_GPU_TIMER_TIMES", times)];
        let (code, said) = machine.run("bf16", "", &says);
        assert!(code == 1 && said.contains("LOW, without a known cause"), "{times}: {said}");
    }
}

/// More than anybody has seen of this GPU, and less than what it can't be.
#[test]
fn a_figure_that_nobody_has_seen_is_not_as_expected() {
    let machine = Machine::new();
    let (code, said) = machine.run("bf16", "", &[("FAKE_GPU_TFLOPS", "900")]);
    let why = "can't tell: 900 TFLOP/s is more than 1.1 times the best known (794): nobody is known to have seen as much";
    assert!(code == 0 && said.contains(why), "{code} {said}");
    let last = "1 figure measured, and it can't be told whether any is low: beside each is why";
    assert_eq!(said.lines().last(), Some(last), "{said}");
    // Of several GPUs it is said which is low.
    let says = [("FAKE_GPU_TFLOPS", "500"), ("FAKE_GPU_COUNT", "2")];
    let (code, said) = machine.run("bf16", "", &says);
    assert!(code == 1 && said.ends_with("\nlow: bf16 gpu 0, bf16 gpu 1\n"), "{code} {said}");
}

/// A GPU that does the first launch of a burst, and for the others only takes its time.
#[test]
fn what_is_timed_is_what_is_compared() {
    let machine = Machine::new();
    let first = ("FAKE_GPU_WRONG", "first");
    let (code, said) = machine.run("bf16,bf16-sustained", "", &[first]);
    let why = "WRONG: 1048576 of 1048576 numbers of the result were not written or are none (1024x1024x1024) (in the last of the timed launches)";
    assert!(code == 1 && said.contains(why) && !said.contains("as expected"), "{code} {said}");
    let memory =
        "memory-read,memory-write,memory-copy,memory-triad,l2-read,host-to-device,device-to-host";
    let (code, said) = machine.run(memory, "", &[first, LARGE]);
    assert!(code == 1 && said.matches("WRONG: ").count() == 7, "{code} {said}");
    assert!(said.contains("timed launches read is "), "{said}");
    // Of two GPUs.
    let (code, said) = machine.run("peer", "", &[first, LARGE, ("FAKE_GPU_COUNT", "2")]);
    assert!(code == 1 && said.contains("WRONG: the copy is not what was copied"), "{code} {said}");
}

/// NVML says that a GPU is lost, does not start, or takes the process with it.
#[test]
fn errors_of_nvml_are_said() {
    let machine = Machine::new();
    let (code, said) = machine.run("bf16", "gpu.*.clocks_before_lost 6\n", &[]);
    let why = "while `products` was measured, it answered for GPU 0 no more: NVML's code is 15 (GPU is lost)";
    assert!(code == 11 && said.contains(why), "{code} {said}");
    // One call of many.
    let (code, said) = machine.run("bf16", "gpu.*.clock_lost 9\n", &[]);
    let why = "not measured: while `products` was measured, of a call about GPU 0, NVML's code is 15 (GPU is lost)";
    assert!(code == 11 && said.contains(why), "{code} {said}");
    // Those that are asked before anything is measured, and how a GPU is found.
    for call in [
        "nvmlDeviceGetHandleByPciBusId_v2",
        "nvmlDeviceGetMaxClockInfo",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetCount_v2",
        "nvmlDeviceGetMigMode",
        "nvmlSystemGetDriverVersion",
    ] {
        let (code, said) = machine.run("bf16", &format!("lost_call {call}\n"), &[]);
        let why = "NVML's code is 15 (GPU is lost)";
        assert!(code == 11 && said.contains(why) && said.contains("TFLOP/s"), "{call}: {said}");
    }
    let (code, said) = machine.run("bf16", "init 9\n", &[]);
    let why = "not measured: nvmlInit: Driver Not Loaded (9): clocks, power, limits and links";
    assert!(code == 11 && said.contains(why) && said.contains("TFLOP/s"), "{code} {said}");
    let (code, said) = machine.run("bf16", "init_crash 1\n", &[]);
    let why =
        "not measured: asking it which GPUs there are took CUDA with it (it ended with signal 6";
    assert!(code == 11 && said.contains(why) && said.contains("TFLOP/s"), "{code} {said}");
    assert!(!said.contains("twice which torch"), "{said}");
}

/// NVML answers when the GPUs are listed, and does not start when they are measured: what it would have seen is missing.
#[test]
fn nvml_that_starts_once_is_said() {
    let machine = Machine::new();
    let once = format!("init_once {}\n", machine.world.path("once").display());
    let (code, said) = machine.run("bf16", &once, &[]);
    let why = "not measured: while `products` was measured, nvmlInit: Driver Not Loaded (9)";
    assert!(code == 11 && said.contains(why) && said.contains("TFLOP/s"), "{code} {said}");
}

/// A driver that does not say how two GPUs reach each other makes no pair slow.
#[test]
fn a_way_between_gpus_that_is_not_said() {
    let machine = Machine::new();
    let says = [("FAKE_GPU_COUNT", "2"), LARGE, ("FAKE_GPU_PEER_FAILS", "1")];
    let (code, said) = machine.run("peer", "", &says);
    let why = "not measured: cuDeviceCanAccessPeer";
    assert!(code == 12 && said.matches(why).count() == 2, "{code} {said}");
}

/// A GPU with two names has no bound that is known: what would be too fast for the one is not wrong for the other.
#[test]
fn a_gpu_with_two_names_is_not_wrong() {
    let machine = Machine::new();
    let says = [("FAKE_GPU_TFLOPS", "1400")];
    let (code, said) = machine.run("bf16", "gpu.*.name NVIDIA B200\n", &says);
    let why = "can't tell: CUDA says that GPU 0 is NVIDIA H100 80GB HBM3, and NVML says that it is NVIDIA B200";
    assert!(code == 0 && said.contains(why) && !said.contains("WRONG"), "{code} {said}");
    // What is computed wrongly is wrong on any.
    let says = [("FAKE_GPU_WRONG", "numbers")];
    let (code, said) = machine.run("bf16", "gpu.*.name NVIDIA B200\n", &says);
    assert!(code == 1 && said.contains("WRONG"), "{code} {said}");
    // It is said in the log as well.
    _ = machine.run("bf16", "", &[("FAKE_GPU_TFLOPS", "900")]);
    let (_, said) = all(&mut machine.bench(&["log"]));
    assert!(said.contains("bf16 900 TFLOP/s (can't tell)"), "{said}");
}

/// A link that NVML says to be slower than what came over it with the right contents makes nothing wrong.
#[test]
fn right_contents_over_a_link_that_is_said_to_be_slow() {
    let machine = Machine::new();
    let slow = "gpu.*.pcie_generation 1\ngpu.*.pcie_lanes 1\n";
    let says = [LARGE, ("FAKE_GPU_HOST_GB_S", "55")];
    let (code, said) = machine.run("host-to-device", slow, &says);
    let why = "can't tell: 55.0 GB/s came with the right contents, and PCIe 1 x1 carries 0.250";
    assert!(code == 0 && said.contains(why), "{code} {said}");
}

/// The power limit takes a twentieth, and half is missing.
#[test]
fn a_cause_that_explains_little_is_not_the_cause() {
    let machine = Machine::new();
    let nvml = "gpu.*.sm_mhz 1900\ngpu.*.reasons 4\n";
    let (code, said) = machine.run("bf16", nvml, &[("FAKE_GPU_TFLOPS", "400")]);
    let why = "LOW: without a known cause (the power limit holds its clock down, which explains 8 % of it)";
    assert!(code == 1 && said.contains(why), "{code} {said}");
    // The same without a reason.
    let slow = ("FAKE_GPU_TFLOPS", "284");
    let (code, said) = machine.run("bf16", "gpu.*.sm_mhz 1755\n", &[slow]);
    let why = "LOW: without a known cause (its clock was at 1755 of 1980 MHz, and NVML does not say why, which explains 18 % of it)";
    assert!(code == 1 && said.contains(why), "{code} {said}");
}

/// Two of five bursts are slow, of so many that a busy machine changes nothing about it: their middle is no figure to be content with.
#[test]
fn bursts_that_are_far_apart_are_not_as_expected() {
    let machine = Machine::new();
    let slow = ("FAKE_GPU_SLOW", "0.1");
    let check = |nvml: &str, says: &[(&str, &str)], words: &str, wanted| {
        at_last(|| {
            let (code, said) = machine.once(&[], "bf16", nvml, says);
            (code == wanted && said.contains(words), format!("{code} {said}"))
        });
    };
    let hot = "gpu.*.sm_mhz 1800\ngpu.*.reasons 64\n";
    check(hot, &[slow], "LOW: heat holds its clock down (hardware", 1);
    // A reason that was there while the clock was the highest held nothing.
    let unknown = "can't tell: its repeats are far apart";
    check("gpu.*.reasons 64\n", &[slow], unknown, 0);
    // Even the best of them is low.
    check("", &[slow, ("FAKE_GPU_TFLOPS", "500")], "LOW, without a known cause", 1);
    check("", &[slow], unknown, 0);
}

/// A pair that passes a twentieth of what the others do.
#[test]
fn a_pair_far_below_the_others_is_in_the_last_line() {
    let machine = Machine::new();
    let says = [("FAKE_GPU_COUNT", "3"), LARGE, ("FAKE_GPU_PEER_SLOW", "1")];
    let (code, said) = machine.run("peer", "", &says);
    let last = said.lines().last().unwrap_or_default();
    assert!(
        code == 1 && (last.contains("peer 1 to ") || last.contains("low: peer")),
        "{code} {said}"
    );
}

/// A wrong result is part of what this machine has reached.
#[test]
fn wrong_results_are_kept() {
    let machine = Machine::new();
    let (code, said) = machine.run("bf16", "", &[("FAKE_GPU_WRONG", "numbers")]);
    assert!(code == 1 && said.contains("WRONG: "), "{code} {said}");
    let (code, said) = all(&mut machine.bench(&["log"]));
    let why = "  WRONG: bf16 gpu 0: bf16 of 1024x1024x1024: row ";
    assert!(code == 0 && said.contains(why), "{code} {said}");
    // A number is how many, as for Docker and everywhere.
    let (code, said) = all(&mut machine.bench(&["log", "--gpus", "0"]));
    assert!(code == 2 && said.contains("device=0"), "{code} {said}");
    let (code, said) = all(&mut machine.bench(&["log", "--gpus", "device=0"]));
    assert!(code == 0 && said.contains(why), "{code} {said}");
    let (code, said) = all(&mut machine.bench(&["--host", "--only", "bf16", "--gpus", "0"]));
    assert!(code == 2 && said.contains("`device=0` is the first GPU"), "{code} {said}");
}

/// Options that mean nothing without a container are refused, and a Python that is not there.
#[test]
fn options_of_a_container_are_none_of_the_host() {
    let machine = Machine::new();
    for (words, name) in
        [(&["--init"][..], "--init"), (&["--ipc", "host"], "--ipc"), (&["--ipc=host"], "--ipc")]
    {
        let (code, said) =
            all(&mut machine.bench(&[&["--host", "--only", "bf16"], words].concat()));
        let why = format!("`--host` starts no container, and `{name}` is an option of one");
        assert!(code == 2 && said.contains(&why), "{said}");
    }
    for words in [["--user", "nobody"], ["-e", "A=B"], ["--memory", "1m"], ["-v", "/no:/x"]] {
        let (code, said) =
            all(&mut machine.bench(&[&["--host", "--only", "bf16"], &words[..]].concat()));
        assert!(code == 2 && said.contains("`--host` starts no container"), "{words:?}: {said}");
    }
    let (code, said) =
        all(&mut machine.bench(&["--host", "--only", "bf16", "--python", "/nonexistent"]));
    assert!(code == 2 && said.contains("/nonexistent"), "{code} {said}");
}

/// Each figure is answered for by its own name, with its GPU, and with what kept it.
#[test]
fn words_of_what_was_not_measured() {
    let machine = Machine::new();
    let wrong = ("FAKE_GPU_WRONG", "numbers");
    let (_, said) = machine.run("bf16,bf16-sustained", "", &[wrong]);
    let why = "bf16-sustained gpu 0       not measured: it takes shape and algorithm of `bf16`, which has no figure";
    assert!(said.contains(why) && !said.contains("newer GPU"), "{said}");
    let (code, said) = machine.run("bf16-sustained", "", &[wrong]);
    assert!(code == 1 && said.contains("bf16-sustained gpu 0       WRONG: "), "{code} {said}");
    let (_, said) = machine.run("bf16", "", &[("FAKE_GPU_TFLOPS", "1400")]);
    assert!(said.contains("bf16 gpu 0                 WRONG: 1400 TFLOP/s"), "{said}");
    for (visible, first, count) in [("0,7", "7", 1), ("7", "7", 0)] {
        let (code, said) = machine.run("bf16", "", &[("CUDA_VISIBLE_DEVICES", visible)]);
        let why = format!("CUDA_VISIBLE_DEVICES is `{visible}`, and CUDA shows {count} of the ");
        assert!(said.contains(&why) && said.contains(&format!("there is no `{first}`")), "{said}");
        assert_eq!(code, if count == 1 { 11 } else { 12 }, "{said}");
    }
    let (code, said) = machine.run("bf16", "", &[("CUDA_VISIBLE_DEVICES", "0,-1")]);
    assert!(code == 0 && !said.contains("CUDA shows"), "{code} {said}");
}
