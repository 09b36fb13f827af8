//! A libcuda that something else than LD_LIBRARY_PATH brings.

use crate::Says;
use crate::failures::{SITE, World};
use crate::forge::{Library, cubin, fatbin};
use crate::tree::Tree;

fn says(world: &World, driver: &str) -> (Says, String) {
    let answer = world.report().answer("h100", Some(&driver.parse().unwrap())).unwrap();
    (answer.says, answer.sentence.replace(SITE, "SITE"))
}

/// A module alone that needs this libcuda by this RPATH.
fn alone(needs: &str, rpath: &str, file: &str) -> World {
    let mut world = World { tree: Tree::new(), library_path: None };
    let module = Library::new("").needs(&[needs, "libcudart.so.12"]).rpath(rpath);
    world.site("x/_C.so", &module.code(&[fatbin(&[cubin(90)])]));
    world.site("x.libs/libcudart.so.12", &Library::new("libcudart.so.12"));
    world.site(file, &Library::new(needs));
    world
}

#[test]
fn one_that_a_package_brings() {
    let name = "libcuda-2f6c1d3a.so.470.57.02";
    let rpath = "$ORIGIN/../x.libs";
    let world = alone(name, rpath, &format!("x.libs/{name}"));
    let (said, sentence) = says(&world, "580.65.06");
    assert_eq!(said, Says::No, "{sentence}");
    assert!(sentence.contains("wins over the driver's by the RPATH of SITE/x/_C.so"), "{sentence}");
    let unknown = alone("libcuda.so.1", rpath, "x.libs/libcuda.so.1");
    assert_eq!(says(&unknown, "580.65.06").0, Says::CantTell, "{:?}", says(&unknown, "580.65.06"));
    let stub = alone("libcuda.so.1", "$ORIGIN/stubs:$ORIGIN/../x.libs", "x/stubs/libcuda.so.1");
    let (said, sentence) = says(&stub, "580.65.06");
    assert_eq!(said, Says::No, "{sentence}");
    assert!(sentence.contains("is a stub to link with"), "{sentence}");
    // Beside torch it may never be imported.
    let mut beside = World::new();
    let module = Library::new("").needs(&[name]).rpath(rpath);
    beside.site("x/_C.so", &module.code(&[fatbin(&[cubin(90)])]));
    beside.site(&format!("x.libs/{name}"), &Library::new(name));
    assert_eq!(says(&beside, "580.65.06").0, Says::CantTell, "{:?}", says(&beside, "580.65.06"));
}

#[test]
fn those_that_the_image_has_in_its_folders() {
    let mut world = World::new();
    assert_eq!(says(&world, "580.65.06").0, Says::Yes);
    world.file("etc/ld.so.conf.d/cuda.conf", b"# CUDA\n/usr/local/cuda/compat\n");
    world.put("usr/local/cuda/compat/libcuda.so.525.60.13", &Library::new("libcuda.so.1"));
    world.tree.add_link("usr/local/cuda/compat/libcuda.so.1", "libcuda.so.525.60.13");
    let (said, sentence) = says(&world, "580.65.06");
    assert_eq!(said, Says::CantTell, "{sentence}");
    assert!(sentence.contains("may win over the driver's"), "{sentence}");
    assert_eq!(says(&world, "525.60.13").0, Says::CantTell, "{:?}", says(&world, "525.60.13"));
    let mut stub = World::new();
    stub.put("usr/lib/x86_64-linux-gnu/libcuda.so.1", &Library::new("libcuda.so.1"));
    assert_eq!(says(&stub, "580.65.06").0, Says::CantTell, "{:?}", says(&stub, "580.65.06"));
    let mut own = World::new();
    own.put("usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06", &Library::new("libcuda.so.1"));
    own.tree.add_link("usr/lib/x86_64-linux-gnu/libcuda.so.1", "libcuda.so.580.65.06");
    assert_eq!(says(&own, "580.65.06").0, Says::Yes, "{:?}", says(&own, "580.65.06"));
}
