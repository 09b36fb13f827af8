//! A Python that Debian does not ship: from a list and a mirror on loopback into the lock and the image.

mod index_world;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use index_world::World;
use sconce_blob::Digest;
use sconce_testkit::{Fault, Wheel};

const FILE: &str = "cpython-3.9.99+1-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz";
const ADDRESS: &str =
    "/pythons/cpython-3.9.99%2B1-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz";

/// What an archive holds besides the folder `python`, made by a shell that starts in an empty folder.
const PYTHON: &str = "mkdir -p python/bin python/lib/python3.9/lib-dynload python/lib/pkgconfig
    echo 'ELF' >python/bin/python3.9 && chmod 4751 python/bin/python3.9
    ln -s python3.9 python/bin/python3
    ln python/bin/python3.9 python/bin/python3.9-same
    echo 'import sys' >python/lib/python3.9/os.py
    echo \"build_time_vars = {'prefix': '/install', 'CC': 'clang -pthread'}\" >python/lib/python3.9/_sysconfigdata__linux_x.py
    echo 'prefix=/install' >python/lib/pkgconfig/python-3.9.pc
    ln -s ../../lib python/lib/python3.9/up";

/// An archive of the folder that a script fills; `tar` are further words for tar.
fn archive(script: &str, tar: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let made = Command::new("sh").args(["-ec", script]).current_dir(path).status().unwrap();
    assert!(made.success());
    let packed = Command::new("tar")
        .args(["--create", "--gzip", "--file", "x.tar.gz", "-P"])
        .args(tar)
        .arg("python")
        .current_dir(path)
        .output()
        .unwrap();
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    fs::read(path.join("x.tar.gz")).unwrap()
}

/// A project for Python 3.9 whose list of builds names `bytes` at loopback; the list says `digest` of them.
fn world(bytes: &[u8], digest: Digest) -> World {
    let mut world = World::on("3.10", &[Wheel::new("a", "1.0").file("a.py", b"x = 1\n")]);
    world.asks("python = \"3.9\"\nbytecode = false");
    world.index.server.put(ADDRESS, bytes);
    let list = format!(
        r#"{{"a": {{"name": "cpython", "arch": {{"family": "x86_64", "variant": null}}, "os": "linux", "libc": "gnu",
        "major": 3, "minor": 9, "patch": 99, "prerelease": "", "variant": null, "build": "1",
        "url": "{}", "sha256": "{}"}}}}"#,
        world.index.server.url(ADDRESS),
        digest.hex()
    );
    world.index.server.put("/list.json", list);
    world.env.push(("UV_PYTHON_DOWNLOADS_JSON_URL", world.index.server.url("/list.json")));
    world
}

fn with(bytes: &[u8]) -> World {
    world(bytes, Digest::of(bytes))
}

fn sealed(world: &World) -> sconce_lock::Sealed {
    let (code, said) = world.sconce(&["build"]);
    assert_eq!(code, 0, "{said}");
    let text = fs::read_to_string(world.path("project/sconce.lock")).unwrap();
    sconce_lock::Lock::parse(&text).unwrap().sealed.unwrap()
}

#[test]
fn a_python_that_debian_lacks_is_a_layer_and_a_pin() {
    let bytes = archive(PYTHON, &[]);
    let mut world = with(&bytes);
    let lock = world.locks();
    let pin = lock.python.as_ref().unwrap();
    assert_eq!((lock.facts.base.as_str(), lock.facts.python.as_str()), ("trixie", "3.9"));
    assert_eq!((pin.version.as_str(), pin.file.as_str()), ("3.9.99", FILE));
    assert_eq!(
        (pin.sha256, pin.url.clone()),
        (Digest::of(&bytes), Some(world.index.server.url(ADDRESS)))
    );
    assert!(lock.to_text().contains("\nversion = 5\n"), "{}", lock.to_text());

    let first = sealed(&world);
    let layers: Vec<&str> = first.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(layers[..3], ["debian trixie", "python 3.9.99", "virtual environment"]);
    // A lock that is there keeps its Python, and a build that was made asks for nothing.
    let before = world.index.server.requests().len();
    world.locks();
    assert_eq!(sealed(&world), first);
    assert_eq!(world.index.server.requests().len(), before);

    // Whoever packed the archive, and into whichever home it comes: the image is that of the lock. The seal
    // makes another one an error.
    world.env.push(("SCONCE_HOME", world.path("other").display().to_string()));
    assert_eq!(sealed(&world), first);
}

#[test]
fn the_layer_has_python_and_nothing_of_its_packer() {
    let world = with(&archive(PYTHON, &["--owner=7", "--group=8"]));
    world.locks();
    let layer = sealed(&world).layers.remove(1);
    let hex = layer.digest.hex();
    let blob = find(&world.path("store"), &hex).unwrap_or_else(|| panic!("no blob {hex}"));
    let tar = |words: &[&str]| {
        let listed =
            Command::new("tar").args(words).arg("--gzip").arg("--file").arg(&blob).output();
        listed.unwrap().stdout
    };
    let listed = String::from_utf8(tar(&["--list", "-v", "--numeric-owner", "--utc"])).unwrap();
    let rows: Vec<String> =
        listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for expected in [
        "-rwxr-xr-x 0/0 4 1970-01-01 00:00 opt/python/bin/python3.9",
        "lrwxrwxrwx 0/0 0 1970-01-01 00:00 opt/python/bin/python3 -> python3.9",
        "hrwxr-xr-x 0/0 0 1970-01-01 00:00 opt/python/bin/python3.9-same link to opt/python/bin/python3.9",
        "-rw-r--r-- 0/0 11 1970-01-01 00:00 opt/python/lib/python3.9/os.py",
        "lrwxrwxrwx 0/0 0 1970-01-01 00:00 opt/python/lib/python3.9/up -> ../../lib",
    ] {
        assert!(rows.iter().any(|row| row == expected), "{expected}\n{listed}");
    }
    assert!(listed.contains("lib/python3.9/EXTERNALLY-MANAGED"), "{listed}");
    let text = tar(&["--extract", "--to-stdout", "--wildcards", "*_sysconfigdata*", "*.pc"]);
    assert_eq!(
        String::from_utf8(text).unwrap(),
        "prefix=/opt/python\nbuild_time_vars = {'prefix': '/opt/python', 'CC': 'cc -pthread'}\n"
    );
}

#[test]
fn a_wheel_that_fails_ends_the_download_of_python_and_is_the_error() {
    let bytes = archive(PYTHON, &[]);
    let world = with(&bytes);
    world.locks();
    let wheel = world.index.path("a-1.0-py3-none-any.whl");
    world.index.server.always(ADDRESS, Fault::Slow(10, Duration::from_secs(1)));
    world.index.server.always(&wheel, Fault::Status(404, None));
    let started = Instant::now();
    let (code, said) = world.sconce(&["build"]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("404") && !said.contains("the Python of this lock"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// A file with this in its name, anywhere below a folder.
fn find(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    fs::read_dir(folder).ok()?.filter_map(Result::ok).find_map(|entry| {
        let path = entry.path();
        match path.is_dir() {
            true => find(&path, name),
            false => path
                .to_str()
                .is_some_and(|text| text.replace('/', "").contains(name))
                .then_some(path),
        }
    })
}

#[test]
fn what_the_mirror_does_wrong_is_said_with_a_way_out() {
    let bytes = archive(PYTHON, &[]);
    let way_out = "UV_PYTHON_INSTALL_MIRROR";

    let stale = world(&bytes, Digest::of(b"other"));
    stale.locks();
    let (code, said) = stale.sconce(&["build"]);
    assert_eq!(code, 6, "{said}");
    assert!(said.contains(FILE) && said.contains("SHA-256") && said.contains(way_out), "{said}");

    let missing = with(&bytes);
    missing.locks();
    missing.index.server.always(ADDRESS, Fault::Status(404, None));
    let (code, said) = missing.sconce(&["build"]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("answered 404") && said.contains(way_out), "{said}");

    let (code, said) = missing.sconce(&["--offline", "build"]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("offline") && said.contains(FILE), "{said}");
}

#[test]
fn a_list_without_that_python_is_named() {
    let world = with(b"");
    world.asks("python = \"3.12\"\nbytecode = false");
    let (code, said) = world.sconce(&["lock"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("list.json: it has no Python 3.12 for x86_64"), "{said}");
    assert!(said.contains("UV_PYTHON_DOWNLOADS_JSON_URL"), "{said}");
    for python in ["3.8", "3.15", "3.12t", "2.7"] {
        world.asks(&format!("python = \"{python}\""));
        let (code, said) = world.sconce(&["lock"]);
        assert_eq!(code, 3, "{said}");
        assert!(said.contains(&format!("there is no Python {python} for images")), "{said}");
        assert!(said.contains("there is 3.9, 3.10, 3.11 (Debian bookworm), 3.12, "), "{said}");
    }
}

#[test]
fn the_mirror_of_uv_is_asked_for_the_builds_that_are_known() {
    let mut world = with(b"");
    world.env.pop();
    let mirror = world.index.server.url("/pbs");
    fs::write(world.path("project/uv.toml"), format!("python-install-mirror = \"{mirror}\"\n"))
        .unwrap();
    // As where uv reads its files.
    world.env.push(("UV_NO_CONFIG", String::new()));
    let lock = world.locks();
    let pin = lock.python.unwrap();
    assert_eq!((pin.url, pin.build.as_deref()), (None, Some("20251031")));
    let (code, said) = world.sconce(&["build"]);
    assert_eq!(code, 5, "{said}");
    let asked = "/pbs/20251031/cpython-3.9.25%2B20251031-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz";
    assert!(!world.index.server.requests_for(asked).is_empty(), "{said}");
}

#[test]
fn archives_that_reach_out_are_refused() {
    let more = |script: &str| format!("{PYTHON}\n{script}");
    for (script, tar, why) in [
        (more("ln -s /etc/passwd python/bin/x"), &[][..], "is a link out of it"),
        (more("ln -s ../../../etc python/lib/x"), &[], "is a link out of it"),
        (more(":"), &["--transform=s,^python/lib/python3.9/os.py,../os.py,"], "os.py"),
        (more(":"), &["--transform=s,^python/lib/python3.9/os.py,/etc/os.py,"], "os.py"),
        (
            more(":"),
            &["--transform=s,^python/lib/python3.9/os.py,other/os.py,"],
            "is not in its folder",
        ),
        (more("mkfifo python/bin/pipe"), &[], "device node or pipe"),
        (more("echo >python/bin/.wh.python3"), &[], ".wh."),
        (more("rm python/lib/python3.9/os.py"), &[], "there is no python/lib/python3.9/os.py"),
    ] {
        let world = with(&archive(&script, tar));
        world.locks();
        let (code, said) = world.sconce(&["build"]);
        assert_eq!(code, 6, "{script}: {said}");
        assert!(said.contains(FILE) && said.contains(why), "{why}: {said}");
    }
    // A link where a folder is wanted, through which files would go elsewhere.
    let script = more("ln -s bin python/x; mkdir python/w; echo >python/w/y");
    let world = with(&archive(&script, &["--transform=s,^python/w/,python/x/,"]));
    world.locks();
    let (code, said) = world.sconce(&["build"]);
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("opt/python/x/y") && said.contains("opt/python/x"), "{said}");
    let mut cut = archive(PYTHON, &[]);
    cut.truncate(cut.len() / 2);
    let world = with(&cut);
    world.locks();
    assert_eq!(world.sconce(&["build"]).0, 6);
}

#[test]
fn requires_python_chooses_among_all_of_them() {
    let world = with(b"");
    let project = |requires: &str| {
        let text =
            format!("[project]\nname = \"p\"\nversion = \"1\"\nrequires-python = \"{requires}\"\n");
        fs::write(world.path("project/pyproject.toml"), text).unwrap();
        let spec =
            "[environment]\ntorch = false\nrequirements = \"pyproject.toml\"\nbytecode = false\n";
        fs::write(world.path("project/sconce.toml"), spec).unwrap();
    };
    project("<3.10");
    assert_eq!(world.locks().facts.python, "3.9");
    project(">=3.15");
    let (code, said) = world.sconce(&["lock"]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("requires-python is >=3.15"), "{said}");
}
