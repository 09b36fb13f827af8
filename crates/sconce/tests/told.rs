//! What `sconce lock` says beside the lock that it writes: of what only `sconce build` can see.

mod index_world;

#[path = "../../inspect/src/forge.rs"]
mod forge;

use forge::Library;
use index_world::World;
use sconce_inspect::fatbin;
use sconce_testkit::Wheel;

#[track_caller]
fn lock(world: &World, words: &[&str]) -> String {
    let (code, said) = world.sconce(&[&["lock"], words].concat());
    assert_eq!(code, 0, "{said}");
    said
}

/// GPUs that are named are a promise, and what packages beside torch have for them their wheels alone tell.
#[test]
fn code_for_gpus_that_a_build_looks_at() {
    let tag = "cp313-cp313-manylinux_2_28_x86_64";
    let native = |name: &str, needed: &[&str]| {
        let module = Library::new("").needs(needed).build();
        let wheel = Wheel::new(name, "1.0").tag(tag).metadata("Summary: for CUDA\n");
        wheel.file(&format!("{name}/core.so"), &module)
    };
    let on_gpu = native("fast", &["libcublas.so.12", "libc.so.6"]);
    let on_cpu = native("plain", &["libc.so.6"]);
    let words = "note: whether fast 1.0 has code for v100 is not known before its wheel is here: `sconce build` looks at it";
    let world = World::new(&[on_gpu.clone(), on_cpu.clone()]);
    world.asks("gpus = [\"v100\"]");
    let said = lock(&world, &[]);
    assert!(said.contains(words) && !said.contains("whether plain"), "{said}");
    // Where no GPU is named nothing is promised.
    let world = World::new(&[on_gpu]);
    world.asks("exclude = []");
    assert!(!lock(&world, &[]).contains("has code for"), "no GPU is named");
}
