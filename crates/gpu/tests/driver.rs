//! Finding the driver, on machines described in `worlds`.

mod world;

use std::path::Path;
use std::time::Duration;

use expect_test::{Expect, expect};
use sconce_gpu::driver::{self, Driver};
use sconce_gpu::{Error, Machine};
use world::world;

fn summary(driver: &Driver) -> String {
    let survey = &driver.survey;
    let mut out = format!("{} in {}\n", driver.version, survey.folder.as_ref().unwrap().display());
    for library in &survey.libraries {
        out += &format!("{} <- {}\n", library.name, library.links.join(" "));
    }
    let share = survey.share.iter().map(|(path, _)| path);
    let files = survey.programs.iter().chain(&survey.firmware).chain(share).chain(&survey.sockets);
    for path in files {
        out += &format!("{}\n", path.display());
    }
    for node in survey.control.iter().chain(&survey.network) {
        out += &format!("{} {}:{}\n", node.path.display(), node.major, node.minor);
    }
    for gpu in driver.gpus() {
        let uuid = gpu.uuid.as_deref().unwrap_or("?");
        out += &format!("{}: minor {} {} {uuid} {}\n", gpu.index, gpu.minor, gpu.bus_id, gpu.model);
        for mig in &gpu.mig {
            let nodes = mig.capabilities.each_ref().map(|one| one.path.display().to_string());
            let uuid = mig.uuid.as_deref().unwrap_or("?");
            out += &format!("  {}:{} {uuid} {}\n", gpu.index, mig.index, nodes.join(" "));
        }
    }
    out
}

fn found(name: &str, says: Expect) {
    let world = world(name);
    let mut driver = driver::find(&world.machine).unwrap();
    driver::with_nvml(&world.machine, &mut driver.survey, Duration::from_secs(1));
    says.assert_eq(&summary(&driver));
}

fn refused(name: &str, says: Expect) {
    let error = driver::find(&world(name).machine).unwrap_err();
    says.assert_eq(&format!("{error}\n{}", error.hint().unwrap()));
}

#[test]
fn debian_with_an_h100() {
    found(
        "h100",
        expect![[r#"
        580.159.04 in /usr/lib/x86_64-linux-gnu
        libcuda.so.580.159.04 <- libcuda.so libcuda.so.1
        libnvidia-allocator.so.580.159.04 <- libnvidia-allocator.so.1
        libnvidia-cfg.so.580.159.04 <- libnvidia-cfg.so.1
        libnvidia-gpucomp.so.580.159.04 <- 
        libnvidia-ml.so.580.159.04 <- libnvidia-ml.so.1
        libnvidia-nvvm.so.580.159.04 <- libnvidia-nvvm.so.4
        libnvidia-opencl.so.580.159.04 <- libnvidia-opencl.so.1
        libnvidia-ptxjitcompiler.so.580.159.04 <- libnvidia-ptxjitcompiler.so.1
        /usr/bin/nvidia-cuda-mps-control
        /usr/bin/nvidia-cuda-mps-server
        /usr/bin/nvidia-debugdump
        /usr/bin/nvidia-persistenced
        /usr/bin/nvidia-smi
        /lib/firmware/nvidia/580.159.04/gsp_ga10x.bin
        /lib/firmware/nvidia/580.159.04/gsp_tu10x.bin
        /run/nvidia-persistenced/socket
        /dev/nvidiactl 195:255
        /dev/nvidia-uvm 510:0
        /dev/nvidia-uvm-tools 510:1
        /dev/nvidia-modeset 195:254
        0: minor 0 0000:04:00.0 GPU-1d5a7d1c-0001-4a7e-9c1c-000000000001 NVIDIA H100 80GB HBM3
    "#]],
    );
}

#[test]
fn a_prefix_and_minors_out_of_order() {
    found(
        "prefix",
        expect![[r#"
        580.159.04 in /usr/local/nvidia/lib64
        libcuda.so.580.159.04 <- libcuda.so libcuda.so.1
        libnvidia-allocator.so.580.159.04 <- libnvidia-allocator.so.1
        libnvidia-cfg.so.580.159.04 <- libnvidia-cfg.so.1
        libnvidia-gpucomp.so.580.159.04 <- 
        libnvidia-ml.so.580.159.04 <- libnvidia-ml.so.1
        libnvidia-nvvm.so.580.159.04 <- libnvidia-nvvm.so.4
        libnvidia-opencl.so.580.159.04 <- libnvidia-opencl.so.1
        libnvidia-ptxjitcompiler.so.580.159.04 <- libnvidia-ptxjitcompiler.so.1
        /usr/local/nvidia/bin/nvidia-smi
        /run/nvidia-persistenced/socket
        /dev/nvidiactl 195:255
        /dev/nvidia-uvm 510:0
        /dev/nvidia-uvm-tools 510:1
        /dev/nvidia-modeset 195:254
        0: minor 1 0000:04:00.0 GPU-1d5a7d1c-0001-4a7e-9c1c-00000000000a NVIDIA H100 80GB HBM3
        1: minor 0 0000:0b:00.0 GPU-1d5a7d1c-0002-4a7e-9c1c-00000000000b NVIDIA H100 80GB HBM3
    "#]],
    );
}

/// The recorded machine: one folder although the cache and /lib lead to it too, no node of the
/// kernel's rdma_cm, which has no adapter.
#[test]
fn a_recorded_h100() {
    found(
        "h100-vm",
        expect![[r#"
            580.159.04 in /usr/local/nvidia/lib64
            libEGL_nvidia.so.580.159.04 <- libEGL_nvidia.so libEGL_nvidia.so.0
            libGLESv1_CM_nvidia.so.580.159.04 <- libGLESv1_CM_nvidia.so libGLESv1_CM_nvidia.so.1
            libGLESv2_nvidia.so.580.159.04 <- libGLESv2_nvidia.so libGLESv2_nvidia.so.2
            libGLX_nvidia.so.580.159.04 <- libGLX_nvidia.so libGLX_nvidia.so.0
            libcuda.so.580.159.04 <- libcuda.so libcuda.so.1
            libcudadebugger.so.580.159.04 <- libcudadebugger.so libcudadebugger.so.1
            libnvcuvid.so.580.159.04 <- libnvcuvid.so libnvcuvid.so.1
            libnvidia-allocator.so.580.159.04 <- libnvidia-allocator.so libnvidia-allocator.so.1
            libnvidia-cfg.so.580.159.04 <- libnvidia-cfg.so libnvidia-cfg.so.1
            libnvidia-eglcore.so.580.159.04 <- libnvidia-eglcore.so
            libnvidia-encode.so.580.159.04 <- libnvidia-encode.so libnvidia-encode.so.1
            libnvidia-fbc.so.580.159.04 <- libnvidia-fbc.so libnvidia-fbc.so.1
            libnvidia-glcore.so.580.159.04 <- libnvidia-glcore.so
            libnvidia-glsi.so.580.159.04 <- libnvidia-glsi.so
            libnvidia-glvkspirv.so.580.159.04 <- libnvidia-glvkspirv.so
            libnvidia-gpucomp.so.580.159.04 <- libnvidia-gpucomp.so
            libnvidia-ml.so.580.159.04 <- libnvidia-ml.so libnvidia-ml.so.1
            libnvidia-nvvm.so.580.159.04 <- libnvidia-nvvm.so libnvidia-nvvm.so.4
            libnvidia-opencl.so.580.159.04 <- libnvidia-opencl.so libnvidia-opencl.so.1
            libnvidia-opticalflow.so.580.159.04 <- libnvidia-opticalflow.so libnvidia-opticalflow.so.1
            libnvidia-pkcs11-openssl3.so.580.159.04 <- libnvidia-pkcs11-openssl3.so
            libnvidia-ptxjitcompiler.so.580.159.04 <- libnvidia-ptxjitcompiler.so libnvidia-ptxjitcompiler.so.1
            libnvidia-rtcore.so.580.159.04 <- libnvidia-rtcore.so
            libnvidia-tls.so.580.159.04 <- libnvidia-tls.so
            libnvoptix.so.580.159.04 <- libnvoptix.so libnvoptix.so.1
            libvdpau_nvidia.so.580.159.04 <- libvdpau_nvidia.so libvdpau_nvidia.so.1
            /usr/local/nvidia/bin/nvidia-cuda-mps-control
            /usr/local/nvidia/bin/nvidia-cuda-mps-server
            /usr/local/nvidia/bin/nvidia-debugdump
            /usr/local/nvidia/bin/nvidia-persistenced
            /usr/local/nvidia/bin/nvidia-smi
            /usr/local/nvidia/firmware/nvidia/580.159.04/gsp_ga10x.bin
            /usr/local/nvidia/firmware/nvidia/580.159.04/gsp_tu10x.bin
            /usr/local/nvidia/share/glvnd/egl_vendor.d/10_nvidia.json
            /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
            /usr/local/nvidia/share/vulkan/implicit_layer.d/nvidia_layers.json
            /dev/nvidiactl 195:255
            /dev/nvidia-uvm 238:0
            /dev/nvidia-uvm-tools 238:1
            0: minor 0 0000:00:06.0 GPU-5c0de000-0000-4000-8000-000000000006 NVIDIA H100 80GB HBM3
        "#]],
    );
}

/// A small ELF program with this loader and search path.
fn program(interpreter: &str, search: &str) -> Vec<u8> {
    let mut out = vec![0u8; 0x400];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01");
    put(32, &64u64.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &3u16.to_le_bytes());
    // All of it is loaded at address 0x1000.
    for (index, (kind, offset, length)) in
        [(1u32, 0u64, 0x400u64), (3, 0x200, interpreter.len() as u64 + 1), (2, 0x300, 48)]
            .into_iter()
            .enumerate()
    {
        let at = 64 + index * 56;
        put(at, &kind.to_le_bytes());
        put(at + 8, &offset.to_le_bytes());
        put(at + 16, &(offset + 0x1000).to_le_bytes());
        put(at + 32, &length.to_le_bytes());
    }
    put(0x200, interpreter.as_bytes());
    put(0x281, search.as_bytes());
    for (index, (tag, value)) in [(5u64, 0x1280u64), (29, 1), (0, 0)].into_iter().enumerate() {
        put(0x300 + index * 16, &tag.to_le_bytes());
        put(0x308 + index * 16, &value.to_le_bytes());
    }
    out
}

/// A driver built elsewhere names a loader that no image has: it comes along with its libraries.
#[test]
fn a_program_with_a_loader_of_its_own() {
    let at = |search: &str, interpreter: &str| {
        let world = world("h100-vm");
        let smi = world.root.join("usr/local/nvidia/bin/nvidia-smi");
        std::fs::write(smi, program(interpreter, search)).unwrap();
        let driver = driver::find(&world.machine).unwrap();
        let found = driver.survey.companions.iter();
        let found = found.filter(|one| {
            let name = one.container.file_name().unwrap().to_string_lossy().into_owned();
            ["nvidia-smi", "ld-linux", "libc.", "libnvidia-ml", "libcuda.so.1"]
                .iter()
                .any(|n| name.starts_with(n))
        });
        let pairs = found.map(|one| {
            let host = one.host.strip_prefix("/usr/local/nvidia").unwrap_or(&one.host);
            format!("{} <- {}", one.container.display(), host.display())
        });
        pairs.collect::<Vec<_>>().join("\n")
    };
    let loader = "/usr/local/nvidia/glibc/ld-linux-x86-64.so.2";
    expect![[r#"
        /usr/local/nvidia/bin/nvidia-smi <- bin/nvidia-smi
        /usr/local/nvidia/glibc/ld-linux-x86-64.so.2 <- glibc/ld-linux-x86-64.so.2
        /usr/local/nvidia/glibc/libc.so.6 <- glibc/libc.so.6
        /usr/local/nvidia/glibc/libcuda.so.1 <- lib64/libcuda.so.580.159.04
        /usr/local/nvidia/glibc/libnvidia-ml.so.1 <- lib64/libnvidia-ml.so.580.159.04
        /usr/local/nvidia/lib/libcuda.so.1 <- lib64/libcuda.so.580.159.04
        /usr/local/nvidia/lib/libnvidia-ml.so <- lib64/libnvidia-ml.so.580.159.04
        /usr/local/nvidia/lib/libnvidia-ml.so.1 <- lib64/libnvidia-ml.so.580.159.04
        /usr/local/nvidia/lib/libnvidia-ml.so.580.159.04 <- lib64/libnvidia-ml.so.580.159.04"#]]
    .assert_eq(&at("/usr/local/nvidia/lib:/nix/store/none/lib", loader));
    expect![[r#"
        /usr/local/nvidia/bin/nvidia-smi <- bin/nvidia-smi
        /usr/local/nvidia/glibc/ld-linux-x86-64.so.2 <- glibc/ld-linux-x86-64.so.2
        /usr/local/nvidia/glibc/libc.so.6 <- glibc/libc.so.6
        /usr/local/nvidia/glibc/libcuda.so.1 <- lib64/libcuda.so.580.159.04
        /usr/local/nvidia/glibc/libnvidia-ml.so.1 <- lib64/libnvidia-ml.so.580.159.04"#]]
    .assert_eq(&at("$ORIGIN/../glibc", loader));
    // The platform's, one that is not there, one that would lie over the image's own files.
    assert_eq!(at("/usr/local/nvidia/glibc", "/lib64/ld-linux-x86-64.so.2"), "");
    assert_eq!(at("/usr/local/nvidia/glibc", "/nix/store/none/ld.so"), "");
    assert_eq!(at("/usr/local/nvidia/glibc", "/usr/bin/nvidia-smi"), "");
}

#[test]
fn mig_instances_get_their_uuids_from_nvml() {
    found(
        "a100-mig",
        expect![[r#"
        535.104.05 in /usr/lib/x86_64-linux-gnu
        libcuda.so.535.104.05 <- libcuda.so libcuda.so.1
        libnvidia-allocator.so.535.104.05 <- libnvidia-allocator.so.1
        libnvidia-cfg.so.535.104.05 <- libnvidia-cfg.so.1
        libnvidia-gpucomp.so.535.104.05 <- 
        libnvidia-ml.so.535.104.05 <- libnvidia-ml.so.1
        libnvidia-nvvm.so.535.104.05 <- libnvidia-nvvm.so.4
        libnvidia-opencl.so.535.104.05 <- libnvidia-opencl.so.1
        libnvidia-ptxjitcompiler.so.535.104.05 <- libnvidia-ptxjitcompiler.so.1
        /usr/bin/nvidia-cuda-mps-control
        /usr/bin/nvidia-cuda-mps-server
        /usr/bin/nvidia-debugdump
        /usr/bin/nvidia-persistenced
        /usr/bin/nvidia-smi
        /lib/firmware/nvidia/535.104.05/gsp_ga10x.bin
        /lib/firmware/nvidia/535.104.05/gsp_tu10x.bin
        /run/nvidia-persistenced/socket
        /dev/nvidiactl 195:255
        /dev/nvidia-uvm 510:0
        /dev/nvidia-uvm-tools 510:1
        /dev/nvidia-modeset 195:254
        0: minor 0 0000:17:00.0 GPU-aa100000-0000-4000-8000-000000000000 NVIDIA A100-SXM4-80GB
          0:0 MIG-aa100000-1111-4000-8000-000000000000 /dev/nvidia-caps/nvidia-cap12 /dev/nvidia-caps/nvidia-cap13
          0:1 MIG-aa100000-1111-4000-8000-000000000001 /dev/nvidia-caps/nvidia-cap21 /dev/nvidia-caps/nvidia-cap22
        1: minor 1 0000:31:00.0 GPU-aa100000-0000-4000-8000-000000000001 NVIDIA A100-SXM4-80GB
    "#]],
    );
}

#[test]
fn a_sleeping_laptop() {
    found(
        "laptop",
        expect![[r#"
        550.54.14 in /usr/lib64
        libcuda.so.550.54.14 <- libcuda.so libcuda.so.1
        libnvidia-allocator.so.550.54.14 <- libnvidia-allocator.so.1
        libnvidia-cfg.so.550.54.14 <- libnvidia-cfg.so.1
        libnvidia-gpucomp.so.550.54.14 <- 
        libnvidia-ml.so.550.54.14 <- libnvidia-ml.so.1
        libnvidia-nvvm.so.550.54.14 <- libnvidia-nvvm.so.4
        libnvidia-opencl.so.550.54.14 <- libnvidia-opencl.so.1
        libnvidia-ptxjitcompiler.so.550.54.14 <- libnvidia-ptxjitcompiler.so.1
        /usr/bin/nvidia-cuda-mps-control
        /usr/bin/nvidia-cuda-mps-server
        /usr/bin/nvidia-debugdump
        /usr/bin/nvidia-persistenced
        /usr/bin/nvidia-smi
        /lib/firmware/nvidia/550.54.14/gsp_ga10x.bin
        /lib/firmware/nvidia/550.54.14/gsp_tu10x.bin
        /dev/nvidiactl 195:255
        /dev/nvidia-uvm 510:0
        /dev/nvidia-uvm-tools 510:1
        /dev/nvidia-modeset 195:254
        0: minor 0 0000:01:00.0 GPU-1ab70b00-0000-4000-8000-000000000000 NVIDIA GeForce RTX 4060 Laptop GPU
    "#]],
    );
}

#[test]
fn what_can_not_work_is_said() {
    refused(
        "bare",
        expect![[r#"
        this machine has no NVIDIA driver: no kernel module, no libcuda, no NVIDIA device on the PCI bus
        install NVIDIA's driver (the `nvidia-open` or `nvidia-driver` package of your distribution), name its folder with --driver-root, or run on the processor with --gpus none"#]],
    );
    refused(
        "no-driver",
        expect![[r#"
        this machine has no NVIDIA driver: no kernel module and no libcuda, though 1 NVIDIA device(s) are on the PCI bus
        install NVIDIA's driver (the `nvidia-open` or `nvidia-driver` package of your distribution), name its folder with --driver-root, or run on the processor with --gpus none"#]],
    );
    refused(
        "half-upgraded",
        expect![[r#"
        Driver/library version mismatch: the loaded kernel module is 575.57.08, the libraries in /usr/lib/x86_64-linux-gnu are 580.159.04
        the driver was upgraded under a running module: reboot, or stop all GPU programs and reload it (`rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && modprobe nvidia`)"#]],
    );
    refused(
        "wsl",
        expect![[r#"
        this is WSL: its GPUs come through /dev/dxg and /usr/lib/wsl, which sconce does not inject
        run on the processor with --gpus none, or on a Linux machine with NVIDIA's own driver"#]],
    );
}

/// The one that fits the module wins over the one that is found first.
#[test]
fn a_leftover_of_another_release_does_not_win() {
    let world = world("prefix");
    let old = world.root.join("usr/lib64");
    std::fs::create_dir_all(&old).unwrap();
    std::fs::copy(
        world.root.join("usr/local/nvidia/lib64/libcuda.so.580.159.04"),
        old.join("libcuda.so.470.57.02"),
    )
    .unwrap();
    let survey = driver::survey(&world.machine);
    assert_eq!(survey.seen.len(), 2);
    assert_eq!(survey.folder.unwrap(), Path::new("/usr/local/nvidia/lib64"));
}

/// A driver container's root, named or found by itself.
#[test]
fn a_root_of_its_own() {
    let world = world("h100");
    let to = world.root.join("run/nvidia/driver/usr/lib");
    std::fs::create_dir_all(&to).unwrap();
    let from = world.root.join("usr/lib/x86_64-linux-gnu");
    std::fs::rename(from, to.join("x86_64-linux-gnu")).unwrap();
    let folder = Path::new("/run/nvidia/driver/usr/lib/x86_64-linux-gnu");
    let by_itself = driver::find(&world.machine).unwrap();
    assert_eq!(by_itself.survey.folder.as_deref(), Some(folder));
    let named = world.machine.clone().with_driver_root("/run/nvidia/driver");
    let named = driver::find(&named).unwrap();
    assert_eq!(named.survey.libraries, by_itself.survey.libraries);
}

/// Whatever machine the tests run on, looking at it answers.
#[test]
fn this_machine_is_looked_at_without_harm() {
    match driver::find(&Machine::host()) {
        Ok(driver) => assert!(!driver.gpus().is_empty()),
        Err(error) => assert!(error.hint().is_some() || matches!(error, Error::Read { .. })),
    }
}
