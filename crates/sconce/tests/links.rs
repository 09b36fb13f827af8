//! A container's volume has links that it made: whoever reads or writes there by a path follows none of them. A person's own
//! links are followed.

mod world;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Command, Stdio};

use world::World;
use world::detached::worlds;

const CONFIG: &str = r#"{"Env": ["PATH=/usr/bin"]}"#;
const REFUSED: &str = "is a link in a volume of a container";

/// A container that made links in its volume `vol`: `out` to the folder `mine`, `env` to the file `secret` there.
fn prepare(world: &World) {
    world.image(CONFIG);
    for name in ["vol", "mine"] {
        let (code, _, err) = world.says(&["init", name]);
        assert_eq!(code, 0, "{err}");
    }
    fs::write(world.path("mine/secret"), "A=secret\n").unwrap();
    let mine = world.path("mine");
    let script = format!(
        "ln -s {0} /vol/out; ln -s {0}/secret /vol/env; ln -s {0}/gone /vol/gone; mkdir /vol/own",
        mine.display()
    );
    let run =
        ["run", "-q", "-d", "--gpus", "none", "--name", "made", "-v", "./vol:/vol", "oci:image"];
    let (code, _, err) = world.says(&[&run[..], &["sh", "-c", &script]].concat());
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = world.says(&["wait", "made"]);
    assert_eq!(code, 0, "{err}");
    symlink("mine", world.path("short")).unwrap();
    symlink("vol", world.path("short-vol")).unwrap();
}

#[test]
fn nothing_is_read_through_them() {
    for world in worlds() {
        prepare(&world);
        let run = ["run", "-q", "--gpus", "none"];
        let says = |options: &[&str], command: &[&str]| {
            world.says(&[&run, options, &["oci:image"], command].concat())
        };
        let out_device = format!("{}:/dev/x", world.path("vol/out").display());
        let echo = ["sh", "-c", "echo $A"];
        for options in [
            &["-v", "./vol/out:/x"][..],
            &["-v", "./vol/out/new:/x"],
            &["-v", "./short-vol/out:/x:ro"],
            &["--mount", "type=bind,source=./vol/out,target=/x"],
            &["--env-file", "vol/env"],
            &["--env-file", "short-vol/out/secret"],
            &["--label-file", "vol/env"],
            &["--cidfile", "vol/out/cid"],
            &["--device", &out_device],
            &["--security-opt", "seccomp=vol/env"],
        ] {
            let (code, out, err) = says(options, &echo);
            assert!(code == 125 && err.contains(REFUSED), "{options:?}: {code} {out}{err}");
        }
        for name in ["new", "cid", "gone"] {
            assert!(!world.path("mine").join(name).exists(), "{name}");
        }
        for words in [
            &["sign", "127.0.0.1:1/app:1", "--key", "vol/env"][..],
            &["verify-signature", "127.0.0.1:1/app:1", "--key", "vol/env"],
            &["serve", "--listen", "127.0.0.1:0", "--tls-cert", "vol/env", "--tls-key", "vol/env"],
            &["serve", "--listen", "127.0.0.1:0", "--htpasswd", "vol/out/secret"],
            &["monitor", "--replay", "vol/env"],
            &["monitor", "--history", "vol/out/history"],
            &["monitor", "--record", "vol/out/a.gz", "--for", "1s"],
            &["monitor", "--textfile", "vol/out/a.prom", "--for", "1s"],
            &["monitor", "rules", "--replay", "vol/env"],
            &["pull", "127.0.0.1:1/app:1", "--ca", "vol/env"],
            &["push", "oci:image", "127.0.0.1:1/app:1", "--ca", "short-vol/env"],
            &["pull", "docker-archive:vol/env"],
            &["copy", "oci:vol/out/image", "store:x"],
            &["copy", "docker-archive:vol/env:tag", "store:x"],
            &["copy", "oci-archive:short-vol/env", "store:x"],
            &["run", "--gpus", "none", "vol/out", "true"],
            &["run", "--gpus", "none", "oci:vol/out/image", "true"],
            &["run", "--gpus", "none", "./vol/gone", "true"],
            &["lock", "vol/out"],
            &["build", "short-vol/out"],
            &["inspect", "vol/env"],
            &["inspect", "oci:vol/out/image"],
            &["verify", "vol/out"],
            &["doctor", "vol/out"],
            &["doctor", "--from", "vol/env"],
            &["doctor", "--save", "vol/gone"],
            &["doctor", "--driver-root", "vol/out"],
            &["cdi", "generate", "--driver-root", "vol/out"],
            &["bench", "--host", "--baseline", "vol/env"],
            &["bench", "--host", "--quick", "--python", "vol/out/python"],
            &["inspect", "mine", "--library-path", "/usr/lib:vol/out"],
            &["trust", "vol/out"],
            &["trust", "--revoke", "vol/out"],
            &["add", "--project", "vol/out", "numpy"],
            &["launch", "--evidence", "vol/out", "--ranks", "1", "oci:image", "--", "true"],
        ] {
            let (code, out, err) = world.says(words);
            assert!(code != 0 && err.contains(REFUSED), "{words:?}: {code} {out}{err}");
        }
        // What is no link there, and a person's own.
        for options in [
            &["-v", "./vol/own:/x"][..],
            &["-v", "./vol/fresh/deep:/x"],
            &["-v", "./short:/x"],
            &["-v", "./short-vol:/x"],
            &["--env-file", "short/secret"],
            &["--cidfile", "short/cid"],
            &["--cidfile", "vol/own/cid"],
        ] {
            let (code, _, err) = says(options, &echo);
            assert_eq!(code, 0, "{options:?}: {err}");
        }
        assert_eq!(says(&["--env-file", "short/secret"], &echo).1, "secret\n");
        for path in ["mine/cid", "vol/own/cid", "vol/fresh/deep"] {
            assert!(world.path(path).exists(), "{path}");
        }
        // Once the container is forgotten the folder is the person's alone.
        assert_eq!(world.says(&["rm", "made"]).0, 0);
        assert_eq!(says(&["--env-file", "vol/env"], &echo).1, "secret\n");
    }
}

#[test]
fn nothing_is_written_through_them() {
    for world in worlds() {
        prepare(&world);
        for words in [
            &["init", "vol/out/deep"][..],
            &["init", "short-vol/out"],
            &["man", "vol/out"],
            &["wheel", "-o", "vol/out", "--for", "mine", "deepspeed"],
        ] {
            let (code, _, err) = world.says(words);
            assert!(code == 7 && err.contains(REFUSED), "{words:?}: {code} {err}");
        }
        assert!(!world.path("mine/deep").exists() && !world.path("mine/sconce.1").exists());
        // A link in the place of the file itself is not followed either.
        fs::remove_file(world.path("vol/sconce.toml")).unwrap();
        symlink(world.path("mine/written"), world.path("vol/sconce.toml")).unwrap();
        symlink(world.path("mine/written"), world.path("vol/own/sconce-run.1")).unwrap();
        assert_ne!(world.says(&["init", "vol"]).0, 0);
        let (code, _, err) = world.says(&["man", "vol/own"]);
        assert_eq!(code, 0, "{err}");
        assert!(!world.path("mine/written").exists());
        let page = world.path("vol/own/sconce-run.1");
        assert!(!page.is_symlink() && fs::read_to_string(page).unwrap().contains("sconce"));
        let (code, _, err) = world.says(&["man", "short/pages/deep"]);
        assert_eq!(code, 0, "{err}");
        let pages = fs::read_dir(world.path("mine/pages/deep")).unwrap().flatten();
        let names: Vec<_> = pages.map(|page| page.file_name().into_string().unwrap()).collect();
        assert!(names.len() > 30 && names.iter().all(|name| name.ends_with(".1")), "{names:?}");
    }
}

/// The container exchanges a folder of its volume for a link, back and forth, while another is started with it.
/// Links of the image are followed also where they lead to what is not there: it is made, as Docker does.
#[test]
fn volumes_behind_links_to_what_is_not_there() {
    for world in worlds() {
        world.image(CONFIG);
        // As make_root has it, with links.
        for (link, target) in [("d4", "nowhere/deep"), ("d5", "/opt/file")] {
            symlink(target, world.path("root").join(link)).unwrap();
        }
        fs::remove_file(world.path("layer.tar")).unwrap();
        let tar = Command::new("tar")
            .args(["--create", "--numeric-owner", "--owner=0", "--group=0", "--file"])
            .arg(world.path("layer.tar"))
            .arg("--directory")
            .arg(world.path("root"))
            .arg(".")
            .status();
        assert!(tar.unwrap().success());
        world.image(CONFIG);
        fs::create_dir(world.path("host")).unwrap();
        fs::write(world.path("host/file"), "here\n").unwrap();
        for (options, file) in [
            (["-v", "./host:/d4"], "/nowhere/deep/file"),
            (["-v", "./host:/d4/new"], "/nowhere/deep/new/file"),
            (["-v", "./host/file:/d5"], "/opt/file"),
        ] {
            let run = ["run", "-q", "--gpus", "none"];
            let (code, out, err) =
                world.says(&[&run, &options[..], &["oci:image", "cat", file]].concat());
            assert_eq!((code, out.as_str()), (0, "here\n"), "{options:?}: {err}");
        }
        let words = ["run", "-q", "--gpus", "none", "--tmpfs", "/d4", "oci:image"];
        let (code, _, err) = world.says(&[&words[..], &["touch", "/nowhere/deep/x"]].concat());
        assert_eq!(code, 0, "{err}");
    }
}

#[test]
fn what_is_exchanged_meanwhile_is_never_mounted() {
    let world = World::new();
    world.image(CONFIG);
    for name in ["vol", "vol/data", "mine"] {
        fs::create_dir(world.path(name)).unwrap();
    }
    fs::write(world.path("mine/secret"), "secret").unwrap();
    let script = format!(
        "while :; do rm -rf /vol/data; ln -s {} /vol/data; rm /vol/data; mkdir /vol/data; done",
        world.path("mine").display()
    );
    let run =
        ["run", "-q", "-d", "--gpus", "none", "--name", "swaps", "-v", "./vol:/vol", "oci:image"];
    let (code, _, err) = world.says(&[&run[..], &["sh", "-c", &script]].concat());
    assert_eq!(code, 0, "{err}");
    let start = || -> Child {
        let run = ["run", "-q", "--gpus", "none", "-v", "./vol/data:/x", "oci:image", "ls", "/x"];
        let mut command = world.sconce(&run);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut mounted = 0;
    for _ in 0..15 {
        let two = [start(), start()];
        for child in two {
            let (code, out, err) = world::texts(&child.wait_with_output().unwrap());
            assert_eq!(out, "", "{err}");
            assert!(!err.contains("panicked"), "{err}");
            mounted += u32::from(code == 0);
        }
    }
    println!("{mounted} of 30 were mounted");
    assert_eq!(world.says(&["rm", "-f", "swaps"]).0, 0);
}

/// In a group's store a member can put a link in a tree's place: who starts its image must not find a private folder of theirs
/// in the container.
#[test]
fn a_link_in_place_of_a_tree_is_mounted_for_nobody() {
    let world = World::new();
    world.image(CONFIG);
    fs::create_dir_all(world.path("store")).unwrap();
    fs::set_permissions(world.path("store"), fs::Permissions::from_mode(0o2770)).unwrap();
    let run = ["run", "-q", "--gpus", "none", "oci:image", "sh", "-c", "cat /secret"];
    let (_, out, err) = world.says(&run);
    assert!(out.is_empty() && err.contains("secret"), "{out}{err}");
    let trees: Vec<_> = fs::read_dir(world.path("store/trees")).unwrap().flatten().collect();
    for tree in &trees {
        let (tree, mine) = (tree.path(), world.path("private"));
        let copied = Command::new("cp").arg("-a").arg(&tree).arg(&mine).status().unwrap();
        assert!(copied.success());
        fs::write(mine.join("secret"), "mine\n").unwrap();
        fs::rename(&tree, world.path("aside")).unwrap();
        symlink(&mine, &tree).unwrap();
        let (code, out, err) = world.says(&run);
        assert!(code == 125 && out.is_empty() && err.contains("link"), "{code} {out}{err}");
        fs::remove_file(&tree).unwrap();
        fs::rename(world.path("aside"), &tree).unwrap();
        fs::remove_dir_all(&mine).unwrap();
    }
    assert!(!trees.is_empty());
}
