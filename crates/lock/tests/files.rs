//! Files of requirements, as pip and uv read them: several together, hashes, projects, and those of other tools.

mod world;

use std::fs;
use std::path::Path;

use expect_test::{Expect, expect};
use sconce_lock::{Error, Host, Lock, Overlap, Previous, PythonRequest, Spec, resolve};
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
    locked_in(World::default(), files)
}

fn locked_in(mut world: World, files: &[(&str, &str)]) -> (PythonRequest, Lock) {
    let folder = project(files);
    let spec = load(folder.path()).unwrap_or_else(|error| panic!("{error}"));
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
            base.txt, line 3: `x y`: Expected one of `@`, `(`, `<`, `=`, `>`, `~`, `!`, `;`, found `y`
                x y
                  ^
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

/// `#sha256=` behind an address says which bytes are meant, as `--hash` does; uv does not compare it for a file of
/// this machine.
#[test]
fn hashes_of_addresses_are_compared() {
    let right = format!("{:064x}", 9);
    let list = |end: &str| {
        format!(
            "[environment]\ntorch = false\nrequirements = [\"einops @ https://h.invalid/einops-1.0-py3-none-any.whl#{end}\"]\n"
        )
    };
    let (_, lock) = locked(&[("sconce.toml", &list(&format!("sha256={right}")))]);
    assert!(lock.wheel("einops").is_some());
    refused(
        &[("sconce.toml", &list(&format!("sha256={}", "0".repeat(64))))],
        expect![[r#"
        sconce.toml, line 3: `einops @ https://h.invalid/einops-1.0-py3-none-any.whl#sha256=0000000000000000000000000000000000000000000000000000000000000000`: no file that fits has one of its hashes; einops-1.0-py3-none-any.whl has sha256:0000000000000000000000000000000000000000000000000000000000000009
    "#]],
    );
    refused(
        &[("sconce.toml", &list("sha256=WRONG"))],
        expect![[r#"
        sconce.toml, line 3: `einops @ https://h.invalid/einops-1.0-py3-none-any.whl#sha256=WRONG`: what #sha256= names is not a SHA-256
    "#]],
    );
    refused(
        &[("sconce.toml", &list("md5=00000000000000000000000000000000"))],
        expect![[r#"
        sconce.toml, line 3: `einops @ https://h.invalid/einops-1.0-py3-none-any.whl#md5=00000000000000000000000000000000`: it has no SHA-256, the only hash that is compared here
    "#]],
    );
    let toml = "[environment]\ntorch = false\nrequirements = \"r.txt\"\n";
    let line = format!(
        "einops @ https://h.invalid/einops-1.0-py3-none-any.whl#sha256={}\n",
        "0".repeat(64)
    );
    refused(
        &[("sconce.toml", toml), ("r.txt", &line)],
        expect![[r#"
        r.txt, line 1: `einops @ https://h.invalid/einops-1.0-py3-none-any.whl#sha256=0000000000000000000000000000000000000000000000000000000000000000`: no file that fits has one of its hashes; einops-1.0-py3-none-any.whl has sha256:0000000000000000000000000000000000000000000000000000000000000009
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
    assert!(asked.groups[0].0 == 0 && asked.groups[0].1 == "dev");
    assert_eq!(asked.constraints, ["einops<0.8"]);
    assert_eq!(asked.overrides, ["urllib3<2"]);
    assert!(asked.files[0].path.ends_with("pyproject.toml"));
    // The same as one of several.
    let toml = "[environment]\nrequirements = [\"-r pyproject.toml\", \"tqdm\"]\n";
    let (asked, lock) = locked(&[("sconce.toml", toml), ("pyproject.toml", PYPROJECT)]);
    assert_eq!((lock.facts.python.as_str(), asked.files.len()), ("3.11", 1));
    assert_eq!(asked.overrides, ["urllib3<2"]);

    let toml = "[environment]\nrequirements = \"pyproject.toml\"\n";
    let with = |requires: &str| PYPROJECT.replace(">=3.10,<3.13", requires);
    for (requires, python) in [("==3.12.*", "3.12"), ("<3.11", "3.10"), (">=3.12", "3.13")] {
        let (_, lock) = locked(&[("sconce.toml", toml), ("pyproject.toml", &with(requires))]);
        assert_eq!(lock.facts.python, python);
        assert_eq!(lock.python.is_some(), python != "3.13");
    }
    refused(
        &[("sconce.toml", toml), ("pyproject.toml", &with(">=3.15"))],
        expect![[r#"
            pyproject.toml: requires-python is >=3.15, and no Python here is that
            there is 3.9, 3.10, 3.11 (Debian bookworm), 3.12, 3.13 (Debian trixie), 3.13t, 3.14, 3.14t"#]],
    );
    refused(
        &[("sconce.toml", &format!("{toml}python = \"3.9\"\n")), ("pyproject.toml", PYPROJECT)],
        expect![[r#"
            pyproject.toml: requires-python is >=3.10, <3.13, and python = "3.9"
            leave `python` out: requires-python decides then"#]],
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

/// Where `[tool.uv]` has packages looked for: uv reads none of it in a file that it is handed, so it is handed over as
/// options, paths from the folder of the file.
#[test]
fn where_a_project_has_its_packages_looked_for() {
    let toml = "[environment]\nrequirements = \"app/pyproject.toml\"\n";
    let asked = |table: &str| {
        let text = format!("{PYPROJECT}{table}\n");
        let wheel = ("app/wheels/notes.txt", "");
        let folder = project(&[("sconce.toml", toml), ("app/pyproject.toml", &text), wheel]);
        let spec = load(folder.path()).unwrap_or_else(|error| panic!("{error}"));
        let mut world = World::default();
        resolve(&spec, &host(), Previous::NONE, &mut world)
            .unwrap_or_else(|error| panic!("{error}"));
        let here = format!("{}/", fs::canonicalize(folder.path()).unwrap().display());
        let named =
            |(name, url): &(String, String)| format!("{name}: {}", url.replace(&here, "HERE/"));
        // Each question goes to the same places, those about one package as well.
        for question in &world.asked {
            assert_eq!(question.options, world.asked[0].options);
            assert_eq!(question.elsewhere, world.asked[0].elsewhere);
        }
        let options = world.asked[0].options.iter().map(|option| option.replace(&here, "HERE/"));
        let places = world.asked[0].elsewhere.iter().map(named);
        options.chain(places).collect::<Vec<_>>().join("\n")
    };
    expect![[r#"
        --index-url https://a.example.invalid/simple
        requirements-1: https://a.example.invalid/simple"#]]
    .assert_eq(&asked("index-url = \"https://a.example.invalid/simple\""));
    expect![[r#"
        --extra-index-url https://b.example.invalid/simple
        --extra-index-url file://HERE/app/./wheels
        requirements-1: https://b.example.invalid/simple
        requirements-2: file://HERE/app/./wheels"#]]
    .assert_eq(&asked("extra-index-url = [\"https://b.example.invalid/simple\", \"./wheels\"]"));
    expect![[r#"
        --find-links file://HERE/app/./wheels
        --find-links https://c.example.invalid/links
        --no-index
        requirements-1: file://HERE/app/./wheels
        requirements-2: https://c.example.invalid/links"#]]
    .assert_eq(&asked(
        "no-index = true\nfind-links = [\"./wheels\", \"https://c.example.invalid/links\"]",
    ));
    expect![""].assert_eq(&asked("no-index = false"));
    expect![[r#"
        --extra-index-url https://d.example.invalid/simple
        --find-links file://HERE/app/./wheels
        --index-url https://e.example.invalid/simple
        requirements-1: https://d.example.invalid/simple
        requirements-2: file://HERE/app/./wheels
        requirements-3: https://e.example.invalid/simple"#]].assert_eq(&asked(
        "[[tool.uv.index]]\nname = \"lab\"\nurl = \"https://d.example.invalid/simple\"\n\
         [[tool.uv.index]]\nurl = \"./wheels\"\nformat = \"flat\"\n\
         [[tool.uv.index]]\nurl = \"https://e.example.invalid/simple\"\ndefault = true\n\
         [[tool.uv.index]]\nname = \"only\"\nurl = \"https://f.example.invalid/simple\"\nexplicit = true",
    ));
}

/// What uv says without a line, or with a path of sconce's own, is said before uv is asked.
#[test]
fn faults_of_a_project_have_their_line() {
    let toml = "[environment]\nrequirements = \"pyproject.toml\"\n";
    let said = |text: &str, expected: Expect| {
        refused(&[("sconce.toml", toml), ("pyproject.toml", text)], expected);
    };
    let plain = "[project]\nname = \"x\"\nversion = \"1\"\ndependencies = [\"einops\"]\n";
    for (table, expected) in [
        (
            "[tool.uv.sources]\neinops = { index = \"lab\" }",
            expect![[r#"
            pyproject.toml, line 6: `tool.uv.sources.einops`: it names the index `lab`, and neither [[tool.uv.index]] nor `indexes` in sconce.toml has one of that name
        "#]],
        ),
        (
            "[dependency-groups]\ndev = [\"rich\", { include-group = \"none\" }]",
            expect![[r#"
            pyproject.toml, line 6: `dependency-groups.dev`: it includes the group `none`, and there is none of that name
        "#]],
        ),
        (
            "[dependency-groups]\na = [{ include-group = \"B\" }]\nb = [{ include-group = \"a\" }]",
            expect![[r#"
                pyproject.toml, line 6: `dependency-groups.a`: it includes itself, by way of the groups that it includes
            "#]],
        ),
        (
            "[dependency-groups]\ndev = [{ foo = \"none\" }]",
            expect![[r#"
            pyproject.toml, line 6: `dependency-groups.dev`: { foo = "none" } is neither a requirement nor `{include-group = "name"}`
        "#]],
        ),
        (
            "[dependency-groups]\ndev = \"rich\"",
            expect![[r#"
            pyproject.toml, line 6: `dependency-groups.dev`: a dependency group is a list of requirements
        "#]],
        ),
        (
            "[tool.uv",
            expect![[r#"
            pyproject.toml, line 5: column 9: unclosed table, expected `]`
        "#]],
        ),
        (
            "[[tool.uv.index]]\nurl = \"https://a.example.invalid\"\ndefault = true\n\
             [[tool.uv.index]]\nurl = \"https://b.example.invalid\"\ndefault = true",
            expect![[r#"
                pyproject.toml, line 8: `--index-url https://b.example.invalid`: pyproject.toml, line 5 names a default index already: name the others with `--extra-index-url`, or without `default = true`
            "#]],
        ),
    ] {
        said(&format!("{plain}{table}\n"), expected);
    }
    // An index that sconce.toml has is one that a source may name; a group may include others.
    let text = format!(
        "{plain}[tool.uv.sources]\neinops = {{ index = \"lab\" }}\n[dependency-groups]\n\
         a = [{{ include-group = \"b\" }}, {{ include-group = \"c\" }}]\nb = [{{ include-group = \"C\" }}]\nc = []\n"
    );
    let toml =
        format!("{toml}indexes = [{{ name = \"lab\", url = \"https://lab.example.invalid\" }}]\n");
    locked(&[("sconce.toml", &toml), ("pyproject.toml", &text)]);
}

/// One sentence for each that names the way.
#[test]
fn files_of_other_tools() {
    for (name, way) in [
        ("poetry.lock", "poetry export"),
        ("pdm.lock", "pdm export"),
        ("Pipfile.lock", "pipenv requirements"),
        ("meta.yaml", "conda's packages"),
        ("Dockerfile", "`packages` under [base]"),
        ("setup.py", "[project] dependencies"),
    ] {
        let toml = format!("[environment]\nrequirements = \"{name}\"\n");
        let error = Spec::parse(&toml).unwrap_err();
        let text = format!("{error}\n{}", error.hint().unwrap_or_default());
        assert!(text.contains("line 2") && text.contains(way), "{text}");
    }
}

const UV_LOCK: &str = "lock-version = \"1.0\"\n[[packages]]\nname = \"einops\"\nversion = \"0.8.2\"\n\
    wheels = [{ url = \"https://files.invalid/einops-0.8.2-py3-none-any.whl\", size = 9, \
    hashes = { sha256 = \"1111111111111111111111111111111111111111111111111111111111111111\" } }]\n";

#[test]
fn a_uv_lock_is_taken_as_it_is() {
    let toml = "[environment]\ntorch = false\nrequirements = \"uv.lock\"\nextras = [\"train\"]\n";
    let files = [
        ("sconce.toml", toml),
        ("uv.lock", "version = 1\n"),
        ("pyproject.toml", "[project]\nname = \"demo\"\n"),
    ];
    let folder = project(&files);
    let spec = load(folder.path()).unwrap();
    let lock = |answer: &'static str| {
        let mut world = World { uv_lock: answer, ..World::default() };
        let locked = resolve(&spec, &host(), Previous::NONE, &mut world);
        assert!(world.asked.is_empty(), "nothing is resolved");
        locked.map(|(lock, _)| lock)
    };
    let locked = lock(UV_LOCK).unwrap();
    assert_eq!((locked.wheels.len(), locked.wheels[0].version.as_str()), (1, "0.8.2"));
    // Either file makes a lock stale.
    for name in ["uv.lock", "pyproject.toml"] {
        let before = load(folder.path()).unwrap().digest();
        let path = folder.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}# more\n")).unwrap();
        assert_ne!(load(folder.path()).unwrap().digest(), before, "{name}");
    }
    let error = lock(
        "lock-version = \"1.0\"\n[[packages]]\nname = \"evil\"\nversion = \"1.0\"\n\
         wheels = [{ url = \"file:///etc/evil-1.0-py3-none-any.whl\", \
         hashes = { sha256 = \"1111111111111111111111111111111111111111111111111111111111111111\" } }]\n",
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("uv.lock: evil is taken from a folder of this machine"), "{error}");
    fs::remove_file(folder.path().join("pyproject.toml")).unwrap();
    assert!(load(folder.path()).unwrap_err().to_string().contains("pyproject.toml"));
}

#[test]
fn packages_are_left_out_and_preferred() {
    let toml = "[environment]\ntorch = false\nrequirements = [\"einops\", \"rich\"]\n\
                exclude = [\"Ruamel.YAML\", \"rich\"]\nprefer = [\"einops\"]\n";
    let (asked, lock) = locked(&[("sconce.toml", toml)]);
    let never = |name: &str| format!("{name} ; python_version < '0'");
    assert_eq!(asked.overrides, [never("ruamel-yaml"), never("rich")]);
    assert!(lock.wheel("rich").is_none() && lock.wheel("einops").is_some());
    assert_eq!(lock.facts.prefer, ["einops"]);
    let text = lock.to_text();
    assert!(text.contains("\nversion = 4\n") && Lock::parse(&text).unwrap() == lock, "{text}");
    refused(
        &[("sconce.toml", "[environment]\nexclude = [\"torch\"]\n")],
        expect![[r#"
            sconce.toml, line 2, column 11: `exclude` has torch
            `torch = false` is an environment without torch"#]],
    );
    refused(
        &[("sconce.toml", "[environment]\nprefer = [\"numpy>=2\"]\n")],
        expect![[r#"
            sconce.toml, line 2, column 10: `prefer` must be a list of package names, without versions
        "#]],
    );
}

/// Two CUDAs in one environment are told by who brings them.
#[test]
fn libraries_of_two_cudas_are_told_apart() {
    let both = Overlap {
        packages: ["nvidia-cudnn-cu12".into(), "nvidia-cudnn-cu13".into()],
        path: "nvidia/cudnn/lib/libcudnn.so.9".into(),
        more: 7,
    };
    let spec = Spec::parse("[environment]\nrequirements = [\"tensorflow[and-cuda]\"]\n").unwrap();
    let requires = [
        // What an extra that nobody asks for brings needs nothing here.
        (
            "pip",
            vec!["nvidia-cudnn-cu12 ; extra == 'gpu'", "nvidia-cudnn-cu13; python_version < '3'"],
        ),
        ("tensorflow", vec!["nvidia-cudnn-cu12<10 ; extra == 'and-cuda'"]),
        ("torch", vec!["nvidia-cudnn-cu13 ; platform_system == 'Linux'"]),
    ];
    let mut world = World { overlaps: vec![both], requires: requires.into(), ..World::default() };
    let error = resolve(&spec, &host(), Previous::NONE, &mut world).unwrap_err();
    expect![[r#"
        tensorflow needs libraries of CUDA 12, torch those of CUDA 13
        nvidia-cudnn-cu12 (needed by tensorflow) and nvidia-cudnn-cu13 9.26.0.51 (needed by torch) both own nvidia: nvidia/cudnn/lib/libcudnn.so.9 and 7 more files differ
        nothing that you ask for needs torch: `torch = false` under [environment] leaves it out; or `cuda = "12"` under [environment] takes a torch for the CUDA of tensorflow; or name a release of tensorflow for the CUDA of torch, or one without its own CUDA libraries"#]]
    .assert_eq(&format!("{error}\n{}", error.hint().unwrap_or_default()));
}

const CONDA: &str = "name: demo\nchannels: [pytorch, nvidia, conda-forge]\ndependencies:\n  - python=3.11\n  \
    - pytorch::pytorch=2.5.1\n  - pytorch-cuda=12.4\n  - numpy>=1.24,<3 # arrays\n  - scipy=1.15=py311_0\n  - python-lmdb\n  - pip\n  - pip:\n    \
    - einops\n    - -r more.txt\n";

#[test]
fn an_environment_yml_is_read() {
    let toml = "[environment]\nrequirements = \"environment.yml\"\n";
    let files = [("sconce.toml", toml), ("environment.yml", CONDA), ("more.txt", "tqdm>=4\n")];
    let world = || World { allowed: Some("==2.5.1".parse().unwrap()), ..World::default() };
    let (asked, lock) = locked_in(world(), &files);
    let own: Vec<_> = asked.requirements.iter().map(String::as_str).take(6).collect();
    assert_eq!(
        own,
        ["torch==2.5.1.*", "numpy>=1.24,<3", "scipy==1.15", "lmdb", "einops", "tqdm>=4"]
    );
    let torch = lock.facts.torch.unwrap();
    assert_eq!(torch.cuda.unwrap().to_string(), "12.4");
    assert!(torch.version.starts_with("2.5.1"), "{}", torch.version);
    assert_eq!(lock.facts.python, "3.11");
    // What sconce.toml says comes first; and a change of the file makes a lock stale.
    let cuda = "[environment]\ncuda = \"12.1\"\nrequirements = \"environment.yml\"\n";
    let folder = project(&[("sconce.toml", cuda), files[1], files[2]]);
    let asked = format!("{:?}", load(folder.path()).unwrap().environment.cuda);
    assert_eq!(asked, "Version { major: 12, minor: Some(1) }");
    let changed = CONDA.replace("einops", "einops<1");
    let folder = |text: &str| project(&[files[0], ("environment.yml", text), files[2]]);
    let digest = |text: &str| load(folder(text).path()).unwrap().digest();
    assert_ne!(digest(CONDA), digest(&changed));
}

/// Each names its line, and what to do.
#[test]
fn what_an_environment_yml_can_not_say() {
    let toml = "[environment]\ntorch = false\nrequirements = \"environment.yml\"\n";
    let refused = |text: &str, expected| {
        refused(&[("sconce.toml", toml), ("environment.yml", text)], expected);
    };
    let of = |line: &str| format!("dependencies:\n  - python=3.11\n  - {line}\n");
    refused(
        &of("ffmpeg"),
        expect![[r#"
        environment.yml, line 3: `ffmpeg`: what conda's ffmpeg is on PyPI is not known here: a Python package belongs under `pip:`, a library in `packages` under [base] of sconce.toml; an exported file lists all that came along, and `conda env export --from-history` what was asked for
    "#]],
    );
    // conda's lmdb is the library in C; its Python module is python-lmdb there, and lmdb on PyPI.
    refused(
        &of("lmdb"),
        expect![[r#"
        environment.yml, line 3: `lmdb`: what conda's lmdb is on PyPI is not known here: a Python package belongs under `pip:`, a library in `packages` under [base] of sconce.toml; an exported file lists all that came along, and `conda env export --from-history` what was asked for
    "#]],
    );
    refused(
        &of("numpy=1.2|=1.4"),
        expect![[r#"
        environment.yml, line 3: `numpy=1.2|=1.4`: its version is not read here: `name=1.2`, `name==1.2.3` and `name>=1,<2` are
    "#]],
    );
    refused(
        &of("pip: [\"-e .\"]"),
        expect![[r#"
        environment.yml, line 3: `-e .`: an editable package runs its own code here when it is looked at
        sconce takes wheels: build one where you trust the code (`pip wheel --no-deps DIR`) and name that file, or name a release that an index has as a wheel; the project's own code goes into the image with `include` under [app]"#]],
    );
    refused(
        &of("npm: [left-pad]"),
        expect![[r#"
        environment.yml, line 3: `- npm: [left-pad]`: column 5: `npm:` is not known, only `pip:`
    "#]],
    );
    refused(
        "dependencies:\n  - python=3.7\n",
        expect![[r#"
        environment.yml: python is ==3.7.*, and no Python here is that
        there is 3.9, 3.10, 3.11 (Debian bookworm), 3.12, 3.13 (Debian trixie), 3.13t, 3.14, 3.14t"#]],
    );
    refused(
        "dependencies: [\n",
        expect![[r#"
        environment.yml, line 1: `dependencies: [`: column 15: it is not YAML from here on
    "#]],
    );
    refused(
        "dependencies: numpy\n",
        expect![[r#"
        environment.yml, line 1: `dependencies: numpy`: column 15: a list belongs here: `dependencies:` has one of packages, and `pip:` in it one of requirements
    "#]],
    );
    let bomb: String = (1..40).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1)).collect();
    refused(
        &format!("a0: &a0 [x, x]\n{bomb}dependencies: *a39\n"),
        expect![[r#"
        environment.yml, line 16: `a15: &a15 [*a14, *a14]`: column 18: what its aliases stand for is not read: it is too large, or not what belongs here
    "#]],
    );
}

/// A uv.lock that is older than the project beside it is not taken.
#[test]
fn a_uv_lock_of_another_project_is_refused() {
    let lock = "version = 1\n[[package]]\nname = \"x\"\nsource = { virtual = \".\" }\n\
                [package.metadata]\nrequires-dist = [{ name = \"six\", specifier = \">=1\" }]\n";
    let said = |dependency: &str| {
        let project_text = format!("[project]\nname = \"x\"\ndependencies = [\"{dependency}\"]\n");
        let folder = project(&[
            ("sconce.toml", "[environment]\ntorch = false\nrequirements = \"uv.lock\"\n"),
            ("uv.lock", lock),
            ("pyproject.toml", &project_text),
        ]);
        let mut world = World { uv_lock: "lock-version = \"1.0\"\n", ..World::default() };
        let spec = load(folder.path()).unwrap();
        resolve(&spec, &host(), Previous::NONE, &mut world).map(drop).map_err(|e| e.to_string())
    };
    said("six>=1").unwrap();
    let error = said("six>=2").unwrap_err();
    let words = "it is not of the pyproject.toml beside it (`uv lock` brings it up to date): it was made for one that has \
                 six>=1, and this one has six>=2";
    assert!(error.contains(words), "{error}");
}

/// Where it stands for a sconce.toml that is not there, the error names the file itself.
#[test]
fn a_file_that_stands_for_the_project_and_can_not_be_read() {
    use std::error::Error as _;

    let said = |make: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("requirements.txt");
        make(&path);
        let found = sconce_lock::project_file(folder.path()).unwrap();
        assert_eq!(found.name, "requirements.txt");
        let error = Spec::of_text(&Spec::stand_in(found.name), folder.path()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read {}", path.display()));
        (error.source().unwrap().to_string(), error.hint())
    };
    let utf_16 = |path: &Path| fs::write(path, b"\xff\xfen\0u\0m\0p\0y\0\n\0").unwrap();
    assert_eq!(
        said(&utf_16),
        (
            "it is not UTF-8 text: line 1 has bytes that are none".into(),
            Some("save it as UTF-8 text".into())
        )
    );
    let fifo = |path: &Path| {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    assert_eq!(said(&fifo), ("it is a FIFO (named pipe), not a regular file".into(), None));
    let large = |path: &Path| fs::File::create(path).unwrap().set_len(40_000_000).unwrap();
    let (why, hint) = said(&large);
    assert!(why.starts_with("it has more than 16777216 bytes") && hint.is_none(), "{why}");
}

/// One that is no TOML is not passed over for what else is there: it says where it is wrong, whichever file names it.
#[test]
fn a_pyproject_that_is_no_toml_is_not_away() {
    let broken = "[project]\nname = \"x\"\ndependencies = [\"numpy\",, ]\n";
    let where_it_is = "pyproject.toml, line 3: column 25: ";
    let folder = project(&[("pyproject.toml", broken), ("requirements.txt", "einops\n")]);
    let found = sconce_lock::project_file(folder.path()).unwrap();
    assert_eq!(found.name, "pyproject.toml");
    let error = Spec::of_text(&Spec::stand_in(found.name), folder.path()).unwrap_err();
    assert!(error.to_string().contains(where_it_is), "{error}");
    for toml in [
        "[environment]\nrequirements = \"pyproject.toml\"\n",
        "[environment]\nrequirements = [\"-r pyproject.toml\"]\n",
        "[environment]\nrequirements = \"uv.lock\"\n",
        "[app]\ninstall = true\n",
    ] {
        let files =
            [("sconce.toml", toml), ("pyproject.toml", broken), ("uv.lock", "version = 1\n")];
        let error = load(project(&files).path()).unwrap_err();
        assert!(error.to_string().contains(where_it_is), "{toml}: {error}");
    }
}
