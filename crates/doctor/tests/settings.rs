//! What is set on a GPU, or is not there yet: licences, power limits, persistence, the fabric of NVSwitches.

mod report;

use expect_test::expect;
use report::check;

#[test]
fn a_virtual_gpu_and_its_licence() {
    check(
        "vgpu-unlicensed-at-start",
        expect![[r#"
        1x NVIDIA A10-24Q, driver 580.159.04 (CUDA up to 13.0)
        ready, with warnings

        warns  GPU 0 (NVIDIA A10-24Q) is a virtual GPU without a licence [vgpu-license]
               fix:  put the licence server's client token below /etc/nvidia/ClientConfigToken
               then: ask for the licence, and see the answer: `systemctl restart nvidia-gridd`, `journalctl -u nvidia-gridd -n 20`
               then: if there is no such service, the driver is not that of vGPU guests: install the one that came with the vGPU software of the host
               see:  Azure/AKS#4868, Azure/AKS#4870, Azure/aks-gpu#90, DDMAL/Rodan#1332
    "#]],
    );
    check(
        "vgpu-unlicensed-for-days",
        expect![[r#"
        1x NVIDIA A10-24Q, driver 580.159.04 (CUDA up to 13.0)
        blocked: a container with GPUs can't work here as it is

        STOPS  GPU 0 (NVIDIA A10-24Q) is a virtual GPU without a licence [vgpu-license]
               seen: the machine has been up for 2 d: without a licence CUDA is closed after a day
               fix:  put the licence server's client token below /etc/nvidia/ClientConfigToken
               then: ask for the licence, and see the answer: `systemctl restart nvidia-gridd`, `journalctl -u nvidia-gridd -n 20`
               then: if there is no such service, the driver is not that of vGPU guests: install the one that came with the vGPU software of the host
               see:  Azure/AKS#4868, Azure/AKS#4870, Azure/aks-gpu#90, DDMAL/Rodan#1332
    "#]],
    );
    check(
        "vgpu-licence-unknown",
        expect![[r#"
        1x NVIDIA A10-24Q, driver 580.159.04 (CUDA up to 13.0)
        ready: nothing stands in the way

        notes  whether GPU 0 (NVIDIA A10-24Q) has its licence can't be told: NVML does not say [vgpu-license]
               fix:  look at `License Status`: `nvidia-smi -q`
               see:  Azure/AKS#4868, Azure/AKS#4870, Azure/aks-gpu#90, DDMAL/Rodan#1332
    "#]],
    );
}

/// A guest can't reset what its host owns.
#[test]
fn a_virtual_gpu_is_not_reset_from_its_guest() {
    check(
        "vgpu-wants-reset",
        expect![[r#"
            1x NVIDIA A10-24Q, driver 580.159.04 (CUDA up to 13.0)
            can't tell: what was found does not decide whether a container with GPUs works here

            can't tell  Xid 140 on GPU 0: ECC Unrecovered Error [xid]
                   seen: NVRM: Xid (PCI:0000:18:00): 140, pid=1, name=python, Unrecovered ECC error
                   fix:  restart this virtual machine: a guest can't reset its virtual GPU; if it comes again, ask whoever runs its host: `systemctl reboot`
                   see:  NVIDIA/open-gpu-kernel-modules#507
        "#]],
    );
}

#[test]
fn power_limits() {
    check(
        "power-cap-on-two-of-8",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
        ready: nothing stands in the way

        notes  GPU 1 (NVIDIA H100 80GB HBM3), GPU 4 (NVIDIA H100 80GB HBM3) may take 500 W, 200 W less than by default [power-limit]
               fix:  if it was not meant, set it back: `nvidia-smi -i 1,4 -pl 700`
    "#]],
    );
    check(
        "power-cap-by-the-board",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
        ready: nothing stands in the way

        notes  GPU 1 (NVIDIA H100 80GB HBM3), GPU 4 (NVIDIA H100 80GB HBM3) may take 500 W, 200 W less than by default [power-limit]
               seen: the limit that was set is the default
               fix:  nobody lowered it: the board or the machine's management enforces it; look at power supplies, cables and the management's power cap: `nvidia-smi -q -d POWER,PERFORMANCE -i 1,4`
    "#]],
    );
}

/// A laptop's limit follows its power supply and can't be set; persistence is for machines without a display.
#[test]
fn a_laptop_s_power_is_its_own() {
    check(
        "power-of-a-laptop",
        expect![[r#"
        1x NVIDIA GeForce RTX 4090 Laptop GPU, driver 580.159.04 (CUDA up to 13.0)
        ready: nothing stands in the way
    "#]],
    );
}

#[test]
fn persistence_off() {
    check(
        "persistence-off",
        expect![[r#"
        1x NVIDIA A100 80GB PCIe, driver 580.159.04 (CUDA up to 13.0)
        ready: nothing stands in the way

        notes  GPU 0 (NVIDIA A100 80GB PCIe) lets one process compute at a time [compute-mode]
               seen: compute mode ExclusiveProcess
               fix:  let all compute again, if it was not meant: `nvidia-smi -i 0 -c DEFAULT`

        notes  GPU 0 (NVIDIA A100 80GB PCIe) may take 250 W, 50 W less than by default [power-limit]
               fix:  if it was not meant, set it back: `nvidia-smi -i 0 -pl 300`

        notes  persistence mode is off on GPU 0: it is shut down between programs [persistence]
               seen: lost when its last program ends: GPU 0: power limit 250 W, compute mode ExclusiveProcess
               fix:  switch it on until the next restart: `nvidia-smi -i 0 -pm 1`
               then: for good: have nvidia-persistenced run at each start, and see that its unit does not say `--no-persistence-mode`: `systemctl cat nvidia-persistenced`
    "#]],
    );
}

/// Restarting fabric manager while GPUs join only makes them begin again.
#[test]
fn a_fabric_that_is_not_up_yet() {
    check(
        "fabric-in-progress-after-boot",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
        blocked: a container with GPUs can't work here as it is

        STOPS  the NVLink fabric of 8 GPU(s) is not up [fabric-manager]
               seen: GPU 0: InProgress, GPU 1: InProgress, GPU 2: InProgress, GPU 3: InProgress, GPU 4: InProgress, GPU 5: InProgress, GPU 6: InProgress, GPU 7: InProgress
               seen: the machine started 75 s ago
               fix:  wait a minute or two: GPUs join after a start, one by one: `sconce doctor --watch`
               then: only if it stays so for ten minutes: start fabric manager again, and see what it says: `systemctl restart nvidia-fabricmanager`, `journalctl -u nvidia-fabricmanager -n 50`
               see:  pytorch/pytorch#35710, wilicc/gpu-burn#92, NVIDIA/gpu-operator#544
    "#]],
    );
    check(
        "fabric-in-progress-since-when",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
        blocked: a container with GPUs can't work here as it is

        STOPS  the NVLink fabric of 8 GPU(s) is not up [fabric-manager]
               seen: GPU 0: InProgress, GPU 1: InProgress, GPU 2: InProgress, GPU 3: InProgress, GPU 4: InProgress, GPU 5: InProgress, GPU 6: InProgress, GPU 7: InProgress
               fix:  wait a minute or two: GPUs join after a start, one by one: `sconce doctor --watch`
               then: only if it stays so for ten minutes: start fabric manager again, and see what it says: `systemctl restart nvidia-fabricmanager`, `journalctl -u nvidia-fabricmanager -n 50`
               see:  pytorch/pytorch#35710, wilicc/gpu-burn#92, NVIDIA/gpu-operator#544
    "#]],
    );
    check(
        "fabric-in-progress-for-a-day",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
        blocked: a container with GPUs can't work here as it is

        STOPS  the NVLink fabric of 8 GPU(s) is not up [fabric-manager]
               seen: GPU 0: InProgress, GPU 1: InProgress, GPU 2: InProgress, GPU 3: InProgress, GPU 4: InProgress, GPU 5: InProgress, GPU 6: InProgress, GPU 7: InProgress
               fix:  start it again, and see what it says: `systemctl restart nvidia-fabricmanager`, `journalctl -u nvidia-fabricmanager -n 50`
               see:  pytorch/pytorch#35710, wilicc/gpu-burn#92, NVIDIA/gpu-operator#544
    "#]],
    );
    check(
        "fabric-failed-after-boot",
        expect![[r#"
        8x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)
        blocked: a container with GPUs can't work here as it is

        STOPS  the NVLink fabric of 8 GPU(s) is not up [fabric-manager]
               seen: GPU 0: InProgress, GPU 1: InProgress, GPU 2: InProgress, GPU 3: InProgress, GPU 4: InProgress, GPU 5: Failed, GPU 6: InProgress, GPU 7: InProgress
               fix:  start it again, and see what it says: `systemctl restart nvidia-fabricmanager`, `journalctl -u nvidia-fabricmanager -n 50`
               see:  pytorch/pytorch#35710, wilicc/gpu-burn#92, NVIDIA/gpu-operator#544
    "#]],
    );
}
