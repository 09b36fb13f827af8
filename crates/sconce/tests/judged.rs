//! A project that is locked and not built, as a user asks about it: `sconce inspect --for` by the wheels that are in the
//! store, `sconce doctor --from` by the lock alone.

mod index_world;

#[path = "../../inspect/src/forge.rs"]
mod forge;

use std::path::Path;

use forge::Library;
use index_world::World;
use sconce_inspect::fatbin;
use sconce_store::Store;
use sconce_testkit::Wheel;

const TAG: &str = "cp313-cp313-manylinux_2_28_x86_64";

/// A package with a module that has code for this GPU and needs libraries.
fn fast(sm: u32, needed: &[&str]) -> Wheel {
    let code = forge::fatbin(&[forge::cubin(sm)]);
    let module = Library::new("").needs(needed).code(&[code]).build();
    Wheel::new("fast", "1.0").tag(TAG).file("fast/core.so", &module)
}

fn pure() -> Wheel {
    Wheel::new("a", "1.0").file("a.py", b"x = 1\n")
}

/// A project of these packages that is locked, with those of them in its store that were fetched.
fn locked(wheels: &[Wheel], fetched: &[&Wheel]) -> World {
    let world = World::new(wheels);
    world.asks("exclude = []");
    let lock = world.locks();
    assert_eq!(lock.wheels.len(), wheels.len());
    let store = Store::open(world.path("store")).unwrap();
    for wheel in fetched {
        store.put_bytes(&wheel.build()).unwrap();
    }
    world
}

#[track_caller]
fn inspected(world: &World, exit: i32, says: &str) {
    let (code, said) = world.sconce(&["inspect", "--for", "h100", "."]);
    assert!(code == exit && said.contains(says), "{code} {said}");
}

/// With all wheels of a lock here, what none of them brings is nowhere.
#[test]
fn a_library_of_torch_that_no_wheel_brings() {
    let needs = fast(90, &["libc10.so", "libc.so.6"]);
    inspected(&locked(std::slice::from_ref(&needs), &[&needs]), 1, "libc10.so");

    // With the wheel that brings it, and where only the C library is needed, which the image has.
    let c10 = Library::new("libc10.so").build();
    // Whatever the wheel is called: a project without torch has none of that name.
    let brings = Wheel::new("c10-libs", "1.0").tag(TAG).file("torch/lib/libc10.so", &c10);
    inspected(&locked(&[brings.clone(), needs.clone()], &[&needs, &brings]), 0, "Yes");
    let plain = fast(90, &["libc.so.6"]);
    inspected(&locked(std::slice::from_ref(&plain), &[&plain]), 0, "Yes");
}

/// With some wheels of a lock here a no of theirs is one, and a yes is not.
#[test]
fn some_wheels_of_a_lock() {
    let [old, new] = [70, 90].map(|sm| fast(sm, &["libc.so.6"]));
    let words = "fast/core.so has no code for H100";
    inspected(&locked(&[pure(), old.clone()], &[&old]), 1, words);
    inspected(&locked(&[pure(), new.clone()], &[&new]), 12, "Can't tell");
    // With all of them here it is decided.
    inspected(&locked(&[pure(), new.clone()], &[&new, &pure()]), 0, "Yes");
}

/// What `doctor` says of the project on a machine with an H100, which is ready.
#[track_caller]
fn doctor(world: &World, exit: i32, rule: &str, says: &str) {
    doctor_on("h100-vm.json", world, exit, rule, says);
}

/// The same on the machine of another snapshot.
#[track_caller]
fn doctor_on(machine: &str, world: &World, exit: i32, rule: &str, says: &str) {
    let snapshots = Path::new(env!("CARGO_MANIFEST_DIR")).join("../doctor/tests/snapshots");
    let machine = snapshots.join(machine);
    let words = ["doctor", "--from", machine.to_str().unwrap(), "."];
    let (code, said) = world.sconce(&words);
    assert!(code == exit && said.contains(says), "{code} {said}");
    let (_, said) = world.sconce(&[&words[..], &["--json"]].concat());
    assert_eq!(said.contains(&format!("\"{rule}\"")), !rule.is_empty(), "{said}");
    // Nothing here is known to have no CUDA.
    assert!(!said.contains("image-without-cuda"), "{said}");
}

/// A lock says nothing of the code for GPUs of what is not torch.
#[test]
fn packages_without_torch_are_not_judged() {
    let words =
        "has no torch; whether its package with compiled code runs on this GPU is not known";
    let world = locked(&[fast(70, &["libc.so.6"])], &[]);
    doctor(&world, 12, "not-judged", words);
    // The GPU in the advice is the machine's.
    doctor(&world, 12, "not-judged", "`sconce inspect --for h100 TARGET`");
    doctor_on("h200-vm.json", &world, 12, "not-judged", "`sconce inspect --for h200 TARGET`");
    doctor(&locked(&[pure()], &[]), 0, "", "");
}

#[test]
fn a_project_for_another_processor() {
    let world = World::new(&[pure()]);
    world.first_lock("sconce.lock", "aarch64", "auto");
    world.asks("platform = \"aarch64\"");
    world.locks();
    let words = "is for aarch64, and this machine is x86_64";
    doctor(&world, 1, "other-processor", words);
}

/// A wheel with a library for each CUDA runs on a GPU with some of them: which, is said.
#[test]
fn which_builds_of_a_wheel_serve() {
    let build = |sms: &[u32]| {
        let codes: Vec<_> = sms.iter().map(|sm| forge::cubin(*sm)).collect();
        Library::new("").needs(&["libc.so.6"]).code(&[forge::fatbin(&codes)]).build()
    };
    let wheel = Wheel::new("bitsandbytes", "0.49.2")
        .tag("py3-none-manylinux_2_24_x86_64")
        .file("bitsandbytes/libbitsandbytes_cuda118.so", &build(&[80]))
        .file("bitsandbytes/libbitsandbytes_cuda126.so", &build(&[80, 90]))
        .file("bitsandbytes/libbitsandbytes_cuda130.so", &build(&[90, 100]));
    let world = World::new(&[]);
    let file = wheel.file_name();
    std::fs::write(world.path("project").join(&file), wheel.build()).unwrap();
    let (code, said) = world.sconce(&["inspect", "--for", "h100", &file]);
    let words = "of its builds (libbitsandbytes_cuda*) those for CUDA 12.6, 13.0 have it, that for CUDA 11.8 has not: \
                 the one for torch's CUDA is taken";
    assert!(code == 0 && said.contains(words), "{code} {said}");
}

/// What a project gets is not known before it is locked, or once it was changed after that: no yes.
#[test]
fn a_project_that_no_lock_decides() {
    let write = |world: &World, name: &str, text: &str| {
        std::fs::write(world.path("project").join(name), text).unwrap();
    };
    let world = World::new(&[pure()]);
    std::fs::remove_file(world.path("project/sconce.lock")).unwrap();
    let lock = "`sconce lock .` decides what it gets";
    inspected(&world, 12, lock);
    let words = "is not locked: which packages it gets is not known";
    for environment in [
        "requirements = [\"torch==2.1.0\"]",
        "requirements = [\"xformers\"]\ntorch = \">=2\"",
        "requirements = [\"cupy-cuda12x\"]\ntorch = false",
    ] {
        write(&world, "sconce.toml", &format!("[environment]\n{environment}\n"));
        doctor(&world, 12, "not-locked", words);
    }
    // One version of torch, or the newest and nothing else, is known.
    for environment in ["torch = \"2.15.0\"", "torch = \"2.15.0\"\nrequirements = [\"six\"]", ""] {
        write(&world, "sconce.toml", &format!("[environment]\n{environment}\n"));
        doctor(&world, 0, "not-judged", "ready");
    }
    let other = "is for aarch64, and this machine is x86_64";
    for environment in ["torch = \"2.15.0\"", ""] {
        let platform = format!("[environment]\nplatform = \"aarch64\"\n{environment}\n");
        write(&world, "sconce.toml", &platform);
        doctor(&world, 1, "other-processor", other);
    }
    std::fs::remove_file(world.path("project/sconce.toml")).unwrap();
    write(&world, "requirements.txt", "torch==2.1.0\n");
    doctor(&world, 12, "not-locked", words);

    let plain = fast(90, &["libc.so.6"]);
    let world = locked(std::slice::from_ref(&plain), &[&plain]);
    inspected(&world, 0, "Yes");
    let toml = std::fs::read_to_string(world.path("project/sconce.toml")).unwrap();
    write(&world, "sconce.toml", &toml.replace("exclude = []", "exclude = [\"six\"]"));
    inspected(&world, 12, "Can't tell: the project was changed after it was locked");
    doctor(
        &world,
        12,
        "not-locked",
        "was changed after it was locked: which packages it gets is not known",
    );
}

/// A project of which it can't be read any more what it asks for.
#[test]
fn a_project_that_can_not_be_read_since() {
    let plain = fast(90, &["libc.so.6"]);
    type Fault<'a> = (&'a str, &'a dyn Fn(&Path));
    let faults: [Fault<'_>; 4] = [
        ("no file of requirements", &|path| std::fs::remove_file(path.join("needs.txt")).unwrap()),
        ("a folder in its place", &|path| {
            std::fs::remove_file(path.join("needs.txt")).unwrap();
            std::fs::create_dir(path.join("needs.txt")).unwrap();
        }),
        ("a broken sconce.toml", &|path| {
            std::fs::write(path.join("sconce.toml"), "[environmen").unwrap();
        }),
        ("no sconce.toml", &|path| std::fs::remove_file(path.join("sconce.toml")).unwrap()),
    ];
    for (what, fault) in faults {
        let world = World::new(std::slice::from_ref(&plain));
        let project = world.path("project");
        std::fs::write(project.join("needs.txt"), "fast\n").unwrap();
        let toml = "[environment]\ntorch = false\nrequirements = \"needs.txt\"\n";
        std::fs::write(project.join("sconce.toml"), toml).unwrap();
        world.locks();
        Store::open(world.path("store")).unwrap().put_bytes(&plain.build()).unwrap();
        inspected(&world, 0, "Yes");
        fault(&project);
        let (code, said) = world.sconce(&["inspect", "--for", "h100", "."]);
        let words = "Can't tell: what the project asks for can't be read (";
        assert!(code == 12 && said.contains(words), "{what}: {code} {said}");
        // A name without a slash may be an image's as well, and what is left of a project is none.
        std::fs::create_dir(project.join("inside")).unwrap();
        std::fs::copy(project.join("sconce.lock"), project.join("inside/sconce.lock")).unwrap();
        let (code, said) = world.sconce(&["doctor", "inside"]);
        assert!(code == 3 && said.contains("inside has no sconce.toml"), "{what}: {code} {said}");
    }
}

/// A library with code for these capabilities.
fn build(sms: &[u32]) -> Library {
    let codes: Vec<_> = sms.iter().map(|sm| forge::cubin(*sm)).collect();
    Library::new("").needs(&["libc.so.6"]).code(&[forge::fatbin(&codes)])
}

/// What is said of this wheel alone, asked with these words.
#[track_caller]
fn says(wheel: &Wheel, words: &str, exit: i32, sentence: &str) {
    let world = World::new(&[]);
    let file = wheel.file_name();
    std::fs::write(world.path("project").join(&file), wheel.build()).unwrap();
    let words: Vec<&str> =
        ["inspect"].into_iter().chain(words.split(' ')).chain([&*file]).collect();
    let (code, said) = world.sconce(&words);
    assert!(code == exit && said.contains(sentence), "{code} {said}");
}

/// The code of one build and the driver of another make no package that runs.
#[test]
fn one_build_has_code_and_runs_with_the_driver() {
    let old = build(&[80]).needs(&["libcudart.so.11.0"]).build();
    let new = build(&[80, 100]).needs(&["libcudart.so.13"]).build();
    let wheel = Wheel::new("bitsandbytes", "0.49.2")
        .tag("py3-none-manylinux_2_24_x86_64")
        .file("bitsandbytes/libbitsandbytes_cuda118.so", &old)
        .file("bitsandbytes/libbitsandbytes_cuda130.so", &new);
    let no = "No: of its builds (libbitsandbytes_cuda*) that for CUDA 11.8 has no code for B200 180GB (compute capability \
              10.0), that for CUDA 13.0 needs driver 580.65.06 or newer, and this one is 570.86.15.";
    says(&wheel, "--for b200 --driver 570.86.15", 1, no);
    let floor = "the build for CUDA 13.0 (libbitsandbytes_cuda*) runs from driver 580.65.06 on";
    says(&wheel, "--json", 0, "\"cuda\": \"13.0\"");
    says(&wheel, "--copies", 0, floor);
    let yes = "Yes: it has machine code for B200 180GB and CUDA 13.0 runs with driver 580.65.06; of its builds \
               (libbitsandbytes_cuda*) that for CUDA 13.0 has it, that for CUDA 11.8 has not";
    says(&wheel, "--for b200 --driver 580.65.06", 0, yes);
    says(&wheel, "--for b200", 0, "CUDA 13.0 runs from driver 580.65.06 on;");
    // Of two with code, one needs a newer driver.
    let one = "Yes: it has machine code for A100 SXM4 80GB and CUDA 11.8 runs with driver 470.57.02; of its builds \
               (libbitsandbytes_cuda*) that for CUDA 11.8 has it and runs with that driver, that for CUDA 13.0 needs \
               driver 580.65.06 or newer";
    says(&wheel, "--for a100 --driver 470.57.02", 0, one);
}

/// Builds in a folder for each CUDA, as nccl-extensions has them.
#[test]
fn builds_in_folders_are_alternatives() {
    let [old, new] = [("12", &[80, 90][..]), ("13", &[90, 100])]
        .map(|(major, sms)| build(sms).needs(&[&format!("libcudart.so.{major}")]).build());
    let wheel = Wheel::new("nccl-extensions", "0.1.0")
        .tag("cp313-cp313-manylinux_2_24_x86_64")
        .file("nccl/ep/lib/cu12/libnccl_ep.so", &old)
        .file("nccl/ep/lib/cu13/libnccl_ep.so", &new);
    let yes = "Yes: it has machine code for H100 SXM5 80GB and CUDA 12 runs with driver 570.86.15; of its builds \
               (nccl/ep/lib/cu*/libnccl_ep.so) that for CUDA 12 has it and runs with that driver, that for CUDA 13 needs \
               driver 580.65.06 or newer";
    says(&wheel, "--for h100 --driver 570.86.15", 0, yes);
    let no = "that for CUDA 12 has no code for B200 180GB (compute capability 10.0), that for CUDA 13 needs driver 580.65.06";
    says(&wheel, "--for b200 --driver 570.86.15", 1, no);
    says(&wheel, "--for b200 --driver 580.65.06", 0, "CUDA 13 runs with driver 580.65.06");
    says(&wheel, "--for v100", 1, "has no code for V100");
}

/// A library that is called like a module and can't be imported is loaded by name, if at all.
#[test]
fn libraries_called_like_modules() {
    let plain = |sms: &[u32]| build(sms).exports("TORCH_LIBRARY_init_x", None);
    let wheel = |hopper: &Library, other: &Library| {
        Wheel::new("quantized", "0.18.0")
            .tag("cp310-abi3-manylinux_2_28_x86_64")
            .file("quantized/_C_90a.abi3.so", &hopper.build())
            .file("quantized/_C_mx.cpython-310-x86_64-linux-gnu.so", &other.build())
    };
    let plains = wheel(&plain(&[90]), &plain(&[100]));
    let part =
        "Yes, in part: it runs on RTX 4090, but quantized/_C_90a.abi3.so has nothing for it.";
    says(&wheel(&plain(&[90]), &plain(&[89])), "--for 4090", 11, part);
    // None of them has any code for it: whether the package goes without is not known.
    says(&plains, "--for 4090", 12, "Can't tell: nothing has code for RTX 4090, quantized/_C_");
    // One that can be imported is what there is to run.
    let module = plain(&[90]).exports("PyInit__C_90a", None);
    says(
        &wheel(&module, &plain(&[100])),
        "--for 4090",
        1,
        "quantized/_C_90a.abi3.so has no code for RTX 4090",
    );

    // What one of them lacks besides is its own matter as well.
    let symbol = "undefined symbol: _ZN3c105ErrorC1Ev";
    let lacking = plain(&[89]).imports("_ZN3c105ErrorC1Ev", None);
    let sound = build(&[89]).exports("PyInit__C_90a", None);
    let part = format!("Yes, in part: it runs on RTX 4090, but {symbol}");
    says(&wheel(&sound, &lacking), "--for 4090", 11, &part);
    says(&wheel(&lacking, &lacking), "--for 4090", 12, &format!("Can't tell: {symbol}"));
    let needs = plain(&[90]).needs(&["libc10.so"]);
    let sound = build(&[90]).exports("PyInit__C_90a", None);
    let one = wheel(&sound, &needs);
    inspected(&locked(std::slice::from_ref(&one), &[&one]), 11, "Yes, in part: it runs on H100");
    let both = wheel(&needs, &needs);
    let world = locked(std::slice::from_ref(&both), &[&both]);
    inspected(&world, 12, "Can't tell: libc10.so is nowhere, and ");

    // In an environment its tag decides nothing, and `build` takes it.
    let world = World::new(std::slice::from_ref(&plains));
    world.asks("exclude = []");
    world.locks();
    let store = Store::open(world.path("store")).unwrap();
    store.put_bytes(&plains.build()).unwrap();
    inspected(&world, 11, "Yes, in part: it runs on H100");
}
