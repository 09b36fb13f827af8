//! The program that reads and builds a source distribution, outside of a container: what it takes, and what it
//! refuses before anything of it runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Writes an archive: `name kind text` for each of its members, in order.
const PACK: &str = r#"
import io, json, sys, tarfile, zipfile
path, members = sys.argv[1], json.loads(sys.argv[2])
if path.endswith(".zip"):
    with zipfile.ZipFile(path, "w") as archive:
        for name, _, text in members:
            archive.writestr(zipfile.ZipInfo(name), text)
else:
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.mtime = 1_600_000_000
            if kind == "link":
                info.type, info.linkname = tarfile.SYMTYPE, text
            elif kind == "hard":
                info.type, info.linkname = tarfile.LNKTYPE, text
            elif kind == "fifo":
                info.type = tarfile.FIFOTYPE
            else:
                info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()) if kind == "file" else None)
"#;

/// Name, kind and text of a member.
type Member<'a> = (&'a str, &'a str, &'a str);

struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn pack(&self, file: &str, members: &[Member]) {
        let members = serde_json::to_string(members).unwrap();
        let path = self.path(file);
        let done = python().arg("-c").arg(PACK).arg(path).arg(members).status().unwrap();
        assert!(done.success());
    }

    /// What `look` answers.
    fn look(&self, file: &str) -> serde_json::Value {
        let words = [self.path(file), self.path("answer")];
        let done = python().arg(program()).arg("look").args(words).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        read(&self.path("answer"))
    }

    /// What `build` answers, or nothing and the log where the backend failed.
    fn build(&self, file: &str, requires: &str) -> Result<serde_json::Value, String> {
        let out = self.path("out");
        let _ = fs::remove_dir_all(&out);
        fs::create_dir(&out).unwrap();
        fs::write(self.path("requires"), requires).unwrap();
        // Where it unpacks is fixed: the path stands in what is built.
        let text = fs::read_to_string(program()).unwrap();
        let sources = format!("\"{}\"", self.path("source").display());
        let changed = text.replace("\"/build/source\"", &sources);
        assert_ne!(text, changed);
        fs::write(self.path("sdist.py"), changed).unwrap();
        let _ = fs::remove_dir_all(self.path("source"));
        let done = python()
            .args(["-B", "-s"])
            .arg(self.path("sdist.py"))
            .arg("build")
            .args([self.path(file), out.clone(), self.path("requires")])
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .status()
            .unwrap();
        match done.success() {
            true => Ok(read(&out.join("answer"))),
            false => Err(fs::read_to_string(out.join("log")).unwrap()),
        }
    }
}

/// A Python with tomllib, as every base has.
fn python() -> Command {
    Command::new("python3")
}

fn program() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/source/sdist.py"))
}

fn read(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A backend of its own, so that nothing needs to be installed: it says what it sees.
const PYPROJECT: &str =
    "[build-system]\nrequires = ['x>=1']\nbuild-backend = 'own'\nbackend-path = ['.']\n";
const BACKEND: &str = "import os
def get_requires_for_build_wheel(config_settings=None):
    return ['cython']
def build_wheel(folder, config_settings=None, metadata_directory=None):
    print('here I am')
    text = [os.environ['SOURCE_DATE_EPOCH'], os.path.basename(os.getcwd()), str(os.path.exists('data/a.txt'))]
    open(os.path.join(folder, 'a-1.0-py3-none-any.whl'), 'w').write(' '.join(text))
    return 'a-1.0-py3-none-any.whl'
";

#[test]
fn what_it_says_of_its_build() {
    let world = World::new();
    world.pack(
        "a-1.0.tar.gz",
        &[
            ("a-1.0/pyproject.toml", "file", PYPROJECT),
            ("a-1.0/own.py", "file", "raise SystemExit('it was run')"),
            ("a-1.0/csrc/k.cu", "file", ""),
            // That of a folder below is another project's.
            ("a-1.0/third/pyproject.toml", "file", "[build-system]\nrequires = ['y']\n"),
        ],
    );
    let answer = world.look("a-1.0.tar.gz");
    assert_eq!(answer["requires"], serde_json::json!(["x>=1"]));
    assert_eq!((&answer["compiles"], &answer["cuda"]), (&true.into(), &true.into()));
    world.pack("b-1.0.zip", &[("b-1.0/setup.py", "file", "raise SystemExit('it was run')")]);
    let answer = world.look("b-1.0.zip");
    assert_eq!(answer["requires"], serde_json::json!(["setuptools>=40.8.0"]));
    assert_eq!((&answer["compiles"], &answer["cuda"]), (&false.into(), &false.into()));
}

#[test]
fn a_wheel_is_built() {
    let world = World::new();
    let members = [
        ("a-1.0/pyproject.toml", "file", PYPROJECT),
        ("a-1.0/own.py", "file", BACKEND),
        ("a-1.0/data/a.txt", "file", "x"),
    ];
    for file in ["a-1.0.tar.gz", "a-1.0.zip"] {
        world.pack(file, &members);
        // What the backend asks for is said, and nothing is built without it.
        let answer = world.build(file, "[\"x>=1\"]").unwrap();
        assert_eq!(answer, serde_json::json!({"requires": ["cython"]}));
        assert!(!world.path("out/wheel").exists());
        for requires in ["[\"x>=1\", \"cython\"]", "null"] {
            let answer = world.build(file, requires).unwrap();
            assert_eq!(answer, serde_json::json!({"wheel": "a-1.0-py3-none-any.whl"}));
            let made = fs::read_to_string(world.path("out/wheel/a-1.0-py3-none-any.whl")).unwrap();
            let time = if file.ends_with("zip") { "315532800" } else { "1600000000" };
            assert_eq!(made, format!("{time} a-1.0 True"));
            assert_eq!(fs::read_to_string(world.path("out/log")).unwrap(), "here I am\n");
        }
    }
    let broken = BACKEND.replace("print('here I am')", "import no_such_module");
    world.pack(
        "a-1.0.tar.gz",
        &[("a-1.0/pyproject.toml", "file", PYPROJECT), ("a-1.0/own.py", "file", &broken)],
    );
    let log = world.build("a-1.0.tar.gz", "null").unwrap_err();
    assert!(log.trim_end().ends_with("No module named 'no_such_module'"), "{log}");
}

#[test]
fn what_leads_out_is_refused_and_nothing_is_run() {
    let toml = ("a-1.0/pyproject.toml", "file", PYPROJECT);
    let backend = ("a-1.0/own.py", "file", "open('/tmp/it-was-run', 'w')");
    let cases: [(&str, &[Member]); 10] = [
        ("leads out of its folder", &[toml, backend, ("../evil", "file", "x")]),
        ("leads out of its folder", &[toml, backend, ("a-1.0/../../evil", "file", "x")]),
        ("leads out of its folder", &[toml, backend, ("/etc/evil", "file", "x")]),
        ("more than one folder", &[toml, backend, ("b/evil", "file", "x")]),
        ("a link that leads out", &[toml, backend, ("a-1.0/l", "link", "/etc")]),
        ("a link that leads out", &[toml, backend, ("a-1.0/l", "link", "../../..")]),
        (
            "behind a link",
            &[toml, backend, ("a-1.0/d", "link", "."), ("a-1.0/d/evil", "file", "x")],
        ),
        ("no file, folder or link", &[toml, backend, ("a-1.0/p", "fifo", "")]),
        ("no file, folder or link", &[toml, backend, ("a-1.0/h", "hard", "a-1.0/own.py")]),
        ("it is empty", &[]),
    ];
    for (why, members) in cases {
        let world = World::new();
        world.pack("a-1.0.tar.gz", members);
        let answer = world.build("a-1.0.tar.gz", "null").unwrap();
        let refused = answer["refused"].as_str().unwrap_or_default();
        assert!(refused.contains(why), "{why}: {answer}");
        assert!(!Path::new("/tmp/it-was-run").exists() && !world.path("evil").exists(), "{why}");
    }
}

#[test]
fn no_archive_and_no_toml_are_words_and_not_a_traceback() {
    let world = World::new();
    fs::write(world.path("a-1.0.tar.gz"), "no archive").unwrap();
    assert!(world.look("a-1.0.tar.gz")["refused"].is_string());
    fs::write(world.path("a-1.0.zip"), "no archive").unwrap();
    assert!(world.look("a-1.0.zip")["refused"].is_string());
    for toml in [
        "[build-system\n",
        "build-system = 3\n",
        "[build-system]\nrequires = 'x'\n",
        "[build-system]\nrequires = [1]\n",
    ] {
        world.pack("a-1.0.tar.gz", &[("a-1.0/pyproject.toml", "file", toml)]);
        assert!(world.look("a-1.0.tar.gz")["refused"].is_string(), "{toml}");
    }
}

/// A setup.py that names all GPUs there are gets code for those that are asked for, and all where one would have none.
#[test]
fn nvcc_is_run_for_the_gpus_that_are_asked_for() {
    let world = World::new();
    let nvcc = world.path("bin/nvcc");
    fs::create_dir(world.path("bin")).unwrap();
    fs::write(&nvcc, "#!/bin/sh\necho \"$@\"\n").unwrap();
    fs::set_permissions(&nvcc, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let all = "-c x.cu -gencode arch=compute_75,code=sm_75 -gencode=arch=compute_80,code=sm_80 \
               --generate-code arch=compute_90a,code=[sm_90a,compute_90a] \
               -gencode arch=compute_100,code=sm_100 -o x.o";
    let ninety = "-c x.cu --generate-code arch=compute_90a,code=[sm_90a,compute_90a] -o x.o";
    let ada = "-c x.cu -gencode=arch=compute_80,code=sm_80 -o x.o";
    for (asked, expected) in [
        ("9.0", ninety),
        // What is there for 8.0 runs on 8.9; for 12.0 nothing does, nor for 9.1 what is for 9.0 alone.
        ("8.9+PTX", ada),
        ("9.0;12.0", all),
        ("9.1", all),
        ("", all),
    ] {
        let mut command = python();
        command.arg(program()).arg("nvcc").args(all.split_whitespace());
        let variables =
            [("CUDA_HOME", world.0.path().to_str().unwrap()), ("TORCH_CUDA_ARCH_LIST", asked)];
        let done = command.envs(variables).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), expected, "{asked}");
    }
}
