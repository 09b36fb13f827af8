//! The failures people report, each built as a small environment, and what must be said of it.
//! The cases and where they were seen: `notes/failures.md` of the project's shared notes.

use std::sync::Arc;

use expect_test::{Expect, expect};

use crate::finding::Severity;
use crate::forge::{Library, cubin, fatbin, ptx};
use crate::ldcache::tests::forge as cache;
use crate::report::{Options, Report, inspect};
use crate::tree::Tree;

pub(crate) const SITE: &str = "opt/venv/lib/python3.13/site-packages";

/// An environment with torch and CUDA 12 as PyPI's wheels lay it out.
pub(crate) struct World {
    pub(crate) tree: Tree,
    pub(crate) library_path: Option<String>,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self { tree: Tree::new(), library_path: None };
        world.put("usr/lib/x86_64-linux-gnu/libc.so.6", &libc("2.36"));
        world.file(
            &format!("{SITE}/torch/version.py"),
            b"__version__ = '2.5.1+cu124'\ncuda: Optional[str] = '12.4'\n",
        );
        let torch = |needs: &[&str]| {
            Library::new("").needs(needs).rpath("$ORIGIN/lib:$ORIGIN/../../nvidia/cuda_runtime/lib:$ORIGIN/../../nvidia/cudnn/lib:$ORIGIN/../../nvidia/nvjitlink/lib:$ORIGIN")
        };
        world.site("torch/_C.cpython-313-x86_64-linux-gnu.so", &torch(&["libtorch_python.so"]));
        world.site("torch/lib/libtorch_python.so", &torch(&["libtorch_cuda.so", "libc.so.6"]));
        let gpu = fatbin(&[cubin(80), cubin(90)]);
        world.site(
            "torch/lib/libtorch_cuda.so",
            &torch(&["libcudart.so.12", "libcudnn.so.9", "libcuda.so.1"]).code(&[gpu]),
        );
        world.site("nvidia/cuda_runtime/lib/libcudart.so.12", &Library::new("libcudart.so.12"));
        for part in [
            "",
            "_graph",
            "_ops",
            "_cnn",
            "_adv",
            "_heuristic",
            "_engines_precompiled",
            "_engines_runtime_compiled",
        ] {
            let soname = format!("libcudnn{part}.so.9");
            let library = Library::new(&soname).runpath("$ORIGIN");
            world.site(&format!("nvidia/cudnn/lib/{soname}"), &library);
        }
        world
    }

    /// One whose torch was built with this CUDA, which is in its libraries as well.
    pub(crate) fn of_cuda(cuda: &str) -> Self {
        let mut world = Self::new();
        let version = format!("__version__ = '2.5.1'\ncuda: Optional[str] = '{cuda}'\n");
        world.file(&format!("{SITE}/torch/version.py"), version.as_bytes());
        let runtime = match cuda.split('.').next() {
            Some("12") => "libcudart.so.12",
            _ => "libcudart.so.11.0",
        };
        world.site("nvidia/cuda_runtime/lib/libcudart.so.11.0", &Library::new("libcudart.so.11.0"));
        let gpu = fatbin(&[cubin(80), cubin(90)]);
        let needs = [runtime, "libcudnn.so.9", "libcuda.so.1"];
        let rpath = "$ORIGIN/../../nvidia/cuda_runtime/lib:$ORIGIN/../../nvidia/cudnn/lib";
        let library = Library::new("").needs(&needs).rpath(rpath).code(&[gpu]);
        world.site("torch/lib/libtorch_cuda.so", &library);
        world
    }

    pub(crate) fn file(&mut self, path: &str, bytes: &[u8]) {
        self.tree.add_file(path, Arc::new(bytes.to_vec()));
    }

    pub(crate) fn put(&mut self, path: &str, library: &Library) {
        self.file(path, &library.build());
    }

    pub(crate) fn site(&mut self, path: &str, library: &Library) {
        self.put(&format!("{SITE}/{path}"), library);
    }

    pub(crate) fn remove(&mut self, path: &str) {
        self.tree.begin_layer();
        let (folder, name) = path.rsplit_once('/').unwrap();
        self.tree.whiteout(&format!("{SITE}/{folder}"), name);
    }

    pub(crate) fn report(&self) -> Report {
        let options = Options { library_path: self.library_path.clone(), ..Options::default() };
        inspect("world", &self.tree, &options, &|_, _| {})
    }

    pub(crate) fn check(&self, expect: Expect) {
        let report = self.report();
        let mut text = String::new();
        for finding in &report.findings {
            assert!(finding.severity != Severity::Error || finding.fix.is_some(), "{finding:?}");
            let place = finding.offset.map_or(String::new(), |at| format!(" at {at}"));
            text += &format!(
                "{:?} {:?} {}{place}: {}\n",
                finding.severity, finding.kind, finding.subject, finding.message
            );
            for line in &finding.evidence {
                text += &format!("    {line}\n");
            }
        }
        expect.assert_eq(&text.replace(SITE, "SITE"));
    }

    pub(crate) fn answer(&self, gpu: &str, driver: &str) -> String {
        let driver = driver.parse().unwrap();
        self.report().answer(gpu, Some(&driver)).unwrap().sentence.replace(SITE, "SITE")
    }
}

fn libc(newest: &str) -> Library {
    Library::new("libc.so.6").defines(&["GLIBC_2.2.5", "GLIBC_2.34", &format!("GLIBC_{newest}")])
}

#[test]
fn a_sound_environment_has_no_findings() {
    let world = World::new();
    world.check(expect![""]);
    expect![
        "Yes: it has machine code for H100 SXM5 80GB and CUDA 12.4 runs with driver 535.104.05."
    ]
    .assert_eq(&world.answer("h100", "535.104.05"));
}

#[test]
fn the_driver_is_too_old() {
    expect!["No: CUDA 12.4 needs driver 525.60.13 or newer, and this one is 470.82.01."]
        .assert_eq(&World::new().answer("a100", "470.82.01"));
}

#[test]
fn no_kernel_image_is_available() {
    expect!["No: SITE/torch/lib/libtorch_cuda.so has no code for B200 180GB (compute capability 10.0); it has sm_80, sm_90."]
        .assert_eq(&World::new().answer("b200", "570.86.15"));
}

#[test]
fn a_grace_hopper_needs_libraries_for_its_own_processor() {
    expect!["No: GH200 96GB comes with aarch64 processors only, and this is for x86_64."]
        .assert_eq(&World::new().answer("gh200", "580.65.06"));
}

#[test]
fn ptx_too_new_for_the_driver() {
    let mut world = World::new();
    world.site("x/libjit.so", &Library::new("").code(&[fatbin(&[ptx(70, (8, 8))])]));
    expect!["Yes, in part: SITE/x/libjit.so has only PTX 8.8 for H100 SXM5 80GB, which needs driver 575.51.03; this one is 535.104.05."]
        .assert_eq(&world.answer("h100", "535.104.05"));
    expect!["Yes: it runs on H100 SXM5 80GB with driver 580.65.06; the driver compiles 1 of its libraries when they are first used."]
        .assert_eq(&world.answer("h100", "580.65.06"));
}

#[test]
fn libcudart_cannot_be_opened() {
    let mut world = World::new();
    world.remove("nvidia/cuda_runtime/lib/libcudart.so.12");
    world.check(expect![[r#"
        Error LibraryMissing libcudart.so.12: libcudart.so.12 is nowhere, and SITE/torch/lib/libtorch_cuda.so needs it
            SITE/torch/lib/libtorch_cuda.so
    "#]]);
}

#[test]
fn a_library_for_newer_processors_is_found_below_glibc_hwcaps() {
    let mut world = World::new();
    world.remove("nvidia/cuda_runtime/lib/libcudart.so.12");
    let newer = Library::new("libcudart.so.12");
    world.site("nvidia/cuda_runtime/lib/glibc-hwcaps/x86-64-v3/libcudart.so.12", &newer);
    world.check(expect![""]);
}

#[test]
fn one_wheel_may_take_the_rest_from_elsewhere() {
    let mut world = World::new();
    world.remove("nvidia/cuda_runtime/lib/libcudart.so.12");
    let options = Options { partial: true, ..Options::default() };
    let report = inspect("torch.whl", &world.tree, &options, &|_, _| {});
    assert_eq!(report.errors().count(), 0);
    assert!(report.answer("h100", None).unwrap().ready());
}

/// A file by itself: what it needs is named, and nobody knows whether it is there where the file goes.
#[test]
fn one_file_alone_says_what_it_needs() {
    let world = |needs: &[&str]| {
        let mut world = World { tree: crate::Tree::new(), library_path: None };
        world.put(
            "libfast.so",
            &Library::new("libfast.so").needs(needs).code(&[fatbin(&[cubin(90)])]),
        );
        let options = Options { partial: true, single: true, ..Options::default() };
        inspect("libfast.so", &world.tree, &options, &|_, _| {}).answer("h100", None).unwrap()
    };
    let answer = world(&["libcublas.so.12", "libtorch.so", "libc.so.6"]);
    let words = "Can't tell: it has code for H100 SXM5 80GB, but it needs libcublas.so.12, libtorch.so, and this is the file alone.";
    assert_eq!(answer.sentence, words);
    assert!(world(&["libc.so.6"]).ready());
}

#[test]
fn undefined_symbol_nvjitlink_complete() {
    // libcusparse was built with nvJitLink 12.4; LD_LIBRARY_PATH offers 12.1's.
    let mut world = World::new();
    let cusparse = Library::new("libcusparse.so.12")
        .needs(&["libnvJitLink.so.12"])
        .runpath("$ORIGIN/../../nvjitlink/lib")
        .imports("__nvJitLinkComplete_12_4", Some(("libnvJitLink.so.12", "libnvJitLink.so.12")));
    let nvjitlink = |minor: &str| {
        Library::new("libnvJitLink.so.12")
            .defines(&["libnvJitLink.so.12"])
            .exports(&format!("__nvJitLinkComplete_12_{minor}"), Some("libnvJitLink.so.12"))
    };
    world.site("nvidia/cusparse/lib/libcusparse.so.12", &cusparse);
    world.site("nvidia/nvjitlink/lib/libnvJitLink.so.12", &nvjitlink("4"));
    world.check(expect![""]);
    world.put("usr/local/cuda-12.1/lib64/libnvJitLink.so.12", &nvjitlink("1"));
    world.library_path = Some("/usr/local/cuda-12.1/lib64".to_owned());
    world.check(expect![[r#"
        Error SymbolMissing SITE/nvidia/cusparse/lib/libcusparse.so.12: undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12; usr/local/cuda-12.1/lib64/libnvJitLink.so.12, which wins, does not have it
            __nvJitLinkComplete_12_4, version libnvJitLink.so.12
        Note Duplicate libnvJitLink.so.12: 2 copies; torch loads none of them
            SITE/nvidia/nvjitlink/lib/libnvJitLink.so.12
            usr/local/cuda-12.1/lib64/libnvJitLink.so.12
    "#]]);
}

#[test]
fn a_system_cudnn_takes_the_place_of_parts() {
    let mut world = World::new();
    world.put("usr/lib/x86_64-linux-gnu/libcudnn_ops.so.9", &Library::new("libcudnn_ops.so.9"));
    world.library_path = Some("/usr/lib/x86_64-linux-gnu".to_owned());
    world.check(expect![[r#"
        Error MixedCudnn SITE/nvidia/cudnn/lib/libcudnn.so.9: libcudnn.so.9 would get parts of itself from another copy
            usr/lib/x86_64-linux-gnu/libcudnn_ops.so.9 (by LD_LIBRARY_PATH)
            seen as: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH
        Note Duplicate libcudnn_ops.so.9: 2 copies; torch loads none of them
            SITE/nvidia/cudnn/lib/libcudnn_ops.so.9
            usr/lib/x86_64-linux-gnu/libcudnn_ops.so.9
    "#]]);
}

#[test]
fn a_system_cudnn_shadows_the_wheels() {
    // A torch that finds its libraries by RUNPATH, and a system cuDNN in ld.so.cache that an
    // environment variable brings before it.
    let mut world = World::new();
    let torch =
        Library::new("").needs(&["libcudnn.so.9"]).runpath("$ORIGIN/../../nvidia/cudnn/lib");
    world.remove("torch/_C.cpython-313-x86_64-linux-gnu.so");
    world.remove("torch/lib/libtorch_python.so");
    world.site("torch/lib/libtorch_cuda.so", &torch.code(&[fatbin(&[cubin(90)])]));
    for part in [
        "",
        "_graph",
        "_ops",
        "_cnn",
        "_adv",
        "_heuristic",
        "_engines_precompiled",
        "_engines_runtime_compiled",
    ] {
        let soname = format!("libcudnn{part}.so.9");
        world.put(&format!("usr/local/cudnn/{soname}"), &Library::new(&soname).runpath("$ORIGIN"));
    }
    world.library_path = Some("/usr/local/cudnn".to_owned());
    let report = world.report();
    let shadow = report.findings.iter().find(|finding| finding.subject == "libcudnn.so.9").unwrap();
    expect!["usr/local/cudnn/libcudnn.so.9 wins by LD_LIBRARY_PATH over the copy torch was installed with"]
        .assert_eq(&shadow.message);
}

#[test]
fn a_cudnn_without_its_parts() {
    let mut world = World::new();
    world.remove("nvidia/cudnn/lib/libcudnn_cnn.so.9");
    world.check(expect![[r#"
        Error PluginMissing SITE/nvidia/cudnn/lib/libcudnn.so.9: libcudnn.so.9 opens libcudnn_cnn.so.9 at run time and will not find it
            seen as: CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED
    "#]]);
}

#[test]
fn torch_not_compiled_with_cuda() {
    let mut tree = Tree::new();
    tree.add_file(
        "torch/version.py",
        Arc::new(b"__version__ = '2.1.0+cpu'\ncuda = None\n".to_vec()),
    );
    tree.add_file("torch/_C.cpython-311-x86_64-linux-gnu.so", Arc::new(Library::new("").build()));
    let world = World { tree, library_path: None };
    world.check(expect![[r#"
        Warning CpuOnlyTorch torch: torch 2.1.0+cpu is a CPU-only build: it will not use any GPU
            torch/version.py: cuda = None
    "#]]);
    expect!["No: torch 2.1.0+cpu is a CPU-only build."]
        .assert_eq(&world.answer("h100", "580.65.06"));
}

#[test]
fn compat_and_driver_libraries_inside() {
    let mut world = World::new();
    world.put("usr/local/cuda-12.4/compat/libcuda.so.550.54.14", &Library::new("libcuda.so.1"));
    world.put("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", &Library::new("libnvidia-ml.so.1"));
    world.check(expect![[r#"
        Warning DriverLibrary usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1: a library of the driver lies in the environment; it works with exactly one driver
        Note CompatLibrary usr/local/cuda-12.4/compat: holds a libcuda for forward compatibility: error 804 on GPUs that are not for data centres, and it must not win over a newer driver's
    "#]]);
}

#[test]
fn torch_compile_without_a_compiler() {
    let mut world = World::new();
    world.file(
        &format!("{SITE}/triton-3.1.0.dist-info/METADATA"),
        b"Name: triton\nVersion: 3.1.0\n",
    );
    world.check(expect![[r#"
        Warning NoCompiler triton: there is no C compiler: torch.compile will fail
            usr/bin/cc
            usr/bin/gcc
            usr/bin/clang
            usr/local/bin/gcc
    "#]]);
    world.put("usr/bin/gcc", &Library::new(""));
    world.check(expect![""]);
}

#[test]
fn another_cudnn_than_torch_was_built_for() {
    let mut world = World::new();
    world.file(
        &format!("{SITE}/torch-2.5.1.dist-info/METADATA"),
        b"Name: torch\nVersion: 2.5.1\nRequires-Dist: nvidia-cudnn-cu12 ==9.1.0.70 ; platform_system == \"Linux\"\nRequires-Dist: nvidia-nccl-cu12 (==2.21.5)\nRequires-Dist: opt ==1 ; extra == \"x\"\n",
    );
    world.file(
        &format!("{SITE}/nvidia_cudnn_cu12-9.5.0.dist-info/METADATA"),
        b"Name: nvidia-cudnn-cu12\nVersion: 9.5.0\n",
    );
    world.file(
        &format!("{SITE}/nvidia_nccl_cu12-2.21.5.0.dist-info/METADATA"),
        b"Name: nvidia-nccl-cu12\nVersion: 2.21.5.0\n",
    );
    world.check(expect![[r#"
        Warning VersionMismatch nvidia-cudnn-cu12: torch 2.5.1+cu124 was built for nvidia-cudnn-cu12 9.1.0.70; 9.5.0 is installed
            SITE/torch-2.5.1.dist-info/METADATA: Requires-Dist: nvidia-cudnn-cu12==9.1.0.70
    "#]]);
}

#[test]
fn glibc_is_too_old() {
    let mut world = World::new();
    let library = Library::new("").needs(&["libc.so.6"]).version("libc.so.6", "GLIBC_2.38");
    world.site("x/ext.cpython-313-x86_64-linux-gnu.so", &library);
    world.check(expect![[r#"
        Error GlibcTooOld SITE/x/ext.cpython-313-x86_64-linux-gnu.so: needs GLIBC_2.38 of libc.so.6, which usr/lib/x86_64-linux-gnu/libc.so.6 does not have
            it has up to GLIBC_2.36
    "#]]);
}

#[test]
fn ld_so_cache_leads_and_lies() {
    let mut world = World::new();
    world.put("opt/odd/libodd.so.1", &Library::new("libodd.so.1"));
    world.site("x/ext.so", &Library::new("").needs(&["libodd.so.1"]));
    world.check(expect![[r#"
        Note LibraryUnreachable libodd.so.1: SITE/x/ext.so needs libodd.so.1, which is not where the loader looks
            is at opt/odd/libodd.so.1
            needed by SITE/x/ext.so
    "#]]);
    world.file("etc/ld.so.cache", &cache(&[(0x0303, 0, "libodd.so.1", "/opt/odd/libodd.so.1")]));
    world.check(expect![""]);
    world.file("etc/ld.so.cache", b"glibc-ld.so.cache1.1\xff\xff\xff\xff");
    let report = world.report();
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.subject == "etc/ld.so.cache" && finding.offset == Some(20))
    );
}

#[test]
fn a_library_for_another_processor_and_a_cut_off_one() {
    let mut world = World::new();
    world.site("x/arm.so", &Library::new("libx.so").machine(183));
    let whole = Library::new("liby.so").code(&[fatbin(&[cubin(90)])]).build();
    world.file(&format!("{SITE}/x/cut.so"), &whole[..whole.len() - 100]);
    world.check(expect![[r#"
        Error BadBytes SITE/x/cut.so at 640: ends inside its section header table at offset 640 (the file has 796 bytes)
        Warning WrongMachine SITE/x/arm.so (aarch64): 1 libraries are not for x86_64
            SITE/x/arm.so (aarch64)
    "#]]);
}

#[test]
fn the_loader_passes_over_a_library_for_another_processor() {
    let mut world = World::new();
    world.library_path = Some("/opt/arm:/opt/x86".to_owned());
    world.put("opt/arm/libz.so.1", &Library::new("libz.so.1").machine(183));
    world.put("opt/x86/libz.so.1", &Library::new("libz.so.1"));
    world.site("x/ext.so", &Library::new("").needs(&["libz.so.1"]));
    let report = world.report();
    assert!(report.findings.iter().all(|finding| finding.subject != "libz.so.1"), "{report:?}");
}

#[test]
fn a_stripped_library_still_shows_its_gpu_code() {
    let mut world = World::new();
    world.site("x/stripped.so", &Library::new("").code(&[fatbin(&[cubin(120)])]).stripped());
    let report = world.report();
    let library = report.libraries.iter().find(|library| library.path.ends_with("stripped.so"));
    assert_eq!(library.unwrap().codes[0].code.to_string(), "sm_120");
}
