//! Machines without a GPU that can be used: the driver's module that went again because it could start none, and GPUs
//! that are each unusable for a reason of their own. The kernel's lines are the driver's own; the rest is described.

mod report;

use expect_test::expect;
use report::check;

#[test]
fn a_module_that_could_start_no_gpu() {
    check(
        "gone-pascal-open-module",
        expect![[r#"
        no GPU seen, no driver loaded
        blocked: a container with GPUs can't work here as it is

        STOPS  a Pascal GPU (10de:1b81) at 0000:18:00.0 is older than Turing and needs the proprietary kernel modules; the open ones are installed [needs-proprietary-module]
               seen: NVRM: installed in this system is not supported by open
               seen: NVRM: nvidia.ko because it does not include the required GPU
               fix:  install the proprietary kernel modules of driver 580 in place of the open: `apt-get update`, `apt-get install -y nvidia-driver-580-server`
               then: restart the machine: `systemctl reboot`
    "#]],
    );
    check(
        "gone-blackwell-proprietary-module",
        expect![[r#"
        no GPU seen, no driver loaded
        blocked: a container with GPUs can't work here as it is

        STOPS  RTX 5090 at 0000:18:00.0 needs the open kernel modules, and the proprietary ones are installed [needs-open-module]
               seen: NVRM: installed in this system requires use of the NVIDIA open kernel modules.
               fix:  install the open kernel modules of driver 580 in place of the proprietary: `apt-get update`, `apt-get install -y nvidia-driver-580-server-open`
               then: restart the machine: `systemctl reboot`
               see:  NVIDIA/open-gpu-kernel-modules#815
    "#]],
    );
    check(
        "gone-pascal-driver-590",
        expect![[r#"
        no GPU seen, no driver loaded
        blocked: a container with GPUs can't work here as it is

        STOPS  a Pascal GPU (10de:1b80) at 0000:18:00.0 is no longer supported by the driver 590.48.01 [driver-dropped-gpu]
               seen: NVRM:  supported through the NVIDIA 580.xx Legacy drivers. Please
               fix:  install driver 580, the last that supports it: `apt-get update`, `apt-get install -y nvidia-driver-580-server`
               then: restart the machine: `systemctl reboot`
    "#]],
    );
    check(
        "gone-no-address-space",
        expect![[r#"
        no GPU seen, no driver loaded
        blocked: a container with GPUs can't work here as it is

        STOPS  H100 SXM5 80GB at 0000:18:00.0 got no room in the address space from the firmware (BAR) [bar-space]
               seen: NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:
               seen: NVRM: BAR1 is 0M @ 0x0 (PCI:0000:18:00.0)
               fix:  switch on `Above 4G decoding` in the firmware's setup and restart
               then: in a virtual machine: UEFI firmware and a larger 64-bit PCI window for the guest; where the firmware has no such switch, the kernel parameter `pci=realloc`
    "#]],
    );
}

#[test]
fn a_card_older_than_turing_gets_the_proprietary_modules() {
    check(
        "pascal-without-driver",
        expect![[r#"
        no GPU seen, no driver loaded
        blocked: a container with GPUs can't work here as it is

        STOPS  1 NVIDIA GPU(s) are on the PCI bus and no driver is installed [driver-missing]
               seen: 0000:18:00.0: 10de:1b80 (Pascal)
               fix:  install NVIDIA's driver 580: `apt-get update`, `apt-get install -y nvidia-driver-580-server`
               then: restart the machine: `systemctl reboot`
    "#]],
    );
}

#[test]
fn no_gpu_is_left_whatever_each_lacks() {
    check(
        "mig-empty-and-lost",
        expect![[r#"
        2x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
        blocked: a container with GPUs can't work here as it is

        STOPS  GPU 1 (NVIDIA H100 80GB HBM3) at 0000:20:00.0 is lost [gpu-lost]
               seen: NVML: GPU is lost
               fix:  restart the machine: a GPU that is gone refuses a reset: `systemctl reboot`
               then: if it goes again: switch the machine off, reseat the card, look at its power, its cooling and its PCIe errors; then have it replaced
               see:  NVIDIA/open-gpu-kernel-modules#507, NVIDIA/NVSentinel#155

        STOPS  GPU 0 (NVIDIA H100 80GB HBM3) is in MIG mode and has no instance [mig-empty]
               fix:  make one instance of the whole GPU: `nvidia-smi mig -i 0 -cgi 0 -C`
               then: or leave MIG mode: `nvidia-smi -i 0 -mig 0`
    "#]],
    );
    check(
        "mig-empty-and-closed",
        expect![[r#"
        2x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
        blocked: a container with GPUs can't work here as it is

        STOPS  GPU 0 (NVIDIA H100 80GB HBM3) is in MIG mode and has no instance [mig-empty]
               fix:  make one instance of the whole GPU: `nvidia-smi mig -i 0 -cgi 0 -C`
               then: or leave MIG mode: `nvidia-smi -i 0 -mig 0`

        STOPS  GPU 1 (NVIDIA H100 80GB HBM3) lets no process compute [compute-mode]
               seen: compute mode Prohibited
               fix:  let all compute again, if it was not meant: `nvidia-smi -i 1 -c DEFAULT`
    "#]],
    );
}

#[test]
fn a_refused_module_is_not_the_driver_s_where_it_has_none_for_this_kernel() {
    check(
        "not-built-and-another-refused",
        expect![[r#"
        no GPU seen, no driver loaded
        blocked: a container with GPUs can't work here as it is

        STOPS  the driver's module was not built for this kernel, 6.8.0-60-generic [module-not-built]
               seen: it is there for 6.8.0-59-generic
               fix:  install the headers of this kernel: `apt-get install -y linux-headers-6.8.0-60-generic`
               then: build the module and load it: `dkms autoinstall`, `modprobe -a nvidia nvidia_uvm`
               then: if the build fails, its log below /var/lib/dkms/nvidia says why: mostly a kernel newer than the driver
    "#]],
    );
}

#[test]
fn what_is_done_where_the_machine_is() {
    check(
        "pascal-without-driver-debian",
        expect![[r#"
        no GPU seen, no driver loaded
        blocked: a container with GPUs can't work here as it is

        STOPS  1 NVIDIA GPU(s) are on the PCI bus and no driver is installed [driver-missing]
               seen: 0000:18:00.0: 10de:1b80 (Pascal)
               fix:  install NVIDIA's driver 580, from Debian's contrib and non-free, whose branch (535 in Debian 12, 550 in 13) serves it as well: `apt-get update`, `apt-get install -y nvidia-kernel-dkms nvidia-driver firmware-nvidia-gsp`
               then: restart the machine: `systemctl reboot`
    "#]],
    );
    check(
        "blackwell-without-driver-debian",
        expect![[r#"
            no GPU seen, no driver loaded
            blocked: a container with GPUs can't work here as it is

            STOPS  1 NVIDIA GPU(s) are on the PCI bus and no driver is installed [driver-missing]
                   seen: 0000:18:00.0: 10de:2b85 (RTX 5090)
                   fix:  install NVIDIA's driver 580, from NVIDIA's repository for Debian: add that repository, where it is not there yet, with its package cuda-keyring (docs.nvidia.com/datacenter/tesla/driver-installation-guide, Debian), then: `apt-get update`, `apt-get install -y nvidia-driver-pinning-580`, `apt-get install -y nvidia-open`
                   then: restart the machine: `systemctl reboot`
        "#]],
    );
    check(
        "firmware-missing",
        expect![[r#"
        1x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
        blocked: a container with GPUs can't work here as it is

        STOPS  GPU 0 (NVIDIA H100 80GB HBM3) at 0000:18:00.0 can't be used: its system processor (GSP) fails [gsp-firmware]
               seen: nvidia 0000:18:00.0: Direct firmware load for nvidia/580.159.04/gsp_ga10x.bin failed with error -2
               fix:  install the package of the driver's firmware again: a file of it is not there: `dpkg -S firmware/nvidia/580.159.04`, `apt-get install -y --reinstall <package>`
               then: if there is no such package: install driver 580: `apt-get update`, `apt-get install -y nvidia-driver-580-server-open`
               then: restart the machine: `systemctl reboot`
               see:  NVIDIA/open-gpu-kernel-modules#446
    "#]],
    );
    check(
        "one-of-2-denied",
        expect![[r#"
        2x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
        ready, with warnings

        warns  /dev/nvidia0 can't be opened [node-denied]
               seen: EACCES: its mode forbids it (/dev/nvidia0 195:0, mode 0660)
               fix:  let the user open them: make the driver create them for all (`NVreg_DeviceFileMode=0666`), or join the group that they have: `chmod 0666 /dev/nvidia0`
               see:  containers/podman#9926, NVIDIA/nvidia-container-toolkit#48
    "#]],
    );
    check(
        "pod-without-gpu",
        expect![[r#"
        no GPU seen (of 1 on the machine), driver 580.159.04 (CUDA up to 13.0)
        blocked: a container with GPUs can't work here as it is

        STOPS  this container was given no GPU [node-missing]
               seen: missing: /dev/nvidia0, /dev/nvidiactl
               fix:  in the cluster: start it with GPUs: its pod asks for them with `nvidia.com/gpu: 1` below `resources: limits:`
    "#]],
    );
    check(
        "fabric-of-one-not-up",
        expect![[r#"
            8x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
            ready, with warnings

            warns  the NVLink fabric of 1 GPU(s) is not up [fabric-manager]
                   seen: GPU 5: InProgress
                   fix:  until then: give containers the GPUs whose fabric is up: `sconce run --gpus device=0,1,2,3,4,6,7 <target>`
                   then: start it again, and see what it says: `systemctl restart nvidia-fabricmanager`, `journalctl -u nvidia-fabricmanager -n 50`
                   see:  pytorch/pytorch#35710, wilicc/gpu-burn#92, NVIDIA/gpu-operator#544
        "#]],
    );
    check(
        "compat-libcuda-with-a-professional-card",
        expect![[r#"
            1x NVIDIA RTX A6000, driver 550.127.05 (CUDA up to 13.0)
            can't tell: what was found does not decide whether a container with GPUs works here

            can't tell  a libcuda that is not the driver's comes first, and whether it works with it is not known [forward-compat]
                   seen: /usr/local/cuda/compat/libcuda.so.1
                   seen: it is of driver 580.65.06, the driver is 550.127.05
                   fix:  take its folder out of LD_LIBRARY_PATH and of /etc/ld.so.conf.d: `ldconfig`
                   see:  NVIDIA/nvidia-docker#1294

            notes  the driver 550.127.05 is too old for the newest CUDA [driver-too-old]
                   seen: CUDA 13 starts at driver 580.65.06
                   fix:  install a newer driver, or take an image with an older CUDA: `driver = "…"` in sconce.toml makes sconce choose it
                   see:  lllyasviel/Fooocus#1313
        "#]],
    );
}

#[test]
fn gpus_that_no_driver_serves_together() {
    check(
        "blackwell-beside-pascal",
        expect![[r#"
        1x NVIDIA GeForce GTX 1080 Ti, driver 580.159.04 (CUDA up to 13.0)
        ready, with warnings

        warns  RTX 5090 at 0000:41:00.0 needs the open kernel modules, and the proprietary ones are installed [needs-open-module]
               seen: NVRM: installed in this system requires use of the NVIDIA open kernel modules.
               fix:  choose first: no driver serves all GPUs of this machine, and the one below leaves GPU 0 (NVIDIA GeForce GTX 1080 Ti) at 0000:18:00.0 without; keep the present one for it, or take one kind out of the machine
               then: install the open kernel modules of driver 580 in place of the proprietary: `apt-get update`, `apt-get install -y nvidia-driver-580-server-open`
               then: restart the machine: `systemctl reboot`
               see:  NVIDIA/open-gpu-kernel-modules#815
    "#]],
    );
    check(
        "pascal-and-blackwell-without-driver",
        expect![[r#"
            no GPU seen, no driver loaded
            blocked: a container with GPUs can't work here as it is

            STOPS  2 NVIDIA GPU(s) are on the PCI bus and no driver is installed [driver-missing]
                   seen: 0000:18:00.0: 10de:1b80 (Pascal)
                   seen: 0000:41:00.0: 10de:2b85 (RTX 5090)
                   fix:  choose first: no driver serves all GPUs of this machine, and the one below leaves RTX 5090 at 0000:41:00.0 without; take one kind out of the machine
                   then: install NVIDIA's driver 580: `apt-get update`, `apt-get install -y nvidia-driver-580-server`
                   then: restart the machine: `systemctl reboot`
        "#]],
    );
}

#[test]
fn wsl_needs_no_module() {
    check(
        "wsl-with-libraries",
        expect![[r#"
        no GPU seen, no driver loaded (CUDA up to 13.0)
        blocked: a container with GPUs can't work here as it is

        STOPS  this is WSL, whose GPUs sconce does not inject [wsl]
               seen: /dev/dxg or /usr/lib/wsl, and no NVIDIA kernel module
               fix:  run on the processor with --gpus none, or use a Linux machine
    "#]],
    );
}

#[test]
fn memory_that_failed_under_a_program() {
    check(
        "x94",
        expect![[r#"
        1x NVIDIA A100 80GB PCIe, driver 580.95.05 (CUDA up to 13.0)
        ready: nothing stands in the way

        notes  Xid 94 on GPU 0: Contained memory error [xid]
               seen: NVRM: Xid (PCI:0000:18:00): 94, pid=…, name=…, Contained: CE User Channel (0x9). RST: No, D-RST: No
               fix:  start the program again: memory failed under it, and the failure went no further
               then: when it suits: stop what uses GPU 0, then reset it: the failing row is replaced then: `nvidia-smi --gpu-reset -i 0`
               see:  NVIDIA/open-gpu-kernel-modules#507
    "#]],
    );
}

#[test]
fn a_container_is_not_told_of_gpus_that_it_was_not_given() {
    check(
        "container-of-one-another-lost",
        expect![[r#"
        1x NVIDIA H100 80GB HBM3 (of 8 on the machine), driver 580.95.05 (CUDA up to 13.0)
        ready: nothing stands in the way
    "#]],
    );
}
