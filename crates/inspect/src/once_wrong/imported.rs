//! Modules that the Python beside them can't import, and programs that can't be executed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::Says;
use crate::failures::{SITE, World};
use crate::forge::{Library, cubin, fatbin};
use crate::report::{Options, inspect};
use crate::tree::Tree;

fn module() -> Library {
    Library::new("").code(&[fatbin(&[cubin(90)])])
}

fn says(world: &World) -> (Says, String) {
    let answer = world.report().answer("h100", None).unwrap();
    (answer.says, answer.sentence.replace(SITE, "SITE"))
}

#[test]
fn builds_for_another_c_library_or_processor() {
    let world = |modules: &[(&str, u16)]| {
        let mut world = World { tree: Tree::new(), library_path: None };
        for (name, machine) in modules {
            world.site(&format!("x/_C.cpython-{name}.so"), &module().machine(*machine));
        }
        let python = Library::new("").interpreter("/lib64/ld-linux-x86-64.so.2");
        world.put("opt/venv/bin/python3.13", &python);
        says(&world)
    };
    assert_eq!(world(&[("313-x86_64-linux-gnu", 62)]).0, Says::Yes);
    let (said, sentence) = world(&[("313-x86_64-linux-musl", 62)]);
    assert_eq!(said, Says::No, "{sentence}");
    assert!(sentence.contains("is for systems with musl"), "{sentence}");
    let both = world(&[("313-x86_64-linux-musl", 62), ("313-x86_64-linux-gnu", 62)]);
    assert_eq!(both.0, Says::Yes, "{}", both.1);
    let (said, sentence) = world(&[("312-x86_64-linux-gnu", 62), ("313-aarch64-linux-gnu", 183)]);
    assert_eq!(said, Says::No, "{sentence}");
    // By its name alone: Python opens no file that is called so.
    let (said, sentence) = world(&[("313-aarch64-linux-gnu", 62)]);
    assert_eq!(said, Says::No, "{sentence}");
    let (said, sentence) = world(&[("313-aarch64-linux-gnu", 183), ("313-aarch64-x", 183)]);
    assert_eq!(said, Says::No, "{sentence}");
    assert!(sentence.contains("is for aarch64"), "{sentence}");
}

#[test]
fn programs_that_cannot_be_executed() {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("lib/python3.13/site-packages");
    let put = |path: &str, bytes: &[u8], mode: u32| {
        let path = site.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    put("x/_C.so", &module().build(), 0o644);
    put("triton-3.1.0.dist-info/METADATA", b"Name: triton\nVersion: 3.1.0\n", 0o644);
    put("triton-3.1.0.dist-info/RECORD", b"triton/backends/nvidia/bin/ptxas,,\n", 0o644);
    put("triton/backends/nvidia/lib/libdevice.10.bc", b"BC", 0o644);
    for (bytes, mode, says_) in [
        (b"program".as_slice(), 0o755, Says::Yes),
        (b"program", 0o644, Says::InPart),
        (b"", 0o755, Says::InPart),
    ] {
        put("triton/backends/nvidia/bin/ptxas", bytes, mode);
        let tree = Tree::folder(dir.path()).unwrap();
        let report = inspect("folder", &tree, &Options::default(), &|_, _| {});
        let answer = report.answer("h100", None).unwrap();
        assert_eq!(answer.says, says_, "{mode:o}: {}", answer.sentence);
    }
}
