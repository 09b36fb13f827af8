//! What leads out of what is inspected, or nowhere: links, `.pth` files, the system's packages.

use std::fs;

use crate::Says;
use crate::failures::{SITE, World};
use crate::outside::Host;
use crate::report::{Options, inspect};

fn says(world: &World) -> (Says, String) {
    let machine = tempfile::tempdir().unwrap();
    fs::create_dir_all(machine.path().join("cache/other")).unwrap();
    let host = Host {
        library_path: String::new(),
        path: std::ffi::OsString::new(),
        root: Some(machine.path().to_owned()),
    };
    let options = Options { host: Some(host), ..Options::default() };
    let report = inspect("folder", &world.tree, &options, &|_, _| {});
    let answer = report.answer("h100", Some(&"580.65.06".parse().unwrap())).unwrap();
    (answer.says, answer.sentence.replace(SITE, "SITE"))
}

#[test]
fn links_that_lead_out() {
    assert_eq!(says(&World::new()).0, Says::Yes);
    let mut world = World::new();
    world.tree.add_link(&format!("{SITE}/other/LICENSE"), "/cache/other");
    assert_eq!(says(&world).0, Says::Yes, "{}", says(&world).1);
    world.tree.add_link(&format!("{SITE}/other/x.py"), "/cache/other");
    world.tree.add_link(&format!("{SITE}/zero/libx.so"), "/cache/other");
    let (said, sentence) = says(&world);
    assert_eq!(said, Says::CantTell, "{sentence}");
    assert!(sentence.contains("(SITE/zero/libx.so)"), "{sentence}");
}

#[test]
fn other_folders_of_packages() {
    let mut world = World::new();
    world.file(&format!("{SITE}/x.pth"), b"/cache/other\n");
    assert_eq!(says(&world).0, Says::CantTell, "{}", says(&world).1);
    for (value, says_) in [("false", Says::Yes), ("true", Says::CantTell)] {
        let mut world = World::new();
        let text = format!("home = /usr/bin\ninclude-system-site-packages = {value}\n");
        world.file("opt/venv/pyvenv.cfg", text.as_bytes());
        assert_eq!(says(&world).0, says_, "{}", says(&world).1);
    }
}

#[test]
fn a_module_that_is_a_link_to_nothing() {
    let name = "torch/_C.cpython-313-x86_64-linux-gnu.so";
    for target in ["/not/there.so", "gone.so"] {
        let mut world = World::new();
        world.tree.add_link(&format!("{SITE}/x/_C.so"), target);
        assert_eq!(says(&world).0, Says::InPart, "{}", says(&world).1);
        world.remove(name);
        world.tree.begin_layer();
        world.tree.add_link(&format!("{SITE}/{name}"), target);
        let (said, sentence) = says(&world);
        assert_eq!(said, Says::No, "{sentence}");
        assert!(sentence.contains("which is not there"), "{sentence}");
    }
}
