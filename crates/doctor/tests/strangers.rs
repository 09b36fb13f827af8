//! Machines that nobody described to the rules before: what really happens on each, and what is said.

mod report;

use report::case;
use sconce_doctor::{Verdict, examine};

#[test]
fn what_is_said_is_what_happens() {
    use Verdict::{Blocked, CantTell, Ready, ReadyWithWarnings};
    for (name, happens, verdict, rule) in [
        ("nvml-gpu-is-lost", "cuInit: error 999", Blocked, "nvml-silent"),
        ("nvml-unknown-error", "CUDA works, or cuInit: error 999", CantTell, "nvml-silent"),
        (
            "nvml-unknown-error-in-container",
            "as above, until it is started again",
            CantTell,
            "nvml-silent",
        ),
        ("nvml-late", "CUDA works, or hangs", CantTell, "nvml-silent"),
        ("remap-failed", "runs until that row is used", ReadyWithWarnings, "gpu-memory"),
        ("fabric-failed-no-switches", "cuInit: error 802", Blocked, "fabric-manager"),
        ("gb200-no-imex-channel", "runs on this machine alone", Ready, ""),
        ("l4-hidden-no-root", "no device", Blocked, "gpu-lost"),
        ("memory-full-no-process", "out of memory, at once or later", Ready, "gpu-in-use"),
        ("visible-empty", "no device", ReadyWithWarnings, "visible-devices"),
        ("visible-minus-one", "no device", ReadyWithWarnings, "visible-devices"),
        ("uvm-gone", "cuInit: error 999", Blocked, "uvm-missing"),
        ("xid-48", "runs if it was reset since, or not", CantTell, "xid"),
        ("no-libraries", "libcuda.so.1 is not found", Blocked, "driver-libraries-missing"),
        ("hw-slowdown", "runs at a part of its speed", ReadyWithWarnings, "clocks"),
        ("small-bar1", "runs; peers reach little of its memory", Ready, ""),
        ("mig-empty-in-container", "no device", Blocked, "mig-empty"),
        ("container-fabric-unknown", "runs, or cuInit: error 802", Ready, "fabric-manager"),
        ("drain-reset", "CUDA fails until the reset", Blocked, "recovery-action"),
        ("idle-card-gen1-x1", "the link of an idle card sleeps", Ready, ""),
        ("idle-l4-gen1-x1", "the link of an idle card sleeps", Ready, ""),
        ("l4-gen1-without-process", "nothing uses the link", Ready, ""),
        ("container-without-uvm", "cuInit: error 999", Blocked, "uvm-missing"),
        ("kernel-3.10", "no container of sconce's starts", Blocked, "kernel-too-old"),
        ("vfio-has-both", "no device", Blocked, "gpu-held"),
        ("container-given-no-gpu", "no device", Blocked, "node-missing"),
        ("mig-nodes-forbidden", "no device", Blocked, "mig-empty"),
        ("mig-nodes-missing", "no device", Blocked, "mig-empty"),
        ("exclusive-and-taken", "cuInit: error 46, or runs by MPS", CantTell, "compute-mode"),
        ("v100-page-waits", "runs; the page is replaced at a reset", Ready, "xid"),
    ] {
        let report = examine(&case(name), None);
        let first = report.findings.first().map_or("", |finding| finding.rule.id);
        assert_eq!((report.verdict, first), (verdict, rule), "{name}: {happens}");
    }
}
