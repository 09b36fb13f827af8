//! Images that lack what no driver brings, or have something else in its place.

use crate::Says;
use crate::failures::{SITE, World};
use crate::forge::{Library, cubin, fatbin, ptx};
use crate::outside::Host;
use crate::report::{Options, inspect};
use crate::tree::Tree;

/// What an image of `world` gets: as the image is, not as a folder.
fn says(world: &World, gpu: &str, driver: Option<&str>) -> (Says, String) {
    let library_path = world.library_path.clone();
    let options = Options { library_path, whole: true, ..Options::default() };
    let report = inspect("image", &world.tree, &options, &|_, _| {});
    let driver = driver.map(|driver| driver.parse().unwrap());
    let answer = report.answer(gpu, driver.as_ref()).unwrap();
    (answer.says, answer.sentence.replace(SITE, "SITE"))
}

fn image() -> World {
    let mut world = World::new();
    let python = Library::new("").interpreter("/lib64/ld-linux-x86-64.so.2");
    world.put("usr/bin/python3.13", &python.exports("Py_GetVersion", None));
    world.tree.add_link("usr/bin/python3", "python3.13");
    world.put("lib64/ld-linux-x86-64.so.2", &Library::new("ld-linux-x86-64.so.2"));
    world
}

#[test]
fn an_image_without_glibc_or_the_loader() {
    let on = |world: &World| says(world, "h100", Some("580.65.06"));
    assert_eq!(on(&image()).0, Says::Yes, "{}", on(&image()).1);
    let mut bare = image();
    bare.tree.begin_layer();
    bare.tree.whiteout("usr/lib/x86_64-linux-gnu", "libc.so.6");
    assert_eq!(on(&bare).0, Says::No);
    assert!(on(&bare).1.contains("libc.so.6 is nowhere"), "{}", on(&bare).1);
    let mut no_loader = image();
    no_loader.tree.begin_layer();
    no_loader.tree.whiteout("lib64", "ld-linux-x86-64.so.2");
    assert_eq!(on(&no_loader).0, Says::No);
    assert!(on(&no_loader).1.contains("names /lib64/ld-linux-x86-64.so.2 as its loader"));
}

#[test]
fn packages_of_a_python_that_is_not_there() {
    let mut world = image();
    world.tree.begin_layer();
    world.tree.whiteout("usr/bin", "python3.13");
    world.tree.whiteout("usr/bin", "python3");
    world.tree.begin_layer();
    let python = Library::new("").interpreter("/lib64/ld-linux-x86-64.so.2");
    world.put("usr/local/bin/python3.11", &python);
    let (said, sentence) = says(&world, "h100", Some("580.65.06"));
    assert_eq!(said, Says::No);
    assert!(
        sentence.contains("is for Python 3.13, which is not there; there is 3.11"),
        "{sentence}"
    );
}

#[test]
fn modules_for_another_python_than_their_folder() {
    let mut world = World::new();
    world.remove("torch/_C.cpython-313-x86_64-linux-gnu.so");
    let module = Library::new("").needs(&["libtorch_python.so"]).rpath("$ORIGIN/lib");
    world.site("torch/_C.cpython-312-x86_64-linux-gnu.so", &module);
    let driver = "580.65.06".parse().unwrap();
    let answer = world.report().answer("h100", Some(&driver)).unwrap();
    assert_eq!(answer.says, Says::No);
    assert!(answer.sentence.contains("is for Python 3.12"), "{}", answer.sentence);
    // Beside a sound torch, one with nothing of it is a part.
    let mut world = World::new();
    world.site("x/_x.cpython-312-x86_64-linux-gnu.so", &Library::new(""));
    let answer = world.report().answer("h100", Some(&driver)).unwrap();
    assert_eq!(answer.says, Says::InPart, "{}", answer.sentence);
}

fn with_libcuda(folder: &str, file: &str) -> World {
    let mut world = image();
    world.put(&format!("{folder}/{file}"), &Library::new("libcuda.so.1").exports("cuInit", None));
    if file != "libcuda.so.1" {
        world.tree.add_link(&format!("{folder}/libcuda.so.1"), file);
    }
    world
}

#[test]
fn a_libcuda_that_wins_over_the_drivers() {
    let compat = "usr/local/cuda/compat";
    let mut world = with_libcuda(compat, "libcuda.so.570.86.15");
    // Where nobody looks it harms nobody.
    assert_eq!(says(&world, "h100", Some("580.65.06")).0, Says::Yes);
    world.library_path = Some(format!("/{compat}"));
    let (said, sentence) = says(&world, "h100", Some("580.65.06"));
    assert_eq!(said, Says::No);
    assert!(sentence.contains("error 803"), "{sentence}");
    assert_eq!(says(&world, "h100", Some("570.86.15")).0, Says::Yes);
    // A newer one is for data-centre GPUs, over the branches that NVIDIA lists.
    assert_eq!(says(&world, "h100", Some("535.104.05")).0, Says::Yes);
    assert_eq!(says(&world, "h100", Some("545.23.08")).0, Says::CantTell);
    assert_eq!(says(&world, "h100", None).0, Says::CantTell);
    world.site(
        "torch/lib/libtorch_cuda.so",
        &Library::new("").code(&[fatbin(&[cubin(80), cubin(89)])]),
    );
    let (said, sentence) = says(&world, "rtx 4090", Some("535.104.05"));
    assert_eq!(said, Says::No);
    assert!(sentence.contains("error 804"), "{sentence}");
}

#[test]
fn a_stub_of_libcuda() {
    let stubs = "usr/local/cuda/lib64/stubs";
    let mut world = with_libcuda(stubs, "libcuda.so.1");
    assert_eq!(says(&world, "h100", Some("580.65.06")).0, Says::Yes);
    world.library_path = Some(format!("/{stubs}"));
    let (said, sentence) = says(&world, "h100", Some("580.65.06"));
    assert_eq!(said, Says::No);
    assert!(sentence.contains("is a stub to link with"), "{sentence}");
}

/// NCCL of another CUDA than torch's at the same path: its name does not say of which it is, and its runtime is linked in.
#[test]
fn a_library_of_nvidias_that_a_newer_cuda_made() {
    let world = |isa: (u16, u16)| {
        let mut world = World::new();
        let nccl = Library::new("libnccl.so.2").code(&[fatbin(&[cubin(90), ptx(90, isa)])]);
        world.site("nvidia/nccl/lib/libnccl.so.2", &nccl);
        world
    };
    let (said, sentence) = says(&world((9, 0)), "h100", Some("535.104.05"));
    assert_eq!(said, Says::InPart, "{sentence}");
    assert!(sentence.contains("libnccl.so.2 is of CUDA 13, which needs driver 580.65.06"));
    assert_eq!(says(&world((9, 0)), "h100", Some("580.65.06")).0, Says::Yes);
    assert_eq!(says(&world((8, 4)), "h100", Some("535.104.05")).0, Says::Yes);
}

/// A runtime that is linked in opens libcuda by its name; LD_LIBRARY_PATH brings one from outside of what is judged.
#[test]
fn a_libcuda_of_the_machine_where_no_library_needs_one() {
    let dir = tempfile::tempdir().unwrap();
    let place = |folder: &str, name: &str| {
        let folder = dir.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), Library::new("libcuda.so.1").build()).unwrap();
        folder.display().to_string()
    };
    let says = |library_path: String| {
        let mut world = World { tree: Tree::new(), library_path: None };
        let code = fatbin(&[cubin(90), ptx(90, (8, 4))]);
        world.site("xgboost/lib/libxgboost.so", &Library::new("").code(&[code]));
        let host = Host { library_path, path: std::ffi::OsString::new(), root: None };
        let options = Options { host: Some(host), ..Options::default() };
        let report = inspect("folder", &world.tree, &options, &|_, _| {});
        let answer = report.answer("h100", Some(&"580.65.06".parse().unwrap())).unwrap();
        (answer.says, answer.sentence)
    };
    assert_eq!(says(String::new()).0, Says::Yes, "{}", says(String::new()).1);
    let (said, sentence) = says(place("stubs", "libcuda.so.1"));
    assert_eq!(said, Says::No, "{sentence}");
    assert!(sentence.contains("is a stub to link with"), "{sentence}");
    let (said, sentence) = says(place("other", "libcuda.so.1"));
    assert_eq!(said, Says::CantTell, "{sentence}");
}

#[test]
fn three_containers_of_a_library_that_is_not_for_this_gpu() {
    // cuSPARSELt 0.8.1: 761 containers, of which 3 have code for anything before 8.0.
    let mut world = World::new();
    let all: Vec<_> = [70, 80, 90].map(cubin).into();
    world.site("torch/lib/libtorch_cuda.so", &Library::new("").code(&[fatbin(&all)]));
    let mut parts = vec![fatbin(&[cubin(80)]); 20];
    parts.extend(vec![fatbin(&[cubin(90)]); 100]);
    parts.push(fatbin(&[cubin(70)]));
    world.site(
        "nvidia/cusparselt/lib/libcusparseLt.so.0",
        &Library::new("libcusparseLt.so.0").code(&parts),
    );
    // Its hardware has nothing that cuSPARSELt is for: torch does without.
    let (said, sentence) = says(&world, "v100", Some("535.104.05"));
    assert_eq!(said, Says::Yes, "{sentence}");
    // Each GPU uses the kernels made for it, be they few.
    assert_eq!(says(&world, "a100", Some("535.104.05")).0, Says::Yes);
    // cuBLASLt chooses among kernels made for single GPUs.
    world.site(
        "nvidia/cublas/lib/libcublasLt.so.12",
        &Library::new("libcublasLt.so.12").code(&parts),
    );
    assert_eq!(says(&world, "v100", Some("535.104.05")).0, Says::Yes);
    // Alone it is for nothing else.
    let mut alone = World { tree: Tree::new(), library_path: None };
    alone.site(
        "cusparselt/lib/libcusparseLt.so.0",
        &Library::new("libcusparseLt.so.0").code(&parts),
    );
    let (said, sentence) = says(&alone, "v100", None);
    assert_eq!(said, Says::No, "{sentence}");
}
