//! Reports on described machines (`crates/gpu/tests/worlds`), with what to do on each.

#[path = "../../gpu/tests/world/mod.rs"]
mod world;

mod report;

use expect_test::expect;
use report::check_of;
use sconce_doctor::Snapshot;

fn check(name: &str, says: expect_test::Expect) {
    check_of(&Snapshot::capture(&world::world(name).machine), says);
}

#[test]
fn modules_that_do_not_load() {
    check(
        "not-built",
        expect![[r#"
        no GPU seen, no driver loaded
        blocked: a container with GPUs can't work here as it is

        STOPS  the driver's module was not built for this kernel, 6.8.0-51-generic [module-not-built]
               seen: it is there for 6.8.0-50-generic
               fix:  install the headers of this kernel: `apt-get install -y linux-headers-6.8.0-51-generic`
               then: build the module and load it: `dkms autoinstall`, `modprobe -a nvidia nvidia_uvm`
               then: if the build fails, its log below /var/lib/dkms/nvidia says why: mostly a kernel newer than the driver
    "#]],
    );
    check(
        "unsigned",
        expect![[r#"
        no GPU seen, no driver loaded
        blocked: a container with GPUs can't work here as it is

        STOPS  the kernel refuses the driver's module: it is not signed by a key that it knows [secure-boot]
               seen: Loading of module with unavailable key is rejected
               seen: Secure Boot is on
               seen: the kernel is locked down: integrity
               fix:  enrol the key with which dkms signs: it asks for a password, which the firmware asks again at the next start (`Enroll MOK`): `mokutil --import /var/lib/shim-signed/mok/MOK.der`
               then: restart the machine and confirm the key: `systemctl reboot`
               then: or switch Secure Boot off in the firmware's setup
    "#]],
    );
    check(
        "only-libraries",
        expect![[r#"
        no GPU seen, no driver loaded
        blocked: a container with GPUs can't work here as it is

        STOPS  the driver 580.159.04 is installed, but its kernel module is not loaded [driver-not-loaded]
               seen: the nouveau module is loaded and has the GPUs
               fix:  keep nouveau from loading: `sh -c 'echo blacklist nouveau > /etc/modprobe.d/blacklist-nouveau.conf'`
               then: make the initial RAM disk anew
               then: restart the machine: `systemctl reboot`
    "#]],
    );
    check(
        "no-driver",
        expect![[r#"
        no GPU seen, no driver loaded
        blocked: a container with GPUs can't work here as it is

        STOPS  1 NVIDIA GPU(s) are on the PCI bus and no driver is installed [driver-missing]
               seen: 0000:04:00.0: 10de:2330 (H100 SXM5 80GB)
               fix:  install NVIDIA's driver 580
               then: restart the machine: `systemctl reboot`
    "#]],
    );
}

#[test]
fn gpus_and_drivers_that_do_not_fit() {
    check(
        "volta-open",
        expect![[r#"
            no GPU seen, driver 580.159.04
            blocked: a container with GPUs can't work here as it is

            STOPS  V100 PCIe at 0000:04:00.0 is older than Turing and needs the proprietary kernel modules; the open ones are installed [needs-proprietary-module]
                   fix:  install the proprietary kernel modules of driver 580 in place of the open
                   then: restart the machine: `systemctl reboot`

            warns  NVML does not answer [nvml-silent]
                   seen: this machine's description holds no answers of NVML
                   fix:  `nvidia-smi` shows the same; `dmesg --level err,warn` mostly says why; a hung GPU needs a restart of the machine
                   see:  NVIDIA/nvidia-docker#1671, NVIDIA/nvidia-container-toolkit#48
        "#]],
    );
    check(
        "volta",
        expect![[r#"
        no GPU seen, driver 590.44.01
        blocked: a container with GPUs can't work here as it is

        STOPS  Driver/library version mismatch: the loaded module is 590.44.01, the libraries are 580.159.04 [driver-mismatch]
               seen: libraries in /usr/lib/x86_64-linux-gnu
               fix:  restart the machine: `systemctl reboot`
               then: or stop what uses the GPUs (`fuser -v /dev/nvidia*` lists it), then load the modules again: `systemctl stop nvidia-persistenced`, `sh -c 'modprobe -r nvidia_uvm nvidia_drm nvidia_modeset nvidia; modprobe -a nvidia nvidia_uvm'`
               see:  NVIDIA/nvidia-container-toolkit#394

        STOPS  V100 PCIe at 0000:04:00.0 is no longer supported by the driver 590.44.01 [driver-dropped-gpu]
               fix:  install driver 580, the last that supports it
               then: restart the machine: `systemctl reboot`
    "#]],
    );
    check(
        "no-window",
        expect![[r#"
            no GPU seen, driver 580.159.04
            blocked: a container with GPUs can't work here as it is

            STOPS  H100 SXM5 80GB at 0000:04:00.0 got no room in the address space from the firmware (BAR) [bar-space]
                   fix:  switch on `Above 4G decoding` in the firmware's setup and restart
                   then: in a virtual machine: UEFI firmware and a larger 64-bit PCI window for the guest; where the firmware has no such switch, the kernel parameter `pci=realloc`

            STOPS  H100 SXM5 80GB at 0000:0b:00.0 lacks a power cable [power-cable]
                   seen: NVRM: GPU 0000:0b:00.0: GPU does not have the necessary power cables connected.
                   fix:  switch the machine off and plug in every power connector of the card: `systemctl poweroff`

            warns  NVML does not answer [nvml-silent]
                   seen: this machine's description holds no answers of NVML
                   fix:  `nvidia-smi` shows the same; `dmesg --level err,warn` mostly says why; a hung GPU needs a restart of the machine
                   see:  NVIDIA/nvidia-docker#1671, NVIDIA/nvidia-container-toolkit#48
        "#]],
    );
}

#[test]
fn a_gpu_that_the_driver_was_told_to_leave_alone() {
    check(
        "excluded",
        expect![[r#"
        1x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
        ready, with warnings

        warns  H100 SXM5 80GB at 0000:0b:00.0 is excluded by an option of the driver's module [gpu-excluded]
               seen: the kernel's command line: nvidia.NVreg_ExcludedGpus=GPU-1d5a7d1c-0001-4a7e-9c1c-000000000002
               seen: /etc/modprobe.d/exclude.conf: options nvidia NVreg_ExcludedGpus=GPU-1d5a7d1c-0001-4a7e-9c1c-000000000002
               fix:  leave it so if the GPU was excluded because it fails; else take the option out
               then: make the initial RAM disk anew
               then: restart the machine: `systemctl reboot`
    "#]],
    );
}

#[test]
fn a_node_of_a_cluster() {
    check(
        "cluster-node",
        expect![[r#"
            2x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
            ready, with warnings

            warns  GPU 1 (NVIDIA H100 80GB HBM3) at 0000:0b:00.0 is lost [gpu-lost]
                   seen: NVML: GPU is lost (15)
                   seen: NVRM: Xid (PCI:0000:0b:00): 79, pid=6, name=a, GPU has fallen off the bus.
                   fix:  in the cluster: drain the node: `scontrol update nodename=<node> state=drain reason=gpu`
                   then: restart the machine: a GPU that is gone refuses a reset: `systemctl reboot`
                   then: if it goes again: switch the machine off, reseat the card, look at its power, its cooling and its PCIe errors; then have it replaced
                   see:  NVIDIA/open-gpu-kernel-modules#507, NVIDIA/NVSentinel#155

            warns  Xid 13 on GPU 0: Graphics Engine Exception (5 times) [xid]
                   seen: 16 h ago: NVRM: Xid (PCI:0000:04:00): 13, pid=3, name=a, Graphics Exception
                   seen: 13 h ago: NVRM: Xid (PCI:0000:04:00): 13, pid=4, name=a, Graphics Exception
                   seen: 11 h ago: NVRM: Xid (PCI:0000:04:00): 13, pid=5, name=a, Graphics Exception
                   fix:  start the program again; if the error comes with one program alone, look for it there (`compute-sanitizer` finds bad addresses)
                   then: it comes again and again on one GPU: have it tested with nothing else running: `dcgmi diag -r 3`
                   see:  NVIDIA/open-gpu-kernel-modules#507

            warns  the clocks of GPU 0 (NVIDIA H100 80GB HBM3) are held down by the hardware: too hot [clocks]
                   fix:  see reasons, temperatures and power; then look at fans, filters and power supplies: `nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER -i 0`

            warns  GPU 0 (NVIDIA H100 80GB HBM3) at 0000:04:00.0 has 8 PCIe lanes of generation 5, of 16 of generation 5 [pcie-link]
                   fix:  look into the mainboard's manual for a slot with all lanes; reseat the card and its riser

            notes  if cuInit fails with error 3 here, HMM is the cause: it is on, with the open modules on this kernel [hmm]
                   seen: kernel 5.14.0-570.23.1.el9_6.x86_64
                   fix:  only then: switch it off: `sh -c 'echo options nvidia_uvm uvm_disable_hmm=1 > /etc/modprobe.d/nvidia-uvm-hmm.conf'`
                   then: stop what uses the GPUs (`fuser -v /dev/nvidia*` lists it), then load the modules again: `systemctl stop nvidia-persistenced`, `sh -c 'modprobe -r nvidia_uvm nvidia_drm nvidia_modeset nvidia; modprobe -a nvidia nvidia_uvm'`
                   see:  NVIDIA/open-gpu-kernel-modules#901, NVIDIA/open-gpu-kernel-modules#947, NVIDIA/open-gpu-kernel-modules#797

            notes  1 IMEX channel(s) are here and nvidia-imex is not running [imex]
                   fix:  list the rack's machines in /etc/nvidia-imex/nodes_config.cfg, then start it: `systemctl enable --now nvidia-imex`

            notes  GPU 0 (NVIDIA H100 80GB HBM3) may take 500 W, 200 W less than by default [power-limit]
                   fix:  if it was not meant, set it back: `nvidia-smi -i 0 -pl 700`
        "#]],
    );
}

#[test]
fn a_fabric_without_its_subnet_manager() {
    check(
        "b200-no-nvlsm",
        expect![[r#"
            2x NVIDIA B200, driver 580.159.04 (CUDA up to 13.0)
            blocked: a container with GPUs can't work here as it is

            STOPS  the NVLink fabric of 2 GPU(s) is not up: the module ib_umad is not loaded, nvlsm is not running [nvlsm]
                   fix:  install fabric manager of the very version of the driver
                   then: install NVLink's subnet manager (package `nvlsm`, from NVIDIA's repository)
                   then: load what it speaks through, now and at each start: `modprobe ib_umad`, `sh -c 'echo ib_umad > /etc/modules-load.d/ib_umad.conf'`
                   then: start fabric manager, which starts it, now and at each start: `systemctl enable nvidia-fabricmanager`, `systemctl restart nvidia-fabricmanager`
        "#]],
    );
}

#[test]
fn a_virtual_gpu_without_a_licence() {
    check(
        "vgpu",
        expect![[r#"
            1x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
            ready, with warnings

            warns  GPU 0 (NVIDIA H100 80GB HBM3) is a virtual GPU without a licence [vgpu-license]
                   fix:  put the licence server's client token below /etc/nvidia/ClientConfigToken
                   then: ask for the licence, and see the answer: `systemctl restart nvidia-gridd`, `journalctl -u nvidia-gridd -n 20`
                   then: if there is no such service, the driver is not that of vGPU guests: install the one that came with the vGPU software of the host
                   see:  Azure/AKS#4868, Azure/AKS#4870, Azure/aks-gpu#90, DDMAL/Rodan#1332
        "#]],
    );
}

/// NVML would hang as well, and is not asked.
#[test]
fn a_gpu_that_hangs() {
    check(
        "hung",
        expect![[r#"
            2x NVIDIA H100 80GB HBM3, driver 580.159.04
            ready, with warnings

            warns  GPU 0 (NVIDIA H100 80GB HBM3) at 0000:04:00.0 does not come back [gpu-lost]
                   seen: opening /dev/nvidia1 had not returned when it was given up
                   fix:  until then: `--gpus all` goes on without it
                   then: restart the machine: a GPU that is gone refuses a reset: `systemctl reboot`
                   then: if it goes again: switch the machine off, reseat the card, look at its power, its cooling and its PCIe errors; then have it replaced
                   see:  NVIDIA/open-gpu-kernel-modules#507, NVIDIA/NVSentinel#155

            warns  NVML does not answer [nvml-silent]
                   seen: NVML was not asked: the driver does not come back from opening a node
                   fix:  `nvidia-smi` shows the same; `dmesg --level err,warn` mostly says why; a hung GPU needs a restart of the machine
                   see:  NVIDIA/nvidia-docker#1671, NVIDIA/nvidia-container-toolkit#48
        "#]],
    );
}

#[test]
fn a_job_that_was_given_one_of_two() {
    check(
        "job",
        expect![[r#"
        2x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
        ready: nothing stands in the way

        notes  /dev/nvidia1 can't be opened [node-denied]
               seen: EPERM: the device cgroup or a security module forbids it (/dev/nvidia1 195:1, mode 0666)
               fix:  give the job its GPUs: the device cgroup of this session or service (`DeviceAllow=` of its unit, or the scheduler's) leaves them out
               see:  containers/podman#9926, NVIDIA/nvidia-container-toolkit#48
    "#]],
    );
}
