//! Symbols that nobody has, and those that only seem to be missing.

use expect_test::expect;

use crate::Says;
use crate::failures::{SITE, World};
use crate::forge::{Library, cubin, fatbin};

const EXT: &str = "mine/ext.cpython-313-x86_64-linux-gnu.so";

fn says(world: &World) -> (Says, String) {
    let driver = "580.65.06".parse().unwrap();
    let answer = world.report().answer("h100", Some(&driver)).unwrap();
    (answer.says, answer.sentence.replace(SITE, "SITE"))
}

fn gpu() -> Library {
    Library::new("").code(&[fatbin(&[cubin(90)])])
}

/// An environment with one package, and no torch.
fn alone() -> World {
    let mut world = World { tree: crate::Tree::new(), library_path: None };
    world.put("usr/lib/x86_64-linux-gnu/libc.so.6", &Library::new("libc.so.6"));
    world.put("usr/lib/x86_64-linux-gnu/libcudart.so.12", &Library::new("libcudart.so.12"));
    world
}

#[test]
fn an_extension_for_another_torch() {
    // torchaudio 2.6.0 beside torch 2.7.1: libtorchaudio.so takes c10's symbols without a version.
    let mut world = World::new();
    let c10 = Library::new("libc10.so").exports("_ZN3c106detail_old", None);
    world.site("torch/lib/libc10.so", &c10);
    let python = Library::new("libtorch_python.so").needs(&["libtorch_cuda.so", "libc10.so"]);
    world.site("torch/lib/libtorch_python.so", &python.runpath("$ORIGIN"));
    world.file(
        &format!("{SITE}/torchaudio-2.6.0.dist-info/METADATA"),
        b"Name: torchaudio\nVersion: 2.6.0\nRequires-Dist: torch==2.6.0\n",
    );
    // No RUNPATH: torch has loaded libc10.so before.
    let audio = Library::new("libtorchaudio.so")
        .needs(&["libc10.so", "libc.so.6"])
        .imports("_ZN3c106detail_old", None)
        .imports("PyList_New", None);
    world.site("torchaudio/lib/libtorchaudio.so", &audio);
    world.check(expect![""]);
    world.site("torchaudio/lib/libtorchaudio.so", &audio.imports("_ZN3c106detail_new", None));
    world.check(expect![[r#"
        Error SymbolMissing SITE/torchaudio/lib/libtorchaudio.so: undefined symbol: _ZN3c106detail_new; no library that is loaded with it has it
            _ZN3c106detail_new
    "#]]);
    expect!["No: undefined symbol: _ZN3c106detail_new; no library that is loaded with it has it (SITE/torchaudio/lib/libtorchaudio.so)."].assert_eq(&world.answer("h100", "535.104.05"));
}

#[test]
fn symbols_that_only_seem_to_be_missing() {
    let mut world = World::new();
    let weak = Library::new("").needs(&["libcuda.so.1", "libz.so.1"]);
    // From the driver; from a library of the tree that another one brings in.
    let module = weak.imports("cuInit", None).imports("inflate", None);
    world.site("x/_x.abi3.so", &module);
    world.put(
        "usr/lib/x86_64-linux-gnu/libz.so.1",
        &Library::new("libz.so.1").exports("inflate", None),
    );
    // A plug-in takes what its host has: nobody imports it.
    world.site("y/libplugin.so", &Library::new("libplugin.so").imports("host_does_it", None));
    world.check(expect![""]);
}

#[test]
fn what_needs_nothing_of_torch() {
    let module = gpu().needs(&["libcudart.so.12"]).imports("cudaNew", None);
    let mut with_torch = World::new();
    let runpath = "$ORIGIN/../nvidia/cuda_runtime/lib";
    with_torch.site(EXT, &module.clone().runpath(runpath));
    assert_eq!(says(&with_torch).0, Says::InPart);
    assert!(says(&with_torch).1.contains("undefined symbol: cudaNew"));
    // Without torch it is what there is to run.
    let mut world = alone();
    world.site(EXT, &module);
    assert_eq!(says(&world).0, Says::No);
    // A library that is opened by its path, as with ctypes.
    let mut world = alone();
    world.site("mine/lib/libmine.so", &module);
    assert_eq!(says(&world).0, Says::No);
    world.site("mine/lib/libmine.so", &gpu().needs(&["libcudart.so.12"]));
    assert_eq!(says(&world).0, Says::Yes);
}

#[test]
fn names_of_a_python_that_is_there() {
    let world = |program: &str, brings: &[&str]| {
        let mut world = alone();
        let python = Library::new("").interpreter("/lib64/ld-linux-x86-64.so.2");
        let python = brings.iter().fold(python, |python, name| python.exports(name, None));
        world.put(&format!("usr/bin/{program}"), &python);
        world.tree.add_link("usr/bin/python3", program);
        let module = gpu().needs(&["libcudart.so.12"]);
        world.site(EXT, &module.imports("PyList_New", None).imports("PyNew_Api", None));
        says(&world)
    };
    let api = ["Py_GetVersion", "PyList_New"];
    let (said, sentence) = world("python3.13", &api);
    assert_eq!(said, Says::No);
    expect!["No: undefined symbol: PyNew_Api; no library that is loaded with it has it (SITE/mine/ext.cpython-313-x86_64-linux-gnu.so)."]
        .assert_eq(&sentence);
    assert_eq!(world("python3.13", &["Py_GetVersion", "PyList_New", "PyNew_Api"]).0, Says::Yes);
    // Not the one that imports it, and one of which nothing can be told.
    assert_eq!(world("python3.12", &api).0, Says::Yes);
    assert_eq!(world("python3.13", &[]).0, Says::Yes);
}

#[test]
fn what_torch_opens_for_all() {
    let mut world = World::new();
    let module = gpu().imports("cudaMalloc", None);
    world.site(EXT, &module);
    let runtime = Library::new("libcudart.so.12").exports("cudaMalloc", None);
    world.site("nvidia/cuda_runtime/lib/libcudart.so.12", &runtime);
    // In the process, and for torch alone.
    assert_eq!(says(&world).0, Says::InPart);
    let deps = Library::new("libtorch_global_deps.so").needs(&["libcudart.so.12"]);
    let deps = deps.rpath("$ORIGIN/../../nvidia/cuda_runtime/lib");
    world.site("torch/lib/libtorch_global_deps.so", &deps);
    assert_eq!(says(&world).0, Says::Yes, "{}", says(&world).1);
}

#[test]
fn parts_that_are_only_opened_by_their_host() {
    let mut world = alone();
    world.site(EXT, &gpu().needs(&["libcudart.so.12"]));
    // NVIDIA's open each other; one that has no code for GPUs may be anybody's plug-in.
    let sub = Library::new("libcudnn_ops.so.9").code(&[fatbin(&[cubin(90)])]);
    world.site("nvidia/cudnn/lib/libcudnn_ops.so.9", &sub.imports("cudnnOfAnother", None));
    world.site("mine/libplugin.so", &Library::new("libplugin.so").imports("host_does_it", None));
    assert_eq!(says(&world).0, Says::Yes, "{}", says(&world).1);
}

#[test]
fn what_torch_loads_is_not_for_all() {
    // libc10.so is there because torch has loaded it; libtorch_cuda.so, which torch has loaded as well, it does not need.
    let mut world = World::new();
    world.site("torch/lib/libc10.so", &Library::new("libc10.so").exports("c10_does", None));
    let python = Library::new("libtorch_python.so").needs(&["libtorch_cuda.so", "libc10.so"]);
    world.site("torch/lib/libtorch_python.so", &python.runpath("$ORIGIN"));
    let cuda = gpu().exports("torch_cuda_does", None).needs(&["libcuda.so.1"]);
    world.site("torch/lib/libtorch_cuda.so", &cuda);
    let module = gpu().needs(&["libc10.so"]).imports("c10_does", None);
    world.site(EXT, &module);
    assert_eq!(says(&world).0, Says::Yes, "{}", says(&world).1);
    world.site(EXT, &module.imports("torch_cuda_does", None));
    assert_eq!(says(&world).0, Says::No);
    assert!(says(&world).1.contains("undefined symbol: torch_cuda_does"));
}
