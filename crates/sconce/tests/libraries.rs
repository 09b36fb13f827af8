//! What modules of wheels need, asked of an index on loopback before anything is downloaded: libraries of a CUDA that no
//! package of the set has, and the NumPy that they are built for.

mod index_world;

use std::fs;

use index_world::World;
use sconce_testkit::{Wheel, ZipEntry};

/// torch 2.15.0, whose CUDA is 13.2, without the packages of NVIDIA's that it pins.
const KEYS: &str = "[environment]\nplatform = \"x86_64\"\ndriver = \"any\"\ntorch = \"2.15.0\"\nrequirements = \
                    [\"fast\"]\nexclude = [\"cuda-toolkit\", \"cuda-bindings\", \"nvidia-cudnn-cu13\", \
                    \"nvidia-cusparselt-cu13\", \"nvidia-nccl-cu13\", \"nvidia-nvshmem-cu13\", \"triton\"]\n";

const TAG: &str = "cp313-cp313-manylinux_2_28_x86_64";

/// A shared library (System V ABI) that needs these others and has this data.
fn library(needed: &[&str], data: &[u8]) -> Vec<u8> {
    const STRINGS: usize = 64 + 2 * 56;
    let mut strings = b"\0".to_vec();
    let mut dynamic: Vec<[u64; 2]> = Vec::new();
    for name in needed {
        dynamic.push([1, strings.len() as u64]);
        strings.extend([name.as_bytes(), b"\0"].concat());
    }
    dynamic.extend([[5, STRINGS as u64], [10, strings.len() as u64], [0, 0]]);
    let dynamic_at = (STRINGS + strings.len()).next_multiple_of(16);
    let dynamic: Vec<u8> = dynamic.iter().flatten().flat_map(|field| field.to_le_bytes()).collect();
    let data_at = dynamic_at + dynamic.len();
    let names = b"\0.rodata\0.names\0";
    let names_at = data_at + data.len();
    let sections_at = (names_at + names.len()).next_multiple_of(8);

    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    out.extend([3_u16, 62].iter().flat_map(|field| field.to_le_bytes()));
    out.extend(1_u32.to_le_bytes());
    out.extend([0, 64, sections_at as u64].iter().flat_map(|field| field.to_le_bytes()));
    out.extend(0_u32.to_le_bytes());
    out.extend([64_u16, 56, 2, 64, 3, 2].iter().flat_map(|field| field.to_le_bytes()));
    for (kind, at, len) in [(1_u32, 0, names_at), (2, dynamic_at, dynamic.len())] {
        out.extend([kind, 4].iter().flat_map(|field| field.to_le_bytes()));
        let (at, len) = (at as u64, len as u64);
        out.extend([at, at, at, len, len, 8].iter().flat_map(|field| field.to_le_bytes()));
    }
    out.extend(&strings);
    out.resize(dynamic_at, 0);
    out.extend(&dynamic);
    out.extend(data);
    out.extend(names);
    out.resize(sections_at + 64, 0);
    for (name, kind, at, len) in
        [(1_u32, 1_u32, data_at, data.len()), (9, 3, names_at, names.len())]
    {
        out.extend([name, kind].iter().flat_map(|field| field.to_le_bytes()));
        let fields = [2, at as u64, at as u64, len as u64, 0, 1, 0];
        out.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
    }
    out
}

/// A package for GPUs with a module.
fn fast(module: &[u8]) -> Wheel {
    Wheel::new("fast", "1.0")
        .tag(TAG)
        .metadata("Summary: for CUDA\nRequires-Dist: nvidia-cublas-cu12; extra == \"cuda12\"\n")
        .file("fast/cuda/core.so", module)
}

fn torch() -> Wheel {
    Wheel::new("torch", "2.15.0").tag(TAG)
}

/// A project that asks for these, where no Debian package is to be had: nothing is locked, and what is said before that
/// counts.
fn world(wheels: &[Wheel]) -> World {
    let mut world = World::new(wheels);
    world.env.push(("SCONCE_DEBIAN_MIRROR", "http://127.0.0.1:9/debian".to_owned()));
    fs::write(world.path("project/sconce.toml"), KEYS).unwrap();
    world
}

#[test]
fn a_library_of_another_cuda_than_torch_s() {
    let cublas = |name: &str, major: u32| {
        let file = format!("nvidia/x{major}/lib/libcublas.so.{major}");
        Wheel::new(name, "1.0").tag("py3-none-manylinux_2_27_x86_64").file(&file, b"ELF")
    };
    let needs = fast(&library(&["libcublas.so.12", "libc.so.6"], b""));
    let words = "fast 1.0 needs libcublas.so.12 of CUDA 12 (fast/cuda/core.so), and this torch has CUDA 13.2";
    let (code, said) =
        world(&[torch(), needs.clone(), cublas("nvidia-cublas", 13)]).sconce(&["lock"]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains(words), "{said}");
    // The index has no other torch: what would not work is not printed.
    assert!(said.contains("no release of fast is known that fits torch 2.15.0"), "{said}");

    // Another package has it, or the wheel itself.
    let own = needs.clone().file("fast/libs/libcublas.so.12", b"ELF");
    for wheels in [
        vec![torch(), needs.clone(), cublas("nvidia-cublas-cu12", 12)],
        vec![torch(), needs, cublas("somebody-s-cublas", 12)],
        vec![torch(), own],
    ] {
        let (_, said) = world(&wheels).sconce(&["lock"]);
        assert!(said.contains("Debian") && !said.contains("libcublas"), "{said}");
    }
}

/// A part of a package that is loaded when it is used keeps no torch away; one that is loaded at once does.
#[test]
fn a_part_that_needs_another_cuda() {
    let many = |init: &str| {
        Wheel::new("many", "1.0")
            .tag(TAG)
            .metadata("Summary: for CPU and CUDA\n")
            .file("many/__init__.py", init.as_bytes())
            .file("many/cpu/core.so", &library(&["libc.so.6"], b""))
            .file("many/cuda/core.so", &library(&["libcublas.so.12", "libc.so.6"], b""))
    };
    let lazy = many("import os\n\ndef on_gpu():\n    from .cuda import core\n");
    let alone = World::new(std::slice::from_ref(&lazy));
    alone.asks("exclude = []");
    let (code, said) = alone.sconce(&["lock"]);
    let words = "note: many 1.0 needs libcublas.so.12 for a part of it (many/cuda/core.so), and no package here has it: \
                 nvidia-cublas-cu12 brings it";
    assert!(code == 0 && said.contains(words), "{code} {said}");
    let (_, said) = world(&[torch(), lazy]).sconce(&["lock"]);
    assert!(said.contains("Debian") && !said.contains("do not fit"), "{said}");

    let linked = many("").file("many/api.so", &library(&["core.so", "libc.so.6"], b""));
    for needed in [many("from .cuda import core\n"), linked] {
        let (code, said) = world(&[torch(), needed]).sconce(&["lock"]);
        let words = "many 1.0 needs libcublas.so.12 of CUDA 12 (many/cuda/core.so)";
        assert!(code == 4 && said.contains(words), "{code} {said}");
    }
}

/// What is opened by name alone is a note, but for a package of which it is known that it does nothing without.
#[test]
fn a_library_that_is_opened_by_name() {
    let opens = fast(&library(&["libc.so.6"], b"\0libcublas.so.12\0"));
    let without_torch = World::new(&[opens]);
    without_torch.asks("exclude = []");
    let (code, said) = without_torch.sconce(&["lock"]);
    let words = "note: fast 1.0 opens libcublas.so.12 when it uses a GPU, and no package here has it: \
                 `fast[cuda12]` asks for NVIDIA's packages; nvidia-cublas-cu12 brings it";
    assert!(code == 0 && said.contains(words), "{code} {said}");

    let known = Wheel::new("ctranslate2", "4.8.5").tag(TAG).file("ctranslate2/x.so", b"ELF");
    let (code, said) = world(&[torch(), known]).sconce(&["lock"]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("ctranslate2 4.8.5 needs libcublas.so.12 of CUDA 12"), "{said}");
}

/// Bytes that don't get smaller when they are packed.
fn noise(seed: u64, megabytes: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        // Steele and others, SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb).to_le_bytes()
    });
    words.take(megabytes << 17).flatten().collect()
}

/// A handful of modules of some megabytes each is read to the last; what is too much for that says how much is read.
#[test]
fn modules_of_some_megabytes_are_read() {
    let module = |at: u64, megabytes: usize, last: &[u8]| {
        let data = [noise(at, megabytes), last.to_vec()].concat();
        let file = library(&["libc.so.6"], &data);
        (ZipEntry::stored(&format!("fast/cuda/m{at}.so"), &file), file)
    };
    let fast = |modules: Vec<(ZipEntry, Vec<u8>)>| {
        let wheel = Wheel::new("fast", "1.0").tag(TAG).metadata("Summary: for CUDA\n");
        modules.into_iter().fold(wheel, |wheel, (entry, file)| wheel.entry(entry, &file))
    };
    let said = |wheel: Wheel| {
        let world = World::new(&[wheel]);
        world.asks("exclude = []");
        let (code, said) = world.sconce(&["lock"]);
        assert_eq!(code, 0, "{said}");
        said
    };
    let mut modules: Vec<_> = (3..6).map(|at| module(at, at as usize, b"")).collect();
    modules.push(module(11, 11, b"\0libcublas.so.12\0"));
    let found = said(fast(modules));
    assert!(found.contains("note: fast 1.0 opens libcublas.so.12 when it uses a GPU"), "{found}");
    let found = said(fast(vec![module(1, 57, b"\0libcublas.so.12\0")]));
    let words = "note: whether fast 1.0 finds the libraries of CUDA that it uses could not be read: what fast/cuda/m1.so opens \
                 by name: it has 58 MB, and of one wheel 56 MB are read";
    assert!(found.contains(words), "{found}");
}

/// Without torch nothing brings CUDA's libraries: the packages that do are named.
#[test]
fn a_library_that_nothing_brings() {
    let needs = fast(&library(&["libcublas.so.12", "libc.so.6"], b""));
    let world = World::new(std::slice::from_ref(&needs));
    world.asks("exclude = []");
    let (code, said) = world.sconce(&["lock"]);
    let words = "note: fast 1.0 needs libcublas.so.12, and no package here has it";
    assert!(code == 0 && said.contains(words), "{code} {said}");
    // It is asked once.
    let asked = world.ranges(&needs.file_name()).len();
    world.asks("exclude = [\"other\"]");
    let (code, said) = world.sconce(&["lock"]);
    assert!(code == 0 && said.contains(words), "{code} {said}");
    assert_eq!(world.ranges(&needs.file_name()).len(), asked);
}

/// uv as the world has it, which finds NumPy 1 where it is told `numpy<2`.
fn with_old_numpy(world: &World) {
    let script = fs::read_to_string(world.path("uv")).unwrap();
    let old = "for word in \"$@\"; do grep -qs -e 'numpy<2' -- \"$word\" && old=.1; done\n";
    let script = script.replacen("#!/bin/sh\n", &format!("#!/bin/sh\n{old}"), 1);
    let script = script.replace("$here/pylock/*", "$here/pylock$old/*");
    fs::write(world.path("uv"), script).unwrap();
}

#[test]
fn modules_for_numpy_1_get_numpy_1() {
    let numpy = |version: &str| Wheel::new("numpy", version).tag(TAG);
    let uses = |data: &[u8], requires: &str| {
        Wheel::new("frames", "2.0")
            .tag(TAG)
            .metadata(&format!("Requires-Dist: {requires}\n"))
            .file("frames/core.so", &library(&["libc.so.6"], data))
    };
    let old = b"\0numpy.core._multiarray_umath\0";
    let both = b"\0numpy._core._multiarray_umath\0numpy.core._multiarray_umath\0";
    let taken = |frames: &Wheel| {
        let mut world = World::new(&[numpy("2.3.1"), frames.clone()]);
        fs::rename(world.path("pylock"), world.path("pylock.2")).unwrap();
        fs::create_dir(world.path("pylock")).unwrap();
        for wheel in [numpy("1.26.4"), frames.clone()] {
            let digest = world.index.add(&wheel);
            let url = world.index.server.url(&world.index.path(&wheel.file_name()));
            world.put_at(&wheel, digest, &url);
        }
        fs::rename(world.path("pylock"), world.path("pylock.1")).unwrap();
        fs::rename(world.path("pylock.2"), world.path("pylock")).unwrap();
        with_old_numpy(&world);
        world.asks("exclude = []");
        let (code, said) = world.sconce(&["lock"]);
        assert_eq!(code, 0, "{said}");
        let lock = fs::read_to_string(world.path("project/sconce.lock")).unwrap();
        let lock = sconce_lock::Lock::parse(&lock).unwrap();
        (lock.wheel("numpy").unwrap().version.clone(), said)
    };
    let (version, said) = taken(&uses(old, "numpy (>=1.21.0)"));
    assert_eq!(version, "1.26.4", "{said}");
    let words = "note: numpy 2.3.1 was not taken: frames 2.0 is built for NumPy 1 (frames/core.so) and can't be imported with \
                 NumPy 2.3.1";
    assert!(said.contains(words), "{said}");
    for frames in [uses(both, "numpy>=1.21"), uses(old, "numpy<3,>=1.21"), uses(b"", "numpy")] {
        let (version, said) = taken(&frames);
        assert!(version == "2.3.1" && !said.contains("NumPy"), "{said}");
    }
}

/// A release that is years older than what it leaves open is named, where there is a newer one.
#[test]
fn what_was_made_years_before_what_it_needs() {
    let old = Wheel::new("old", "1.0").metadata("Requires-Dist: needed>=1");
    let said = |newest: Option<&str>| {
        let mut world = World::new(&[old.clone(), Wheel::new("needed", "7.1")]);
        for (name, day) in [("old", "2020-01-01"), ("needed", "2026-01-01")] {
            let row = fs::read_to_string(world.path("pylock").join(name)).unwrap();
            let row = row.replace("size = ", &format!("upload-time = {day}T00:00:00Z, size = "));
            fs::write(world.path("pylock").join(name), row).unwrap();
        }
        if let Some(version) = newest {
            world.index.add(&Wheel::new("old", version));
        }
        world.asks("exclude = []");
        let (code, said) = world.sconce(&["lock"]);
        assert_eq!(code, 0, "{said}");
        said
    };
    let words = "note: years older than what they need and leave open, and with newer releases: old 1.0 (needed 7.1); if one \
                 fails, name older releases of what it needs";
    let found = said(Some("2.0"));
    assert!(found.contains(words), "{found}");
    let found = said(None);
    assert!(!found.contains("years older"), "{found}");
}

/// What protoc has generated for another protobuf than the one in the set, and only that.
#[test]
fn modules_that_protoc_generated_for_another_protobuf() {
    const HEAD: &str = "# Generated by the protocol buffer compiler.  DO NOT EDIT!\n";
    const OLD: &str = "x = _descriptor.FieldDescriptor(\n    name='x')\n";
    let call = |release: &str| {
        format!(
            "_runtime_version.ValidateProtobufRuntimeVersion(\n    _runtime_version.Domain.PUBLIC,\n    {release},\n    '',\n)\n_builder.Build(x)\n"
        )
    };
    let said_beside = |protobuf: &str, tag: &str, modules: &[(&str, &str)], of_protobuf: &str| {
        let maker = Wheel::new("maker", "1.0")
            .metadata("Requires-Dist: protobuf>=3\nRequires-Dist: other\n");
        let maker = modules.iter().fold(maker, |wheel, (name, text)| {
            wheel.file(name, format!("{HEAD}{text}").as_bytes())
        });
        let other = Wheel::new("other", "2.0").metadata(of_protobuf);
        let world = World::new(&[Wheel::new("protobuf", protobuf).tag(tag), maker, other]);
        world.asks("exclude = []");
        let (code, said) = world.sconce(&["lock"]);
        assert_eq!(code, 0, "{said}");
        said
    };
    let said = |protobuf: &str, tag: &str, modules: &[(&str, &str)]| {
        said_beside(protobuf, tag, modules, "Requires-Dist: protobuf>=3,<8")
    };
    let new = call("6,\n    31,\n    1");
    let found = said("5.29.5", TAG, &[("maker/a_pb2.py", &new)]);
    let words = "note: maker 1.0: maker/a_pb2.py was generated for protobuf 6.31.1 or newer and can't be imported with protobuf \
                 5.29.5: `protobuf>=6.31.1` among the requirements asks for one that it fits";
    assert!(found.contains(words), "{found}");
    let found = said("4.25.8", TAG, &[("maker/a_pb2.py", OLD)]);
    let words = "maker/a_pb2.py was generated for protobuf below 4 and can't be imported with protobuf 4.25.8: `protobuf<4`";
    assert!(found.contains(words), "{found}");
    // What another package forbids is no way out.
    let found =
        said_beside("4.25.8", TAG, &[("maker/a_pb2.py", &new)], "Requires-Dist: protobuf<5.0");
    let words = "can't be imported with protobuf 4.25.8, and other 2.0 asks for `protobuf<5.0`: an older maker \
                 (`maker<1.0` among the requirements) may fit";
    assert!(found.contains(words), "{found}");
    assert!(!found.contains("protobuf>=6.31.1`"), "{found}");
    let found =
        said_beside("4.25.8", TAG, &[("maker/a_pb2.py", OLD)], "Requires-Dist: protobuf>=4");
    let words = "can't be imported with protobuf 4.25.8, and other 2.0 asks for `protobuf>=4`: another maker than 1.0 may fit";
    assert!(found.contains(words), "{found}");
    let fitting = call("5,\n    27,\n    0");
    for (protobuf, tag, modules) in [
        ("6.31.1", TAG, &[("maker/a_pb2.py", new.as_str())][..]),
        ("3.20.3", "py2.py3-none-any", &[("maker/a_pb2.py", OLD)]),
        ("4.25.8", "py3-none-any", &[("maker/a_pb2.py", OLD)]),
        // A package that has one for each protobuf chooses itself.
        ("5.29.5", TAG, &[("maker/v5/a_pb2.py", &fitting), ("maker/v6/a_pb2.py", &new)]),
        ("5.29.5", TAG, &[("maker/a_pb2.py", OLD), ("maker/a_pb2_new.py", &fitting)]),
        ("5.29.5", TAG, &[("maker/a.py", &new), ("maker/a_pb2_grpc.py", &new)]),
    ] {
        let found = said(protobuf, tag, modules);
        assert!(!found.contains("was generated for"), "{protobuf} {modules:?}: {found}");
    }
}
