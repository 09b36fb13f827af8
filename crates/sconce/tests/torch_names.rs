//! What modules of wheels take from torch itself, asked of an index on loopback before anything is downloaded: names that the
//! torch beside them lacks, libraries for each torch, and parts of cuDNN that nobody brings.

mod index_world;

#[path = "../../inspect/src/forge.rs"]
mod forge;

use std::fs;

use forge::Library;
use index_world::World;
use sconce_inspect::fatbin;
use sconce_testkit::Wheel;

/// torch 2.15.0, whose CUDA is 13.2, without the packages of NVIDIA's that it pins.
const KEYS: &str = "[environment]\nplatform = \"x86_64\"\ndriver = \"any\"\ntorch = \"2.15.0\"\nrequirements = \
                    [\"spoken\"]\nexclude = [\"cuda-toolkit\", \"cuda-bindings\", \"nvidia-cudnn-cu13\", \
                    \"nvidia-cusparselt-cu13\", \"nvidia-nccl-cu13\", \"nvidia-nvshmem-cu13\", \"triton\"]\n";

const TAG: &str = "cp313-cp313-manylinux_2_28_x86_64";
const OLD: &str = "_ZN3c106detail14torchCheckFailEPKcS2_jRKSs";
const NEW: &str = "_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcEE";

fn torch() -> Wheel {
    let c10 = Library::new("libc10.so").exports(NEW, None).build();
    let header = b"AOTI_TORCH_EXPORT AOTITorchError aoti_torch_aten_full(int x);\nint torch_call_dispatcher(int);\n";
    Wheel::new("torch", "2.15.0")
        .tag(TAG)
        .file("torch/lib/libc10.so", &c10)
        .file("torch/include/torch/csrc/inductor/aoti_torch/c/shim.h", header)
}

/// A package for torch whose module takes these names.
fn spoken(metadata: &str, names: &[&str]) -> Wheel {
    let module = Library::new("").needs(&["libtorch.so", "libc10.so"]);
    let module = names.iter().fold(module, |module, name| module.imports(name, None));
    Wheel::new("spoken", "0.18.0")
        .tag(TAG)
        .metadata(metadata)
        .file("spoken/lib/libspoken.so", &module.build())
}

/// What `lock` says, where no Debian package is to be had.
fn said(wheels: &[Wheel]) -> (i32, String) {
    let mut world = World::new(wheels);
    world.env.push(("SCONCE_DEBIAN_MIRROR", "http://127.0.0.1:9/debian".to_owned()));
    fs::write(world.path("project/sconce.toml"), KEYS).unwrap();
    world.sconce(&["lock"])
}

#[test]
fn names_that_this_torch_does_not_have() {
    let requires = "Requires-Dist: torch>=2.3.0\n";
    let (code, words) =
        said(&[torch(), spoken(requires, &[OLD, "aoti_torch_gone", "_ZN2at3addE"])]);
    assert_eq!(code, 4, "{words}");
    let expected = format!(
        "spoken 0.18.0 can't be loaded with torch 2.15.0: spoken/lib/libspoken.so needs {OLD} and 1 more names, which \
         this torch does not have"
    );
    assert!(words.contains(&expected), "{words}");

    let fits = [
        // Names that it has, and one whose library is not read.
        spoken(requires, &[NEW, "aoti_torch_aten_full", "torch_call_dispatcher", "_ZN2at3addE"]),
        // The resolver has seen to that.
        spoken("Requires-Dist: torch==2.15.0\n", &[OLD]),
        // Not for torch.
        spoken("", &[OLD]),
    ];
    for wheel in fits {
        let (_, words) = said(&[torch(), wheel]);
        assert!(words.contains("Debian") && !words.contains("spoken"), "{words}");
    }
    // A torch whose libraries and headers can't be read proves nothing.
    let other = Wheel::new("torch", "2.15.0").tag(TAG);
    let (_, words) = said(&[other, spoken(requires, &[OLD])]);
    assert!(words.contains("Debian") && !words.contains("can't be loaded"), "{words}");
}

#[test]
fn one_library_for_each_torch() {
    let dgl = |versions: &[&str]| {
        let file = |version: &&str| format!("dgl/graphbolt/libgraphbolt_pytorch_{version}.so");
        let wheel = Wheel::new("dgl", "2.1.0").tag(TAG);
        versions.iter().map(file).fold(wheel, |wheel, path| wheel.file(&path, b"ELF"))
    };
    let (code, words) = said(&[torch(), dgl(&["2.0.0", "2.2.1", "2.10.0"])]);
    let expected = "dgl 2.1.0 has no library for torch 2.15.0: its own (libgraphbolt_pytorch_…) are for torch 2.0.0 to 2.10.0";
    assert!(code == 4 && words.contains(expected), "{code} {words}");
    let (_, words) = said(&[torch(), dgl(&["2.2.1", "2.15.0"])]);
    assert!(words.contains("Debian") && !words.contains("dgl"), "{words}");
}

#[test]
fn a_copy_of_cudnn_without_its_parts() {
    let parts = ["ops_infer", "ops_train", "cnn_infer", "cnn_train", "adv_infer", "adv_train"];
    let with = |wheel: Wheel, folder: &str| {
        let file = |part: &&str| format!("{folder}/libcudnn_{part}.so.8");
        parts.iter().map(file).fold(wheel, |wheel, path| wheel.file(&path, b"ELF"))
    };
    let wheel = Wheel::new("spoken", "4.4.0").tag(TAG);
    let copy = wheel.file("spoken.libs/libcudnn-08d5c2cb.so.8.1.0", b"ELF");
    let words = "spoken 4.4.0 brings spoken.libs/libcudnn-08d5c2cb.so.8.1.0, which opens libcudnn_ops_infer.so.8 and 5 more \
                 by name when it works, and they are not where it looks";
    let (code, found) = said(&[torch(), copy.clone()]);
    assert!(code == 4 && found.contains(words), "{code} {found}");
    // Those of another package lie in another folder.
    let others = with(Wheel::new("nvidia-cudnn-cu12", "8.9.2.26").tag(TAG), "nvidia/cudnn/lib");
    let (code, found) = said(&[torch(), copy.clone(), others.clone()]);
    assert!(code == 4 && found.contains(words), "{code} {found}");
    let (_, found) = said(&[torch(), with(copy.clone(), "spoken.libs")]);
    assert!(found.contains("Debian") && !found.contains("cudnn"), "{found}");
    // One that kept its name finds what another has loaded.
    let plain = Wheel::new("spoken", "4.4.0").tag(TAG).file("spoken/lib/libcudnn.so.8", b"ELF");
    let (_, found) = said(&[torch(), plain, others]);
    assert!(found.contains("Debian") && !found.contains("by name"), "{found}");

    // Without torch it is a note: on a CPU it is not needed.
    let alone = World::new(&[copy]);
    alone.asks("exclude = []");
    let (code, found) = alone.sconce(&["lock"]);
    assert!(code == 0 && found.contains(&format!("note: {words}")), "{code} {found}");
}
