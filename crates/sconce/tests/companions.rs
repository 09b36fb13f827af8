//! A package with one library for each CUDA, and a torch of another CUDA: `sconce lock` asks the wheel on an index on
//! loopback which it has.

mod index_world;

use std::fs;

use index_world::World;
use sconce_testkit::Wheel;

/// torch 2.15.0, whose CUDA is 13.2, without the packages of NVIDIA's that it pins.
const KEYS: &str = "[environment]\nplatform = \"x86_64\"\ndriver = \"any\"\ntorch = \"2.15.0\"\nrequirements = \
                    [\"bitsandbytes\"]\nexclude = [\"cuda-toolkit\", \"cuda-bindings\", \"nvidia-cudnn-cu13\", \
                    \"nvidia-cusparselt-cu13\", \"nvidia-nccl-cu13\", \"nvidia-nvshmem-cu13\", \"triton\"]\n";

fn bitsandbytes(tag: &str, cudas: &[&str]) -> Wheel {
    let named = |cuda: &&str| format!("bitsandbytes/libbitsandbytes_cuda{cuda}.so");
    let wheel = Wheel::new("bitsandbytes", "0.49.2").tag(tag);
    cudas.iter().map(named).fold(wheel, |wheel, path| wheel.file(&path, b"ELF"))
}

fn world(wheel: &Wheel) -> World {
    let torch = Wheel::new("torch", "2.15.0").tag("cp313-cp313-manylinux_2_28_x86_64");
    let mut world = World::new(&[torch, wheel.clone()]);
    // No Debian package is there: nothing is locked, and what is said before that counts.
    world.env.push(("SCONCE_DEBIAN_MIRROR", "http://127.0.0.1:9/debian".to_owned()));
    fs::write(world.path("project/sconce.toml"), KEYS).unwrap();
    world
}

#[test]
fn a_cuda_that_the_wheel_has_no_library_for() {
    // Before 0.43 it was a wheel for any platform.
    for tag in ["py3-none-manylinux_2_24_x86_64", "py3-none-any"] {
        let wheel = bitsandbytes(tag, &["118", "126", "130"]);
        let world = world(&wheel);
        let (code, said) = world.sconce(&["lock"]);
        assert_eq!(code, 4, "{said}");
        let words = "bitsandbytes 0.49.2 has no library for CUDA 13.2, which this torch has: its own are for CUDA \
                     11.8 to 13.0";
        assert!(said.contains(words), "{said}");
        assert!(
            said.contains("hint: no release of bitsandbytes is known that fits torch 2.15.0"),
            "{said}"
        );
        let range = "bytes=-98304".to_owned();
        assert_eq!(world.ranges(&wheel.file_name()), [range], "the end of the archive, once");
    }
    let fits = bitsandbytes("py3-none-any", &["118", "132"]);
    let (_, said) = world(&fits).sconce(&["lock"]);
    assert!(!said.contains("bitsandbytes") && said.contains("Debian"), "{said}");
}
