//! What packages ask for by `Requires-Dist` and do not get.

use super::compiled::compilers_of_jax;
use crate::Says;
use crate::failures::{SITE, World};
use crate::forge::{Library, cubin, fatbin};
use crate::tree::Tree;

pub fn install(world: &mut World, name: &str, version: &str, requires: &[&str], record: &str) {
    let info = format!("{SITE}/{}-{version}.dist-info", name.replace('-', "_"));
    let requires: String = requires.iter().map(|line| format!("Requires-Dist: {line}\n")).collect();
    let metadata = format!("Name: {name}\nVersion: {version}\n{requires}");
    world.file(&format!("{info}/METADATA"), metadata.as_bytes());
    world.file(&format!("{info}/RECORD"), record.as_bytes());
}

fn says(world: &World) -> (Says, String) {
    let driver = "580.65.06".parse().unwrap();
    let answer = world.report().answer("h100", Some(&driver)).unwrap();
    (answer.says, answer.sentence)
}

#[test]
fn packages_that_torch_asks_for() {
    let requires = [
        "typing-extensions>=4.8.0",
        "sympy>=1.13.3; python_version >= \"3.9\"",
        "setuptools; python_version >= \"3.14\"",
        "optree>=0.13; extra == \"optree\"",
        "nvidia-nvtx-cu12==12.4.127; platform_system == \"Linux\"",
    ];
    let world = |there: &[(&str, &str)]| {
        let mut world = World::new();
        install(&mut world, "torch", "2.5.1", &requires, "");
        for (name, version) in there {
            install(&mut world, name, version, &[], "");
        }
        says(&world)
    };
    let (said, sentence) = world(&[("sympy", "1.14.0")]);
    assert_eq!(said, Says::No, "{sentence}");
    assert!(sentence.contains("asks for typing-extensions>=4.8.0, which is not installed"));
    let (said, sentence) = world(&[("typing_extensions", "4.12.2")]);
    assert_eq!(said, Says::InPart, "{sentence}");
    assert!(sentence.contains("asks for sympy>=1.13.3, which is not installed"), "{sentence}");
    let (said, sentence) = world(&[("typing_extensions", "4.12.2"), ("sympy", "1.12")]);
    assert_eq!(said, Says::InPart, "{sentence}");
    assert!(sentence.contains("sympy>=1.13.3; 1.12 is installed"), "{sentence}");
    let (said, sentence) = world(&[("typing_extensions", "4.12.2"), ("sympy", "1.14.0")]);
    assert_eq!(said, Says::Yes, "{sentence}");
}

#[test]
fn what_is_there_without_metadata() {
    let mut world = World::new();
    install(&mut world, "torch", "2.5.1", &["typing-extensions", "old-one", "other"], "");
    world.file(&format!("{SITE}/typing_extensions.py"), b"");
    world.file("usr/lib/python3/dist-packages/old_one-1.0.egg-info", b"");
    world.file("usr/lib/python3/dist-packages/Other-2-py3.13.egg-info/PKG-INFO", b"");
    assert_eq!(says(&world).0, Says::Yes, "{}", says(&world).1);
}

#[test]
fn a_library_of_nvidias_that_an_extra_would_bring_newer() {
    let mut world = World { tree: Tree::new(), library_path: None };
    let module = Library::new("").code(&[fatbin(&[cubin(90)])]);
    world.site("jax_cuda12_plugin/_prng.so", &module.needs(&["libcudart.so.12"]));
    world.put("usr/lib/x86_64-linux-gnu/libcudart.so.12", &Library::new("libcudart.so.12"));
    compilers_of_jax(&mut world);
    let line = "nvidia-cudnn-cu12<10.0,>=9.8; extra == \"with-cuda\"";
    install(&mut world, "jax-cuda12-plugin", "0.6.0", &[line], "jax_cuda12_plugin/_prng.so,,\n");
    assert_eq!(says(&world).0, Says::Yes, "{}", says(&world).1);
    install(&mut world, "nvidia-cudnn-cu12", "9.8.0.87", &[], "");
    assert_eq!(says(&world).0, Says::Yes, "{}", says(&world).1);
    let old = "nvidia_cudnn_cu12-9.8.0.87.dist-info";
    world.tree.begin_layer();
    world.tree.whiteout(SITE, old);
    world.tree.begin_layer();
    install(&mut world, "nvidia-cudnn-cu12", "9.1.0.70", &[], "");
    let (said, sentence) = says(&world);
    assert_eq!(said, Says::CantTell, "{sentence}");
    assert!(sentence.contains("is made for nvidia-cudnn-cu12>=9.8; 9.1.0.70 is installed"));
}

/// cuda-toolkit has nothing but an extra for each library; torch asks for some, and nvshmem brings another that it pins.
#[test]
fn extras_of_a_package_of_names_alone() {
    let world = |extras: &str| {
        let mut world = World::new();
        let torch = format!("cuda-toolkit[{extras}]==13.2.2");
        install(&mut world, "torch", "2.5.1", &[&torch, "nvidia-nvshmem-cu13"], "");
        let toolkit = [
            "nvidia-cuda-cccl==13.2.86.*; extra == \"cccl\"",
            "nvidia-nvtx==13.2.7.*; extra == 'nvtx'",
        ];
        install(&mut world, "cuda-toolkit", "13.2.2", &toolkit, "");
        install(&mut world, "nvidia-nvshmem-cu13", "3.7.2", &["nvidia-cuda-cccl"], "");
        install(&mut world, "nvidia-cuda-cccl", "13.3.5.0.6", &[], "");
        install(&mut world, "nvidia-nvtx", "13.2.7.1", &[], "");
        says(&world)
    };
    assert_eq!(world("nvtx").0, Says::Yes, "{}", world("nvtx").1);
    let (said, sentence) = world("nvtx, CCCL");
    assert_eq!(said, Says::InPart, "{sentence}");
    assert!(sentence.contains("is made for nvidia-cuda-cccl==13.2.86.*"), "{sentence}");
}

/// Packages without code of their own that are for torch or for a plugin, and what fails at their import.
#[test]
fn packages_that_are_for_one_with_code() {
    let world = |packages: &[(&str, &str, &[&str])]| {
        let mut world = World::new();
        install(&mut world, "torch", "2.5.1", &[], "");
        for (name, version, requires) in packages {
            install(&mut world, name, version, requires, "");
        }
        says(&world)
    };
    let transformers = (
        "transformers",
        "4.56.2",
        &["tokenizers<=0.23.0,>=0.22.0", "torch>=2.2; extra == \"torch\""][..],
    );
    let (said, sentence) = world(&[transformers, ("tokenizers", "0.19.1", &[])]);
    assert_eq!(said, Says::InPart, "{sentence}");
    assert!(
        sentence.contains("transformers 4.56.2 asks for tokenizers>=0.22.0; 0.19.1 is installed"),
        "{sentence}"
    );
    let (said, sentence) = world(&[transformers]);
    assert_eq!(said, Says::InPart, "{sentence}");
    assert_eq!(world(&[transformers, ("tokenizers", "0.22.1", &[])]).0, Says::Yes);
    // What has to do with no GPU decides nothing of one.
    assert_eq!(world(&[("flask", "3.0", &["werkzeug>=3"])]).0, Says::Yes);
}

/// Triton is a compiler that torch drives by its inner names.
#[test]
fn another_triton_than_torch_pins() {
    for (triton, expected) in [
        ("3.1.0", Says::Yes),
        ("3.1.1", Says::Yes),
        ("3.0.0", Says::InPart),
        ("3.5.0", Says::InPart),
    ] {
        let mut world = World::new();
        install(&mut world, "torch", "2.5.1", &["triton==3.1.0"], "");
        install(&mut world, "triton", triton, &[], "");
        world.put("usr/bin/gcc", &Library::new(""));
        let (said, sentence) = says(&world);
        assert_eq!(said, expected, "{triton}: {sentence}");
    }
}

/// What brings the same modules serves, and an egg says its version in its name.
#[test]
fn packages_in_the_place_of_another() {
    let world = |requires: &str, there: &[(&str, &str)], eggs: &[&str]| {
        let mut world = World::new();
        install(&mut world, "torch", "2.5.1", &[], "");
        install(&mut world, "ultralytics", "8.3.0", &["torch>=1.8", requires], "");
        for (name, version) in there {
            install(&mut world, name, version, &[], "");
        }
        for egg in eggs {
            world.file(&format!("{SITE}/{egg}"), b"");
        }
        says(&world)
    };
    let headless = ("opencv-python-headless", "4.12.0.88");
    assert_eq!(world("opencv-python>=4.6.0", &[headless], &[]).0, Says::Yes);
    let (said, sentence) = world("opencv-python>=4.13", &[headless], &[]);
    assert_eq!(said, Says::InPart, "{sentence}");
    assert_eq!(world("onnxruntime", &[("onnxruntime-gpu", "1.22.0")], &[]).0, Says::Yes);
    assert_eq!(world("opencv-python", &[("onnxruntime-gpu", "1.22.0")], &[]).0, Says::InPart);
    for old in ["sixx-1.16.0.egg-info", "sixx-1.16.0-py3.13.egg-info/PKG-INFO"] {
        let (said, sentence) = world("sixx>=1.19", &[], &[old]);
        assert_eq!(said, Says::InPart, "{sentence}");
        assert!(sentence.contains("sixx>=1.19; 1.16.0 is installed"), "{sentence}");
        assert_eq!(world("sixx>=1.9", &[], &[old]).0, Says::Yes);
    }
    // `===` is as exact as `==`.
    let mut exact = World::new();
    install(&mut exact, "torch", "2.5.1", &[], "");
    install(&mut exact, "x", "1.0", &["torch===2.5.1"], "");
    assert_eq!(says(&exact).0, Says::Yes, "{}", says(&exact).1);
}

/// jax opens NVIDIA's libraries by their full paths before its plugin asks for them by name.
#[test]
fn libraries_that_jax_has_opened_before() {
    let world = |version: &str| {
        let mut world = World { tree: Tree::new(), library_path: None };
        let names = ["libcusolver.so.11", "libcublas.so.12", "libcudnn.so.9", "libcufft.so.11"];
        let all = [&names[..], &["libcusparse.so.12", "libcupti.so.12"]].concat();
        for part in [
            "graph",
            "ops",
            "cnn",
            "adv",
            "heuristic",
            "engines_precompiled",
            "engines_runtime_compiled",
        ] {
            let soname = format!("libcudnn_{part}.so.9");
            world.site(&format!("nvidia/cudnn/lib/{soname}"), &Library::new(&soname));
        }
        let module = Library::new("xla_cuda_plugin.so")
            .needs(&["libcudart.so.12"])
            .rpath("$ORIGIN/../../nvidia/cuda_runtime/lib")
            .code(&[fatbin(&[cubin(90)])]);
        world.site("jax_plugins/xla_cuda12/xla_cuda_plugin.so", &module);
        let runtime = "nvidia/cuda_runtime/lib/libcudart.so.12";
        world.site(runtime, &Library::new("libcudart.so.12"));
        for name in all {
            let folder = name.trim_start_matches("lib").split('.').next().unwrap();
            world.site(
                &format!("nvidia/{folder}/lib/{name}"),
                &Library::new(name).runpath("$ORIGIN"),
            );
        }
        // Of those some open others of them, which lie elsewhere.
        let opens = Library::new("libcublasLt.so.12").data(b"\0libnvrtc.so.12\0");
        world.site("nvidia/cublas/lib/libcublasLt.so.12", &opens.code(&[fatbin(&[cubin(90)])]));
        // A part of cuDNN that nothing is linked with brings it along.
        let graph = Library::new("libcudnn_graph.so.9").needs(&["libcublasLt.so.12"]);
        let graph = graph.runpath("$ORIGIN:$ORIGIN/../../cublas/lib");
        world.site("nvidia/cudnn/lib/libcudnn_graph.so.9", &graph);
        let nvrtc = Library::new("libnvrtc.so.12").runpath("$ORIGIN");
        let builtins = Library::new("libnvrtc-builtins.so.12.6");
        world.site("nvidia/cuda_nvrtc/lib/libnvrtc-builtins.so.12.6", &builtins);
        world.site("nvidia/cuda_nvrtc/lib/libnvrtc.so.12", &nvrtc);
        compilers_of_jax(&mut world);
        let record = "jax_plugins/xla_cuda12/xla_cuda_plugin.so,,\n";
        install(&mut world, "jax-cuda12-pjrt", version, &[], record);
        says(&world)
    };
    assert_eq!(world("0.12.0.1").0, Says::Yes, "{}", world("0.12.0.1").1);
    assert_eq!(world("0.5.3").0, Says::No, "{}", world("0.5.3").1);
}
