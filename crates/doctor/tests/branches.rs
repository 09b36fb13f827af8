//! GPUs and driver branches: too old for one, too new for the other, and what a restart would bring.

mod report;

use expect_test::expect;
use report::{case, check};
use sconce_doctor::{Subject, examine};

#[test]
fn what_a_restart_would_lose() {
    check(
        "upgraded-past-the-gpu",
        expect![[r#"
        1x Tesla V100-SXM2-32GB, driver 580.159.04
        blocked: a container with GPUs can't work here as it is

        STOPS  Driver/library version mismatch: the loaded module is 580.159.04, the libraries are 590.48.01 [driver-mismatch]
               seen: libraries in /usr/lib/x86_64-linux-gnu
               seen: 590.48.01, which runs after a restart, no longer supports GPU 0 (Tesla V100-SXM2-32GB) at 0000:18:00.0
               fix:  install driver 580, which serves it, before the machine is restarted: `apt-get update`, `apt-get install -y nvidia-driver-580-server`
               then: restart the machine: `systemctl reboot`
               see:  NVIDIA/nvidia-container-toolkit#394
    "#]],
    );
    check(
        "downgraded-below-the-gpu",
        expect![[r#"
        1x NVIDIA B200, driver 580.159.04
        blocked: a container with GPUs can't work here as it is

        STOPS  Driver/library version mismatch: the loaded module is 580.159.04, the libraries are 550.163.01 [driver-mismatch]
               seen: libraries in /usr/lib/x86_64-linux-gnu
               seen: 550.163.01, which runs after a restart, does not know GPU 0 (NVIDIA B200) at 0000:18:00.0
               fix:  install driver 580, which serves it, before the machine is restarted: `apt-get update`, `apt-get install -y nvidia-driver-580-server-open`
               then: restart the machine: `systemctl reboot`
               see:  NVIDIA/nvidia-container-toolkit#394
    "#]],
    );
}

#[test]
fn drivers_that_do_not_know_the_gpu() {
    check(
        "a100-driver-older",
        expect![[r#"
        no GPU seen, driver 440.33.01
        blocked: a container with GPUs can't work here as it is

        STOPS  A100 PCIe 80GB at 0000:18:00.0 is newer than the driver 440.33.01, which does not know it [driver-older-than-gpu]
               fix:  install driver 580 or newer: `apt-get update`, `apt-get install -y nvidia-driver-580-server-open`
               then: restart the machine: `systemctl reboot`

        notes  the driver 440.33.01 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 11 starts at driver 450.80.02
               seen: CUDA 12 starts at driver 525.60.13
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
    check(
        "volta-open-590",
        expect![[r#"
        no GPU seen, driver 590.48.01
        blocked: a container with GPUs can't work here as it is

        STOPS  V100 SXM2 at 0000:18:00.0 is no longer supported by the driver 590.48.01 [driver-dropped-gpu]
               fix:  install driver 580, the last that supports it: `apt-get update`, `apt-get install -y nvidia-driver-580-server`
               then: restart the machine: `systemctl reboot`
    "#]],
    );
}

/// Nothing here says whether it is broken or only new.
#[test]
fn a_gpu_that_is_not_known() {
    check(
        "unknown-gpu-hidden",
        expect![[r#"
        no GPU seen, driver 580.159.04
        blocked: a container with GPUs can't work here as it is

        STOPS  a GPU (10de:3180) at 0000:18:00.0 is on the bus and the driver does not show it [gpu-lost]
               fix:  see whether the driver is new enough: this GPU is newer than what is known here, so it may need a later branch (NVIDIA's list of supported products, by its PCI id): `lspci -nnk -d 10de:`
               then: restart the machine: a GPU that is gone refuses a reset: `systemctl reboot`
               then: if it goes again: switch the machine off, reseat the card, look at its power, its cooling and its PCIe errors; then have it replaced
               see:  NVIDIA/open-gpu-kernel-modules#507, NVIDIA/NVSentinel#155
    "#]],
    );
    check(
        "unknown-gpu-hidden-log-unread",
        expect![[r#"
        no GPU seen, driver 580.159.04
        blocked: a container with GPUs can't work here as it is

        STOPS  a GPU (10de:3180) at 0000:18:00.0 is on the bus and the driver does not show it [gpu-lost]
               fix:  look again as root: the kernel's log could not be read, and says why the driver leaves a GPU alone: `sconce doctor`
               then: see whether the driver is new enough: this GPU is newer than what is known here, so it may need a later branch (NVIDIA's list of supported products, by its PCI id): `lspci -nnk -d 10de:`
               then: restart the machine: a GPU that is gone refuses a reset: `systemctl reboot`
               then: if it goes again: switch the machine off, reseat the card, look at its power, its cooling and its PCIe errors; then have it replaced
               see:  NVIDIA/open-gpu-kernel-modules#507, NVIDIA/NVSentinel#155
    "#]],
    );
}

#[test]
fn an_old_gpu_on_its_last_driver() {
    check(
        "kepler-on-its-last-driver",
        expect![[r#"
        1x Tesla K80, driver 470.256.02 (CUDA up to 11.4)
        ready: nothing stands in the way

        notes  the driver 470.256.02 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 12 starts at driver 525.60.13
               seen: CUDA 13 starts at driver 580.65.06
               fix:  take an image with an older CUDA (`driver = "…"` in sconce.toml makes sconce choose it): drivers that new no longer support GPU 0 (Tesla K80) at 0000:18:00.0
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
}

/// A driver that is new enough for the image would leave the GPU alone.
#[test]
fn an_image_that_no_driver_of_the_gpu_runs() {
    let subject = Subject {
        name: "an image".into(),
        cuda_major: Some(13),
        driver_floor: Some("590.44.01".into()),
        architectures: vec![],
        ..Subject::default()
    };
    let mut seen = case("upgraded-past-the-gpu");
    seen.driver.libraries.clone_from(&seen.driver.module);
    (seen.driver.nvml, seen.driver.nvml_silence) = (true, None);
    seen.gpus[0].answers = Some(true);
    expect![[r#"
        1x Tesla V100-SXM2-32GB, driver 580.159.04
        for an image
        blocked: a container with GPUs can't work here as it is

        STOPS  an image (CUDA 13) needs driver 590.44.01, this one is 580.159.04 [driver-too-old]
               fix:  take an image with an older CUDA (`driver = "…"` in sconce.toml makes sconce choose it): drivers that new no longer support GPU 0 (Tesla V100-SXM2-32GB) at 0000:18:00.0
               see:  lllyasviel/Fooocus#1313
    "#]].assert_eq(&examine(&seen, Some(&subject)).text());
}
