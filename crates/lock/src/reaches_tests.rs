//! What leads out of a project's folder.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::document::{Facts, IndexKind, IndexRow, Wheel};
use crate::spec::{App, Flavour};

/// A project with this `sconce.toml`, and what it reaches for, `..` being the folder above it.
fn check(toml: &str, make: impl Fn(&Path), lock: Option<&Lock>, expected: &[&str]) {
    let above = tempfile::tempdir().unwrap();
    let above = above.path().canonicalize().unwrap();
    let folder = above.join("project");
    fs::create_dir(&folder).unwrap();
    make(&folder);
    fs::write(folder.join("sconce.toml"), toml).unwrap();
    let spec = Spec::load(&folder.join("sconce.toml")).unwrap();
    let env = |name: &str| (name == "UV_INDEX_LAB_X_USERNAME").then(|| "me".into());
    let found: Vec<String> = reaches(&spec, lock, &env)
        .iter()
        .map(|reach| reach.to_string().replace(&above.display().to_string(), ".."))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn what_stays_inside_is_no_reach() {
    let make = |folder: &Path| {
        fs::create_dir(folder.join("data")).unwrap();
        symlink("data", folder.join("link")).unwrap();
        fs::create_dir(folder.join("more")).unwrap();
        fs::write(folder.join("more/r.txt"), "-r ../base.txt\n./x-1-py3-none-any.whl\n").unwrap();
        fs::write(folder.join("base.txt"), "numpy\n-f wheels\n").unwrap();
    };
    check(
        "[environment]\nrequirements = \"more/r.txt\"\n\
         indexes = [{ name = \"a\", url = \"./whl\" }, { name = \"b\", url = \"https://h.invalid/s\" }]\n\
         [base]\nmirror = \"https://m.invalid/debian\"\n\
         [run]\nports = [\"80:80\"]\n\
         env = { A = \"1\", B = \"$$5\" }\nuser = \"0\"\ntmpfs = [\"/t\"]\n\
         volumes = [\".:/app\", \"./data:/d\", \"./link/x:/e\", \"./not/there:/f\", \"./a/../b:/g\"]\n",
        make,
        None,
        // `a` is not there: where `a/..` is can't be told.
        &["mounts ../project/./a/../b at /g, writable (sconce.toml, [run] volumes)"],
    );
}

/// A name by which a person means somebody else's image is one: later, the project's would run in its place.
#[test]
fn names_of_others_are_reaches() {
    for (name, whose) in [
        ("torch:2.15.0", "which sconce makes images of itself"),
        ("nvcr.io/nvidia/pytorch:24.05-py3", "which sconce makes images of itself"),
        ("ghcr.io/team/app:latest", "which is of a registry"),
        ("localhost/app", "which is of a registry"),
        ("nvidia/cuda:12.4", "which is of a registry"),
        ("team/app", "which is of a registry"),
    ] {
        let toml = format!("[image]\nname = \"{name}\"\n");
        let asks =
            format!("gives its image the name `{name}`, {whose} (sconce.toml, [image] name)");
        check(&toml, |_| (), None, &[&asks]);
    }
    check("[image]\nname = \"demo:1.2\"\n", |_| (), None, &[]);
}

#[test]
fn what_leads_out_is() {
    let make = |folder: &Path| {
        symlink("../other", folder.join("link")).unwrap();
        fs::create_dir(folder.join("../other")).unwrap();
        fs::write(folder.join("../other/r.txt"), "x @ file:///srv/x-1-py3-none-any.whl\n").unwrap();
    };
    check(
        "[environment]\nrequirements = \"link/r.txt\"\n\
         indexes = [{ name = \"lab-x\", url = \"https://u:p@h.invalid/s\" }, { name = \"c\", url = \"x:/../../w\" }]\n\
         [base]\nmirror = \"file:///srv/debian\"\n\
         [run]\ndevices = [\"/dev/sda:/dev/x\"]\nenv = { A = \"x$TOKEN-${OTHER}$$NO\" }\n\
         volumes = [\"./link:/d:ro,z\", \"../other/new:/e\", \"~/x:/f\", \"$HOME/y:/g\"]\n",
        make,
        None,
        &[
            "reads ../other/r.txt (sconce.toml, requirements)",
            "reads /srv/x-1-py3-none-any.whl (r.txt, line 1)",
            "sends your UV_INDEX_LAB_X_USERNAME to https://h.invalid/s (sconce.toml, index `lab-x`)",
            "reads ../project/x:/../../w (sconce.toml, index `c`)",
            "reads /srv/debian (sconce.toml, mirror)",
            "mounts ../other at /d, read-only (sconce.toml, [run] volumes)",
            "mounts ../other/new at /e, writable (sconce.toml, [run] volumes)",
            "mounts ~/x at /f, writable (sconce.toml, [run] volumes)",
            "mounts $HOME/y at /g, writable (sconce.toml, [run] volumes)",
            "gives the container /dev/sda (sconce.toml, [run] devices)",
            "gives the container your variable TOKEN (sconce.toml, [run] env, A)",
            "gives the container your variable OTHER (sconce.toml, [run] env, A)",
        ],
    );
}

/// A lock is a file of the project as well.
#[test]
fn a_lock_can_reach_out() {
    let wheel = |url: &str| Wheel {
        name: "x".into(),
        version: "1".into(),
        file: "x-1-py3-none-any.whl".into(),
        size: None,
        sha256: Digest::of(b"x"),
        index: "direct".into(),
        url: Some(url.into()),
        variant: None,
    };
    let facts = Facts {
        machine: "x86_64".parse().unwrap(),
        base: "trixie".into(),
        python: "3.13".into(),
        glibc: "2.41".into(),
        flavour: Flavour::Runtime,
        bytecode: true,
        gpus: Vec::new(),
        prefer: Vec::new(),
        torch: None,
    };
    let row =
        |url: &str| IndexRow { name: "a".into(), kind: IndexKind::Python, url: Some(url.into()) };
    let lock = Lock {
        spec: Digest::of(b""),
        inputs: None,
        facts,
        python: Some(crate::PythonPin {
            version: "3.13.1".into(),
            build: None,
            file: "python.tar.gz".into(),
            size: None,
            sha256: Digest::of(b""),
            url: Some("file:///srv/python.tar.gz".into()),
        }),
        app: App::default(),
        indexes: vec![row("./whl"), row("/srv/index")],
        wheels: vec![wheel("file:///etc/x.whl"), wheel("https://h.invalid/x.whl")],
        sources: Vec::new(),
        project: None,
        build_debs: Vec::new(),
        debs: Vec::new(),
        sealed: None,
    };
    let expected = [
        "reads /etc/x.whl (sconce.lock)",
        "reads /srv/python.tar.gz (sconce.lock)",
        "reads /srv/index (sconce.lock)",
    ];
    check("", |_| (), Some(&lock), &expected);
}

#[test]
fn where_a_line_stands_does_not_matter_to_trust() {
    let reach = |asks: &str, what: &str| Reach {
        when: When::Lock,
        asks: asks.into(),
        what: what.into(),
        reads: None,
    };
    let one = [reach("r.txt, line 1", "reads /a"), reach("r.txt, line 2", "reads /b")];
    let other = [reach("r.txt, line 9", "reads /b"), reach("r.txt, line 8", "reads /a")];
    assert_eq!(digest(&one), digest(&other));
    assert_ne!(digest(&one), digest(&one[..1]));
    assert_ne!(digest(&[reach("", "reads /a\0reads /b")]), digest(&[]));
}
