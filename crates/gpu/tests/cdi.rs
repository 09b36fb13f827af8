//! What a container receives: generated, and by documents that lie on the machine.

mod world;

use std::fs;
use std::path::Path;
use std::time::Duration;

use expect_test::{Expect, expect};
use sconce_gpu::cdi::{self, Document, Edits, Origin};
use sconce_gpu::driver::{self, Driver};
use sconce_gpu::job::Job;
use sconce_gpu::{linker, select};
use world::{World, world};

fn driver(world: &World) -> Driver {
    let mut driver = driver::find(&world.machine).unwrap();
    driver::with_nvml(&world.machine, &mut driver.survey, Duration::from_secs(1));
    driver
}

fn selection(world: &World, driver: &Driver, request: &str) -> select::Selection {
    let request = select::parse(request).unwrap();
    select::choose(&request, &world.machine, driver, &Job::default()).unwrap()
}

fn text(edits: &Edits) -> String {
    let mut out = String::new();
    for mount in &edits.mounts {
        let way = if mount.read_only { "ro" } else { "rw" };
        out += &format!("mount {} {} {way}\n", mount.host.display(), mount.container.display());
    }
    for node in &edits.nodes {
        out += &format!(
            "node {} {}:{} {:o}\n",
            node.path.display(),
            node.major,
            node.minor,
            node.mode
        );
    }
    for link in &edits.links {
        out += &format!("link {} -> {}\n", link.path.display(), link.target);
    }
    for file in &edits.files {
        out += &format!(
            "file {} {}\n",
            file.path.display(),
            String::from_utf8_lossy(&file.contents).replace('\n', "|")
        );
    }
    for (name, value) in &edits.env {
        out += &format!("env {name}={value}\n");
    }
    for entry in &edits.linker {
        out += &format!("linker {} => {}\n", entry.name, entry.path.display());
    }
    out
}

#[test]
fn one_of_two_gpus() {
    let world = world("prefix");
    let driver = driver(&world);
    let edits = cdi::edits(&driver, &selection(&world, &driver, "device=0")).unwrap();
    expect![[r#"
        mount /run/nvidia-persistenced/socket /run/nvidia-persistenced/socket rw
        mount /usr/local/nvidia/bin/nvidia-smi /usr/bin/nvidia-smi ro
        mount /usr/local/nvidia/lib64/libcuda.so.580.159.04 /usr/lib/x86_64-linux-gnu/libcuda.so.580.159.04 ro
        mount /usr/local/nvidia/lib64/libnvidia-allocator.so.580.159.04 /usr/lib/x86_64-linux-gnu/libnvidia-allocator.so.580.159.04 ro
        mount /usr/local/nvidia/lib64/libnvidia-cfg.so.580.159.04 /usr/lib/x86_64-linux-gnu/libnvidia-cfg.so.580.159.04 ro
        mount /usr/local/nvidia/lib64/libnvidia-gpucomp.so.580.159.04 /usr/lib/x86_64-linux-gnu/libnvidia-gpucomp.so.580.159.04 ro
        mount /usr/local/nvidia/lib64/libnvidia-ml.so.580.159.04 /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.159.04 ro
        mount /usr/local/nvidia/lib64/libnvidia-nvvm.so.580.159.04 /usr/lib/x86_64-linux-gnu/libnvidia-nvvm.so.580.159.04 ro
        mount /usr/local/nvidia/lib64/libnvidia-opencl.so.580.159.04 /usr/lib/x86_64-linux-gnu/libnvidia-opencl.so.580.159.04 ro
        mount /usr/local/nvidia/lib64/libnvidia-ptxjitcompiler.so.580.159.04 /usr/lib/x86_64-linux-gnu/libnvidia-ptxjitcompiler.so.580.159.04 ro
        node /dev/nvidia-modeset 195:254 666
        node /dev/nvidia-uvm 510:0 666
        node /dev/nvidia-uvm-tools 510:1 666
        node /dev/nvidia1 195:1 666
        node /dev/nvidiactl 195:255 666
        link /usr/lib/x86_64-linux-gnu/libcuda.so -> libcuda.so.580.159.04
        link /usr/lib/x86_64-linux-gnu/libcuda.so.1 -> libcuda.so.580.159.04
        link /usr/lib/x86_64-linux-gnu/libnvidia-allocator.so.1 -> libnvidia-allocator.so.580.159.04
        link /usr/lib/x86_64-linux-gnu/libnvidia-cfg.so.1 -> libnvidia-cfg.so.580.159.04
        link /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1 -> libnvidia-ml.so.580.159.04
        link /usr/lib/x86_64-linux-gnu/libnvidia-nvvm.so.4 -> libnvidia-nvvm.so.580.159.04
        link /usr/lib/x86_64-linux-gnu/libnvidia-opencl.so.1 -> libnvidia-opencl.so.580.159.04
        link /usr/lib/x86_64-linux-gnu/libnvidia-ptxjitcompiler.so.1 -> libnvidia-ptxjitcompiler.so.580.159.04
        file /proc/driver/nvidia/params ResmanDebugLevel: 4294967295|ModifyDeviceFiles: 0|DeviceFileUID: 0|DeviceFileGID: 0|DeviceFileMode: 438|
        env NVIDIA_VISIBLE_DEVICES=void
        linker libcuda.so => /usr/lib/x86_64-linux-gnu/libcuda.so
        linker libcuda.so.1 => /usr/lib/x86_64-linux-gnu/libcuda.so.1
        linker libnvidia-allocator.so.1 => /usr/lib/x86_64-linux-gnu/libnvidia-allocator.so.1
        linker libnvidia-cfg.so.1 => /usr/lib/x86_64-linux-gnu/libnvidia-cfg.so.1
        linker libnvidia-gpucomp.so.580.159.04 => /usr/lib/x86_64-linux-gnu/libnvidia-gpucomp.so.580.159.04
        linker libnvidia-ml.so.1 => /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1
        linker libnvidia-nvvm.so.4 => /usr/lib/x86_64-linux-gnu/libnvidia-nvvm.so.4
        linker libnvidia-opencl.so.1 => /usr/lib/x86_64-linux-gnu/libnvidia-opencl.so.1
        linker libnvidia-ptxjitcompiler.so.1 => /usr/lib/x86_64-linux-gnu/libnvidia-ptxjitcompiler.so.1
    "#]].assert_eq(&text(&edits));
}

/// A program with a loader of its own keeps its place, a link leads to it; the loader and what lies
/// beside it come along, of the driver's libraries a link.
#[test]
fn a_loader_of_its_own_comes_along() {
    let world = world("h100-vm");
    let mut driver = driver(&world);
    let prefix = Path::new("/usr/local/nvidia");
    let companion = |path: &str, host: &str| sconce_gpu::programs::Companion {
        container: prefix.join(path),
        host: prefix.join(host),
    };
    driver.survey.companions = vec![
        companion("bin/nvidia-smi", "bin/nvidia-smi"),
        companion("glibc/ld-linux-x86-64.so.2", "glibc/ld-linux-x86-64.so.2"),
        companion("lib64/libnvidia-ml.so.1", "lib64/libnvidia-ml.so.580.159.04"),
    ];
    let edits = cdi::edits(&driver, &selection(&world, &driver, "all")).unwrap();
    let all = text(&edits);
    let lines = all.lines().filter(|line| {
        ["nvidia-smi", "glibc", "libnvidia-ml", "share", "gsp"]
            .iter()
            .any(|name| line.contains(name))
    });
    expect![[r#"
        mount /usr/local/nvidia/firmware/nvidia/580.159.04/gsp_ga10x.bin /lib/firmware/nvidia/580.159.04/gsp_ga10x.bin ro
        mount /usr/local/nvidia/firmware/nvidia/580.159.04/gsp_tu10x.bin /lib/firmware/nvidia/580.159.04/gsp_tu10x.bin ro
        mount /usr/local/nvidia/lib64/libnvidia-ml.so.580.159.04 /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.159.04 ro
        mount /usr/local/nvidia/bin/nvidia-smi /usr/local/nvidia/bin/nvidia-smi ro
        mount /usr/local/nvidia/glibc/ld-linux-x86-64.so.2 /usr/local/nvidia/glibc/ld-linux-x86-64.so.2 ro
        mount /usr/local/nvidia/share/glvnd/egl_vendor.d/10_nvidia.json /usr/share/glvnd/egl_vendor.d/10_nvidia.json ro
        mount /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json /usr/share/vulkan/icd.d/nvidia_icd.json ro
        mount /usr/local/nvidia/share/vulkan/implicit_layer.d/nvidia_layers.json /usr/share/vulkan/implicit_layer.d/nvidia_layers.json ro
        link /usr/bin/nvidia-smi -> /usr/local/nvidia/bin/nvidia-smi
        link /usr/lib/x86_64-linux-gnu/libnvidia-ml.so -> libnvidia-ml.so.580.159.04
        link /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1 -> libnvidia-ml.so.580.159.04
        link /usr/local/nvidia/lib64/libnvidia-ml.so.1 -> /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.159.04
        linker libnvidia-ml.so => /usr/lib/x86_64-linux-gnu/libnvidia-ml.so
        linker libnvidia-ml.so.1 => /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"#]].assert_eq(&lines.collect::<Vec<_>>().join("\n"));
    let document = cdi::document(&driver).unwrap();
    let smi = document.container_edits.mounts.iter();
    let smi = smi.filter(|mount| mount.host_path.ends_with("nvidia-smi"));
    let smi: Vec<String> = smi.map(|mount| mount.container_path.display().to_string()).collect();
    assert_eq!(smi, ["/usr/bin/nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi"]);
}

/// Nodes of the network come with an adapter only; those of storage with what it reads; channels of
/// IMEX where they are.
#[test]
fn nodes_for_the_network_and_storage() {
    let nodes = |name: &str| {
        let world = world(name);
        let driver = driver(&world);
        let edits = cdi::edits(&driver, &selection(&world, &driver, "device=0")).unwrap();
        let all = text(&edits);
        let new = |line: &&str| {
            ["infiniband", "gdrdrv", "nvidia-fs", "imex", "udev", "cufile"]
                .iter()
                .any(|name| line.contains(name))
        };
        all.lines().filter(new).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(nodes("h100-vm"), "");
    expect![[r#"
        mount /etc/cufile.json /etc/cufile.json ro
        mount /run/udev /run/udev ro
        node /dev/gdrdrv 238:0 666
        node /dev/infiniband/rdma_cm 10:58 666
        node /dev/infiniband/uverbs0 231:192 666
        node /dev/nvidia-caps-imex-channels/channel0 234:0 666
        node /dev/nvidia-fs0 237:0 666"#]]
    .assert_eq(&nodes("cluster"));
}

/// With an image's newer libcuda every name that programs open leads to it; NVML stays the driver's.
#[test]
fn forward_compatibility() {
    let world = world("a100-mig");
    let driver = driver(&world);
    let mut edits = cdi::edits(&driver, &selection(&world, &driver, "all")).unwrap();
    let compat = sconce_gpu::compat::Compat {
        folder: "/usr/local/cuda-13.0/compat".into(),
        version: "580.65.06".into(),
        libraries: ["libcuda.so.580.65.06", "libnvidia-nvvm.so.580.65.06"].map(Into::into).into(),
    };
    sconce_gpu::compat::prefer(&compat, &driver.survey, &mut edits);
    let links = edits.links.iter().filter(|link| {
        ["libcuda.so", "nvvm", "libnvidia-ml"]
            .iter()
            .any(|name| link.path.to_string_lossy().contains(name))
    });
    let links = links.map(|link| format!("{} -> {}", link.path.display(), link.target));
    expect![[r#"
        /usr/lib/x86_64-linux-gnu/libcuda.so -> /usr/local/cuda-13.0/compat/libcuda.so.580.65.06
        /usr/lib/x86_64-linux-gnu/libcuda.so.1 -> /usr/local/cuda-13.0/compat/libcuda.so.580.65.06
        /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1 -> libnvidia-ml.so.535.104.05
        /usr/lib/x86_64-linux-gnu/libnvidia-nvvm.so.4 -> /usr/local/cuda-13.0/compat/libnvidia-nvvm.so.580.65.06
        /usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06 -> /usr/local/cuda-13.0/compat/libcuda.so.580.65.06
        /usr/lib/x86_64-linux-gnu/libnvidia-nvvm.so.580.65.06 -> /usr/local/cuda-13.0/compat/libnvidia-nvvm.so.580.65.06"#]].assert_eq(&links.collect::<Vec<_>>().join("\n"));
}

#[test]
fn one_mig_instance() {
    let world = world("a100-mig");
    let driver = driver(&world);
    let edits = cdi::edits(&driver, &selection(&world, &driver, "0:1")).unwrap();
    let nodes: Vec<String> =
        edits.nodes.iter().map(|node| node.path.display().to_string()).collect();
    expect!["/dev/nvidia-caps/nvidia-cap21 /dev/nvidia-caps/nvidia-cap22 /dev/nvidia-modeset /dev/nvidia-uvm /dev/nvidia-uvm-tools /dev/nvidia0 /dev/nvidiactl"].assert_eq(&nodes.join(" "));
}

/// An instance destroyed after it was chosen, and documents that still list it.
#[test]
fn mig_changed_under_us() {
    let mut world = world("a100-mig");
    let driver = driver(&world);
    let chosen = selection(&world, &driver, "0:1");
    fs::remove_dir_all(world.root.join("proc/driver/nvidia/capabilities")).unwrap();
    let mut given = world.machine.given().unwrap().clone();
    given.node.retain(|node| !node.path.ends_with("nvidia-cap22"));
    world.machine = sconce_gpu::Machine::described(&world.root, given);
    // A document written when the instance was there is stale.
    let json = cdi::document(&driver).unwrap().json();
    let document = Document::parse(json.as_bytes(), Path::new("a.json")).unwrap();
    let survey = driver::survey(&world.machine);
    let stale = cdi::registry::stale(&document, &world.machine, &survey);
    assert_eq!(stale, [cdi::registry::Stale::Missing("/dev/nvidia-caps/nvidia-cap22".into())]);
    // Looked at again, the instance is not there to be chosen; the old choice names its node.
    let again = driver::find(&world.machine).unwrap();
    let request = sconce_gpu::select::parse("0:1").unwrap();
    let job = Job::default();
    let error = select::choose(&request, &world.machine, &again, &job).unwrap_err();
    expect!["there is no GPU `0:1` on this machine; there is: 0 (NVIDIA A100-SXM4-80GB, GPU-aa100000-0000-4000-8000-000000000000); 1 (NVIDIA A100-SXM4-80GB, GPU-aa100000-0000-4000-8000-000000000001)"].assert_eq(&error.to_string());
    let mut gone = chosen;
    for capability in gone.devices[0].instance.iter_mut().flat_map(|mig| &mut mig.capabilities) {
        capability.node = world.machine.node(&capability.path);
    }
    let error = cdi::edits(&driver, &gone).unwrap_err();
    expect!["the device node /dev/nvidia-caps/nvidia-cap22 is missing"]
        .assert_eq(&error.to_string());
}

#[test]
fn none_gives_nothing() {
    let world = world("h100");
    let driver = driver(&world);
    assert_eq!(cdi::edits(&driver, &selection(&world, &driver, "none")).unwrap(), Edits::default());
}

#[test]
fn a_missing_node_is_named() {
    let world = world("no-uvm");
    let driver = driver(&world);
    let error = cdi::edits(&driver, &selection(&world, &driver, "all")).unwrap_err();
    expect!["the device node /dev/nvidia-uvm is missing"].assert_eq(&error.to_string());
}

/// The program that looks for libcuda is the judge: ldconfig prints what Triton would read.
#[test]
fn the_linker_cache_has_the_driver() {
    let world = world("h100");
    let driver = driver(&world);
    let edits = cdi::edits(&driver, &selection(&world, &driver, "all")).unwrap();
    let image = fs::read("/etc/ld.so.cache").unwrap();
    let before = linker::parse(&image).unwrap().len();
    let cache = linker::with(Some(&image), &edits.linker).unwrap();
    assert!(linker::parse(&cache).unwrap().len() > before);
    let file = world.root.join("cache");
    fs::write(&file, cache).unwrap();
    let ldconfig = std::process::Command::new("/sbin/ldconfig")
        .arg("-p")
        .arg("-C")
        .arg(file)
        .output()
        .unwrap();
    let printed = String::from_utf8(ldconfig.stdout).unwrap();
    for line in [
        "libcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1",
        "libc.so.6 (libc6",
    ] {
        assert!(printed.contains(line), "{printed}");
    }
}

/// The generated document is valid, of the lowest version, without device numbers, and the same twice.
#[test]
fn the_document_for_other_engines() {
    let world = world("a100-mig");
    let driver = driver(&world);
    let document = cdi::document(&driver).unwrap();
    let json = document.json();
    assert_eq!(json, cdi::document(&driver).unwrap().json());
    assert_eq!(Document::parse(json.as_bytes(), Path::new("a.json")).unwrap(), document);
    assert!(!json.contains("major") && !json.contains("hooks"));
    assert_eq!(document.cdi_version, "0.5.0");
    let names: Vec<&str> = document.devices.iter().map(|device| device.name.as_str()).collect();
    expect!["0:0 MIG-aa100000-1111-4000-8000-000000000000 0:1 MIG-aa100000-1111-4000-8000-000000000001 1 GPU-aa100000-0000-4000-8000-000000000001 all"].assert_eq(&names.join(" "));
    let cuda = document
        .container_edits
        .mounts
        .iter()
        .filter(|mount| mount.host_path.to_string_lossy().contains("libcuda.so"));
    let cuda: Vec<String> = cuda.map(|mount| mount.container_path.display().to_string()).collect();
    expect![[r#"
        /usr/lib/x86_64-linux-gnu/libcuda.so
        /usr/lib/x86_64-linux-gnu/libcuda.so.1
        /usr/lib/x86_64-linux-gnu/libcuda.so.535.104.05
        /usr/lib64/libcuda.so
        /usr/lib64/libcuda.so.1
        /usr/lib64/libcuda.so.535.104.05"#]]
    .assert_eq(&cuda.join("\n"));
}

/// A document as NVIDIA's toolkit writes it for the H100 world, hooks and all.
fn toolkit(library: &str) -> String {
    format!(
        r#"{{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[
        {{"name":"0","containerEdits":{{"deviceNodes":[{{"path":"/dev/nvidia0"}}]}}}},
        {{"name":"all","containerEdits":{{"deviceNodes":[{{"path":"/dev/nvidia0"}}]}}}}],
        "containerEdits":{{"env":["NVIDIA_VISIBLE_DEVICES=void"],
        "deviceNodes":[{{"path":"/dev/nvidiactl"}},{{"path":"/dev/nvidia-uvm","major":510,"minor":0}}],
        "hooks":[{{"hookName":"createContainer","path":"/usr/bin/nvidia-cdi-hook","args":["nvidia-cdi-hook","create-symlinks","--link","libcuda.so.1::/usr/lib/x86_64-linux-gnu/libcuda.so"]}},
        {{"hookName":"createContainer","path":"/usr/bin/nvidia-cdi-hook","args":["nvidia-cdi-hook","enable-cuda-compat","--host-driver-version=580.159.04"]}},
        {{"hookName":"createContainer","path":"/usr/bin/nvidia-cdi-hook","args":["nvidia-cdi-hook","update-ldcache","--folder","/usr/lib/x86_64-linux-gnu"]}},
        {{"hookName":"createContainer","path":"/usr/bin/nvidia-cdi-hook","args":["nvidia-cdi-hook","disable-device-node-modification"]}}],
        "mounts":[{{"hostPath":"{library}","containerPath":"{library}","options":["ro","nosuid","nodev","rbind","rprivate"]}}]}}}}"#
    )
}

const CUDA: &str = "/usr/lib/x86_64-linux-gnu/libcuda.so.580.159.04";

/// Puts documents on the H100 world and says what comes of `--gpus all`.
fn planned(documents: &[(&str, String)], says: Expect) {
    let world = world("h100");
    for (path, text) in documents {
        let at = world.root.join(path.trim_start_matches('/'));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, text).unwrap();
    }
    let driver = driver(&world);
    let plan = cdi::plan(&world.machine, &driver, &selection(&world, &driver, "all")).unwrap();
    let mut out = match &plan.origin {
        Origin::Generated => "generated\n".to_owned(),
        Origin::Documents(paths) => format!("{paths:?}\n{}", text(&plan.edits)),
    };
    out += &plan.notes.join("\n");
    says.assert_eq(out.trim_end());
}

#[test]
fn a_document_of_the_machine_is_honoured() {
    planned(
        &[("/etc/cdi/nvidia.json", toolkit(CUDA))],
        expect![[r#"
        ["/etc/cdi/nvidia.json"]
        mount /usr/lib/x86_64-linux-gnu/libcuda.so.580.159.04 /usr/lib/x86_64-linux-gnu/libcuda.so.580.159.04 ro
        node /dev/nvidia0 195:0 666
        node /dev/nvidiactl 195:255 666
        node /dev/nvidia-uvm 510:0 666
        link /usr/lib/x86_64-linux-gnu/libcuda.so -> libcuda.so.1
        link /usr/lib/x86_64-linux-gnu/libcuda.so.1 -> libcuda.so.580.159.04
        file /proc/driver/nvidia/params ResmanDebugLevel: 4294967295|ModifyDeviceFiles: 0|DeviceFileUID: 0|DeviceFileGID: 0|DeviceFileMode: 438|
        env NVIDIA_VISIBLE_DEVICES=void
        linker libcuda.so.1 => /usr/lib/x86_64-linux-gnu/libcuda.so.1"#]],
    );
}

#[test]
fn the_later_folder_wins() {
    let later = toolkit(CUDA).replace("NVIDIA_VISIBLE_DEVICES=void", "FROM=later");
    planned(
        &[("/etc/cdi/nvidia.json", toolkit(CUDA)), ("/var/run/cdi/nvidia.json", later)],
        expect![[r#"
            ["/var/run/cdi/nvidia.json"]
            mount /usr/lib/x86_64-linux-gnu/libcuda.so.580.159.04 /usr/lib/x86_64-linux-gnu/libcuda.so.580.159.04 ro
            node /dev/nvidia0 195:0 666
            node /dev/nvidiactl 195:255 666
            node /dev/nvidia-uvm 510:0 666
            link /usr/lib/x86_64-linux-gnu/libcuda.so -> libcuda.so.1
            link /usr/lib/x86_64-linux-gnu/libcuda.so.1 -> libcuda.so.580.159.04
            file /proc/driver/nvidia/params ResmanDebugLevel: 4294967295|ModifyDeviceFiles: 0|DeviceFileUID: 0|DeviceFileGID: 0|DeviceFileMode: 438|
            env FROM=later
            linker libcuda.so.1 => /usr/lib/x86_64-linux-gnu/libcuda.so.1"#]],
    );
}

#[test]
fn what_does_not_fit_is_passed_over_with_the_reason() {
    let old = "/usr/lib/x86_64-linux-gnu/libcuda.so.570.1.1";
    planned(
        &[("/etc/cdi/nvidia.json", toolkit(old))],
        expect![[r#"
        generated
        /etc/cdi/nvidia.json is stale: /usr/lib/x86_64-linux-gnu/libcuda.so.570.1.1 is not there"#]],
    );
    let number = toolkit(CUDA).replace("\"major\":510", "\"major\":508");
    planned(
        &[("/etc/cdi/nvidia.json", number)],
        expect![[r#"
        generated
        /etc/cdi/nvidia.json is stale: /dev/nvidia-uvm is 510:0 now, not 508:0"#]],
    );
    let hook = toolkit(CUDA).replace("/usr/bin/nvidia-cdi-hook", "/usr/bin/evil");
    planned(
        &[("/etc/cdi/nvidia.json", hook)],
        expect![[r#"
        generated
        /etc/cdi/nvidia.json is not used: it runs the hook /usr/bin/evil"#]],
    );
    let twice = [("/etc/cdi/a.json", toolkit(CUDA)), ("/etc/cdi/b.json", toolkit(CUDA))];
    planned(
        &twice,
        expect![[r#"
        generated
        the CDI document /etc/cdi/b.json is not valid: device nvidia.com/gpu=0 stands in /etc/cdi/a.json as well"#]],
    );
    planned(
        &[("/etc/cdi/nvidia.json", "{".into())],
        expect![[r#"
        generated
        the CDI document /etc/cdi/nvidia.json is not valid: EOF while parsing an object at line 1 column 1"#]],
    );
    planned(
        &[("/etc/cdi/nvidia.json", toolkit(CUDA).replace("0.5.0", "7.0.0"))],
        expect![[r#"
        generated
        the CDI document /etc/cdi/nvidia.json is not valid: it is of CDI version 7.0.0, of which sconce knows none; the newest it knows is 1.1.0"#]],
    );
    let escape = toolkit(CUDA).replace("libcuda.so.1::/usr/lib", "libcuda.so.1::/usr/../../lib");
    planned(
        &[("/etc/cdi/nvidia.json", escape)],
        expect![[r#"
        generated
        /etc/cdi/nvidia.json is not used: it links /usr/../../lib/x86_64-linux-gnu/libcuda.so"#]],
    );
}

/// What has a document's name and is not a plain file of a document's size neither blocks nor is used.
#[test]
fn documents_that_are_none() {
    let world = world("h100");
    let folder = world.root.join("etc/cdi");
    fs::create_dir_all(folder.join("a.json")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(folder.join("b.json")).status().unwrap();
    assert!(pipe.success());
    fs::write(folder.join("c.json"), vec![b' '; 5 << 20]).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.join("d.json")).unwrap();
    std::os::unix::fs::symlink("e.json", folder.join("e.json")).unwrap();
    fs::write(folder.join("f.txt"), "{").unwrap();
    let driver = driver(&world);
    let plan = cdi::plan(&world.machine, &driver, &selection(&world, &driver, "all")).unwrap();
    assert_eq!(plan.origin, Origin::Generated);
    expect![[r#"
        can't read /etc/cdi/a.json: it is a folder, not a regular file
        can't read /etc/cdi/b.json: it is a FIFO (named pipe), not a regular file
        the CDI document /etc/cdi/c.json is not valid: 5242880 bytes, more than 4194304"#]]
    .assert_eq(&plan.notes.join("\n"));
}

/// Links below links would be made through the first, outside of the container.
#[test]
fn links_do_not_lead_out() {
    let first = "libcuda.so.1::/usr/lib/x86_64-linux-gnu/libcuda.so";
    for path in ["/etc", "/usr/lib/x86_64-linux-gnu/libcuda.so/x", "/usr", "/"] {
        let second = format!("{first}\",\"--link\",\"/tmp::{path}");
        let world = world("h100");
        let document = toolkit(CUDA).replace(first, &second);
        fs::create_dir_all(world.root.join("etc/cdi")).unwrap();
        fs::write(world.root.join("etc/cdi/a.json"), document).unwrap();
        let driver = driver(&world);
        let plan = cdi::plan(&world.machine, &driver, &selection(&world, &driver, "all")).unwrap();
        assert_eq!(plan.origin, Origin::Generated, "{path}");
        let note = format!("/etc/cdi/a.json is not used: it links {path}, a folder");
        assert_eq!(plan.notes, [note]);
    }
}

/// A library that exists and is of another release than the module.
#[test]
fn a_leftover_library_is_stale() {
    let world = world("h100");
    let left = "/usr/lib/x86_64-linux-gnu/libcuda.so.570.1.1";
    fs::write(world.root.join(left.trim_start_matches('/')), "").unwrap();
    let document = Document::parse(toolkit(left).as_bytes(), Path::new("a.json")).unwrap();
    let survey = driver::survey(&world.machine);
    let stale = cdi::registry::stale(&document, &world.machine, &survey);
    expect!["/usr/lib/x86_64-linux-gnu/libcuda.so.570.1.1 is not of the driver 580.159.04"]
        .assert_eq(&stale.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}
