//! Builds of a library for several CUDAs, of which one must have code for the GPU and run with the driver.

use super::bare;
use crate::failures::{SITE, World};
use crate::forge::{Library, cubin, fatbin, ptx};

fn starts(world: &World, gpu: &str, driver: &str, start: &str) {
    let said = world.answer(gpu, driver);
    assert!(said.starts_with(start), "{said}");
}

fn library(cudart: &str, sms: &[u32]) -> Library {
    let codes: Vec<_> = sms.iter().map(|sm| cubin(*sm)).collect();
    Library::new("").needs(&[cudart]).code(&[fatbin(&codes)])
}

#[test]
fn code_of_one_build_and_driver_of_another() {
    let mut world = bare();
    world.site("b/libbitsandbytes_cuda118.so", &library("libcudart.so.11.0", &[80]));
    world.site("b/libbitsandbytes_cuda130.so", &library("libcudart.so.13", &[80, 100]));
    let lacks = "No: of its builds (libbitsandbytes_cuda*) that for CUDA 11.8 has no code for B200";
    starts(&world, "b200", "570.86.15", lacks);
    // What each needs of other packages is told apart from this.
    let old = world.answer("a100", "470.57.02");
    assert!(!old.contains("that for CUDA 13.0 has"), "{old}");

    // PTX of a build counts where the driver compiles it, and is no machine code.
    let code = fatbin(&[cubin(80), ptx(80, (7, 8))]);
    let compiled = Library::new("").code(&[code]);
    let mut world = bare();
    world.site("b/libbitsandbytes_cuda118.so", &compiled);
    world.site("b/libbitsandbytes_cuda130.so", &library("libc.so.6", &[80, 100]));
    starts(
        &world,
        "b200",
        "570.86.15",
        "Yes: it runs on B200 180GB with driver 570.86.15; the driver compiles 1 ",
    );
    starts(&world, "b200", "580.65.06", "Yes: it has machine code for B200 180GB");
}

#[test]
fn builds_in_a_folder_for_each_cuda() {
    let mut world = bare();
    world.site("nccl/ep/lib/cu12/libnccl_ep.so", &library("libc.so.6", &[80, 90]));
    world.site("nccl/ep/lib/cu13/libnccl_ep.so", &library("libc.so.6", &[90, 100]));
    let of_twelve = "Yes: it has machine code for H100 SXM5 80GB and CUDA 12 runs with driver 570.86.15; of its builds \
                     (nccl/ep/lib/cu*/libnccl_ep.so) that for CUDA 12 has it and runs with that driver, that for CUDA 13 needs \
                     driver 580.65.06 or newer";
    starts(&world, "h100", "570.86.15", of_twelve);
    starts(
        &world,
        "b200",
        "570.86.15",
        "No: of its builds (nccl/ep/lib/cu*/libnccl_ep.so) that for CUDA 12 has no code",
    );
    starts(&world, "b200", "580.65.06", "Yes: it has machine code for B200 180GB and CUDA 13 runs");
    starts(&world, "v100", "570.86.15", "No: SITE/nccl/ep/lib/cu12/libnccl_ep.so has no code");
    // With torch its CUDA decides: 12.4.
    let mut world = World::new();
    world.site("nccl/ep/lib/cu12/libnccl_ep.so", &library("libc.so.6", &[80]));
    world.site("nccl/ep/lib/cu13/libnccl_ep.so", &library("libc.so.6", &[90]));
    starts(&world, "h100", "570.86.15", "Yes, in part: ");
}

/// Its package may take it with a torch of that CUDA alone; a folder's name is its package's.
#[test]
fn one_build_for_another_cuda_than_torch() {
    // torch is for 12.4.
    for (path, start) in [
        ("x/libx_cuda130.so", "Yes, in part: "),
        ("x/libx-cu13.so", "Yes, in part: "),
        ("x/libx_cuda128.so", "Yes: "),
        ("x/lib/cu13/libx.so", "Yes, in part: "),
        ("x_cu13_libs/libx.so", "Yes: "),
        ("nvidia/cu13/lib/libx.so", "Yes: "),
    ] {
        let mut world = World::new();
        world.site(path, &library("libc.so.6", &[80, 90]));
        let said = world.answer("h100", "580.65.06");
        assert!(said.starts_with(start), "{path}: {said}");
        let is_named = said.contains("none is for torch's, 12.4");
        assert_eq!(is_named, start.starts_with("Yes, in part"), "{path}: {said}");
    }
}

fn says(world: &World, gpu: &str, driver: &str, start: &str, words: &str) {
    let said = world.answer(gpu, driver);
    assert!(said.starts_with(start) && said.contains(words), "{said}");
}

/// Each of two libraries has a build for the GPU, and no CUDA takes both.
#[test]
fn builds_of_two_libraries_for_two_cudas() {
    let mut world = bare();
    world.site("x/lib/cu12/liba.so", &library("libc.so.6", &[100]));
    world.site("x/lib/cu12/libb.so", &library("libc.so.6", &[80]));
    world.site("x/lib/cu13/liba.so", &library("libc.so.6", &[80, 90]));
    world.site("x/lib/cu13/libb.so", &library("libc.so.6", &[90, 100]));
    says(&world, "b200", "580.65.06", "Can't tell: ", "an environment has one CUDA");
    starts(&world, "h100", "580.65.06", "Yes: ");
}

/// With a torch for CUDA 11.8 neither a build for 12 nor one for 13 is its own.
#[test]
fn no_build_for_the_cuda_of_torch() {
    for path in ["x/lib/cuNN/liba.so", "x/liba_cudaNN0.so"] {
        let mut world = World::of_cuda("11.8");
        for cuda in ["12", "13"] {
            world.site(&path.replace("NN", cuda), &library("libc.so.6", &[80]));
        }
        says(&world, "a100", "470.57.02", "Yes, in part: ", "none is for torch's, 11.8");
    }
    // Of those for its major the one that has code for another GPU does not count for the one that is taken.
    let mut world = World::of_cuda("12.4");
    world.site("x/liba_cuda121.so", &library("libc.so.6", &[80]));
    world.site("x/liba_cuda130.so", &library("libc.so.6", &[90]));
    says(&world, "h100", "580.65.06", "Yes, in part: ", "liba_cuda121.so has nothing for it");
    // A library of a folder for one CUDA that is not in the other's.
    let mut world = World::of_cuda("11.8");
    world.site("x/cu11/liba.so", &library("libc.so.6", &[80]));
    world.site("x/cu12/liba.so", &library("libc.so.6", &[80]));
    world.site("x/cu12/libb.so", &library("libc.so.6", &[80]));
    says(
        &world,
        "a100",
        "580.65.06",
        "Yes, in part: ",
        "libb.so, which is there for CUDA 12, none",
    );
}

/// Which of several builds of torch's major is taken, its package decides.
#[test]
fn several_builds_for_the_cuda_of_torch() {
    for [one, two] in [["121", "126"], ["12", "124"], ["124", "12"]] {
        let mut world = World::of_cuda("12.4");
        world.site(&format!("x/cu{one}/liba.so"), &library("libc.so.6", &[80]));
        world.site(&format!("x/cu{two}/liba.so"), &library("libc.so.6", &[80, 90]));
        says(&world, "h100", "580.65.06", "Can't tell: ", "a torch for CUDA 12.4 takes");
        starts(&world, "a100", "580.65.06", "Yes: ");
    }
    // Its own release is the one, whatever others have.
    let mut world = World::of_cuda("12.4");
    world.site("x/cu124/liba.so", &library("libc.so.6", &[80, 90]));
    world.site("x/cu126/liba.so", &library("libc.so.6", &[80]));
    starts(&world, "h100", "580.65.06", "Yes: ");
    // What is called a build for torch's CUDA and made with a newer one needs that one's driver.
    let mut world = World::of_cuda("12.4");
    for cuda in ["124", "130"] {
        let code = fatbin(&[cubin(90), ptx(90, (9, 0))]);
        let made = Library::new("").needs(&["libcudart.so.13"]).code(&[code]);
        world.site(&format!("x/libx_cuda{cuda}.so"), &made);
    }
    world.site("nvidia/cu13/lib/libcudart.so.13", &Library::new("libcudart.so.13"));
    let said = world.answer("h100", "535.104.05");
    assert!(!said.starts_with("Yes: "), "{said}");
}

/// A library of which there is a build for one CUDA alone has that CUDA.
#[test]
fn a_library_for_one_of_the_cudas() {
    let mut world = bare();
    world.site("x/cu12/liba.so", &library("libc.so.6", &[100]));
    world.site("x/cu13/liba.so", &library("libc.so.6", &[90]));
    world.site("x/cu13/libb.so", &library("libc.so.6", &[90, 100]));
    says(&world, "b200", "580.65.06", "Can't tell: ", "an environment has one CUDA");
    starts(&world, "h100", "580.65.06", "Yes: ");
}

/// What packages ask for says which CUDA an environment has.
#[test]
fn a_cuda_that_packages_ask_for() {
    let world = |requires: &str, there: &str| {
        let mut world = bare();
        world.site("x/lib/cu12/liba.so", &library("libc.so.6", &[70, 90]));
        world.site("x/lib/cu13/liba.so", &library("libc.so.6", &[90]));
        let metadata = format!("Name: x\nVersion: 1.0\n{requires}");
        world.file(&format!("{SITE}/x-1.0.dist-info/METADATA"), metadata.as_bytes());
        if let Some((name, version)) = there.split_once(' ') {
            let info = format!("{SITE}/{name}-{version}.dist-info/METADATA");
            let metadata = format!("Name: {name}\nVersion: {version}\n");
            world.file(&info, metadata.as_bytes());
        }
        world
    };
    let v100 = |requires: &str, there: &str| world(requires, there).answer("v100", "570.86.15");
    assert!(v100("", "").starts_with("Yes: "), "{}", v100("", ""));
    for asks in [
        "nvidia-cuda-runtime-cu13",
        "nvidia-cublas>=13",
        "cuda-toolkit[cudart]==13.*",
        "cupy-cuda13x",
        "cuda-core[cu13]",
    ] {
        let said = v100(&format!("Requires-Dist: {asks}\n"), "");
        assert!(said.starts_with("Can't tell: ") && said.contains("asks for"), "{asks}: {said}");
    }
    let said = v100("", "nvidia_cuda_runtime 13.0.96");
    assert!(said.starts_with("Can't tell: ") && said.contains("13.0.96 is there"), "{said}");
    for asks in
        ["nvidia-cuda-runtime-cu12", "cuda-bindings>=12", "nvidia-cublas>=13; extra == \"cu13\""]
    {
        let said = v100(&format!("Requires-Dist: {asks}\n"), "");
        assert!(said.starts_with("Yes: "), "{asks}: {said}");
    }
    let h100 = world("Requires-Dist: nvidia-cublas>=13\n", "").answer("h100", "580.65.06");
    assert!(h100.starts_with("Yes: "), "{h100}");
}

/// Builds by the numbers in their names; a build that is linked with a newer CUDA than it is called by.
#[test]
fn names_that_differ_in_a_cuda() {
    for path in ["x/libx_cudaNN.so", "x/cuNN/libx.so", "x/cuda-NN/libx.so"] {
        let mut world = bare();
        let [old, new] = [("121", 80), ("130", 100)];
        for (cuda, sm) in [old, new] {
            world.site(&path.replace("NN", cuda), &library("libc.so.6", &[sm]));
        }
        starts(&world, "a100", "535.104.05", "Yes: it has machine code for A100");
        starts(&world, "b200", "570.86.15", "No: of its builds");
    }
    let mut world = bare();
    world.site("x/lib/cu12/liba.so", &library("libcudart.so.13", &[100]));
    world.site("x/lib/cu13/liba.so", &library("libcudart.so.13", &[80]));
    world.site("nvidia/cu13/lib/libcudart.so.13", &Library::new("libcudart.so.13"));
    assert!(
        !world.answer("b200", "575.57.08").starts_with("Yes"),
        "{}",
        world.answer("b200", "575.57.08")
    );
}

/// A library of CUDA 13 whose runtime is linked into it, beside a torch of CUDA 12.
#[test]
fn a_newer_cuda_without_a_name() {
    let words = "is of CUDA 13, which needs driver 580";
    // A copy of NVIDIA's under another name, and NVIDIA's own.
    for (path, soname) in
        [("x/libx.so", "libnvjpeg.so.13"), ("nvidia/cu13/lib/libnvjpeg.so.13", "libnvjpeg.so.13")]
    {
        let mut world = World::of_cuda("12.8");
        let code = fatbin(&[cubin(90), ptx(90, (9, 0))]);
        world.site(path, &Library::new(soname).code(&[code]));
        says(&world, "h100", "535.104.05", "Yes, in part: ", words);
        starts(&world, "h100", "580.65.06", "Yes: ");
    }
}
