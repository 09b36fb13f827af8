//! Errors that the driver reports by number, of GPUs and of switches, in snapshots of schema 1: what is found, and in
//! which order.

mod report;

use expect_test::expect;
use report::check;

/// What a switch says of itself has no word of how bad it is: the catalogue has, or nobody.
#[test]
fn switch_errors_that_do_not_say_how_bad_they_are() {
    let says = |line: &str| {
        let mut seen = report::case("sxid-20034-fatal");
        seen.errors.clear();
        seen.kernel_log = Some(vec![format!("nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): {line}")]);
        sconce_doctor::examine(&seen, None).text()
    };
    let slow = says("10004, Thermal Slowdown Engaged | Temp higher than WARN Threshold");
    assert!(slow.contains("warns  SXid 10004, fatal: Host_thermal_event_start"), "{slow}");
    let soe = says("26003, SOE init Failed(0)");
    let words = "warns  SXid 26003, of which the line does not say whether it is fatal";
    assert!(soe.contains(words), "{soe}");
    let data = says("20034, Data {0x50610002, 0x10100030}");
    assert!(!data.contains("[sxid]"), "{data}");
}

#[test]
fn switches() {
    check(
        "sxid-20034-fatal",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4)
        ready, with warnings

        warns  SXid 20034, fatal: LTSSM Fault Up [sxid]
               seen: nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up
               fix:  stop what uses any GPU, then reset all of them, and the NVSwitches, together: `nvidia-smi --gpu-reset`

        notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
    check(
        "sxid-nonfatal",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4)
        ready: nothing stands in the way

        notes  SXid 28006, not fatal: MC TS crumbstore MCTO [sxid]
               seen: nvidia-nvswitch0: SXid (PCI:0000:84:00.0): 28006, Non-fatal, Link 26 MC TS crumbstore MCTO

        notes  SXid 12028, not fatal: egress nonposted PRIV error [sxid]
               seen: nvidia-nvswitch1: SXid (PCI:0000:85:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error
               fix:  nothing, unless it comes again and again

        notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
}

#[test]
fn errors_of_hopper_and_blackwell() {
    check(
        "x121",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4)
        ready: nothing stands in the way

        notes  Xid 121 on GPU 0: C2C Error [xid]
               seen: NVRM: Xid (PCI:0000:18:00): 121, pid=1, name=python, C2C Link corrected error
               fix:  nothing: it was dealt with; if it comes often, ask the machine's vendor
               see:  NVIDIA/open-gpu-kernel-modules#507

        notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
    check(
        "x140",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4)
        ready, with warnings

        warns  Xid 140 on GPU 0: ECC Unrecovered Error [xid]
               seen: NVRM: Xid (PCI:0000:18:00): 140, pid=1, name=python, Unrecovered ECC error
               fix:  stop what uses any GPU, then reset all of them, and the NVSwitches, together: `nvidia-smi --gpu-reset`
               see:  NVIDIA/open-gpu-kernel-modules#507

        notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
    check(
        "x143",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4)
        ready, with warnings

        warns  Xid 143 on GPU 0: GPU Initialization Error [xid]
               seen: NVRM: Xid (PCI:0000:18:00): 143, pid=1, GPU initialization failure
               fix:  stop what uses any GPU, then reset all of them, and the NVSwitches, together: `nvidia-smi --gpu-reset`
               see:  NVIDIA/open-gpu-kernel-modules#507

        notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
    check(
        "x149",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4)
        ready, with warnings

        warns  Xid 149 on GPU 0: NVLINK: NETIR Error (NETIR_LINK_EVT) [xid]
               seen: NVRM: Xid (PCI:0000:18:00): 149, pid='<unknown>', name=<unknown>, NETIR_LINK_EVT Fatal XC0 i0 Link 09 (0x004505c6 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000)
               fix:  stop what uses any GPU, then reset all of them, and the NVSwitches, together: `nvidia-smi --gpu-reset`
               see:  NVIDIA/open-gpu-kernel-modules#507

        notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
    check(
        "x154",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4)
        ready, with warnings

        warns  GPU 0 (NVIDIA H100 80GB HBM3) at 0000:18:00.0: GPU Reset Required [recovery-action]
               seen: NVRM: Xid (PCI:0000:18:00): 154, pid=1, name=python, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)
               fix:  stop what uses any GPU, then reset all of them, and the NVSwitches, together: `nvidia-smi --gpu-reset`

        notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
    check(
        "b200-154-reboot",
        expect![[r#"
        8x NVIDIA B200, driver 580.126.20 (CUDA up to 13.0)
        ready, with warnings

        warns  GPU 0 (NVIDIA B200) at 0000:18:00.0: Node Reboot Required [recovery-action]
               seen: NVRM: Xid (PCI:0000:18:00): 154, pid='<unknown>', name=<unknown>, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)
               fix:  restart the machine: `systemctl reboot`
    "#]],
    );
}

#[test]
fn an_error_of_a_switch_that_was_fatal_this_time() {
    check(
        "sxid-12028-fatal",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 580.95.05 (CUDA up to 13.0)
        ready, with warnings

        warns  SXid 12028, fatal: egress nonposted PRIV error [sxid]
               seen: nvidia-nvswitch0: SXid (PCI:0000:86:00.0): 12028, Fatal, Link 46 egress non-posted PRIV error
               fix:  stop what uses any GPU, then reset all of them, and the NVSwitches, together: `nvidia-smi --gpu-reset`
    "#]],
    );
}
