//! Verdicts that were wrong once: environments for which a yes would be false, and a no as well.

mod asked_for;
mod builds;
mod by_name;
mod code;
mod compiled;
mod imported;
mod opened;
mod other_libcuda;
mod out_of_it;
mod symbols;
mod systems;

use expect_test::expect;

use crate::Says;
use crate::failures::{SITE, World};
use crate::finding::Severity;
use crate::forge::{self, Library, cubin, fatbin, ptx};
use crate::outside::Host;
use crate::report::{Options, inspect};
use crate::tree::Tree;

#[test]
fn drivers_too_old_and_too_new_for_the_gpu_itself() {
    let mut world = World::new();
    let all: Vec<_> = [70, 80, 90, 100].map(cubin).into();
    world.site("torch/lib/libtorch_cuda.so", &Library::new("").code(&[fatbin(&all)]));
    expect!["No: branch 580 is the last driver that runs V100 SXM2 (compute capability 7.0), and this one is 590.44.01."]
        .assert_eq(&world.answer("v100", "590.44.01"));
    expect!["No: B200 180GB (compute capability 10.0) needs driver 570.26 or newer, and this one is 525.60.13."]
        .assert_eq(&world.answer("b200", "525.60.13"));
    expect!["No: H100 SXM5 80GB (compute capability 9.0) needs driver 520.56.06 or newer, and this one is 418.40.04."]
        .assert_eq(&world.answer("h100", "418.40.04"));
    // Listed from 525.85.05 on, and lists can lag.
    expect!["Can't tell: driver 525.85.05 is the first that is known to list H100 SXM5 80GB, and this one is 525.60.13."]
        .assert_eq(&world.answer("h100", "525.60.13"));
    let from = |gpu| world.report().answer(gpu, None).unwrap().sentence;
    expect!["Yes: it has machine code for B200 180GB and CUDA 12.4 runs from driver 570.86.15 on."]
        .assert_eq(&from("b200"));
    expect!["Yes: it has machine code for V100 SXM2 and CUDA 12.4 runs from driver 525.60.13 up to branch 580."]
        .assert_eq(&from("v100"));
}

#[test]
fn a_driver_younger_than_the_first_for_its_capability_and_older_than_the_gpu() {
    let mut world = World::new();
    let all: Vec<_> = [80, 90, 120].map(cubin).into();
    world.site("torch/lib/libtorch_cuda.so", &Library::new("").code(&[fatbin(&all)]));
    expect!["Can't tell: driver 575.64.03 is the first that is known to list RTX 5050, and this one is 570.133.07."]
        .assert_eq(&world.answer("5050", "570.133.07"));
    // A number that is higher, of a branch that is older.
    expect!["Can't tell: driver 545.29.06 is not known to list RTX 4090 D; 550.40.07 is the next that does."]
        .assert_eq(&world.answer("4090 D", "545.29.06"));
    assert!(world.answer("4090 D", "535.183.01").starts_with("Yes"));
    // Nothing that was read lists it.
    let all: Vec<_> = [80, 90, 100].map(cubin).into();
    world.site("torch/lib/libtorch_cuda.so", &Library::new("").code(&[fatbin(&all)]));
    expect!["Can't tell: it is not known which driver is the first that runs B100, and this one is 580.65.06."]
        .assert_eq(&world.answer("b100", "580.65.06"));
}

#[test]
fn ptx_that_only_drivers_know_which_do_not_run_the_gpu() {
    let mut world = World::new();
    world.site("torch/lib/libtorch_cuda.so", &Library::new("").code(&[fatbin(&[ptx(70, (9, 1))])]));
    expect!["No: it needs driver 590.44.01 or newer, and branch 580 is the last that runs V100 SXM2 (compute capability 7.0)."]
        .assert_eq(&world.answer("v100", "580.65.06"));
}

#[test]
fn versions_compare_as_versions() {
    let mut world = World::new();
    let library =
        Library::new("libx.so.6").defines(&["GLIBCXX_3.4.9", "GLIBCXX_3.4.28", "CXXABI_1.3"]);
    world.put("usr/lib/x86_64-linux-gnu/libx.so.6", &library);
    let module = Library::new("").needs(&["libx.so.6"]).version("libx.so.6", "GLIBCXX_3.4.30");
    world.site("x/ext.so", &module);
    world.check(expect![[r#"
        Error VersionMissing SITE/x/ext.so: needs GLIBCXX_3.4.30 of libx.so.6, which usr/lib/x86_64-linux-gnu/libx.so.6 does not have
            it has up to GLIBCXX_3.4.28
    "#]]);
}

#[test]
fn what_torch_preloads_from_sys_path() {
    // torch in one site-packages, NVIDIA's wheels in another: torch looks through sys.path, where it finds all or none.
    let all = "cublas/libcublas.so.12 cudnn/libcudnn.so.9 cuda_nvrtc/libnvrtc.so.12 cuda_runtime/libcudart.so.12 cuda_cupti/libcupti.so.12 cufft/libcufft.so.11 curand/libcurand.so.10 nvjitlink/libnvJitLink.so.12 cusparse/libcusparse.so.12 cusolver/libcusolver.so.11 nccl/libnccl.so.2 nvtx/libnvToolsExt.so.1";
    let world = |lacking: &str| {
        let mut world = World::new();
        world.remove("nvidia/cuda_runtime/lib/libcudart.so.12");
        let deps = Library::new("libtorch_global_deps.so").needs(&["libcudart.so.12"]);
        world.site("torch/lib/libtorch_global_deps.so", &deps);
        for library in all.split(' ').filter(|library| *library != lacking) {
            let (folder, name) = library.split_once('/').unwrap();
            let path = format!("usr/lib/python3/dist-packages/nvidia/{folder}/lib/{name}");
            world.put(&path, &Library::new(name).runpath("$ORIGIN"));
        }
        world
    };
    let answer = |world: &World| world.answer("h100", "535.104.05");
    let mut sound = world("");
    for part in "libcudnn_graph libcudnn_ops libcudnn_cnn libcudnn_adv libcudnn_heuristic libcudnn_engines_precompiled libcudnn_engines_runtime_compiled".split(' ') {
        let name = format!("{part}.so.9");
        let path = format!("usr/lib/python3/dist-packages/nvidia/cudnn/lib/{name}");
        sound.put(&path, &Library::new(&name));
    }
    let builtins = Library::new("libnvrtc-builtins.so.12.4");
    sound.put(
        "usr/lib/python3/dist-packages/nvidia/cuda_nvrtc/lib/libnvrtc-builtins.so.12.4",
        &builtins,
    );
    expect![
        "Yes: it has machine code for H100 SXM5 80GB and CUDA 12.4 runs with driver 535.104.05."
    ]
    .assert_eq(&answer(&sound));
    expect!["No: libnccl.so.* is nowhere, and SITE/torch/lib/libtorch_global_deps.so needs it (libnccl.so.*)."].assert_eq(&answer(&world("nccl/libnccl.so.2")));
    // A virtual environment does not have the system's packages.
    sound.file("opt/venv/pyvenv.cfg", b"home = /usr/bin\ninclude-system-site-packages = false\n");
    expect!["No: libcublas.so.* is nowhere, and SITE/torch/lib/libtorch_global_deps.so needs it (libcublas.so.*)."].assert_eq(&answer(&sound));
    sound.file("opt/venv/pyvenv.cfg", b"home = /usr/bin\ninclude-system-site-packages = true\n");
    expect![
        "Yes: it has machine code for H100 SXM5 80GB and CUDA 12.4 runs with driver 535.104.05."
    ]
    .assert_eq(&answer(&sound));
}

/// Packages without torch.
fn bare() -> World {
    World { tree: Tree::new(), library_path: None }
}

#[test]
fn the_gap_that_matters_is_named() {
    let mut world = World::new();
    world.site("a/liba.so", &Library::new("liba.so").code(&[fatbin(&[cubin(80)])]));
    let many = vec![fatbin(&[cubin(80)]); 9];
    world.site("flash/flash.cpython-313-x86_64-linux-gnu.so", &Library::new("").code(&many));
    let report = world.report();
    let answer = report.answer("h100", None).unwrap();
    assert_eq!(answer.says, Says::InPart);
    expect!["Yes, in part: it runs on H100 SXM5 80GB, but SITE/flash/flash.cpython-313-x86_64-linux-gnu.so has nothing for it."].assert_eq(&answer.sentence.replace(SITE, "SITE"));
    // Without torch the module is what there is to run, whatever NVIDIA's libraries can do.
    let mut world = bare();
    world.site("flash/flash.cpython-313-x86_64-linux-gnu.so", &Library::new("").code(&many));
    world.site(
        "nvidia/cublas/lib/libcublas.so.12",
        &Library::new("libcublas.so.12").code(&[fatbin(&[cubin(90)])]),
    );
    expect!["No: SITE/flash/flash.cpython-313-x86_64-linux-gnu.so has no code for H100 SXM5 80GB (compute capability 9.0); it has sm_80."].assert_eq(&world.answer("h100", "535.104.05"));
}

#[test]
fn the_cuda_of_a_runtime_that_is_linked_in() {
    let answer = |library: Library| {
        let mut world = bare();
        world.site("x/lib/libx.so", &library);
        world.answer("a100", "470.82.01")
    };
    let code = || Library::new("libx.so").code(&[fatbin(&[cubin(80), cubin(90), ptx(80, (8, 4))])]);
    expect!["No: CUDA 12.4 needs driver 525.60.13 or newer, and this one is 470.82.01."]
        .assert_eq(&answer(code()));
    let cubins = || Library::new("libx.so").code(&[fatbin(&[cubin(90)])]);
    let mut world = bare();
    world.site("x/lib/libx.so", &cubins());
    expect!["Can't tell: it has code for H100 SXM5 80GB, and nothing in it tells which CUDA it uses and so which driver it needs."].assert_eq(&world.answer("h100", "535.104.05"));
    let mut world = bare();
    world.site("x/lib/libx.so", &cubins().data(b"\0libcublas.so.13\0"));
    world.site("x/lib/libcublas.so.13", &Library::new("libcublas.so.13"));
    expect!["No: CUDA 13 needs driver 580.65.06 or newer, and this one is 535.104.05."]
        .assert_eq(&world.answer("h100", "535.104.05"));
}

#[test]
fn nothing_here_decides_it() {
    let mut world = bare();
    world.site("x/ext.so", &Library::new(""));
    let answer = |world: &World| world.report().answer("h100", None).unwrap();
    expect!["Can't tell: there is no GPU code in it, so nothing here decides it."]
        .assert_eq(&answer(&world).sentence);
    let nvvm = forge::Code { kind: 8, ..cubin(90) };
    world.site("x/libx.so", &Library::new("").code(&[fatbin(&[nvvm])]));
    assert_eq!(answer(&world).says, Says::CantTell);
    expect!["Can't tell: its GPU code is for the device linker, which makes code for a GPU only when the program asks for it."].assert_eq(&answer(&world).sentence);
}

#[test]
fn capabilities_of_other_processors_are_left_out() {
    let report = World::new().report();
    for capability in ["8.7", "11.0", "12.1"] {
        assert!(report.on(capability.parse().unwrap()).is_none(), "{capability}");
    }
    expect!["No: GB10 comes with aarch64 processors only, and this is for x86_64."]
        .assert_eq(&World::new().answer("gb10", "580.95.05"));
    expect!["No: sm_121 comes with aarch64 processors only, and this is for x86_64."]
        .assert_eq(&World::new().answer("12.1", "580.95.05"));
}

#[test]
fn triton_without_ptxas() {
    let mut world = World::new();
    world.file(
        &format!("{SITE}/triton-3.1.0.dist-info/METADATA"),
        b"Name: triton\nVersion: 3.1.0\n",
    );
    world.file(&format!("{SITE}/triton-3.1.0.dist-info/RECORD"), b"triton/__init__.py,,\n");
    world.file(&format!("{SITE}/triton/__init__.py"), b"1");
    world.put("usr/bin/gcc", &Library::new(""));
    world.check(expect![[r#"
        Warning FileMissing triton: triton 3.1.0 has no ptxas
            seen as: RuntimeError: Cannot find ptxas
        Warning FileMissing triton: triton 3.1.0 has no libdevice.10.bc
            seen as: libdevice.10.bc: cannot open file, in every kernel with math functions
    "#]]);
}

#[test]
fn folders_of_the_machine_in_library_path() {
    let dir = tempfile::tempdir().unwrap();
    let nvjitlink = |minor: &str| {
        Library::new("libnvJitLink.so.12")
            .defines(&["libnvJitLink.so.12"])
            .exports(&format!("__nvJitLinkComplete_12_{minor}"), Some("libnvJitLink.so.12"))
            .code(&[fatbin(&[cubin(35)])])
    };
    std::fs::write(dir.path().join("libnvJitLink.so.12"), nvjitlink("1").build()).unwrap();
    // Nobody asks for this one, so its GPU code counts for nothing.
    std::fs::write(dir.path().join("libother.so"), nvjitlink("1").build()).unwrap();
    let mut world = bare();
    let cusparse = Library::new("libcusparse.so.12")
        .needs(&["libnvJitLink.so.12"])
        .runpath("$ORIGIN/../../nvjitlink/lib")
        .imports("__nvJitLinkComplete_12_4", Some(("libnvJitLink.so.12", "libnvJitLink.so.12")));
    world.site("nvidia/cusparse/lib/libcusparse.so.12", &cusparse);
    world.site("nvidia/nvjitlink/lib/libnvJitLink.so.12", &nvjitlink("4"));
    let folder = dir.path().to_str().unwrap();
    let look = |library_path: Option<&str>, on_machine: Option<&str>| {
        let options = Options {
            library_path: library_path.map(str::to_owned),
            host: on_machine.map(|path| Host {
                library_path: path.to_owned(),
                path: std::ffi::OsString::new(),
                root: None,
            }),
            ..Options::default()
        };
        let report = inspect("venv", &world.tree, &options, &|_, _| {});
        let lines = report.findings.iter().filter(|finding| finding.severity != Severity::Note);
        lines
            .map(|f| format!("{:?} {}\n", f.kind, f.message))
            .collect::<String>()
            .replace(folder, "DIR")
    };
    let expected = expect![[r#"
        SymbolMissing undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12; DIR/libnvJitLink.so.12, which wins, does not have it
    "#]];
    expected.assert_eq(&look(Some(folder), Some("")));
    // The machine's own LD_LIBRARY_PATH, which is the commonest way to break a virtual environment.
    expected.assert_eq(&look(None, Some(folder)));
    // An image does not see the machine's folders.
    assert_eq!(look(Some(folder), None), "");
    assert_eq!(
        look(Some("/nowhere/at/all"), Some("")),
        "LibraryPath LD_LIBRARY_PATH names a folder that is not there: the loader passes over it\n"
    );
}

/// torchvision 0.19.0 with torch 2.5.1 is imported, and its `nms` takes a tensor of the processor for one of the GPU.
#[test]
fn a_package_for_another_minor_release_of_torch() {
    let answer = |pin: &str| {
        let mut world = World::new();
        for (name, version, requires) in [
            ("torch", "2.5.1", "sympy==1.12.1; python_version == \"3.8\""),
            ("torchvision", "0.19.0", pin),
            ("sympy", "1.13.1", "mpmath"),
        ] {
            let text = format!("Name: {name}\nVersion: {version}\nRequires-Dist: {requires}\n");
            world.file(&format!("{SITE}/{name}-{version}.dist-info/METADATA"), text.as_bytes());
        }
        world.answer("h100", "550.54.15")
    };
    let other = answer("torch ==2.4.0");
    assert!(other.starts_with("Yes, in part: "), "{other}");
    assert!(other.contains("torchvision 0.19.0 was built for torch 2.4.0; 2.5.1 is installed"));
    assert!(answer("torch ==2.5.0").starts_with("Yes: "));
}

#[test]
fn gpu_code_that_a_package_tests_itself_with() {
    let mut world = bare();
    let ptx = b"//\n.version 4.0\n.target sm_20\n.address_size 64\n.entry k()\n";
    world.file(&format!("{SITE}/numba_cuda/numba/cuda/tests/data/jitlink.ptx"), ptx);
    world.site("numba_cuda/cext/mviewbuf.cpython-313-x86_64-linux-gnu.so", &Library::new(""));
    expect!["Can't tell: there is no GPU code in it, so nothing here decides it."]
        .assert_eq(&world.answer("h100", "535.104.05"));
}

#[test]
fn thousands_of_packages_with_hundreds_of_pins_each() {
    // Each pin of torch was looked up among all packages, and each had a finding of its own.
    let mut world = World::new();
    world.file(&format!("{SITE}/torch-2.5.1.dist-info/METADATA"), b"Name: torch\nVersion: 2.5.1\n");
    let pins = |at: usize| (0..200).map(move |pin| format!("Requires-Dist: torch=={at}.{pin}\n"));
    for at in 0..2000 {
        let text = format!("Name: p{at}\nVersion: 1\n{}", pins(at + 3).collect::<String>());
        world.file(&format!("{SITE}/p{at}-1.dist-info/METADATA"), text.as_bytes());
    }
    let start = std::time::Instant::now();
    let report = world.report();
    assert_eq!(report.findings.len(), 2000);
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn libraries_that_look_everywhere_for_one_another() {
    // Each asks in 100 folders, the first of which exists, for 200 libraries that are in none of them.
    let mut world = bare();
    let needs: Vec<String> = (0..200).map(|at| format!("libx{at}.so")).collect();
    let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
    let folders: Vec<String> = (0..100).map(|at| format!("$ORIGIN/{at}")).collect();
    for at in 0..600 {
        let library = Library::new("").needs(&needs).rpath(&folders.join(":"));
        world.site(&format!("p/m{at}.so"), &library.code(&[fatbin(&[cubin(90)])]));
    }
    world.file(&format!("{SITE}/p/0/x"), b"");
    let start = std::time::Instant::now();
    world.report();
    // And so where the names are somewhere else.
    for name in &needs {
        world.site(&format!("q/{name}"), &Library::new(name));
    }
    let answer = world.answer("h100", "535.104.05");
    assert!(answer.contains("takes too many look-ups"), "{answer}");
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn what_the_machine_brings_to_a_virtual_environment() {
    let root = tempfile::tempdir().unwrap();
    let lib = root.path().join("usr/lib");
    std::fs::create_dir_all(&lib).unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    let mut names = Vec::new();
    let mut put = |name: &'static str, library: Library| {
        std::fs::write(lib.join(name), library.build()).unwrap();
        names.push((0x0303, 0, name, format!("/usr/lib/{name}")));
    };
    put("libc.so.6", Library::new("libc.so.6").defines(&["GLIBC_2.2.5", "GLIBC_2.31"]));
    put("libstdc++.so.6", Library::new("libstdc++.so.6").defines(&["GLIBCXX_3.4.28"]));
    put("libavutil.so.56", Library::new("libavutil.so.56").needs(&["libc.so.6"]));
    let entries: Vec<_> =
        names.iter().map(|(a, b, name, path)| (*a, *b, *name, path.as_str())).collect();
    std::fs::write(root.path().join("etc/ld.so.cache"), crate::ldcache::tests::forge(&entries))
        .unwrap();
    let host = Host {
        library_path: String::new(),
        path: std::ffi::OsString::new(),
        root: Some(root.path().to_owned()),
    };
    let answer = |world: &World, host: &Host| {
        let options = Options { host: Some(host.clone()), ..Options::default() };
        let report = inspect("venv", &world.tree, &options, &|_, _| {});
        let driver = "535.104.05".parse().unwrap();
        let sentence = report.answer("h100", Some(&driver)).unwrap().sentence;
        sentence.replace(SITE, "SITE").replace(root.path().to_str().unwrap(), "HOST")
    };
    let venv = |needs: &[&str]| {
        let mut world = World::new();
        world.tree.begin_layer();
        world.tree.whiteout("usr/lib/x86_64-linux-gnu", "libc.so.6");
        world.site(
            "x/_x.cpython-313-x86_64-linux-gnu.so",
            &Library::new("").needs(needs).version("libc.so.6", "GLIBC_2.31"),
        );
        world
    };
    let nowhere = Host { root: None, ..host.clone() };

    // FFmpeg is the machine's, and the answer holds for this machine.
    let mut world = venv(&["libc.so.6"]);
    for (number, of) in [("4", "56"), ("5", "57")] {
        let library = Library::new("").needs(&["libc10.so", &format!("libavutil.so.{of}")]);
        world.site(&format!("torchcodec/libtorchcodec{number}.so"), &library);
    }
    world.site("torch/lib/libc10.so", &Library::new("libc10.so"));
    let python = Library::new("").needs(&["libtorch_cuda.so", "libc10.so"]).rpath("$ORIGIN");
    world.site("torch/lib/libtorch_python.so", &python);
    expect!["Yes: it has machine code for H100 SXM5 80GB and CUDA 12.4 runs with driver 535.104.05; HOST/usr/lib/libavutil.so.56 is this machine's."].assert_eq(&answer(&world, &host));
    assert!(answer(&world, &nowhere).starts_with("Yes, in part: "));

    // Its C and C++ libraries are older than what the wheels were built with.
    let world = {
        let mut world = venv(&["libc.so.6"]);
        let library = Library::new("").needs(&["libc.so.6"]).version("libc.so.6", "GLIBC_2.34");
        world.site("y/_y.cpython-313-x86_64-linux-gnu.so", &library);
        world
    };
    expect!["No: needs GLIBC_2.34 of libc.so.6, which HOST/usr/lib/libc.so.6 does not have (SITE/y/_y.cpython-313-x86_64-linux-gnu.so)."].assert_eq(&answer(&world, &host));
    assert!(answer(&world, &nowhere).starts_with("Yes: "));
    let mut world = venv(&["libc.so.6"]);
    let library =
        Library::new("").needs(&["libstdc++.so.6"]).version("libstdc++.so.6", "GLIBCXX_3.4.29");
    world.site("y/_y.cpython-313-x86_64-linux-gnu.so", &library);
    expect!["No: needs GLIBCXX_3.4.29 of libstdc++.so.6, which HOST/usr/lib/libstdc++.so.6 does not have (SITE/y/_y.cpython-313-x86_64-linux-gnu.so)."].assert_eq(&answer(&world, &host));
}
