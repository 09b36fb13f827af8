//! Libraries that are opened by name when a program runs, and builds of which it takes one.

use expect_test::expect;

use super::bare;
use crate::Says;
use crate::failures::World;
use crate::finding::Severity;
use crate::forge::{self, Library, cubin, fatbin};

#[test]
fn a_package_that_opens_cublas_by_name() {
    // ctranslate2: the runtime is linked in, cuBLAS is a name in the data; its own SONAME has
    // auditwheel's hash.
    let mut world = bare();
    let opens = b"\0libcublas.so.12\0libnccl.so.2\0";
    let library = Library::new("libctranslate2-a7a60d30.so.4.8.5")
        .code(&[fatbin(&[cubin(80), cubin(90)])])
        .data(opens);
    world.site("ctranslate2.libs/libctranslate2-a7a60d30.so.4.8.5", &library);
    world.check(expect![[r#"
        Error PluginMissing SITE/ctranslate2.libs/libctranslate2-a7a60d30.so.4.8.5: opens libcublas.so.12 when it runs, which is nowhere
            seen as: RuntimeError: Library libcublas.so.12 is not found or cannot be loaded
        Warning PluginMissing SITE/ctranslate2.libs/libctranslate2-a7a60d30.so.4.8.5: opens libnccl.so.2 when it runs, which is nowhere
    "#]]);
    expect!["No: opens libcublas.so.12 when it runs, which is nowhere (SITE/ctranslate2.libs/libctranslate2-a7a60d30.so.4.8.5)."].assert_eq(&world.answer("h100", "535.104.05"));
    // The same of a package that no row knows: it may be a part of it that does.
    let mut world = bare();
    world.site(
        "other/libother.so",
        &Library::new("libother.so").code(&[fatbin(&[cubin(90)])]).data(b"\0libcufft.so.11\0"),
    );
    world.check(expect![[r#"
        Warning PluginMissing SITE/other/libother.so: opens libcufft.so.11 when it runs, which is nowhere
    "#]]);
    expect!["Yes, in part: it runs on H100 SXM5 80GB with driver 535.104.05, but opens libcufft.so.11 when it runs, which is nowhere (SITE/other/libother.so)."].assert_eq(&world.answer("h100", "535.104.05"));
    world.site("nvidia/cufft/lib/libcufft.so.11", &Library::new("libcufft.so.11"));
    world.check(expect![[r#"
        Warning LibraryUnreachable SITE/other/libother.so: opens libcufft.so.11 when it runs, which is not where the loader looks
    "#]]);
    let mut world = World::new();
    world.site("ctranslate2.libs/libctranslate2-a7a60d30.so.4.8.5", &library);
    world.site("nvidia/cublas/lib/libcublas.so.12", &Library::new("libcublas.so.12"));
    world.check(expect![[r#"
        Warning LibraryUnreachable SITE/ctranslate2.libs/libctranslate2-a7a60d30.so.4.8.5: opens libcublas.so.12 when it runs, which is not where the loader looks
            seen as: RuntimeError: Library libcublas.so.12 is not found or cannot be loaded
        Warning PluginMissing SITE/ctranslate2.libs/libctranslate2-a7a60d30.so.4.8.5: opens libnccl.so.2 when it runs, which is nowhere
    "#]]);
}

/// A module that needs one of NVIDIA's libraries, which is there and where nothing looks for it.
#[test]
fn a_module_that_needs_what_is_elsewhere() {
    let mut world = World::new();
    let jpeg = Library::new("libnvjpeg.so.12").code(&[fatbin(&[cubin(80), cubin(90)])]);
    world.site("nvidia/nvjpeg/lib/libnvjpeg.so.12", &jpeg);
    world.site(
        "px/_C.cpython-313-x86_64-linux-gnu.so",
        &Library::new("").needs(&["libnvjpeg.so.12"]).exports("PyInit__C", None),
    );
    world.check(expect![[r#"
        Warning LibraryUnreachable libnvjpeg.so.12: SITE/px/_C.cpython-313-x86_64-linux-gnu.so needs libnvjpeg.so.12, which is not where the loader looks
            is at SITE/nvidia/nvjpeg/lib/libnvjpeg.so.12
            needed by SITE/px/_C.cpython-313-x86_64-linux-gnu.so
    "#]]);
    expect!["Yes, in part: it runs on H100 SXM5 80GB with driver 580.65.06, but SITE/px/_C.cpython-313-x86_64-linux-gnu.so needs libnvjpeg.so.12, which is not where the loader looks (libnvjpeg.so.12)."].assert_eq(&world.answer("h100", "580.65.06"));
}

#[test]
fn onnxruntime_without_cudnn() {
    let mut world = bare();
    let provider = Library::new("libonnxruntime_providers_cuda.so")
        .needs(&["libcudnn.so.9", "libcublas.so.12"])
        .code(&[fatbin(&[cubin(90)])]);
    world.site("onnxruntime/capi/libonnxruntime_providers_cuda.so", &provider);
    let tensorrt =
        Library::new("libonnxruntime_providers_tensorrt.so").needs(&["libnvinfer.so.10"]);
    world.site("onnxruntime/capi/libonnxruntime_providers_tensorrt.so", &tensorrt);
    world.check(expect![[r#"
        Error LibraryMissing libcublas.so.12: libcublas.so.12 is nowhere, and SITE/onnxruntime/capi/libonnxruntime_providers_cuda.so needs it
            SITE/onnxruntime/capi/libonnxruntime_providers_cuda.so
        Error LibraryMissing libcudnn.so.9: libcudnn.so.9 is nowhere, and SITE/onnxruntime/capi/libonnxruntime_providers_cuda.so needs it
            SITE/onnxruntime/capi/libonnxruntime_providers_cuda.so
        Note LibraryMissing libnvinfer.so.10: libnvinfer.so.10 is nowhere, and SITE/onnxruntime/capi/libonnxruntime_providers_tensorrt.so needs it
            SITE/onnxruntime/capi/libonnxruntime_providers_tensorrt.so
    "#]]);
}

#[test]
fn builds_of_one_library_are_alternatives() {
    let mut world = World::new();
    let build = |cuda: &str, major: &str, codes: &[forge::Code]| {
        Library::new(&format!("libbitsandbytes_cuda{cuda}.so"))
            .needs(&[&format!("libcublas.so.{major}")])
            .code(&[fatbin(codes)])
    };
    world.site("nvidia/cublas/lib/libcublas.so.12", &Library::new("libcublas.so.12"));
    world.site("bitsandbytes/libbitsandbytes_cuda118.so", &build("118", "11", &[cubin(80)]));
    world.site(
        "bitsandbytes/libbitsandbytes_cuda124.so",
        &build("124", "12", &[cubin(80), cubin(90)]),
    );
    world.site("bitsandbytes/libbitsandbytes_cuda130.so", &build("130", "13", &[cubin(120)]));
    let rocm =
        Library::new("libbitsandbytes_rocm63.so").needs(&["libamdhip64.so.6", "libhipblas.so.2"]);
    world.site("bitsandbytes/libbitsandbytes_rocm63.so", &rocm);
    for part in ["4", "5", "6"] {
        let library = Library::new("").needs(&[&format!("libavutil.so.{part}"), "libc.so.6"]);
        world.site(&format!("torio/lib/_torio_ffmpeg{part}.so"), &library);
    }
    world.put("usr/lib/x86_64-linux-gnu/libavutil.so.5", &Library::new("libavutil.so.5"));
    let errors: Vec<_> = world
        .report()
        .findings
        .iter()
        .filter(|f| f.severity != Severity::Note)
        .map(|f| f.message.clone())
        .collect();
    assert_eq!(errors, [] as [&str; 0]);
    expect![
        "Yes: it has machine code for H100 SXM5 80GB and CUDA 12.4 runs with driver 535.104.05; of its builds (libbitsandbytes_cuda*) that for CUDA 12.4 is taken, torch's own."
    ]
    .assert_eq(&world.answer("h100", "535.104.05"));
    world.site("bitsandbytes/libbitsandbytes_cuda124.so", &build("124", "12", &[cubin(80)]));
    expect!["Yes, in part: it runs on H100 SXM5 80GB with driver 535.104.05, but SITE/bitsandbytes/libbitsandbytes_cuda124.so has nothing for it."].assert_eq(&world.answer("h100", "535.104.05"));
}

#[test]
fn what_is_opened_by_name_and_is_nowhere() {
    let says = |name: &str| {
        let mut world = World::new();
        let data = format!("{name}\0");
        let module = Library::new("").code(&[fatbin(&[cubin(90)])]).data(data.as_bytes());
        world.site("x/_x.cpython-313-x86_64-linux-gnu.so", &module);
        let answer = world.report().answer("h100", Some(&"580.65.06".parse().unwrap())).unwrap();
        (answer.says, answer.sentence)
    };
    // The name stands first in its section, with nothing before it.
    for name in [
        "libcufft.so.11",
        "libnvrtc.so.12",
        "libnccl.so.2",
        "libnvshmem_host.so.3",
        "libcupti.so.12",
        "libcufile.so.0",
    ] {
        let (said, sentence) = says(name);
        assert_eq!(said, Says::InPart, "{name}: {sentence}");
        assert!(sentence.contains(name), "{sentence}");
    }
    // Backends of what it does itself.
    assert_eq!(says("libcutensor.so.2").0, Says::Yes);
    assert_eq!(says("libcudart.so.12").0, Says::Yes);
}
