//! `sconce sbom`: what is in an image, in both forms, the same on every machine; and what scanners find in the image itself.

mod index_world;
#[allow(dead_code)]
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use sconce_blob::Digest;
use sconce_lock::{DebPin, Facts, IndexKind, IndexRow, Lock, Machine, Sealed, Wheel};
use sconce_testkit::Wheel as Made;
use serde_json::Value;
use world::World;

const INDEX: &str = "https://packages.corp.example/simple";
const DIRECT: &str = "https://builds.corp.example/direct-1.0-py3-none-any.whl";

/// Two wheels, one from an address, and a deb; of one of the user's own indexes.
fn lock() -> Lock {
    let wheel = |name: &str, index: &str, url: Option<&str>| Wheel {
        name: name.into(),
        version: "1.0".into(),
        file: format!("{name}-1.0-py3-none-any.whl"),
        size: Some(1000),
        sha256: Digest::of(name.as_bytes()),
        index: index.into(),
        url: url.map(str::to_owned),
        variant: None,
    };
    let index = |name: &str, kind, url: Option<&str>| IndexRow {
        name: name.into(),
        kind,
        url: url.map(str::to_owned),
    };
    let mut lock = Lock {
        indexes: vec![
            index("corp", IndexKind::Python, Some(INDEX)),
            index("direct", IndexKind::Python, None),
            index("trixie", IndexKind::Debian, None),
        ],
        wheels: vec![wheel("direct", "direct", Some(DIRECT)), wheel("indexed", "corp", None)],
        debs: vec![DebPin {
            name: "libstdc++6".into(),
            version: "1:14.2.0-19+b1".into(),
            arch: "amd64".into(),
            path: "pool/x.deb".into(),
            size: 1000,
            sha256: Digest::of(b"deb"),
            index: "trixie".into(),
        }],
        sealed: Some(Sealed { image: Digest::of(b"image"), layers: Vec::new() }),
        ..Lock::of_facts(Facts::of_base(Machine::X86_64, "trixie", "3.13", "2.41"))
    };
    lock.app.include = vec!["train.py".into()];
    lock
}

fn with_lock(lock: &Lock) -> World {
    let world = World::new();
    fs::create_dir(world.path("team")).unwrap();
    fs::write(world.path("team/sconce.lock"), lock.to_text()).unwrap();
    world
}

#[track_caller]
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

fn texts<'a>(rows: &'a Value, key: &str) -> Vec<&'a str> {
    rows.as_array().unwrap().iter().filter_map(|row| row[key].as_str()).collect()
}

#[test]
fn each_wheel_deb_and_app_of_a_lock_once() {
    let world = with_lock(&lock());
    let (code, out, err) = world.says(&["sbom", "team/sconce.lock"]);
    assert_eq!(code, 0, "{err}");
    let found = parsed(&out);
    assert_eq!((&found["bomFormat"], &found["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    assert_eq!(found["metadata"]["component"]["name"], "team");
    assert_eq!(
        texts(&found["components"], "name"),
        ["debian", "direct", "indexed", "libstdc++6", "app"]
    );
    let purls = [
        "pkg:pypi/direct@1.0",
        "pkg:pypi/indexed@1.0",
        "pkg:deb/debian/libstdc%2B%2B6@1:14.2.0-19%2Bb1?arch=amd64&distro=debian-13",
    ];
    assert_eq!(texts(&found["components"], "purl"), purls);
    assert_eq!(found["components"][2]["hashes"][0]["content"], Digest::of(b"indexed").hex());
    assert_eq!(found["components"][3]["supplier"]["name"], "Debian");
    let refs: BTreeSet<&str> = texts(&found["components"], "bom-ref").into_iter().collect();
    assert_eq!(refs.len(), 5);
    assert!(err.contains("of 2 Python packages no licence is known"), "{err}");

    let (code, out, _) = world.says(&["sbom", "--format", "spdx", "team"]);
    assert_eq!(code, 0);
    let found = parsed(&out);
    assert_eq!((&found["spdxVersion"], &found["name"]), (&"SPDX-2.3".into(), &"team".into()));
    assert_eq!(
        texts(&found["packages"], "name"),
        ["team", "debian", "direct", "indexed", "libstdc++6", "app"]
    );
    let ids: BTreeSet<&str> = texts(&found["packages"], "SPDXID").into_iter().collect();
    let plain = |id: &&str| id.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
    assert!(ids.len() == 6 && ids.iter().all(plain), "{ids:?}");
    assert_eq!(texts(&found["relationships"], "relatedSpdxElement").len(), 6);
    let locators = found["packages"].as_array().unwrap().iter();
    let locators = locators.filter_map(|row| row["externalRefs"][0]["referenceLocator"].as_str());
    assert_eq!(locators.collect::<Vec<_>>(), purls);
}

#[test]
fn the_same_everywhere_and_no_clock_in_it() {
    let (one, other) = (with_lock(&lock()), with_lock(&lock()));
    for form in ["cyclonedx", "spdx"] {
        let words = ["sbom", "--format", form, "team"];
        let (_, first, _) = one.says(&words);
        let mut again = other.sconce(&words);
        again.env("TZ", "Asia/Tokyo").env("LC_ALL", "C.UTF-8").env("HOME", "/nowhere");
        assert_eq!(world::texts(&again.output().unwrap()).1, first);
        let mut dated = one.sconce(&words);
        let dated = world::texts(&dated.env("SOURCE_DATE_EPOCH", "1795957200").output().unwrap()).1;
        assert!(dated.contains("\"2026-11-29T13:00:00Z\"") && !first.contains("2026"), "{dated}");
        // A document of another content is another document.
        let id = |text: &str| {
            let found = parsed(text);
            let id = found["serialNumber"].as_str().or(found["documentNamespace"].as_str());
            id.unwrap().to_owned()
        };
        assert_ne!(id(&first), id(&dated));
        let uuid = id(&first);
        let parts: Vec<usize> =
            uuid.trim_start_matches("urn:uuid:").split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{uuid}");
        for wrong in ["soon", "-1", "99999999999999999999", ""] {
            let mut command = one.sconce(&words);
            let output = command.env("SOURCE_DATE_EPOCH", wrong).output().unwrap();
            let (code, out, err) = world::texts(&output);
            assert!(
                code == 2 && out.is_empty() && err.contains("SOURCE_DATE_EPOCH"),
                "{wrong}: {err}"
            );
        }
    }
}

/// Whoever is given the document learns no address of the user's.
#[test]
fn no_address_of_an_index_is_in_it() {
    let world = with_lock(&lock());
    for form in ["cyclonedx", "spdx"] {
        let (_, out, _) = world.says(&["sbom", "--format", form, "team"]);
        assert!(!out.contains("corp"), "{out}");
        assert!(!out.contains(world.path("").to_str().unwrap()), "{out}");
        let (_, out, _) = world.says(&["sbom", "--format", form, "--addresses", "team"]);
        assert!(out.contains(DIRECT) && !out.contains("packages.corp"), "{out}");
    }
}

#[test]
fn locks_that_are_none() {
    let world = with_lock(&lock());
    let text = lock().to_text();
    fs::write(world.path("cut.lock"), &text[..text.len() - 9]).unwrap();
    fs::create_dir(world.path("empty")).unwrap();
    for (what, code) in
        [("cut.lock", 3), ("empty", 2), ("nosuch", 2), ("torch:2.15.0", 2), ("oci:empty", 2)]
    {
        let (found, out, err) = world.says(&["sbom", what]);
        assert!(
            (found, &*out) == (code, "") && err.starts_with("error: "),
            "{what}: {found} {err}"
        );
    }
    // Of the oldest format, and with nothing in it.
    let bare = Lock::of_facts(Facts::of_base(Machine::Aarch64, "bookworm", "3.11", "2.36"));
    assert!(bare.to_text().contains("\nversion = 1\n"));
    fs::write(world.path("bare.lock"), bare.to_text()).unwrap();
    for form in ["cyclonedx", "spdx"] {
        let (code, out, _) = world.says(&["sbom", "--format", form, "bare.lock"]);
        assert_eq!(code, 0, "{out}");
        parsed(&out);
    }
}

/// Licences and makers as the wheels have them, once they are there; and the same from the image's own files.
#[test]
fn what_packages_say_of_themselves() {
    let long = format!("License: {}", "x".repeat(100_000));
    let wheels = [
        Made::new("a", "1.0")
            .metadata("License-Expression: Apache-2.0 or mit")
            .metadata("Author: A. B. <a@b.example>"),
        Made::new("b", "1.0").metadata("License: a text \u{1b}[2J of its own"),
        Made::new("c", "1.0").metadata("Classifier: License :: OSI Approved :: MIT License"),
        Made::new("d", "1.0").metadata("License-Expression: LicenseRef-Own"),
        Made::new("e", "1.0").metadata(&long),
        Made::new("f", "1.0"),
    ];
    let world = index_world::with_python(&wheels);
    world.locks();
    let (code, before) = world.sconce(&["sbom", "--format", "spdx"]);
    assert!(code == 0 && before.contains("of 6 Python packages no licence is known"), "{before}");
    assert_eq!(world.sconce(&["build", "."]).0, 0);
    let row = |found: &Value, name: &str| {
        let mut rows = found["packages"].as_array().unwrap().iter();
        rows.find(|row| row["name"] == name).unwrap().clone()
    };
    for what in [".", "project"] {
        let (code, said) = world.sconce(&["sbom", "--format", "spdx", what]);
        assert!(code == 0 && !said.contains('\u{1b}'), "{said}");
        assert!(said.contains("of 1 Python package no licence is known"), "{said}");
        let found = parsed(&said[said.find('{').unwrap()..=said.rfind('}').unwrap()]);
        let declared =
            |name: &str| row(&found, name)["licenseDeclared"].as_str().unwrap().to_owned();
        assert_eq!(declared("a"), "Apache-2.0 OR MIT");
        assert_eq!(row(&found, "a")["comment"], "made by A. B., as the package says");
        assert_eq!(declared("c"), "MIT");
        assert_eq!(declared("d"), "LicenseRef-Own");
        assert_eq!(found["hasExtractedLicensingInfos"][0]["licenseId"], "LicenseRef-Own");
        for name in ["b", "e", "f"] {
            assert_eq!(declared(name), "NOASSERTION");
        }
        let words = row(&found, "b")["licenseComments"].as_str().unwrap().to_owned();
        assert!(words.contains("a text") && words.contains("of its own"), "{words}");
        assert!(row(&found, "e")["licenseComments"].as_str().unwrap().len() < 1000);
        // Of the image alone nobody knows from which files it came.
        assert_eq!(row(&found, "a")["checksums"].is_array(), what == ".");
        let (_, said) = world.sconce(&["sbom", "-q", what]);
        let found = parsed(&said);
        let licences: Vec<Value> = found["components"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|part| ["a", "b", "d"].contains(&part["name"].as_str().unwrap()))
            .map(|part| part["licenses"][0].clone())
            .collect();
        assert_eq!(licences[0]["expression"], "Apache-2.0 OR MIT");
        assert!(licences[1]["license"]["name"].as_str().unwrap().starts_with("a text"));
        assert_eq!(licences[2]["expression"], "LicenseRef-Own");
    }
}

/// Scanners (Trivy, Syft, Grype) find Python packages by `*.dist-info/METADATA`, with RECORD for the files and `licenses/`; a
/// `direct_url.json` would say that a package is from somewhere else than an index.
#[test]
fn what_scanners_look_for_is_in_the_image() {
    let record = "a-1.0.dist-info/licenses/LICENSE";
    let wheel = Made::new("a", "1.0")
        .metadata("License-File: LICENSE")
        .file("a.py", b"")
        .file(record, b"a licence");
    let text = wheel.metadata_text();
    let world = index_world::with_python(&[wheel]);
    assert_eq!(world.sconce(&["build", ".", "--output", "docker-archive:image.tar"]).0, 0);
    let script = "mkdir out && tar -xf image.tar -C out && mkdir root && for layer in $(find out -type f); do tar -xf $layer -C root 2>/dev/null || true; done";
    let made = Command::new("sh").args(["-ec", script]).current_dir(world.path("project")).status();
    assert!(made.unwrap().success());
    let mut found = Vec::new();
    walk(&world.path("project/root"), &mut found);
    let info = |name: &str| {
        let end = format!("site-packages/a-1.0.dist-info/{name}");
        found.iter().find(|path| path.ends_with(&end)).map(|path| fs::read_to_string(path).unwrap())
    };
    assert_eq!(info("METADATA"), Some(text), "{found:?}");
    assert_eq!(info("licenses/LICENSE").as_deref(), Some("a licence"));
    assert!(info("RECORD").unwrap().lines().any(|line| line.starts_with("a.py,")));
    assert_eq!(info("direct_url.json"), None);
}

fn walk(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => walk(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}
