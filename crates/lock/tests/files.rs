//! Files of requirements, as pip and uv read them: several together, hashes, projects, and those of other tools.

mod world;

use std::fs;
use std::path::Path;

use expect_test::{Expect, expect};
use sconce_lock::{Error, Host, Lock, Previous, PythonRequest, Spec, resolve};
use world::World;

fn host() -> Host {
    Host { machine: Some("x86_64".parse().unwrap()), ..Host::default() }
}

/// A project with these files, `sconce.toml` first.
fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn load(folder: &Path) -> Result<Spec, Error> {
    Spec::load(&folder.join("sconce.toml"))
}

/// What uv is asked, and the lock.
fn locked(files: &[(&str, &str)]) -> (PythonRequest, Lock) {
    let folder = project(files);
    let spec = load(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let mut world = World::default();
    let (lock, _) = resolve(&spec, &host(), Previous::NONE, &mut world)
        .unwrap_or_else(|error| panic!("{error}"));
    (world.asked.pop().unwrap(), lock)
}

/// The error and its hint, without the folder.
#[track_caller]
fn refused(files: &[(&str, &str)], expected: Expect) {
    let folder = project(files);
    let error = match load(folder.path()) {
        Err(error) => error,
        Ok(spec) => match resolve(&spec, &host(), Previous::NONE, &mut World::default()) {
            Err(error) => error,
            Ok((lock, _)) => panic!("became {}", lock.to_text()),
        },
    };
    let text = format!("{error}\n{}", error.hint().unwrap_or_default());
    expected.assert_eq(&text.replace(&format!("{}/", folder.path().display()), ""));
}

const LIST: &str = "[environment]\ntorch = false\nrequirements = [\n  \"-r base.txt\",\n  \"einops\",\n  \"-c pins.txt\",\n  \"-r more/dev.txt\",\n]\n";

#[test]
fn a_list_together_with_files() {
    let files = [
        ("sconce.toml", LIST),
        ("base.txt", "numpy>=2\n--extra-index-url http://127.0.0.1:9/simple/\n"),
        ("pins.txt", "numpy<2.5\n"),
        ("more/dev.txt", "-r ../again.txt\nrich\n"),
        ("again.txt", "tqdm\n"),
    ];
    let (asked, _) = locked(&files);
    assert_eq!(asked.requirements, ["numpy>=2", "einops", "tqdm", "rich", "pip"]);
    assert_eq!(asked.constraints, ["numpy<2.5"]);
    assert_eq!(asked.options, ["--extra-index-url http://127.0.0.1:9/simple/"]);
    let named = ("requirements-1".to_owned(), "http://127.0.0.1:9/simple/".to_owned());
    assert_eq!(asked.elsewhere, [named]);
    // A changed file makes the lock stale, whichever it is.
    let folder = project(&files);
    let before = load(folder.path()).unwrap().digest();
    for name in ["base.txt", "pins.txt", "more/dev.txt", "again.txt"] {
        fs::write(folder.path().join(name), "other\n").unwrap();
        assert_ne!(load(folder.path()).unwrap().digest(), before, "{name}");
        fs::write(folder.path().join(name), files.iter().find(|f| f.0 == name).unwrap().1).unwrap();
        assert_eq!(load(folder.path()).unwrap().digest(), before, "{name}");
    }
}

#[test]
fn faults_have_their_file_and_line() {
    refused(
        &[("sconce.toml", LIST)],
        expect![[r#"
        sconce.toml, line 4: `base.txt`: can't be read: No such file or directory (os error 2)
    "#]],
    );
    refused(
        &[
            ("sconce.toml", LIST),
            ("base.txt", "numpy\n\nx y\n"),
            ("pins.txt", ""),
            ("more/dev.txt", ""),
        ],
        expect![[r#"
            base.txt, line 3: `x y`: Expected one of `@`, `(`, `<`, `=`, `>`, `~`, `!`, `;`, found `y` x y   ^
        "#]],
    );
    refused(
        &[("sconce.toml", "[environment]\nrequirements = [\"-e .\"]\n")],
        expect![[r#"
        sconce.toml, line 2, column 16: `-e .`: only -r and -c stand in this list
        `indexes` names where packages come from"#]],
    );
    refused(
        &[("sconce.toml", "[environment]\nrequirements = [\"--extra-index-url x\"]\n")],
        expect![[r#"
            sconce.toml, line 2, column 16: `--extra-index-url x`: only -r and -c stand in this list
            `indexes` names where packages come from"#]],
    );
    refused(
        &[
            ("sconce.toml", "[environment]\nrequirements = [\"-r pylock.toml\"]\n"),
            ("pylock.toml", ""),
        ],
        expect![[r#"
            sconce.toml, line 2: `pylock.toml`: a pylock.toml is taken as it is: `requirements = "pylock.toml"`
        "#]],
    );
}

#[test]
fn hashes_are_compared() {
    let toml = "[environment]\ntorch = false\nrequirements = \"r.txt\"\n";
    // The world gives `einops` 1.0 a SHA-256 of nine.
    let right = format!("{:064x}", 9);
    let wrong = "0".repeat(64);
    let line = |hash: &str| format!("# x\neinops==1.0 --hash=sha256:{hash}\n");
    let (_, lock) = locked(&[("sconce.toml", toml), ("r.txt", &line(&right))]);
    assert!(lock.wheel("einops").is_some());
    refused(
        &[("sconce.toml", toml), ("r.txt", &line(&wrong))],
        expect![[r#"
        r.txt, line 2: `einops==1.0`: no file that fits has one of its hashes; einops-1.0-py3-none-any.whl has sha256:0000000000000000000000000000000000000000000000000000000000000009
    "#]],
    );
    let md5 = "einops==1.0 --hash=md5:00000000000000000000000000000000\n";
    refused(
        &[("sconce.toml", toml), ("r.txt", md5)],
        expect![[r#"
        r.txt, line 1: `einops==1.0`: it has no SHA-256, the only hash that is compared here
    "#]],
    );
    let both = format!("--require-hashes\n{}rich\n", line(&right));
    refused(
        &[("sconce.toml", toml), ("r.txt", &both)],
        expect![[r#"
        r.txt, line 1: `--require-hashes`: rich is needed, and has no --hash
    "#]],
    );
}

const PYPROJECT: &str = r#"[project]
name = "mine"
version = "0.1"
requires-python = ">=3.10,<3.13"
dependencies = ["einops"]
[project.optional-dependencies]
train = ["rich"]
[dependency-groups]
dev = ["pytest"]
[tool.uv]
override-dependencies = ["urllib3<2"]
constraint-dependencies = ["einops<0.8"]
"#;

#[test]
fn a_project_with_extras_groups_and_the_python_it_asks_for() {
    let toml = "[environment]\nrequirements = \"pyproject.toml\"\nextras = [\"train\"]\ngroups = [\"dev\"]\n";
    let (asked, lock) = locked(&[("sconce.toml", toml), ("pyproject.toml", PYPROJECT)]);
    assert_eq!(lock.facts.python, "3.11");
    assert_eq!((asked.extras.as_slice(), asked.groups.len()), (&["train".to_owned()][..], 1));
    assert!(asked.groups[0].0.ends_with("pyproject.toml") && asked.groups[0].1 == "dev");
    assert_eq!(asked.constraints, ["einops<0.8"]);
    assert_eq!(asked.overrides, ["urllib3<2"]);
    assert!(asked.files[0].ends_with("pyproject.toml"));
    // The same as one of several.
    let toml = "[environment]\nrequirements = [\"-r pyproject.toml\", \"tqdm\"]\n";
    let (asked, lock) = locked(&[("sconce.toml", toml), ("pyproject.toml", PYPROJECT)]);
    assert_eq!((lock.facts.python.as_str(), asked.files.len()), ("3.11", 1));
    assert_eq!(asked.overrides, ["urllib3<2"]);

    refused(
        &[
            ("sconce.toml", "[environment]\nrequirements = \"pyproject.toml\"\n"),
            ("pyproject.toml", &PYPROJECT.replace(">=3.10,<3.13", "==3.12.*")),
        ],
        expect![[r#"
            pyproject.toml: requires-python is ==3.12.*, and what there is here is Python 3.13.5 and 3.11.2
            Python comes from Debian: trixie has Python 3.13, bookworm has Python 3.11"#]],
    );
    refused(
        &[
            (
                "sconce.toml",
                "[environment]\nrequirements = \"pyproject.toml\"\nextras = [\"trian\"]\n",
            ),
            ("pyproject.toml", PYPROJECT),
        ],
        expect![[r#"
            `extras`: no pyproject.toml among the requirements has `trian` under [project.optional-dependencies]
            did you mean `train`?"#]],
    );
}

/// One sentence for each that names the way.
#[test]
fn files_of_other_tools() {
    for (name, way) in [
        ("uv.lock", "uv export --format pylock.toml"),
        ("poetry.lock", "poetry export"),
        ("pdm.lock", "pdm export"),
        ("Pipfile.lock", "pipenv requirements"),
        ("environment.yml", "`pip:`"),
        ("Dockerfile", "`packages` under [base]"),
        ("setup.py", "[project] dependencies"),
    ] {
        let toml = format!("[environment]\nrequirements = \"{name}\"\n");
        let error = Spec::parse(&toml).unwrap_err();
        let text = format!("{error}\n{}", error.hint().unwrap_or_default());
        assert!(text.contains("line 2") && text.contains(way), "{text}");
    }
}
