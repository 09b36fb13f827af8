//! Machines in trouble, as snapshots of schema 1: what is found, and in which order. The kernel's lines in them are
//! the driver's own; the rest is described.

mod report;

use expect_test::expect;
use report::{case, check};

#[test]
fn gpus_that_nvml_does_not_know() {
    check(
        "rminitadapter-open-fails",
        expect![[r#"
            1x NVIDIA GeForce RTX 3090, driver 550.144.03 (CUDA up to 12.4)
            blocked: a container with GPUs can't work here as it is

            STOPS  GPU 0 (NVIDIA GeForce RTX 3090) at 0000:98:00.0 can't be used: its system processor (GSP) fails [gsp-firmware]
                   seen: NVRM: RmInitAdapter: Cannot initialize GSP firmware RM
                   seen: NVRM: GPU 0000:98:00.0: RmInitAdapter failed! (0x62:0x65:1792)
                   seen: NVRM: gpuWaitForGfwBootComplete_TU102: failed to wait for GFW_BOOT: (progress 0x3)
                   seen: NVRM: kgspWaitForGfwBootOk_TU102: failed to wait for GFW boot complete: 0x65 VBIOS version 94.02.59.00.05
                   fix:  switch the machine off, wait half a minute, and switch it on: a restart does not reset the GPU: `systemctl poweroff`
                   then: if it fails again: another release of the driver; then a newer VBIOS from the card's maker, or another slot; at last the card is broken
                   see:  NVIDIA/open-gpu-kernel-modules#446

            notes  the driver 550.144.03 is too old for the newest CUDA [driver-too-old]
                   seen: CUDA 13 starts at driver 580.65.06
                   fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
                   see:  lllyasviel/Fooocus#1313
        "#]],
    );
    check(
        "xid79-node-opens",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4)
        ready, with warnings

        warns  GPU 3 (NVIDIA H100 80GB HBM3) at 0000:33:00.0 is lost [gpu-lost]
               seen: NVML answers for others, and nothing for this one
               seen: NVRM: Xid (PCI:0000:33:00): 79, pid=…, name=…, GPU has fallen off the bus.
               seen: NVRM: GPU 0000:33:00.0: GPU has fallen off the bus.
               seen: NVRM: GPU 0000:33:00.0: GPU serial number is 165…
               fix:  until then: `--gpus all` goes on without it
               then: restart the machine: a GPU that is gone refuses a reset: `systemctl reboot`
               then: if it goes again: switch the machine off, reseat the card, look at its power, its cooling and its PCIe errors; then have it replaced
               see:  NVIDIA/open-gpu-kernel-modules#507, NVIDIA/NVSentinel#155

        notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
    check(
        "lost-gpu-log-rolled-over",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4)
        ready, with warnings

        warns  GPU 3 (NVIDIA H100 80GB HBM3) at 0000:33:00.0 is lost [gpu-lost]
               seen: NVML answers for others, and nothing for this one
               fix:  until then: `--gpus all` goes on without it
               then: restart the machine: a GPU that is gone refuses a reset: `systemctl reboot`
               then: if it goes again: switch the machine off, reseat the card, look at its power, its cooling and its PCIe errors; then have it replaced
               see:  NVIDIA/open-gpu-kernel-modules#507, NVIDIA/NVSentinel#155

        notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
}

#[test]
fn gpus_that_the_driver_refuses() {
    check(
        "needs-open-modules",
        expect![[r#"
            no GPU seen, driver 570.124.06 (CUDA up to 12.8)
            blocked: a container with GPUs can't work here as it is

            STOPS  RTX 5090 at 0000:18:00.0 needs the open kernel modules, and the proprietary ones are installed [needs-open-module]
                   seen: NVRM: installed in this system requires use of the NVIDIA open kernel modules.
                   fix:  install the open kernel modules of driver 570 in place of the proprietary
                   then: restart the machine: `systemctl reboot`
                   see:  NVIDIA/open-gpu-kernel-modules#815

            notes  the driver 570.124.06 is too old for the newest CUDA [driver-too-old]
                   seen: CUDA 13 starts at driver 580.65.06
                   fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
                   see:  lllyasviel/Fooocus#1313
        "#]],
    );
    check(
        "driver-older-than-gpu",
        expect![[r#"
            no GPU seen, driver 550.163.01 (CUDA up to 12.4)
            blocked: a container with GPUs can't work here as it is

            STOPS  RTX 5090 at 0000:18:00.0 is newer than the driver 550.163.01, which does not know it [driver-older-than-gpu]
                   seen: NVRM: installed in this system is not supported by the
                   fix:  install driver 580 or newer
                   then: restart the machine: `systemctl reboot`

            notes  the driver 550.163.01 is too old for the newest CUDA [driver-too-old]
                   seen: CUDA 13 starts at driver 580.65.06
                   fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
                   see:  lllyasviel/Fooocus#1313
        "#]],
    );
    check(
        "vfio-passthrough",
        expect![[r#"
            1x NVIDIA A40, driver 535.183.01 (CUDA up to 12.2)
            ready, with warnings

            warns  A40 at 0000:21:00.0 is held by another kernel driver (vfio-pci, nouveau), not by NVIDIA's [gpu-held]
                   seen: NVRM: The NVIDIA probe routine was not called for 1 device(s).
                   fix:  see which driver has it: `lspci -nnk -d 10de:`
                   then: leave it so if virtual machines are to have it; else give it to NVIDIA's driver: `sh -c 'echo 0000:21:00.0 > /sys/bus/pci/devices/0000:21:00.0/driver/unbind'`, `sh -c 'echo > /sys/bus/pci/devices/0000:21:00.0/driver_override'`, `sh -c 'echo 0000:21:00.0 > /sys/bus/pci/drivers/nvidia/bind'`
                   see:  beclab/Olares#3963

            notes  the driver 535.183.01 is too old for the newest CUDA [driver-too-old]
                   seen: CUDA 13 starts at driver 580.65.06
                   fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
                   see:  lllyasviel/Fooocus#1313
        "#]],
    );
}

#[test]
fn containers() {
    check(
        "cdi-container-1-of-8",
        expect![[r#"
        1x NVIDIA H100 80GB HBM3 (of 8 on the machine), driver 550.127.05 (CUDA up to 12.4)
        ready: nothing stands in the way

        notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
    check(
        "cgroup-lost",
        expect![[r#"
            8x NVIDIA H100 80GB HBM3, driver 550.127.05
            blocked: a container with GPUs can't work here as it is

            STOPS  /dev/nvidia-uvm, /dev/nvidia0, /dev/nvidia1, /dev/nvidia2, /dev/nvidia3, /dev/nvidia4, /dev/nvidia5, /dev/nvidia6, /dev/nvidia7, /dev/nvidiactl can't be opened [node-denied]
                   seen: EPERM: the device cgroup or a security module forbids it (/dev/nvidia-uvm 510:0, mode 0666)
                   fix:  on the host: its device rules were lost, mostly to a reload of systemd: start it again: `docker restart <container>`
                   then: on the host: so that it does not come again: give GPUs by CDI, or link the nodes below /dev/char: `nvidia-ctk system create-dev-char-symlinks --create-all`
                   see:  containers/podman#9926, NVIDIA/nvidia-container-toolkit#48

            notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
                   seen: CUDA 13 starts at driver 580.65.06
                   fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
                   see:  lllyasviel/Fooocus#1313
        "#]],
    );
}

/// Kernel drivers that take the GPU before NVIDIA's (beclab/Olares#3963), and all GPUs set aside for virtual machines: to
/// load the module again would change nothing.
#[test]
fn gpus_that_another_driver_keeps() {
    check(
        "nova-has-the-gpu",
        expect![[r#"
        no GPU seen, no driver loaded
        blocked: a container with GPUs can't work here as it is

        STOPS  RTX 4090 at 0000:18:00.0 is held by NovaCore, not by NVIDIA's driver [gpu-held]
               seen: NVIDIA's module does not stay loaded without a GPU
               fix:  see which driver has it: `lspci -nnk -d 10de:`
               then: keep nova_core and nova_drm from loading: `sh -c 'echo blacklist nova_core > /etc/modprobe.d/blacklist-nova_core.conf'`, `sh -c 'echo blacklist nova_drm > /etc/modprobe.d/blacklist-nova_drm.conf'`
               then: make the initial RAM disk anew: `update-initramfs -u`
               then: restart the machine: `systemctl reboot`
               see:  beclab/Olares#3963
    "#]],
    );
    check(
        "vfio-has-all-gpus",
        expect![[r#"
        no GPU seen, no driver loaded
        blocked: a container with GPUs can't work here as it is

        STOPS  H100 SXM5 80GB at 0000:18:00.0 is held by vfio-pci, not by NVIDIA's driver [gpu-held]
               seen: NVIDIA's module does not stay loaded without a GPU
               fix:  see which driver has it: `lspci -nnk -d 10de:`
               then: leave it so if virtual machines are to have it; else give it to NVIDIA's driver: `sh -c 'echo 0000:18:00.0 > /sys/bus/pci/devices/0000:18:00.0/driver/unbind'`, `sh -c 'echo > /sys/bus/pci/devices/0000:18:00.0/driver_override'`, `modprobe -a nvidia nvidia_uvm`
               see:  beclab/Olares#3963
    "#]],
    );
}

/// A GPU that the bus no longer lists has nothing else that tells of it.
#[test]
fn gpus_that_have_gone() {
    check(
        "xid79-left-the-bus",
        expect![[r#"
        no GPU seen, driver 550.127.05 (CUDA up to 12.4)
        blocked: a container with GPUs can't work here as it is

        STOPS  the GPU at 0000:18:00 has left the PCI bus [gpu-lost]
               seen: NVRM: Xid (PCI:0000:18:00): 79, pid=1, name=x, GPU has fallen off the bus.
               fix:  restart the machine: a GPU that is gone refuses a reset: `systemctl reboot`
               then: if it goes again: switch the machine off, reseat the card, look at its power, its cooling and its PCIe errors; then have it replaced
               see:  NVIDIA/open-gpu-kernel-modules#507, NVIDIA/NVSentinel#155

        notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
    check(
        "xid79-one-of-8-left-the-bus",
        expect![[r#"
        7x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4)
        ready, with warnings

        warns  the GPU at 0000:33:00 has left the PCI bus [gpu-lost]
               seen: NVRM: Xid (PCI:0000:33:00): 79, pid=1, name=x, GPU has fallen off the bus.
               fix:  until then: `--gpus all` goes on without it
               then: restart the machine: a GPU that is gone refuses a reset: `systemctl reboot`
               then: if it goes again: switch the machine off, reseat the card, look at its power, its cooling and its PCIe errors; then have it replaced
               see:  NVIDIA/open-gpu-kernel-modules#507, NVIDIA/NVSentinel#155

        notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
    // Lines of NVIDIA/open-gpu-kernel-modules#1230 and leptonai/gpud#500.
    check(
        "xid119-gpu-silent",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4)
        ready, with warnings

        warns  GPU 6 (NVIDIA H100 80GB HBM3) at 0000:4e:00.0 can't be used: its system processor (GSP) fails [gsp-firmware]
               seen: NVRM: GPU6 _kgspLogRpcTimeout: ********************************* GSP Timeout **********************************
               seen: NVRM: Xid (PCI:0000:4e:00): 119, pid=4, name=x, Timeout after 45s of waiting for RPC response from GPU6 GSP! Expected function 76 (GSP_RM_CONTROL) (0x20801702 0x4).
               fix:  stop what uses any GPU, then reset all of them, and the NVSwitches, together: `nvidia-smi --gpu-reset`
               then: if that fails: switch the machine off, wait half a minute, and switch it on: a restart does not reset the GPU: `systemctl poweroff`
               then: if it fails again: another release of the driver; then a newer VBIOS from the card's maker, or another slot; at last the card is broken
               see:  NVIDIA/open-gpu-kernel-modules#446

        notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
}

#[test]
fn modules_and_nodes() {
    check(
        "module-of-another-kernel",
        expect![[r#"
        no GPU seen, no driver loaded
        blocked: a container with GPUs can't work here as it is

        STOPS  this kernel, 5.15.0-122-generic, refuses the driver's module: it was built for another [module-not-built]
               seen: nvidia: disagrees about version of symbol module_layout
               fix:  build it again for this kernel (`dkms status` says what dkms calls it, `dkms install --force` builds and installs it), then load it: `modprobe -a nvidia nvidia_uvm`
    "#]],
    );
    check(
        "uvm-dead",
        expect![[r#"
            1x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4)
            blocked: a container with GPUs can't work here as it is

            STOPS  /dev/nvidia-uvm can't be opened [node-denied]
                   seen: nothing answers behind it (/dev/nvidia-uvm 510:0, mode 0666)
                   fix:  stop what uses the GPUs (`fuser -v /dev/nvidia*` lists it), then load the modules again: `systemctl stop nvidia-persistenced`, `sh -c 'modprobe -r nvidia_peermem nvidia_uvm nvidia_drm nvidia_modeset nvidia; modprobe -a nvidia nvidia_uvm nvidia_peermem'`
                   see:  containers/podman#9926, NVIDIA/nvidia-container-toolkit#48

            notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
                   seen: CUDA 13 starts at driver 580.65.06
                   fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
                   see:  lllyasviel/Fooocus#1313
        "#]],
    );
    check(
        "container-without-nodes",
        expect![[r#"
        no GPU seen (of 1 on the machine), driver 550.127.05 (CUDA up to 12.4)
        blocked: a container with GPUs can't work here as it is

        STOPS  this container was given no GPU [node-missing]
               seen: missing: /dev/nvidia0, /dev/nvidiactl
               fix:  on the host: start it with GPUs: `docker run --gpus all <image>`

        notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
               seen: CUDA 13 starts at driver 580.65.06
               fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
               see:  lllyasviel/Fooocus#1313
    "#]],
    );
    check(
        "container-without-libcuda",
        expect![[r#"
            1x NVIDIA H100 80GB HBM3, driver 550.127.05
            blocked: a container with GPUs can't work here as it is

            STOPS  the kernel module 550.127.05 is loaded, but libcuda was found nowhere [driver-libraries-missing]
                   fix:  on the host: the host's driver gives a container its libraries (if the image sets NVIDIA_DRIVER_CAPABILITIES, it must have `compute` and `utility`): start it with GPUs: `docker run --gpus all <image>`

            notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
                   seen: CUDA 13 starts at driver 580.65.06
                   fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
                   see:  lllyasviel/Fooocus#1313
        "#]],
    );
}

#[test]
fn a_gpu_of_eight_that_left_no_trace() {
    check(
        "one-of-8-never-came",
        expect![[r#"
        7x NVIDIA H100 80GB HBM3, driver 580.95.05 (CUDA up to 13.0)
        ready, with warnings

        warns  only 7 of the board's 8 GPUs are on the PCI bus [gpu-lost]
               seen: 4 NVSwitches are there
               fix:  until then: `--gpus all` goes on without it
               then: restart the machine: a GPU that is gone refuses a reset: `systemctl reboot`
               then: if it goes again: switch the machine off, reseat the card, look at its power, its cooling and its PCIe errors; then have it replaced
               see:  NVIDIA/open-gpu-kernel-modules#507, NVIDIA/NVSentinel#155
    "#]],
    );
}

/// A container that is given three of them lacks none.
#[test]
fn three_of_eight_by_choice() {
    let machine = case("one-of-8-never-came");
    let three = machine.only(&["0000:18:00.0", "0000:21:00.0", "0000:2a:00.0"]);
    assert!(sconce_doctor::before_start(&three, None).is_empty());
}
