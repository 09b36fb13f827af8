//! What is said when an image can't be had, and whether the hint helps.

mod world;

use std::fs;
use std::process::Command;

use sconce_testkit::RegistryServer;
use world::World;
use world::served::Served;

const ECHO: &str = r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "from the registry"]}"#;
const OTHER: &str = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };

fn done(world: &World, words: &[&str]) -> String {
    let (code, out, err) = world.says(words);
    assert_eq!(code, 0, "{words:?}\n{out}{err}");
    out
}

/// That a command fails with a code and these words, and without those after them.
#[track_caller]
fn fails(world: &World, words: &[&str], code: i32, says: &[&str], not: &[&str]) {
    let (came, _, err) = world.says(words);
    assert_eq!(came, code, "{words:?}\n{err}");
    for part in says {
        assert!(err.contains(part), "{words:?}: no `{part}` in\n{err}");
    }
    for part in not {
        assert!(!err.contains(part), "{words:?}: `{part}` in\n{err}");
    }
}

#[test]
fn what_the_store_has_not() {
    let world = World::new();
    world.image(ECHO);
    let run = ["run", "--gpus", "none", "store:torch:9.9.9"];
    let says = ["no image `torch:9.9.9` in the store", "`torch:9.9.9` without `store:`"];
    fails(&world, &run, 125, &says, &["sconce pull", "docker://"]);
    for absent in ["store:absent", "absent"] {
        let says = ["no image `absent` in the store", "`sconce images --all`"];
        fails(&world, &["rmi", absent], 1, &says, &["sconce pull", "docker://"]);
    }
    // As `run` and `copy` name it.
    done(&world, &["copy", "oci:image", "store:mine"]);
    assert!(done(&world, &["rmi", "store:mine"]).starts_with("mine\n"));
    done(&world, &["copy", "oci:image", "store:mine"]);
    for source in ["mine", "store:mine", "oci:image"] {
        let says = ["is no image in a registry", "leave --all out"];
        fails(&world, &["copy", "--all", source, "oci:all"], 2, &says, &["--platform"]);
    }
}

#[test]
fn a_file_of_authorities_is_looked_at_at_once() {
    let world = World::new();
    world.image(ECHO);
    fs::write(world.path("ca.pem"), "no certificate").unwrap();
    // None of these asks a registry.
    for words in [
        &["copy", "--ca", "ca.pem", "oci:image", "store:mine"][..],
        &["run", "--ca", "ca.pem", "--gpus", "none", "oci:image"],
        &["pull", "--ca", "ca.pem", "localhost:1/app"],
    ] {
        let code = if words[0] == "run" { 125 } else { 3 };
        let says = ["--ca: ", "ca.pem: no certificate in PEM", "openssl x509"];
        fails(&world, words, code, &says, &["UV_DEFAULT_INDEX"]);
    }
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (bytes, says, hint) in [
        (&b""[..], "the file is empty", "-----BEGIN CERTIFICATE-----"),
        (b" \n", "the file is empty", "-----BEGIN CERTIFICATE-----"),
        (b"junk", "the file has no `-----BEGIN` in it", "openssl x509 -inform DER"),
        (b"\x30\x82\x01\x00junk", "the file is in DER", "openssl x509 -inform DER -in "),
        (key.as_bytes(), "the file holds a private key", "-----BEGIN CERTIFICATE-----"),
        (
            &key.replace("PRIVATE KEY", "CERTIFICATE REQUEST").into_bytes(),
            "the file holds a request for a certificate",
            "-----BEGIN CERTIFICATE-----",
        ),
        (
            &key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY").into_bytes(),
            "the file holds an encrypted private key",
            "-----BEGIN CERTIFICATE-----",
        ),
    ] {
        fs::write(world.path("ca.pem"), bytes).unwrap();
        let says = ["--ca: ", &format!("ca.pem: no certificate in PEM: {says}\n"), hint];
        fails(&world, &["pull", "--ca", "ca.pem", "localhost:1/app"], 3, &says, &[]);
    }
    let says = ["--ca: ", "can't read", "none.pem"];
    fails(&world, &["copy", "--ca", "none.pem", "oci:image", "store:mine"], 7, &says, &[]);
}

#[test]
fn an_image_for_other_machines() {
    let (world, registry) = (World::new(), RegistryServer::start());
    let name = format!("{}/team/app:1", registry.host());
    world.image_for(OTHER, ECHO);
    fails(&world, &["push", "oci:image", &name], 3, &[&format!("it is for {OTHER}, not ")], &[]);
    done(&world, &["push", "--platform", OTHER, "oci:image", &name]);
    for pull in ["missing", "always"] {
        let run = ["run", "--gpus", "none", "--pull", pull, &name];
        let says = [&*format!("it is for {OTHER}"), "only machines of that kind run it"];
        fails(&World::new(), &run, 125, &says, &["look at another"]);
    }
    // Never asked for: what the store has of that name does not run here.
    let there = World::new();
    done(&there, &["pull", "--platform", OTHER, &name]);
    let run = ["run", "--gpus", "none", "--pull", "never", &name];
    fails(&there, &run, 125, &["nothing is emulated"], &["offline"]);
}

#[test]
fn what_our_own_registry_answers() {
    let (world, here) = (World::new(), World::new());
    world.image(ECHO);
    let served = Served::start(&here, &[]);
    let name = |name: &str| format!("{}/{name}", served.host);
    let says = ["answered 405", "takes images with --writable"];
    fails(&world, &["push", "oci:image", &name("app:1")], 5, &says, &["mirror"]);
    let says = ["torch:2.15.0", "nothing is built here", "--no-build"];
    fails(&world, &["pull", &name("torch:2.15.0")], 5, &says, &["--allow"]);
    let says = ["has no app:1", "it says: there is no image `app:1` here"];
    fails(&world, &["pull", &name("app:1")], 5, &says, &[]);
    drop(served);

    let served = Served::start(&here, &["--writable"]);
    let name = |name: &str| format!("{}/{name}", served.host);
    let says = ["answered 400", "Docker Hub's own"];
    fails(&world, &["push", "oci:image", &name("docker.io/app:1")], 5, &says, &["try later"]);
    world.image_for(OTHER, ECHO);
    fs::rename(world.path("image"), world.path("other")).unwrap();
    world.image(ECHO);
    let push = ["push", "oci:image", "oci:other", &name("app:1")];
    fails(&world, &push, 5, &["answered 400", "push the image of one"], &["try later"]);
}

#[test]
fn a_policy_says_what_it_lacks() {
    let (world, registry) = (World::new(), RegistryServer::start());
    world.image(ECHO);
    let name = format!("{}/team/app", registry.host());
    done(&world, &["push", "oci:image", &format!("{name}:1")]);
    let folder = world.path("home/.config/sconce");
    fs::create_dir_all(&folder).unwrap();
    let policy = |text: &str| fs::write(folder.join("policy.toml"), text).unwrap();
    policy("version = 1\ndefault = \"refuse\"\n");
    let rule = format!("`name = \"{name}\"`");
    let says = ["no rule is for it", "`[[images]]`", &rule, "`accept = true`"];
    fails(&world, &["pull", &format!("{name}:1")], 6, &says, &["sconce sign"]);
    // What the hint says helps.
    policy(&format!(
        "version = 1\ndefault = \"refuse\"\n[[images]]\nname = \"{name}\"\naccept = true\n"
    ));
    done(&world, &["pull", &format!("{name}:1")]);
    policy(&format!("version = 1\n[[images]]\nname = \"{name}\"\nkeys = [\"none.pub\"]\n"));
    let says = ["policy.toml can't be used: its key ", "none.pub: No such file"];
    fails(&world, &["pull", &format!("{name}:1")], 3, &says, &[]);
}

/// Every command that looks for a login reads the file, `login` as well: what is said helps with all of them.
#[test]
fn a_broken_file_of_logins() {
    let (world, registry) = (World::new(), RegistryServer::start());
    world.image(ECHO);
    let host = registry.host();
    let name = format!("{host}/team/app:1");
    let folder = world.path("home/my .docker");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("config.json");
    let says = |words: &[&str]| {
        let mut command = world.sconce(words);
        command.env("DOCKER_CONFIG", &folder);
        for variable in ["REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"] {
            command.env_remove(variable);
        }
        world::texts(&command.output().unwrap())
    };
    let shown = file.display();
    for (text, place) in [
        ("{\n  \"auths\": {\n    \"x\": {\"auth\": s3cret}\n", " (line 3, column 19)"),
        ("{\"auths\": \"s3cret\"}", " (line 1, column 18)"),
        ("", " (line 1, column 0)"),
    ] {
        for words in [
            &["login", "-u", "me", "-p", "pw", &host][..],
            &["logout", &host],
            &["pull", &name],
            &["push", "oci:image", &name],
        ] {
            fs::write(&file, text).unwrap();
            let (code, _, err) = says(words);
            let what = format!("{shown}: no such file as `docker login` writes{place}\n");
            assert!(code == 3 && err.contains(&what), "{words:?}: {code} {err}");
            assert!(!err.contains("s3cret") && !err.contains("sconce login"), "{err}");
            // The hint works as it is printed.
            let moves = err.rsplit_once(": `mv ").unwrap().1.trim_end().trim_end_matches('`');
            let moved = Command::new("sh").args(["-c", &format!("mv {moves}")]).status();
            assert!(moved.unwrap().success() && !file.exists(), "{err}");
        }
    }
    let (code, _, err) = says(&["login", "-u", "me", "-p", "pw", &host]);
    assert!(code == 0 && file.exists(), "{err}");
}

/// An image of which a layer is neither there nor unpacked: what is said brings it back.
#[test]
fn an_image_that_lacks_a_part() {
    let (world, registry) = (World::new(), RegistryServer::start());
    world.image(ECHO);
    let name = format!("{}/team/app:1", registry.host());
    done(&world, &["push", "oci:image", &name]);
    let there = World::new();
    let stored = format!("store:{name}");
    let other = format!("{}/team/other:1", registry.host());
    let lose = || {
        for folder in ["blobs/sha256", "trees"] {
            let files = fs::read_dir(there.path("store").join(folder)).unwrap().flatten();
            // The layer is the largest blob, and the only tree.
            let all = files.flat_map(|file| match folder {
                "trees" => vec![file.path()],
                _ => fs::read_dir(file.path()).unwrap().flatten().map(|f| f.path()).collect(),
            });
            let large = |path: &std::path::PathBuf| {
                path.is_dir() || path.metadata().unwrap().len() > 100_000
            };
            for path in all.filter(large) {
                match path.is_dir() {
                    true => fs::remove_dir_all(path).unwrap(),
                    false => fs::remove_file(path).unwrap(),
                }
            }
        }
    };
    done(&there, &["pull", &name]);
    let hint = format!("hint: `sconce pull {name}` fetches what is missing\n");
    for words in [
        &["copy", &stored, "docker-archive:out.tar"][..],
        &["copy", &stored, &other],
        &["load", &stored, "--into", "docker"],
        &["push", &stored, &other],
        &["push", &name],
    ] {
        lose();
        fails(&there, words, 7, &["is incomplete: blob ", &hint], &["build it again"]);
        done(&there, &["pull", &name]);
    }
    done(&there, &["copy", &stored, "docker-archive:out.tar"]);
    // Of one that no registry has: from where it came.
    done(
        &there,
        &["copy", &format!("docker-archive:{}", there.path("out.tar").display()), "store:mine"],
    );
    done(&there, &["rmi", &name]);
    lose();
    let says = ["is incomplete", "copy it in again from where it came", "`sconce rmi "];
    fails(&there, &["copy", "store:mine", "oci:out"], 7, &says, &["sconce pull"]);
    done(&there, &["copy", "docker-archive:out.tar", "store:mine"]);
    done(&there, &["copy", "store:mine", "oci:out"]);
}
