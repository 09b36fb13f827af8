//! What packages compile with when they run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use expect_test::expect;

use super::asked_for::install;
use crate::Says;
use crate::failures::{SITE, World};
use crate::forge::{Library, cubin, fatbin};
use crate::outside::Host;
use crate::report::{Options, inspect};
use crate::tree::Tree;

/// What XLA compiles with, as nvidia-cuda-nvcc-cu12 brings it.
pub fn compilers_of_jax(world: &mut World) {
    let nvcc = format!("{SITE}/nvidia/cuda_nvcc");
    world.file(&format!("{nvcc}/bin/ptxas"), b"program");
    world.file(&format!("{nvcc}/nvvm/libdevice/libdevice.10.bc"), b"BC");
}

#[test]
fn what_xla_compiles_with() {
    // The version of nvidia-cuda-nvcc-cu12, the bytes of its ptxas, whether libdevice and torch are there.
    let world = |version: &str, ptxas: Option<&[u8]>, libdevice: bool, torch: bool| {
        let mut world = match torch {
            true => World::new(),
            false => World { tree: Tree::new(), library_path: None },
        };
        let module = Library::new("").code(&[fatbin(&[cubin(90), cubin(100)])]);
        world.site("jax_cuda12_plugin/_prng.so", &module.needs(&["libcudart.so.12"]));
        world.put("usr/lib/x86_64-linux-gnu/libcudart.so.12", &Library::new("libcudart.so.12"));
        install(&mut world, "nvidia-cuda-nvcc-cu12", version, &[], "");
        install(&mut world, "jax-cuda12-plugin", "0.6.2", &[], "jax_cuda12_plugin/_prng.so,,\n");
        let nvcc = format!("{SITE}/nvidia/cuda_nvcc");
        if let Some(bytes) = ptxas {
            world.file(&format!("{nvcc}/bin/ptxas"), bytes);
        }
        if libdevice {
            world.file(&format!("{nvcc}/nvvm/libdevice/libdevice.10.bc"), b"BC");
        }
        world
    };
    let on = |world: &World, gpu: &str| world.answer(gpu, "580.65.06");
    let whole = world("12.9.86", Some(b"program"), true, false);
    assert!(on(&whole, "h100").starts_with("Yes:"), "{}", on(&whole, "h100"));
    assert!(on(&whole, "b200").starts_with("Yes:"), "{}", on(&whole, "b200"));
    expect!["No: jax-cuda12-plugin 0.6.2 needs ptxas, which is nowhere (jax-cuda12-plugin)."]
        .assert_eq(&on(&world("12.9.86", None, true, false), "h100"));
    expect!["No: jax-cuda12-plugin 0.6.2: nvidia/cuda_nvcc/bin/ptxas is there and can't be executed (jax-cuda12-plugin)."]
        .assert_eq(&on(&world("12.9.86", Some(b""), true, false), "h100"));
    expect!["Yes, in part: it runs on H100 SXM5 80GB with driver 580.65.06, but jax-cuda12-plugin 0.6.2 needs libdevice.10.bc, which is nowhere (jax-cuda12-plugin)."].assert_eq(&on(&world("12.9.86", Some(b"program"), false, false), "h100"));
    // Of two that use the GPU one goes on.
    let beside = on(&world("12.9.86", None, true, true), "h100");
    assert!(beside.starts_with("Yes, in part:") && beside.contains("needs ptxas"), "{beside}");
    let old = world("12.6.85", Some(b"program"), true, false);
    assert!(on(&old, "h100").starts_with("Yes:"), "{}", on(&old, "h100"));
    expect!["Can't tell: ptxas of nvidia-cuda-nvcc-cu12 12.6.85 is of CUDA 12.6, and sm_100 needs CUDA 12.8: what jax-cuda12-plugin compiles with it fails with `UNIMPLEMENTED: ptxas too old. Falling back to the driver to compile`, unless jax-cuda12-plugin has the driver compile it."].assert_eq(&on(&old, "b200"));
}

#[test]
fn where_xla_finds_what_it_compiles_with() {
    let says = |files: &[&str], options: &Options| {
        let mut world = World { tree: Tree::new(), library_path: None };
        let module = Library::new("").code(&[fatbin(&[cubin(90)])]);
        world.site("jax_cuda12_plugin/_prng.so", &module.needs(&["libcudart.so.12"]));
        world.put("usr/lib/x86_64-linux-gnu/libcudart.so.12", &Library::new("libcudart.so.12"));
        install(&mut world, "jax-cuda12-plugin", "0.6.2", &[], "jax_cuda12_plugin/_prng.so,,\n");
        files.iter().for_each(|file| world.file(file, b"bytes"));
        let report = inspect("world", &world.tree, options, &|_, _| {});
        report.answer("h100", Some(&"580.65.06".parse().unwrap())).unwrap().says
    };
    let none = Options::default();
    let toolkit = "usr/local/cuda/nvvm/libdevice/libdevice.10.bc";
    assert_eq!(says(&["usr/local/cuda/bin/ptxas", toolkit], &none), Says::Yes);
    let prefix = SITE.rsplitn(4, '/').nth(3).unwrap();
    let conda =
        [&format!("{prefix}/bin/ptxas"), &format!("{prefix}/nvvm/libdevice/libdevice.10.bc")];
    assert_eq!(says(&conda.map(String::as_str), &none), Says::Yes);
    // Where Debian's package has it nothing looks.
    let debian = "usr/lib/nvidia-cuda-toolkit/libdevice/libdevice.10.bc";
    assert_eq!(says(&["usr/bin/ptxas", debian], &none), Says::InPart);
    // What a virtual environment lacks its machine may have.
    let machine = tempfile::tempdir().unwrap();
    let program = machine.path().join("tools/ptxas");
    fs::create_dir(program.parent().unwrap()).unwrap();
    fs::write(&program, b"program").unwrap();
    let on = |folders: &str| {
        let (library_path, root) = (String::new(), Some(machine.path().to_owned()));
        let host = Host { library_path, path: folders.into(), root };
        says(&[toolkit], &Options { host: Some(host), ..Options::default() })
    };
    assert_eq!(on("/tools"), Says::No, "it can't be executed");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        (on("/usr/bin:/tools"), on("/usr/bin"), on("tools")),
        (Says::Yes, Says::No, Says::No)
    );
}
