//! Builds of a library for several CUDAs, of which one must have code for the GPU and run with the driver.

use super::bare;
use crate::failures::World;
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
