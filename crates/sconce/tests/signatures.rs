//! `sconce sign`, `verify-signature`, `show`, and policies, with a registry on the loopback interface that
//! lists artifacts itself and one that does not.

mod world;

use std::fs;

use sconce_blob::Digest;
use sconce_testkit::RegistryServer;
use world::World;
use world::served::Served;

const ECHO: &str = r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "from the registry"]}"#;
const KEY: &str = include_str!("../../sign/tests/cosign/cosign.key");
const PUBLIC: &str = include_str!("../../sign/tests/cosign/cosign.pub");
const PLAIN: &str = include_str!("../../sign/tests/cosign/plain.key");
const PLAIN_PUBLIC: &str = include_str!("../../sign/tests/cosign/plain.pub");
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn done(world: &World, words: &[&str]) -> String {
    let (code, out, err) = world.says(words);
    assert_eq!(code, 0, "{words:?}\n{out}{err}");
    out
}

/// A world with keys, and an image in the registry.
fn with_image(registry: &RegistryServer) -> (World, String) {
    let world = World::new();
    for (name, text) in [
        ("cosign.key", KEY),
        ("cosign.pub", PUBLIC),
        ("plain.key", PLAIN),
        ("plain.pub", PLAIN_PUBLIC),
    ] {
        fs::write(world.path(name), text).unwrap();
    }
    world.image(ECHO);
    let name = format!("{}/team/app:1", registry.host());
    done(&world, &["push", "oci:image", &name]);
    (world, name)
}

fn verdict(world: &World, name: &str, key: &str) -> (i32, String) {
    let (code, out, err) = world.says(&["verify-signature", name, "--key", key]);
    (code, out + &err)
}

fn policy(world: &World, text: &str) {
    fs::create_dir_all(world.path("home/.config/sconce")).unwrap();
    fs::write(world.path("home/.config/sconce/plain.pub"), PLAIN_PUBLIC).unwrap();
    fs::write(world.path("home/.config/sconce/policy.toml"), text).unwrap();
}

#[test]
fn what_one_signs_another_verifies() {
    for lists in [true, false] {
        let registry = RegistryServer::start();
        if lists {
            registry.list_referrers();
        }
        let (world, name) = with_image(&registry);
        let (code, said) = verdict(&world, &name, "plain.pub");
        assert!(code == 1 && said.starts_with("no: ") && said.contains("no signature"), "{said}");
        let digest = done(&world, &["sign", &name, "--key", "plain.key"]).trim().to_owned();
        let tag = digest.replace(':', "-");
        assert_eq!(registry.tags("team/app").contains(&tag), !lists);
        let there = World::new();
        fs::write(there.path("plain.pub"), PLAIN_PUBLIC).unwrap();
        fs::write(there.path("cosign.pub"), PUBLIC).unwrap();
        let (code, said) = verdict(&there, &name, "plain.pub");
        assert!(
            code == 0 && said.contains(&format!("yes: plain.pub has signed {digest}")),
            "{said}"
        );
        let (code, said) = verdict(&there, &name, "cosign.pub");
        assert!(code == 1 && said.contains("1 by another key"), "{said}");
        // The same key says the same again: nothing new is put there.
        let before = registry.log().iter().filter(|line| line.starts_with("PUT")).count();
        let (listed, count) = (registry.manifest("team/app", &tag), |world: &World| {
            let all = done(world, &["show", &name, "--json"]);
            let all: serde_json::Value = serde_json::from_str(&all).unwrap();
            all["beside"].as_array().unwrap().len()
        });
        assert_eq!(count(&there), 1);
        done(&world, &["sign", &name, "--key", "plain.key"]);
        assert_eq!((registry.manifest("team/app", &tag), count(&there)), (listed, 1));
        let puts = registry.log().iter().filter(|line| line.starts_with("PUT")).count() - before;
        assert_eq!(puts, 1, "only the manifest");

        // The older form, and an encrypted key.
        let words = ["sign", &name, "--key", "cosign.key", "--form", "sig-tag"];
        let (code, _, err) = world.says(&words);
        assert!(code == 2 && err.contains("encrypted") && err.contains("COSIGN_PASSWORD"), "{err}");
        let locked = |password: &str| {
            world::texts(&world.sconce(&words).env("COSIGN_PASSWORD", password).output().unwrap())
        };
        assert!(locked("wrong").2.contains("does not open the key"));
        assert_eq!(locked("secret").0, 0);
        assert_eq!(locked("secret").0, 0);
        assert!(registry.tags("team/app").contains(&format!("{tag}.sig")));
        assert_eq!(verdict(&there, &name, "cosign.pub").0, 0);
        assert_eq!(count(&there), 2);
        let page = done(&there, &["show", &name, "--key", "cosign.pub"]);
        assert!(page.contains("signature") && page.contains("signed by sha256:"), "{page}");
        assert!(page.contains("signed by none of the keys"), "{page}");
    }
}

/// Keys of each kind whose signatures are the same each time.
#[test]
fn keys_of_other_kinds_sign_and_verify() {
    let registry = RegistryServer::start();
    let (world, name) = with_image(&registry);
    let key = |file: &str| format!("{}/../sign/tests/keys/{file}", env!("CARGO_MANIFEST_DIR"));
    for (count, kind) in ["p384", "ed25519", "rsa"].into_iter().enumerate() {
        let (private, public) = (key(&format!("{kind}.key")), key(&format!("{kind}.pub")));
        assert_eq!(verdict(&world, &name, &public).0, 1, "{kind}");
        done(&world, &["sign", &name, "--key", &private, "--form", "both"]);
        done(&world, &["sign", &name, "--key", &private, "--form", "both"]);
        assert_eq!(verdict(&world, &name, &public).0, 0, "{kind}");
        let all: serde_json::Value =
            serde_json::from_str(&done(&world, &["show", "--json", &name])).unwrap();
        assert_eq!(all["beside"].as_array().unwrap().len(), 2 * (count + 1), "{kind}");
    }
    let (code, _, err) = world.says(&["sign", &name, "--key", &key("p521.key")]);
    assert!(code == 3 && err.contains("P-521"), "{code} {err}");
    assert_eq!(verdict(&world, &name, &key("p521.pub")).0, 1);
}

/// The list under a tag has no lock: who is written over puts its row there again.
#[test]
fn several_sign_at_once() {
    let registry = RegistryServer::start();
    let (world, name) = with_image(&registry);
    let key = |file: &str| format!("{}/../sign/tests/keys/{file}", env!("CARGO_MANIFEST_DIR"));
    let kinds = ["p384", "ed25519", "rsa"];
    let signers: Vec<std::process::Child> = kinds
        .iter()
        .map(|kind| {
            let words = ["sign", &name, "--key", &key(&format!("{kind}.key"))];
            world.sconce(&words).stdout(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut signer in signers {
        assert!(signer.wait().unwrap().success());
    }
    for kind in kinds {
        let (code, said) = verdict(&world, &name, &key(&format!("{kind}.pub")));
        assert_eq!(code, 0, "{kind}: {said}");
    }
}

/// What cosign put into a registry, as it lay there.
#[test]
fn what_cosign_signed_is_read() {
    let registry = RegistryServer::start();
    let (world, name) = with_image(&registry);
    let of_cosign = |file: &str| {
        let path = format!("{}/../sign/tests/cosign/{file}", env!("CARGO_MANIFEST_DIR"));
        fs::read(path).unwrap()
    };
    // Its own image is an index here, of one image: what it signed is the digest of its bytes.
    let signed = of_cosign("image.json");
    let digest = registry.put_manifest("team/theirs", "1", MANIFEST, &signed);
    registry.put_blob("team/theirs", &of_cosign("image-config.json"));
    registry.put_blob("team/theirs", &of_cosign("bundle.json"));
    registry.put_manifest("team/theirs", "m", MANIFEST, &of_cosign("manifest.json"));
    let tag = digest.to_string().replace(':', "-");
    registry.put_manifest("team/theirs", &tag, INDEX, &of_cosign("index.json"));
    let theirs = format!("{}/team/theirs:1", registry.host());
    let (code, said) = verdict(&world, &theirs, "cosign.pub");
    assert!(code == 0 && said.contains(&digest.to_string()), "{said}");
    assert_eq!(verdict(&world, &theirs, "plain.pub").0, 1);
    // The same files beside another image prove nothing of it.
    let ours: Digest = done(&world, &["sign", &name, "--key", "plain.key"]).trim().parse().unwrap();
    registry.put_blob("team/app", &of_cosign("bundle.json"));
    registry.put_manifest("team/app", "m", MANIFEST, &of_cosign("manifest.json"));
    let tag = ours.to_string().replace(':', "-");
    registry.put_manifest("team/app", &tag, INDEX, &of_cosign("index.json"));
    let (code, said) = verdict(&world, &name, "cosign.pub");
    assert!(code == 1 && said.contains("of another image"), "{said}");
}

#[test]
fn a_signed_index_speaks_for_its_images() {
    let registry = RegistryServer::start();
    let (world, name) = with_image(&registry);
    let manifest = registry.manifest("team/app", "1").unwrap();
    let index = |other: &str| {
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","x":"{other}","manifests":[{{"mediaType":"{MANIFEST}","digest":"{}","size":{},"platform":{{"architecture":"{arch}","os":"linux"}}}}]}}"#,
            Digest::of(&manifest),
            manifest.len()
        )
    };
    let signed = registry.put_manifest("team/app", "all", INDEX, index("a").as_bytes());
    let all = name.replace(":1", ":all");
    assert_eq!(done(&world, &["sign", &all, "--key", "plain.key"]).trim(), signed.to_string());
    let (code, said) = verdict(&world, &all, "plain.pub");
    assert!(code == 0 && said.contains("by the signature of its index"), "{said}");
    // The image by itself is not signed, and neither is another index that names it.
    assert_eq!(verdict(&world, &name, "plain.pub").0, 1);
    registry.put_manifest("team/app", "all", INDEX, index("b").as_bytes());
    assert_eq!(verdict(&world, &all, "plain.pub").0, 1);
    // With a policy: run from the signed index, and again without asking the registry.
    registry.put_manifest("team/app", "all", INDEX, index("a").as_bytes());
    let host = registry.host();
    let there = World::new();
    policy(
        &there,
        &format!("version = 1\n[[images]]\nname = \"{host}\"\nkeys = [\"plain.pub\"]\n"),
    );
    let run = ["run", "-q", "--gpus", "none", &all];
    assert_eq!(done(&there, &run), "from the registry\n");
    let asked = registry.log().len();
    assert_eq!(done(&there, &run), "from the registry\n");
    assert_eq!(registry.log().len(), asked);
}

#[test]
fn what_can_not_be_read_is_no_answer() {
    let registry = RegistryServer::start();
    let (world, name) = with_image(&registry);
    let digest = done(&world, &["sign", &name, "--key", "plain.key"]).trim().to_owned();
    let tag = digest.replace(':', "-");
    let list = String::from_utf8(registry.manifest("team/app", &tag).unwrap()).unwrap();
    let row = list.split("\"digest\":\"").nth(1).unwrap().split('"').next().unwrap();
    // The list names a manifest that is not there.
    let gone = list.replace(row, &Digest::of(b"gone").to_string());
    registry.put_manifest("team/app", &tag, INDEX, gone.as_bytes());
    let (code, said) = verdict(&world, &name, "plain.pub");
    assert!(code == 12 && said.starts_with("can't tell: "), "{code} {said}");
    // The list is none.
    registry.put_manifest("team/app", &tag, INDEX, b"[]");
    let (code, said) = verdict(&world, &name, "plain.pub");
    assert!(code == 5 && said.contains("no list of artifacts"), "{code} {said}");
}

#[test]
fn a_policy_keeps_out_what_is_not_signed() {
    let registry = RegistryServer::start();
    let (world, name) = with_image(&registry);
    let host = registry.host();
    let there = World::new();
    // What was taken in before there was a policy is held to it too.
    let early = World::new();
    let run = ["run", "-q", "--gpus", "none", &name];
    assert_eq!(done(&early, &run), "from the registry\n");
    let text = format!("version = 1\n[[images]]\nname = \"{host}/team\"\nkeys = [\"plain.pub\"]\n");
    let id = done(&early, &["pull", &name]).trim().replace("sha256:", "");
    for world in [&there, &early] {
        policy(world, &text);
        for (words, expected) in [
            (&run[..], 125),
            (&["run", "-q", "--gpus", "none", "--pull", "always", &name], 125),
            (&["pull", &name], 6),
        ] {
            let (code, out, err) = world.says(words);
            assert_eq!(code, expected, "{words:?} {out}{err}");
            assert!(
                out.is_empty() && err.contains("is not taken") && err.contains("policy.toml"),
                "{err}"
            );
        }
    }
    let (code, _, err) = early.says(&["run", "-q", "--gpus", "none", &id[..12]]);
    assert!(code == 125 && err.contains("is not taken"), "{code} {err}");
    let (code, _, err) = there.says(&["copy", &name, "store:mine"]);
    assert!(code == 6 && err.contains("no signature"), "{code} {err}");
    // Offline nothing is known.
    let (code, _, err) = early.says(&["--offline", "run", "-q", "--gpus", "none", &name]);
    assert!(code == 125 && err.contains("its registry may not be asked"), "{code} {err}");

    // Another key is not enough, and neither is the right one on another image.
    world
        .sconce(&["sign", &name, "--key", "cosign.key"])
        .env("COSIGN_PASSWORD", "secret")
        .output()
        .unwrap();
    assert_eq!(there.says(&run).0, 125);
    done(&world, &["sign", &name, "--key", "plain.key"]);
    assert_eq!(done(&there, &run), "from the registry\n");
    assert_eq!(done(&early, &run), "from the registry\n");
    assert_eq!(done(&early, &["run", "-q", "--gpus", "none", &id[..12]]), "from the registry\n");
    assert_eq!(
        done(&there, &["--offline", "run", "-q", "--gpus", "none", &name]),
        "from the registry\n"
    );
    world.image(&ECHO.replace("from the", "anew from the"));
    done(&world, &["push", "oci:image", &name]);
    assert_eq!(there.says(&["pull", &name]).0, 6);
    // Another key is asked for by now. It has signed the image too, as the registry knows.
    fs::write(there.path("home/.config/sconce/plain.pub"), PUBLIC).unwrap();
    assert_eq!(done(&there, &run), "from the registry\n");
    policy(&there, "version = 1\ndefault = \"refuse\"\n");
    let (code, _, err) = there.says(&run);
    assert!(code == 125 && err.contains("no rule is for it"), "{code} {err}");
    policy(
        &there,
        &format!(
            "version = 1\ndefault = \"refuse\"\n[[images]]\nname = \"{host}\"\naccept = true\n"
        ),
    );
    assert_eq!(done(&there, &run), "from the registry\n");
    policy(&there, "version = 1\nkey = 1\n");
    let (code, _, err) = there.says(&["pull", &name]);
    assert!(code == 3 && err.contains("can't be used"), "{code} {err}");
}

/// What proved an image's signature under one name is kept beside what proved it under another, to another key.
#[test]
fn proofs_of_two_names_are_kept() {
    let registry = RegistryServer::start();
    let (world, _) = with_image(&registry);
    let host = registry.host();
    let names = ["a", "b"].map(|one| format!("{host}/{one}/app:1"));
    for (name, key) in names.iter().zip(["plain.key", "cosign.key"]) {
        done(&world, &["push", "oci:image", name]);
        let mut sign = world.sconce(&["sign", name, "--key", key]);
        assert!(sign.env("COSIGN_PASSWORD", "secret").output().unwrap().status.success());
    }
    let there = World::new();
    let rule = |one: &str, key: &str| {
        format!("[[images]]\nname = \"{host}/{one}\"\nkeys = [\"{key}.pub\"]\n")
    };
    let rules = rule("a", "plain") + &rule("b", "cosign");
    policy(&there, &format!("version = 1\ndefault = \"refuse\"\n{rules}"));
    fs::write(there.path("home/.config/sconce/cosign.pub"), PUBLIC).unwrap();
    for name in &names {
        done(&there, &["pull", name]);
    }
    for name in names.iter().chain(&names) {
        let words = ["--offline", "run", "-q", "--gpus", "none", name];
        assert_eq!(done(&there, &words), "from the registry\n", "{name}");
    }
}

/// Each way to an image that others built: pulled, by its names and digest, from a layout, an archive and a pipe, pushed, under names that a
/// person gave it, and from a store below.
#[test]
fn every_way_to_an_image_meets_the_policy() {
    let registry = RegistryServer::start();
    let (world, name) = with_image(&registry);
    let host = registry.host();
    let there = World::new();
    there.image(ECHO);
    done(&there, &["copy", "oci:image", "docker-archive:a.tar"]);
    done(&there, &["copy", "oci:image", "oci-archive:b.tar"]);
    done(&there, &["prune"]);
    done(&there, &["pull", &name]);
    // Other images, so that each has its own digest and names.
    let served = Served::start(&there, &["--writable"]);
    let push = |n: &str, tag: &str| {
        world.image(&ECHO.replace("from the registry", n));
        let to = format!("{}/{tag}", served.host);
        done(&world, &["copy", "--image-only", "oci:image", &to]).trim().replace("sha256:", "")
    };
    push("one", "lab/demo:1");
    push("two", "plain:1");
    push("three", &format!("{}/team/app:7", host.replace(':', "-")));
    let fourth = push("four", "of-digest:1");
    done(&there, &["rmi", "of-digest:1"]);
    // Of what is pushed under its digest alone there never was a name.
    let fifth = push_by_digest(&world, &served);
    let id = done(&there, &["pull", &name]).trim().replace("sha256:", "");
    let below = there.path("store").display().to_string();
    let third = format!("{}/team/app:7", host.replace(':', "-"));
    let ways: [(&str, &str); 15] = [
        (&name, "from the registry\n"),
        (&id, "from the registry\n"),
        (&id[..12], "from the registry\n"),
        ("oci:image", "from the registry\n"),
        ("./image", "from the registry\n"),
        ("docker-archive:a.tar", "from the registry\n"),
        ("oci-archive:b.tar", "from the registry\n"),
        ("./a.tar", "from the registry\n"),
        ("-", "from the registry\n"),
        ("lab/demo:1", "one\n"),
        ("plain:1", "two\n"),
        (&third, "three\n"),
        (&fourth, "four\n"),
        (&fourth[..12], "four\n"),
        (&fifth, "five\n"),
    ];
    let run = |world: &World, way: &str, stores: &str| {
        let mut run = world.sconce(&["run", "-q", "--gpus", "none", way]);
        run.env("SCONCE_STORES", stores);
        if way == "-" {
            run.stdin(fs::File::open(there.path("a.tar")).unwrap());
        }
        world::texts(&run.output().unwrap())
    };
    for (way, says) in ways {
        let (code, out, err) = run(&there, way, "");
        assert!(code == 0 && out == says, "without a policy: {way}: {code} {out}{err}");
    }
    policy(&there, "version = 1\ndefault = \"refuse\"\n");
    for (way, _) in ways {
        let (code, out, err) = run(&there, way, "");
        let refused = code == 125 && out.is_empty() && err.contains("is not taken");
        assert!(refused, "{way}: {code} {out}{err}");
    }
    // Nor under a name of one's own, or out of the store. A name with a host is the registry's to `copy`.
    for (way, _) in ways.iter().filter(|(way, _)| *way != "-" && *way != third) {
        for to in ["store:mine", "oci:out", "docker-archive:out.tar"] {
            let (code, _, err) = there.says(&["copy", way, to]);
            assert!(code == 6 && err.contains("is not taken"), "{way} to {to}: {code} {err}");
        }
    }
    for way in ["docker-archive:a.tar", "oci-archive:b.tar"] {
        let (code, out, err) = there.says(&["pull", way]);
        assert!(code == 6 && out.is_empty() && err.contains("`[files]`"), "{way}: {code} {err}");
    }
    assert!(!done(&there, &["images"]).contains("mine"));
    // From a store below: the name has its mark there.
    let above = World::new();
    policy(&above, "version = 1\ndefault = \"refuse\"\n");
    for way in ["lab/demo:1", "plain:1", &name, &id, &fourth, &fifth] {
        let (code, out, err) = run(&above, way, &below);
        assert!(
            code == 125 && out.is_empty() && err.contains("is not taken"),
            "{way}: {code} {err}"
        );
    }
    // What is asked of each kind is asked of that kind alone.
    for (table, taken) in [("files", [true, false]), ("pushed", [false, true])] {
        policy(&there, &format!("version = 1\ndefault = \"refuse\"\n[{table}]\naccept = true\n"));
        for (way, taken) in [
            ("oci:image", taken[0]),
            (&fourth[..], taken[1]),
            (&fifth[..], taken[1]),
            ("plain:1", taken[1]),
            ("lab/demo:1", taken[1]),
        ] {
            let (code, _, err) = run(&there, way, "");
            assert_eq!(code == 0, taken, "{table} {way}: {err}");
        }
        assert_eq!(run(&there, &name, "").0, 125);
    }
    // From a store below it is a client's as well.
    for (table, expected) in [("files", 125), ("pushed", 0)] {
        policy(&above, &format!("version = 1\ndefault = \"refuse\"\n[{table}]\naccept = true\n"));
        let (code, _, err) = run(&above, &fifth, &below);
        assert_eq!(code, expected, "{table}: {err}");
    }
    // Who brings the same image in a layout answers for it; and a client that pushes it after that changes nothing.
    policy(&there, "version = 1\ndefault = \"refuse\"\n[files]\naccept = true\n");
    world.image(&ECHO.replace("from the registry", "five"));
    let layout = there.path("five").display().to_string();
    done(&world, &["copy", "oci:image", &format!("oci:{layout}:1")]);
    assert_eq!(run(&there, "oci:five:1", "").1, "five\n");
    assert_eq!(run(&there, &fifth, "").1, "five\n");
    assert_eq!(push_by_digest(&world, &served), fifth);
    assert_eq!(run(&there, &fifth, "").1, "five\n");
    // What a person calls theirs is theirs.
    policy(&there, "version = 1\n[pushed]\naccept = true\n");
    done(&there, &["copy", "plain:1", "store:mine"]);
    policy(&there, "version = 1\ndefault = \"refuse\"\n");
    assert_eq!(run(&there, "mine", "").1, "two\n");
    assert_eq!(run(&there, "plain:1", "").0, 125);
}

/// An image that the store has by a name is not asked for anew by that name and its digest; and the policy asks of it what it asks of that name.
#[test]
fn a_name_with_a_digest_means_the_image_of_the_store() {
    let registry = RegistryServer::start();
    let (world, name) = with_image(&registry);
    let there = World::new();
    let digest = done(&there, &["pull", &name]).trim().to_owned();
    let served = Served::start(&there, &["--writable"]);
    world.image(&ECHO.replace("from the registry", "pushed"));
    let to = format!("{}/lab/demo:1", served.host);
    let pushed = done(&world, &["copy", "--image-only", "oci:image", &to]).trim().to_owned();
    let pulled = name.rsplit_once(':').unwrap().0.to_owned();
    let run = |way: &str| there.says(&["run", "-q", "--gpus", "none", "--pull", "never", way]);
    let ways = [
        (format!("{pulled}@{digest}"), "from the registry\n"),
        (format!("{pulled}:other@{digest}"), "from the registry\n"),
        (format!("lab/demo@{pushed}"), "pushed\n"),
    ];
    for (way, says) in &ways {
        let (code, out, err) = run(way);
        assert_eq!((code, out.as_str()), (0, *says), "{way}: {err}");
    }
    // Under another name it is not here.
    for way in [
        format!("lab/demo@{digest}"),
        format!("{pulled}@{pushed}"),
        format!("docker://lab/demo@{pushed}"),
    ] {
        assert_eq!(run(&way).0, 125, "{way}");
    }
    policy(&there, "version = 1\ndefault = \"refuse\"\n[files]\naccept = true\n");
    for (way, _) in &ways {
        let (code, _, err) = run(way);
        assert!(code == 125 && err.contains("is not taken"), "{way}: {code} {err}");
    }
    let host = registry.host();
    policy(
        &there,
        &format!(
            "version = 1\ndefault = \"refuse\"\n[pushed]\naccept = true\n[[images]]\nname = \"{host}\"\naccept = true\n"
        ),
    );
    for (way, _) in &ways {
        let (code, _, err) = run(way);
        assert_eq!(code, 0, "{way}: {err}");
    }
}

/// Pushes an image as clients do that give no name: its hexadecimal digest.
fn push_by_digest(world: &World, served: &Served) -> String {
    world.image(&ECHO.replace("from the registry", "five"));
    for blob in fs::read_dir(world.path("image/blobs/sha256")).unwrap().flatten() {
        let digest = blob.file_name().into_string().unwrap();
        let path = format!("/v2/nameless/blobs/uploads/?digest=sha256:{digest}");
        let reply = served.ask("POST", &path, "", &fs::read(blob.path()).unwrap());
        assert_eq!(reply.status, 201, "{}", reply.body);
    }
    let index = fs::read(world.path("image/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    let manifest = fs::read(world.path("image/blobs/sha256").join(&digest)).unwrap();
    let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
    let path = format!("/v2/nameless/manifests/sha256:{digest}");
    let reply = served.ask("PUT", &path, kind, &manifest);
    assert_eq!(reply.status, 201, "{}", reply.body);
    digest
}

/// A key that must have signed what is pushed, or comes in a layout: the signature comes along, and is verified at each start.
#[test]
fn signatures_of_what_is_pushed_and_in_files() {
    let registry = RegistryServer::start();
    let (world, name) = with_image(&registry);
    let there = World::new();
    policy(
        &there,
        "version = 1\n[files]\nkeys = [\"plain.pub\"]\n[pushed]\nkeys = [\"plain.pub\"]\n",
    );
    let served = Served::start(&there, &["--writable"]);
    let to = format!("{}/lab/demo:1", served.host);
    done(&world, &["copy", &name, &to]);
    let layout = there.path("layout").display().to_string();
    done(&world, &["copy", &name, &format!("oci:{layout}:1")]);
    let run = |way: &str| there.says(&["run", "-q", "--gpus", "none", way]);
    for way in ["lab/demo:1", "oci:layout:1"] {
        let (code, _, err) = run(way);
        assert!(code == 125 && err.contains("none of the keys"), "{way}: {code} {err}");
    }
    done(&world, &["sign", &name, "--key", "plain.key"]);
    done(&world, &["copy", &name, &to]);
    assert_eq!(run("lab/demo:1").1, "from the registry\n");
    fs::remove_dir_all(&layout).unwrap();
    done(&world, &["copy", &name, &format!("oci:{layout}:1")]);
    assert_eq!(run("oci:layout:1").1, "from the registry\n");
    // Of another image the same signature is none.
    world.image(&ECHO.replace("from", "not from"));
    done(&world, &["copy", "oci:image", &to]);
    assert_eq!(run("lab/demo:1").0, 125);
}

/// Something that is no image is said to be what it is, and shown.
#[test]
fn an_artifact_is_no_image() {
    let registry = RegistryServer::start();
    let world = World::new();
    let (config, file) = (&b"{\"name\": \"chart\"}"[..], &b"a chart"[..]);
    for bytes in [config, file] {
        registry.put_blob("team/chart", bytes);
    }
    let kind = "application/vnd.cncf.helm.config.v1+json";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"{kind}","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.cncf.helm.chart.content.v1.tar+gzip","digest":"{}","size":{},"annotations":{{"org.opencontainers.image.title":"chart.tgz"}}}}]}}"#,
        Digest::of(config),
        config.len(),
        Digest::of(file),
        file.len()
    );
    let digest = registry.put_manifest("team/chart", "1", MANIFEST, manifest.as_bytes());
    let name = format!("{}/team/chart:1", registry.host());
    for words in [&["pull", &name][..], &["run", "--gpus", "none", &name], &["inspect", &name]] {
        let (code, out, err) = world.says(words);
        let says = err.contains(&format!("is an artifact of type `{kind}`"));
        assert!(code != 0 && out.is_empty() && says, "{words:?} {code} {out}{err}");
        assert!(err.contains("`sconce show "), "{err}");
    }
    let page = done(&world, &["show", &name]);
    for says in [&digest.to_string(), kind, "chart.tgz: ", "7 bytes"] {
        assert!(page.contains(says), "{says}: {page}");
    }
    let all: serde_json::Value =
        serde_json::from_str(&done(&world, &["show", "--json", &name])).unwrap();
    assert_eq!(all["artifact"]["kind"], kind);
    assert_eq!(all["artifact"]["files"][0]["size"], 7);
}

/// A bundle of `plain.key`'s about the image of that name, as it lies in the registry: the bytes of its manifest
/// and of the bundle.
fn signature(registry: &RegistryServer, world: &World, name: &str) -> (String, Vec<u8>) {
    let all: serde_json::Value =
        serde_json::from_str(&done(world, &["sign", name, "--key", "plain.key", "--json"]))
            .unwrap();
    let digest = all["bundles"][0].as_str().unwrap();
    let manifest = registry.manifest("team/app", digest).unwrap();
    let read: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let file: Digest = read["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    (String::from_utf8(manifest).unwrap(), registry.blob("team/app", file).unwrap())
}

/// Who may write to a repository can put anything beside an image, any number of times.
#[test]
fn noise_hides_no_signature_and_makes_none() {
    let registry = RegistryServer::start();
    registry.list_in_pages(100);
    let (world, name) = with_image(&registry);
    let (manifest, _) = signature(&registry, &world, &name);
    // Of another type: more pages than are read.
    let put = |kind: &str, count: usize| {
        for number in 0..count {
            let noise = manifest.replace("application/vnd.dev.sigstore.bundle.v0.3+json", kind);
            let noise = noise.replace("dsse-envelope", &format!("noise-{number}"));
            let digest = Digest::of(noise.as_bytes()).to_string();
            registry.put_manifest("team/app", &digest, MANIFEST, noise.as_bytes());
        }
    };
    put("text/noise", 2500);
    let (code, said) = verdict(&world, &name, "plain.pub");
    assert!(code == 0 && said.starts_with("yes: "), "{code} {said}");
    let (code, said) = verdict(&world, &name, "cosign.pub");
    assert!(code == 1 && said.contains("1 by another key"), "{code} {said}");
    let (code, _, err) = world.says(&["show", &name]);
    assert!(code == 0 && err.contains("there is more of other kinds"), "{code} {err}");
}

/// Bundles that are huge, missing, no bundles, or two in one: another one still counts, and without it
/// nothing can be told.
#[test]
fn what_cannot_be_read_hides_no_signature() {
    for lists in [true, false] {
        let registry = RegistryServer::start();
        if lists {
            registry.list_referrers();
        }
        let (world, name) = with_image(&registry);
        let (manifest, bundle) = signature(&registry, &world, &name);
        let tag = done(&world, &["sign", &name, "--key", "plain.key"]).trim().replace(':', "-");
        let read: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        let layer = read["layers"][0].to_string();
        let (size, digest) =
            (format!("\"size\":{}", bundle.len()), Digest::of(&bundle).to_string());
        let text = String::from_utf8(bundle.clone()).unwrap();
        let twice = text.replacen("{", r#"{"mediaType":"x","#, 1);
        let twice = registry.put_blob("team/app", twice.as_bytes()).to_string();
        let mut rows = vec![manifest.clone()];
        for odd in [
            layer.replace(&size, "\"size\":99999999999"),
            layer.replace(&size, "\"size\":10"),
            layer.replace(&digest, &Digest::of(b"gone").to_string()),
            layer.replace(&digest, &twice),
            format!("{layer},{layer}"),
        ] {
            assert_ne!(odd, layer);
            rows.push(manifest.replace(&layer, &odd));
        }
        let list = |rows: &[String]| {
            let rows: Vec<String> = rows
                .iter()
                .map(|row| {
                    let digest = registry.put_manifest("team/app", "m", MANIFEST, row.as_bytes());
                    let size = row.len();
                    format!(r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{size}}}"#)
                })
                .collect();
            let list = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, rows.join(","));
            registry.put_manifest("team/app", &tag, INDEX, list.as_bytes());
        };
        list(&rows);
        let (code, said) = verdict(&world, &name, "plain.pub");
        assert!(code == 0, "{code} {said}");
        // The tag of the older form says that it has more than is read.
        let file = format!(
            r#"{{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"{}","size":8388608,"annotations":{{"dev.cosignproject.cosign/signature":"AAAA"}}}}"#,
            Digest::of(b"gone")
        );
        let files = vec![file; 20].join(",");
        let full = manifest.replace(&layer, &files);
        registry.put_manifest("team/app", &format!("{tag}.sig"), MANIFEST, full.as_bytes());
        let (code, said) = verdict(&world, &name, "plain.pub");
        assert!(code == 0, "{code} {said}");
        registry.put_manifest("team/app", &format!("{tag}.sig"), MANIFEST, manifest.as_bytes());
        if lists {
            continue;
        }
        for row in &rows[1..] {
            list(std::slice::from_ref(row));
            let (code, said) = verdict(&world, &name, "plain.pub");
            assert!(code == 12 && said.starts_with("can't tell: "), "{code} {said}: {row}");
        }
    }
}

/// A registry that says 201 and keeps nothing, once or always.
#[test]
fn a_signature_counts_when_it_is_read_back() {
    for lists in [true, false] {
        let registry = RegistryServer::start();
        if lists {
            registry.list_referrers();
        }
        let (world, name) = with_image(&registry);
        registry.lose_manifests(1000);
        for form in ["bundle", "sig-tag"] {
            let words = ["sign", &name, "--key", "plain.key", "--form", form];
            let (code, out, err) = world.says(&words);
            assert!(code == 5 && out.is_empty(), "{form}: {code} {err}");
            assert!(err.contains("said that it took this"), "{err}");
        }
        registry.lose_manifests(0);
        done(&world, &["sign", &name, "--key", "plain.key"]);
        assert_eq!(verdict(&world, &name, "plain.pub").0, 0);
    }
}

/// What a registry has does not move the cursor of whoever looks at it.
#[test]
fn what_is_printed_on_a_terminal_is_plain() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    let registry = RegistryServer::start();
    let (world, name) = with_image(&registry);
    let subject = registry.manifest("team/app", "1").unwrap();
    let text = "version = 1\n\u{1b}[2Jtitle\u{9b}1m\u{202e}\n";
    let file = registry.put_blob("team/app", text.as_bytes());
    registry.put_blob("team/app", b"{}");
    let kind = "application/vnd.sconce.lock.v1";
    let empty = Digest::of(b"{}");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"{kind}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{empty}","size":2}},"layers":[{{"mediaType":"{kind}","digest":"{file}","size":{}}}],"subject":{{"mediaType":"{MANIFEST}","digest":"{}","size":{}}}}}"#,
        text.len(),
        Digest::of(&subject),
        subject.len()
    );
    let digest = registry.put_manifest("team/app", "m", MANIFEST, manifest.as_bytes());
    let list = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{},"artifactType":"{kind}"}}]}}"#,
        manifest.len()
    );
    let tag = Digest::of(&subject).to_string().replace(':', "-");
    registry.put_manifest("team/app", &tag, INDEX, list.as_bytes());
    let words = ["show", &name, "--print", "lock"];
    assert_eq!(done(&world, &words), text, "a file gets the bytes");
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let path = ptsname(&terminal, Vec::new()).unwrap();
    let other = fs::File::options()
        .read(true)
        .write(true)
        .open(std::ffi::OsStr::from_bytes(path.as_bytes()))
        .unwrap();
    let status = world.sconce(&words).stdout(other).status().unwrap();
    assert!(status.success());
    let mut bytes = [0; 4096];
    let count = fs::File::from(terminal).read(&mut bytes).unwrap();
    let shown = String::from_utf8(bytes[..count].to_vec()).unwrap();
    assert_eq!(shown, "version = 1\r\n\\u{1b}[2Jtitle\\u{9b}1m\\u{202e}\r\n");
}

/// A lock that says which image it builds to, with a wheel and a Debian package.
fn lock(image: Digest) -> sconce_lock::Lock {
    let sha256 = Digest::of(b"file");
    let facts =
        sconce_lock::Facts::of_base(sconce_lock::Machine::X86_64, "bookworm", "3.11", "2.36");
    sconce_lock::Lock {
        indexes: [
            ("pypi", sconce_lock::IndexKind::Python),
            ("bookworm", sconce_lock::IndexKind::Debian),
        ]
        .map(|(name, kind)| sconce_lock::IndexRow { name: name.into(), kind, url: None })
        .into(),
        wheels: vec![sconce_lock::Wheel {
            name: "tiny".into(),
            version: "1.0+local".into(),
            file: "tiny-1.0+local-py3-none-any.whl".into(),
            size: Some(4),
            sha256,
            index: "pypi".into(),
            url: None,
            variant: None,
        }],
        debs: vec![sconce_lock::DebPin {
            name: "libc6".into(),
            version: "2.36-9+deb12u14".into(),
            arch: "amd64".into(),
            path: "pool/main/g/glibc/libc6.deb".into(),
            size: 4,
            sha256,
            index: "bookworm".into(),
        }],
        sealed: Some(sconce_lock::Sealed { image, layers: Vec::new() }),
        ..sconce_lock::Lock::of_facts(facts)
    }
}

#[test]
fn what_a_lock_says_travels_with_its_image() {
    let registry = RegistryServer::start();
    let (world, name) = with_image(&registry);
    let image = Digest::of(&registry.manifest("team/app", "1").unwrap());
    let sign = ["sign", &name, "--key", "plain.key", "--with", "sconce.lock"];
    fs::write(world.path("sconce.lock"), lock(Digest::of(b"other")).to_text()).unwrap();
    let (code, _, err) = world.says(&sign);
    assert!(code == 1 && err.contains("builds to"), "{code} {err}");
    // The same layers, but another configuration: nothing of it is the lock's word.
    let manifest = registry.manifest("team/app", "1").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let mut near = lock(Digest::of(b"other"));
    near.sealed.as_mut().unwrap().layers.push(sconce_lock::Layer {
        name: "debian".into(),
        diff_id: Digest::of(b"x"),
        digest: manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap(),
        size: 1,
    });
    fs::write(world.path("sconce.lock"), near.to_text()).unwrap();
    assert_eq!(world.says(&sign).0, 1);
    assert_eq!(done(&world, &["show", &name]), format!("{image}\n"), "nothing was signed");
    let text = lock(image).to_text();
    fs::write(world.path("sconce.lock"), &text).unwrap();
    done(&world, &sign);
    let page = done(&world, &["show", &name, "--key", "plain.pub"]);
    for what in ["signature: ", "SBOM: ", "provenance: ", "lock: "] {
        assert!(page.contains(what), "{page}");
    }
    assert_eq!(page.matches("signed by sha256:").count(), 4, "{page}");
    let print = |what: &str| done(&world, &["show", &name, "--key", "plain.pub", "--print", what]);
    assert_eq!(print("lock"), text);
    let bom: serde_json::Value = serde_json::from_str(&print("sbom")).unwrap();
    let purls: Vec<&str> = bom["components"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|part| part["purl"].as_str())
        .collect();
    assert_eq!(
        purls,
        [
            "pkg:pypi/tiny@1.0%2Blocal",
            "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64&distro=debian-12"
        ]
    );
    assert!(print("provenance").contains("resolvedDependencies"));
    // What another key has signed is not printed as if it were this one's.
    let (code, out, err) = world.says(&["show", &name, "--key", "cosign.pub", "--print", "lock"]);
    assert!(code == 1 && out.is_empty() && err.contains("signed by none of the keys"), "{err}");
    let (code, out, err) = world.says(&["show", &name, "--print", "lock"]);
    assert!(code == 0 && out == text && err.contains("nobody's signature"), "{err}");
}

/// What `copy` would take under a name is what is asked about.
#[test]
fn an_image_of_the_store_or_of_a_file_is_verified() {
    let registry = RegistryServer::start();
    registry.list_referrers();
    let (world, name) = with_image(&registry);
    done(&world, &["sign", &name, "--key", "plain.key"]);
    done(&world, &["copy", &name, "store:hello"]);
    done(&world, &["copy", &name, "oci:layout:1"]);
    done(&world, &["copy", "--image-only", &name, "oci:alone:1"]);
    done(&world, &["copy", "oci:image", "store:alone"]);
    let image = done(&world, &["copy", "store:hello", "oci:again:1"]);
    // The registry is not asked for any of it.
    let before = registry.log().len();
    for text in ["hello", "store:hello", "hello:latest", "oci:layout:1", "alone"] {
        let (code, said) = verdict(&world, text, "plain.pub");
        assert!(
            code == 0 && said.contains(&format!("has signed {}", image.trim())),
            "{text}: {said}"
        );
        let (code, said) = verdict(&world, text, "cosign.pub");
        assert!(code == 1 && said.starts_with("no: "), "{text}: {said}");
    }
    assert_eq!(registry.log().len(), before);
    let words = ["verify-signature", "--json", "hello", "--key", "plain.pub"];
    let row: serde_json::Value = serde_json::from_str(&done(&world, &words)).unwrap();
    assert_eq!((&row["name"], &row["verdict"]), (&"hello".into(), &"yes".into()));
    // Nothing of it here: another store, to which the image alone came.
    let there = World::new();
    fs::write(there.path("plain.pub"), PLAIN_PUBLIC).unwrap();
    let alone = world.path("alone").display().to_string();
    let (code, said) = verdict(&there, &format!("oci:{alone}:1"), "plain.pub");
    assert!(code == 1 && said.starts_with("no: "), "{said}");
    // One that was pulled: its registry has the signature.
    let there = World::new();
    fs::write(there.path("plain.pub"), PLAIN_PUBLIC).unwrap();
    done(&there, &["pull", &name]);
    let (code, said) = verdict(&there, &format!("store:{name}"), "plain.pub");
    assert_eq!(code, 0, "{said}");
    let (code, said) = verdict(&there, image.trim(), "plain.pub");
    assert_eq!(code, 0, "{said}");
    // What is nowhere here is not looked for on the internet.
    let (code, said) = verdict(&there, "absent", "plain.pub");
    assert!(code == 2 && said.contains("no image `absent` in the store"), "{said}");
    assert!(said.contains("docker://absent"), "{said}");
}

/// `--image-only` leaves out what the store keeps beside an image too: other tools take a layout for one image then.
#[test]
fn a_layout_of_an_image_alone() {
    let registry = RegistryServer::start();
    registry.list_referrers();
    let (world, name) = with_image(&registry);
    done(&world, &["sign", &name, "--key", "plain.key"]);
    done(&world, &["copy", &name, "store:hello"]);
    let rows = |layout: &str| {
        let index = fs::read(world.path(layout).join("index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        index["manifests"].as_array().unwrap().len()
    };
    let (code, _, err) = world.says(&["copy", "hello", "oci:all"]);
    assert!(code == 0 && err.contains("lists 1 artifact besides"), "{code} {err}");
    assert!(err.contains("--image-only"), "{err}");
    let (code, _, err) = world.says(&["copy", "--image-only", "hello", "oci:one"]);
    assert!(code == 0 && !err.contains("besides"), "{code} {err}");
    done(&world, &["copy", "--image-only", &name, "oci:two"]);
    done(&world, &["copy", "--image-only", "hello", "oci:one:2"]);
    assert_eq!((rows("all"), rows("one"), rows("two")), (2, 2, 1));
}
