//! `sconce lock`, `add`, `remove` and `--locked`, started as a user starts them, with a uv that answers from a
//! table and an index on loopback.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use sconce_lock::{
    DebianAnswer, DebianRequest, Host, Index, IndexError, ListedFile, Lock, Previous, PythonAnswer,
    PythonRequest, Spec, resolve,
};
use sconce_testkit::PackageIndex;

/// Answers each requirement with the version that `preferences` or `versions` has of it, else 1.0; one that is
/// called `no-such` can't be had.
const UV: &str = r#"#!/bin/sh
[ "$1" = --version ] && echo 'uv 99.0.0' && exit
here=${0%/*}
echo "$@" >>$here/called
cat >$here/input
[ -e $here/meanwhile ] && . $here/meanwhile
while [ $# -gt 0 ]; do
  [ "$1" = --output-file ] && out=$2
  shift
done
if grep -q '^no-such' $here/input; then
  echo 'error: No solution found when resolving dependencies' >&2
  echo '  cause: Because no-such was not found and you require no-such, we can conclude that your requirements are unsatisfiable.' >&2
  exit 1
fi
[ -e "$out" ] && cp "$out" $here/preferences || : >$here/preferences
echo 'lock-version = "1.0"' >$out
sed 's/[<>=].*//' $here/input | sort -u | while read name; do
  version=$(grep -A1 "^name = \"$name\"" $here/preferences | sed -n 's/^version = "\(.*\)"/\1/p')
  [ -n "$version" ] || version=$(sed -n "s/^$name //p" $here/versions)
  [ -n "$version" ] || version=1.0
  echo "[[packages]]"
  echo "name = \"$name\""
  echo "version = \"$version\""
  echo "wheels = [{ url = \"http://127.0.0.1:9/$name-$version-py3-none-any.whl\", hashes = { sha256 = \"1111111111111111111111111111111111111111111111111111111111111111\" } }]"
done >>$out
"#;

struct World {
    dir: tempfile::TempDir,
    index: PackageIndex,
}

/// The world of the first lock: every requirement in version 1.0, no Debian package.
struct First;

impl Index for First {
    fn python(&mut self, request: &PythonRequest) -> Result<PythonAnswer, IndexError> {
        let row = |name: &String| {
            format!(
                "[[packages]]\nname = \"{name}\"\nversion = \"1.0\"\nwheels = [{{ url = \
                 \"http://127.0.0.1:9/{name}-1.0-py3-none-any.whl\", hashes = {{ sha256 = \"{}\" }} }}]\n",
                "1".repeat(64)
            )
        };
        let rows: String = request.requirements.iter().map(row).collect();
        Ok(PythonAnswer { pylock: format!("lock-version = \"1.0\"\n{rows}"), ..Default::default() })
    }

    fn releases(&mut self, _: &[String]) -> Result<BTreeMap<String, Vec<ListedFile>>, IndexError> {
        Ok(BTreeMap::new())
    }

    fn native(
        &mut self,
        wheels: &[(sconce_lock::Wheel, bool)],
    ) -> Vec<Result<sconce_lock::Native, String>> {
        wheels.iter().map(|_| Ok(Default::default())).collect()
    }

    fn debian(&mut self, _: &DebianRequest) -> Result<DebianAnswer, IndexError> {
        Ok(DebianAnswer::default())
    }
}

impl World {
    /// A project that is locked.
    fn new(toml: &str) -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap(), index: PackageIndex::json() };
        fs::create_dir(world.path("project")).unwrap();
        world.write("sconce.toml", toml);
        let host = Host { machine: Some("x86_64".parse().unwrap()), ..Host::default() };
        let spec = Spec::load(&world.path("project/sconce.toml")).unwrap();
        let (lock, _) = resolve(&spec, &host, Previous::NONE, &mut First).unwrap();
        world.write("sconce.lock", &lock.to_text());
        fs::write(world.path("uv"), UV).unwrap();
        fs::write(world.path("versions"), "").unwrap();
        fs::set_permissions(world.path("uv"), Permissions::from_mode(0o755)).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path("project").join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path("project").join(name)).unwrap()
    }

    fn lock(&self) -> Lock {
        Lock::parse(&self.read("sconce.lock")).unwrap()
    }

    /// Exit code and standard error.
    fn sconce(&self, words: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_sconce"))
            .args(words)
            .current_dir(self.path("project"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("SCONCE_HOME", self.path("store"))
            .env("SCONCE_STORES", "")
            .env("SCONCE_UV", self.path("uv"))
            .env("UV_NO_CONFIG", "1")
            .env("UV_DEFAULT_INDEX", self.index.url())
            .env("PIP_CONFIG_FILE", "/dev/null")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).unwrap())
    }

    #[track_caller]
    fn says(&self, words: &[&str], code: i32, expected: &[&str]) -> String {
        let (got, said) = self.sconce(words);
        assert_eq!(got, code, "{words:?}: {said}");
        for line in expected {
            assert!(said.contains(line), "`{line}` is not in:\n{said}");
        }
        said
    }

    /// Whether uv was called since this was last asked.
    fn uv_was_called(&self) -> bool {
        fs::remove_file(self.path("called")).is_ok()
    }
}

const TOML: &str = "[environment]\ntorch = false\nrequirements = [\n    \"einops\", # shapes\n]\n";

#[test]
fn an_edit_elsewhere_asks_no_index() {
    let world = World::new(TOML);
    fs::write(world.path("versions"), "einops 2.0\n").unwrap();
    let before = world.lock();
    let said = world.says(&["lock"], 0, &["the lock fits"]);
    assert!(!world.uv_was_called(), "{said}");
    world
        .write("sconce.toml", &format!("{TOML}[app]\ncommand = [\"true\"]\n[run]\nshm = \"1g\"\n"));
    world.says(&["lock", "--check"], 1, &["sconce.lock is not of this sconce.toml"]);
    let said = world.says(&["lock"], 0, &[]);
    assert!(!world.uv_was_called() && !said.contains("einops"), "{said}");
    assert_eq!(world.lock().wheels, before.wheels);
    assert_eq!(world.lock().app.command, ["true"]);
    world.says(&["lock", "--check"], 0, &["the lock fits"]);
}

/// Which files a lock is not of is said by their names, and of one that a merge has left in pieces how to get another.
#[test]
fn a_lock_that_is_stale_or_broken() {
    let world = World::new(TOML);
    world.write("sconce.toml", "[environment]\ntorch = false\nrequirements = \"needs.txt\"\n");
    world.write("needs.txt", "einops\n-r more.txt\n");
    world.write("more.txt", "rich\n");
    world.says(&["lock"], 0, &[]);
    world.write("more.txt", "rich>=1\n");
    let stale = "sconce.lock is not of this sconce.toml, needs.txt and more.txt: it was made for";
    world.says(&["lock", "--check"], 1, &[stale]);
    fs::remove_file(world.path("project/sconce.toml")).unwrap();
    fs::remove_file(world.path("project/needs.txt")).unwrap();
    world.write("requirements.txt", "einops\n");
    let stale = "sconce.lock is not of this requirements.txt: it was made for";
    world.says(&["lock", "--check"], 1, &[stale]);
    let lock = world.read("sconce.lock");
    world.write("sconce.lock", &format!("<<<<<<< HEAD\n{lock}"));
    world.says(&["lock"], 3, &["take back the one that was committed", "sconce lock --upgrade"]);
}

#[test]
fn add_and_remove_edit_and_lock_in_one_go() {
    let world = World::new(TOML);
    fs::write(world.path("versions"), "einops 2.0\nrich 9.0\n").unwrap();
    let said = world.says(&["add", "rich>=8", "tqdm"], 0, &["\n+ rich 9.0\n", "\n+ tqdm 1.0\n"]);
    assert!(!said.contains("einops"), "what is locked stays: {said}");
    let lines = TOML.replace("shapes\n", "shapes\n    \"rich>=8\",\n    \"tqdm\",\n");
    assert_eq!(world.read("sconce.toml"), lines);
    world.says(&["lock", "--check"], 0, &[]);
    world.says(&["remove", "Tqdm"], 0, &["\n- tqdm 1.0\n"]);
    assert_eq!(world.read("sconce.toml"), lines.replace("    \"tqdm\",\n", ""));
    world.says(&["lock", "--upgrade-package", "einops"], 0, &["\neinops 1.0 -> 2.0\n"]);

    // Nothing is half done.
    let before = (world.read("sconce.toml"), world.read("sconce.lock"));
    world.says(&["add", "no-such"], 4, &["you require no-such"]);
    world.says(&["add", "../folder"], 2, &["`../folder`: it is a folder"]);
    world.says(&["add", "setup.py"], 2, &["`setup.py`: it is a file and not a package: what it"]);
    world.write("r.txt", "requirements.txt\n");
    world.write("sconce.toml", "[environment]\ntorch = false\nrequirements = ['-r r.txt']\n");
    world.says(&["lock"], 3, &["r.txt, line 1: `requirements.txt`", "[\"-r requirements.txt\"]"]);
    world.write("sconce.toml", &before.0);
    world.says(&["remove", "no-such"], 2, &["`no-such` is not in the requirements"]);
    assert_eq!((world.read("sconce.toml"), world.read("sconce.lock")), before);
}

/// Whoever can write beside a project, a container that has the folder above for one, can put a link in its
/// place while uv is asked.
#[test]
fn a_folder_that_is_exchanged_for_a_link_leads_no_write_elsewhere() {
    let world = World::new(TOML);
    fs::write(world.path("versions"), "rich 9.0\n").unwrap();
    fs::create_dir(world.path("outside")).unwrap();
    fs::write(world.path("outside/sconce.toml"), "theirs").unwrap();
    let exchange = "mv $here/project $here/away; ln -s outside $here/project\n";
    fs::write(world.path("meanwhile"), exchange).unwrap();
    for words in [["add", "rich"], ["lock", "--upgrade"]] {
        world.says(&words, 7, &["a link has come into its path since it was looked at"]);
        assert_eq!(fs::read_to_string(world.path("outside/sconce.toml")).unwrap(), "theirs");
        assert!(!world.path("outside/sconce.lock").exists());
        fs::remove_file(world.path("project")).unwrap();
        fs::rename(world.path("away"), world.path("project")).unwrap();
        assert_eq!(world.read("sconce.toml"), TOML);
    }
}

#[test]
fn locked_and_frozen_write_nothing() {
    let world = World::new(TOML);
    let before = world.read("sconce.lock");
    // It fits: what is missing is only its wheels.
    for flag in ["--locked", "--frozen"] {
        world.says(&["build", "--offline", flag], 5, &["offline, and"]);
    }
    world.write("sconce.toml", &TOML.replace("einops", "rich"));
    let said = world.says(
        &["build", "--offline", "--locked"],
        1,
        &["sconce.lock is not of this sconce.toml"],
    );
    assert!(said.contains("`sconce lock`"), "{said}");
    world.says(
        &["run", "--offline", "--locked", ".", "true"],
        125,
        &["sconce.lock is not of this"],
    );
    world.says(&["build", "--offline", "--frozen"], 5, &["offline, and", "einops-1.0"]);
    assert_eq!(world.read("sconce.lock"), before);
    fs::remove_file(world.path("project/sconce.lock")).unwrap();
    for flag in ["--locked", "--frozen"] {
        world.says(&["build", "--offline", flag], 1, &["there is no sconce.lock"]);
    }
    world.says(&["build", "--locked", "--frozen"], 2, &[]);
    assert!(!world.uv_was_called());
}

/// A folder without a sconce.toml is a project all the same where it says what it needs.
#[test]
fn a_file_of_requirements_does_in_place_of_a_sconce_toml() {
    let world = World::new(TOML);
    for name in ["sconce.toml", "sconce.lock"] {
        fs::remove_file(world.path("project").join(name)).unwrap();
    }
    // This world's index has no torch, which every project has unless its sconce.toml says otherwise: that it was asked
    // for beside what the file names shows that the file was read.
    world.write("requirements.txt", "einops\nno-such\n");
    let said = world.says(&["lock"], 4, &["requirements.txt says what is needed", "no-such"]);
    assert!(!said.contains("has no sconce.toml"), "{said}");
    world.says(&["build", "--locked"], 1, &["there is no sconce.lock"]);
    world.write("requirements.txt", "einops\n-r nowhere.txt\n");
    world.says(&["lock"], 3, &["nowhere.txt"]);
    fs::remove_file(world.path("project/requirements.txt")).unwrap();
    fs::create_dir_all(world.path("project/x/y")).unwrap();
    world.write("x/y/pyproject.toml", "[project]\nname = \"a\"\ndependencies = [\"einops\"]\n");
    world.says(&["lock", "x/y"], 4, &["pyproject.toml says what is needed"]);
}

/// What people would take for read, and is not, is said.
#[test]
fn a_file_that_is_not_read_is_named() {
    let world = World::new("[environment]\ntorch = false\npython = \"3.13\"\n");
    fs::remove_file(world.path("project/sconce.lock")).unwrap();
    world.write("requirements.txt", "einops\n");
    let said = world.says(&["lock"], 0, &["requirements.txt is not read"]);
    assert!(said.contains("`requirements = \"requirements.txt\"`"), "{said}");
    fs::remove_file(world.path("project/sconce.lock")).unwrap();
    fs::remove_file(world.path("project/requirements.txt")).unwrap();
    let said = world.says(&["lock"], 0, &[]);
    assert!(!said.contains("is not read"), "{said}");
    fs::create_dir(world.path("project/x")).unwrap();
    world.write("x/pyproject.toml", "[project]\nname = \"a\"\ndependencies = [\"einops\"]\n");
    world.write("x/uv.lock", "version = 1\n");
    world.says(&["lock", "x"], 4, &["uv.lock is not read"]);
}

/// A file that says what is needed and can't be read is there all the same.
#[test]
fn a_file_of_requirements_that_can_not_be_read_is_named() {
    let world = World::new(TOML);
    for name in ["sconce.toml", "sconce.lock"] {
        fs::remove_file(world.path("project").join(name)).unwrap();
    }
    for file in ["sconce.toml", "requirements.txt", "pyproject.toml", "environment.yml"] {
        let path = world.path("project").join(file);
        let kinds: [(&str, &dyn Fn()); 5] = [
            ("a folder", &|| fs::create_dir(&path).unwrap()),
            ("a loop", &|| std::os::unix::fs::symlink(file, &path).unwrap()),
            ("no target", &|| std::os::unix::fs::symlink("nowhere", &path).unwrap()),
            ("too large", &|| fs::File::create(&path).unwrap().set_len(1 << 34).unwrap()),
            ("a pipe", &|| {
                assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success())
            }),
        ];
        for (kind, make) in kinds {
            make();
            for words in [&["lock"][..], &["build"]] {
                let said = world.says(words, 3, &[file]);
                assert!(!said.contains("has no sconce.toml"), "{kind}: {said}");
            }
            match kind {
                "a folder" => fs::remove_dir(&path).unwrap(),
                _ => fs::remove_file(&path).unwrap(),
            }
        }
    }
}

/// A folder that another tool's file describes: what is read is named, else the way.
/// A project without a file that says what it needs.
fn bare() -> World {
    let world = World::new(TOML);
    for name in ["sconce.toml", "sconce.lock"] {
        fs::remove_file(world.path("project").join(name)).unwrap();
    }
    world
}

/// What is wrong is said of the file and line where it stands, in words that help.
#[test]
fn what_is_wrong_in_a_file_of_requirements() {
    let pyproject = "[project]\nname = \"x\"\nversion = \"1\"\n";
    let setuptools = "dynamic = [\"dependencies\"]\n[tool.setuptools.dynamic]\ndependencies = { file = [\"reqs/base.txt\"] }\n";
    let python = "dependencies = [\"six\"]\nrequires-python = \"python3\"\n";
    for (name, text, says) in [
        (
            "requirements.txt",
            "six\nsix==${VER}\n".to_owned(),
            "requirements.txt, line 2: `six==${VER}`: `${VER}` is a variable of the environment, which pip puts in and a lock does not: write what it stands for\n",
        ),
        ("requirements.txt", "six=>1\n".to_owned(), "> ===\n    six=>1\n       ^^^\n"),
        (
            "pyproject.toml",
            format!("{pyproject}{setuptools}"),
            "setuptools reads its dependencies from reqs/base.txt, and `requirements = [\"-r reqs/base.txt\"]` under [environment] reads the same\n",
        ),
        (
            "pyproject.toml",
            format!("{pyproject}{python}"),
            "pyproject.toml, line 5: `requires-python = \"python3\"`: Failed to parse version: Unexpected end of version specifier, expected operator:\n    python3\n    ^^^^^^^\n",
        ),
        (
            "pylock.toml",
            "lock-version = \"1.0\"\n\nrequires-python = \"abc\"\n".to_owned(),
            "pylock.toml: line 3, column 19: requires-python: Failed to parse version: Unexpected end of version specifier, expected operator:\n    abc\n    ^^^\n",
        ),
        (
            "pylock.toml",
            "lock-version = \"1.0\"\n\n[[packages]]\nname = 3\n".to_owned(),
            "pylock.toml: line 4, column 8: invalid type: integer `3`, expected a string\n",
        ),
    ] {
        let world = bare();
        world.write(name, &text);
        let (code, said) = world.sconce(&["lock", "."]);
        assert!(code == 3 && said.contains(says), "{text}: {code} {said}");
    }
    let world = bare();
    let folder = world.path("project");
    fs::write(folder.join("requirements.txt"), b"six\n# caf\xe9\n").unwrap();
    let (code, said) = world.sconce(&["lock", "."]);
    let words = "requirements.txt\n  caused by: it is not UTF-8 text: line 2 has bytes that are none\n  hint: save it as UTF-8 text";
    assert!(code == 3 && said.contains(words), "{code} {said}");
    for name in ["requirements.txt", "sconce.toml"] {
        let _ = fs::remove_file(folder.join("requirements.txt"));
        std::os::unix::fs::symlink("../away", folder.join(name)).unwrap();
        let (code, said) = world.sconce(&["lock", "."]);
        let words = format!("{name} is a link to ../away, which is not there");
        assert!(code == 3 && said.contains(&words), "{code} {said}");
    }
}

#[test]
fn files_of_other_tools() {
    let world = World::new(TOML);
    for name in ["sconce.toml", "sconce.lock"] {
        fs::remove_file(world.path("project").join(name)).unwrap();
    }
    world.says(&["lock"], 3, &["has no sconce.toml", "writes one; all of it is optional"]);
    world.write("Dockerfile", "FROM scratch\n");
    world.says(
        &["lock"],
        3,
        &["Dockerfile: what its `pip install` names belongs in `requirements`"],
    );
    world.write("poetry.lock", "");
    world.says(&["lock"], 3, &["poetry.lock: `poetry export -o requirements.txt`"]);
    let conda = "dependencies:\n  - python=3.13\n  - numpy>=1.24\n  - pip:\n    - einops\n";
    world.write("environment.yml", conda);
    world.says(&["add", "tqdm"], 3, &["writes one that reads environment.yml"]);
    world.says(&["init"], 0, &["sconce.toml, which reads environment.yml"]);
    let toml = world.read("sconce.toml");
    let toml = toml.replace("\n#torch = ", "\ntorch = false #");
    world.write("sconce.toml", &toml);
    assert!(toml.contains("torch = false"), "{toml}");
    world.says(&["lock"], 0, &[]);
    let lock = world.lock();
    assert!(lock.wheel("numpy").is_some() && lock.wheel("einops").is_some());
    assert_eq!(lock.facts.python, "3.13");
    // What can't be read names its line.
    world.write("environment.yml", &conda.replace("numpy>=1.24", "ffmpeg"));
    world.says(&["lock"], 3, &["environment.yml, line 3: `ffmpeg`", "`packages` under [base]"]);
    world.says(&["add", "tqdm"], 2, &["under `pip:` in environment.yml"]);
    world.write("sconce.toml", "[environment]\nrequirements = \"poetry.lock\"\n");
    world.says(&["lock"], 3, &["sconce.toml, line 2", "poetry export"]);
    let poetry = "[tool.poetry]\nname = \"demo\"\n\n[tool.poetry.dependencies]\nnumpy = \"^1\"\n";
    world.write("pyproject.toml", poetry);
    world.write("sconce.toml", "[environment]\nrequirements = \"pyproject.toml\"\n");
    world.says(&["lock"], 3, &["pyproject.toml, line 4", "poetry export"]);
}
