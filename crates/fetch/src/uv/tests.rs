//! uv as sconce drives it, with a stand-in program that writes down how it was called.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sconce_lock::{IndexError, IndexRequest, Leads, PythonRequest, Spec};

use super::{Options, Uv, UvError};

const PYLOCK: &str = "lock-version = \"1.0\"
[[packages]]
name = \"foo-bar\"
version = \"1.0\"
wheels = [{ url = \"https://u:p@files.example.invalid/foo_bar-1.0-py3-none-any.whl\", hashes = { sha256 = \"1111111111111111111111111111111111111111111111111111111111111111\" } }]
";

/// Written by another process: one that a test beside this one forks would have it open for writing, and then it can't be run.
fn write_program(path: &Path, text: &str) {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", r#"printf %s "$1" >"$0""#]).arg(path).arg(text);
    assert!(shell.status().unwrap().success());
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A folder with a stand-in for uv.
struct Bench(tempfile::TempDir, Leads);

impl Bench {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let leads = Leads::of(folder.path());
        let bench = Self(folder, leads);
        bench.program("uv", script);
        fs::write(bench.path("pylock"), PYLOCK).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let head = format!("#!/bin/sh\nhere={}\n", self.0.path().display());
        write_program(&path, &(head + script));
    }

    fn options(&self) -> Options<'_> {
        Options { cache: None, leads: &self.1, offline: false, stop: None }
    }

    fn uv(&self, variables: &[(&str, &str)]) -> Uv {
        let program = (self.path("bin/uv"), "0.13.9".to_owned());
        Uv::at(program, self.options(), &|name| env(variables, name)).unwrap()
    }
}

/// Only what a test says: nothing of this machine's configuration.
fn env(variables: &[(&str, &str)], name: &str) -> Option<OsString> {
    let given = variables.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).into());
    given.or(match name {
        "UV_NO_CONFIG" => Some("1".into()),
        "PIP_CONFIG_FILE" => Some("/dev/null".into()),
        _ => None,
    })
}

/// Writes its arguments and input down, and answers with the pylock in its folder.
const ANSWERS: &str = r#"
echo "$@" >>$here/calls
env | grep -E '^(UV_|SSL_)' | sort >$here/env
pwd >$here/cwd
cat >$here/input
while [ $# -gt 0 ]; do
  case "$1" in
    --output-file) rm -f $here/preferences; [ -e "$2" ] && cp "$2" $here/preferences; cp $here/pylock "$2" ;;
    --constraints) cp "$2" $here/constraints ;;
    --emit-index-annotation) printf 'foo-bar==1.0\n    # from https://lab.example.invalid/simple\n' ;;
  esac
  shift
done
"#;

fn request() -> PythonRequest {
    PythonRequest {
        requirements: vec!["foo-bar".into(), "torch<=2.15.0".into()],
        files: Vec::new(),
        extras: Vec::new(),
        groups: Vec::new(),
        overrides: Vec::new(),
        options: Vec::new(),
        constraints: vec!["numpy<2".into()],
        preferences: Vec::new(),
        base: trixie(),
        machine: "x86_64".parse().unwrap(),
        indexes: Vec::new(),
        elsewhere: Vec::new(),
        offers: Vec::new(),
        built: Vec::new(),
        torch_backend: None,
    }
}

/// Debian trixie, by way of a lock's own types: `facts` is not ours to reach.
fn trixie() -> &'static sconce_lock::Base {
    sconce_lock::base("trixie").unwrap()
}

#[test]
fn asks_for_the_target_and_reads_the_answer() {
    let bench = Bench::new(ANSWERS);
    let mut uv = bench.uv(&[]);
    let answer = uv.python(&request()).unwrap();
    assert_eq!(answer.pylock, PYLOCK);
    assert!(answer.indexes.is_empty());
    let calls = fs::read_to_string(bench.path("calls")).unwrap();
    assert_eq!(calls.lines().count(), 1, "{calls}");
    for words in [
        "pip compile",
        "--only-binary :all:",
        "--python-version 3.13",
        "--python-platform x86_64-manylinux_2_40",
    ] {
        assert!(calls.contains(words), "{words} is not in {calls}");
    }
    assert!(!calls.contains("torch-backend") && !calls.contains("--offline"), "{calls}");
    assert_eq!(fs::read_to_string(bench.path("input")).unwrap(), "foo-bar\ntorch<=2.15.0\n");
    assert_eq!(fs::read_to_string(bench.path("constraints")).unwrap(), "numpy<2");
    assert_eq!(fs::read_to_string(bench.path("cwd")).unwrap(), "/\n");
    let digest = "11".repeat(32).parse().unwrap();
    assert!(uv.locations()[&digest].ends_with("/foo_bar-1.0-py3-none-any.whl"));
}

#[test]
fn a_python_without_the_gil_is_one_that_uv_finds() {
    let bench = Bench::new(ANSWERS);
    let base = sconce_lock::base_with("trixie", "3.13t").unwrap();
    bench.uv(&[]).python(&PythonRequest { base, ..request() }).unwrap();
    let calls = fs::read_to_string(bench.path("calls")).unwrap();
    assert!(calls.contains("--python-version 3.13 ") && calls.contains("/python3"), "{calls}");
}

#[test]
fn uv_is_given_a_python_that_is_a_program_itself() {
    let bench = Bench::new(ANSWERS);
    // A script that looks for one, as version managers have it, and a program that is no Python.
    bench.program("python3", "exit 1");
    fs::create_dir(bench.path("other")).unwrap();
    fs::copy("/bin/true", bench.path("other/python3")).unwrap();
    let ours = format!("{}:{}", bench.path("bin").display(), bench.path("other").display());
    let given = |variables: &[(&str, &str)]| {
        bench.uv(variables).python(&request()).unwrap();
        let calls = fs::read_to_string(bench.path("calls")).unwrap();
        fs::remove_file(bench.path("calls")).unwrap();
        Some(calls.split_once("--python ")?.1.split_whitespace().next()?.to_owned())
    };
    assert_eq!(given(&[("PATH", &ours)]), None);
    let all = format!("{ours}:{}", std::env::var("PATH").unwrap());
    let python = given(&[("PATH", &all)]).unwrap();
    assert!(fs::read(&python).unwrap().starts_with(b"\x7fELF"), "{python}");
    assert!(!python.starts_with(bench.path("").to_str().unwrap()), "{python}");
    // Whoever names one for uv means it.
    assert_eq!(given(&[("PATH", &all), ("UV_PYTHON", "3.12")]), None);
}

/// An index that is `explicit` has only what a project takes from it: which index a package is from is asked with the
/// project as well.
#[test]
fn both_questions_have_the_projects() {
    let bench = Bench::new(ANSWERS);
    let file = sconce_lock::ProjectText {
        path: "/somewhere/pyproject.toml".into(),
        text: "[project]\nname = \"x\"\nversion = \"1\"\ndependencies = [\"foo-bar\"]\n".into(),
    };
    let request = PythonRequest {
        files: vec![file],
        extras: vec!["gpu".into()],
        overrides: vec!["a<2".into()],
        elsewhere: vec![("lab".into(), "https://lab.example.invalid/simple".into())],
        ..request()
    };
    let answer = bench.uv(&[]).python(&request).unwrap();
    assert_eq!(answer.indexes["foo-bar"], "lab");
    let calls = fs::read_to_string(bench.path("calls")).unwrap();
    let calls: Vec<&str> = calls.lines().collect();
    assert_eq!(calls.len(), 2, "{calls:?}");
    for call in calls {
        for words in ["project-1/pyproject.toml", "--constraints ", "--overrides ", "--extra gpu"] {
            assert!(call.contains(words), "{words} is not in {call}");
        }
    }
}

#[test]
fn what_is_locked_is_preferred() {
    let bench = Bench::new(ANSWERS);
    let preferences = vec![("foo-bar".to_owned(), "0.9".to_owned())];
    let request = PythonRequest { preferences, ..request() };
    bench.uv(&[]).python(&request).unwrap();
    let seen = fs::read_to_string(bench.path("preferences")).unwrap();
    let parsed = sconce_lock::Pylock::parse(&seen).unwrap();
    assert_eq!(parsed.packages[0].name, "foo-bar");
    assert_eq!(parsed.packages[0].version, Some("0.9".parse().unwrap()));
    bench.uv(&[]).python(&self::request()).unwrap();
    assert!(!bench.path("preferences").exists());
}

#[test]
fn names_the_index_of_each_package() {
    let bench = Bench::new(ANSWERS);
    let lab =
        IndexRequest { name: "lab".into(), url: "https://u:p@lab.example.invalid/simple".into() };
    let folder = IndexRequest { name: "here".into(), url: "./wheels".into() };
    let request = PythonRequest { indexes: vec![lab, folder], ..request() };
    let error = bench.uv(&[]).python(&request).unwrap_err().to_string();
    assert!(error.contains("list") && error.contains("wheels"), "{error}");
    fs::create_dir(bench.path("wheels")).unwrap();
    let answer = bench.uv(&[]).python(&request).unwrap();
    assert_eq!(answer.indexes["foo-bar"], "lab");
    assert_eq!(answer.addresses["lab"], "https://lab.example.invalid/simple");
    let calls = fs::read_to_string(bench.path("calls")).unwrap();
    // Asked as an index, after the one that is named before it.
    let (lab, here) = (calls.find("--index lab=https"), calls.find("--index here=file:///"));
    assert!(lab.is_some() && lab < here, "{calls}");
    assert!(!calls.contains("--find-links"), "{calls}");
    assert_eq!(fs::read_to_string(bench.path("input")).unwrap(), "foo-bar==1.0\n");
}

#[test]
fn hands_over_what_is_configured_for_pip_alone() {
    let bench = Bench::new(ANSWERS);
    let seen = |variables: &[(&str, &str)]| {
        bench.uv(variables).python(&request()).unwrap();
        fs::read_to_string(bench.path("env")).unwrap()
    };
    let pip = ("PIP_INDEX_URL", "https://pip.example.invalid/simple");
    let cert = ("PIP_CERT", "/etc/ssl/lab.pem");
    let text = seen(&[pip, cert]);
    assert!(text.contains("UV_DEFAULT_INDEX=https://pip.example.invalid/simple"), "{text}");
    assert!(text.contains("UV_SYSTEM_CERTS=true"), "{text}");
    assert!(text.contains("UV_PYTHON_DOWNLOADS=never"), "{text}");
    // uv has an index of its own: pip's says nothing.
    let text = seen(&[pip, ("UV_DEFAULT_INDEX", "https://uv.example.invalid/simple")]);
    assert!(!text.contains("pip.example.invalid"), "{text}");
}

#[test]
fn tells_no_solution_from_no_network() {
    let no = "cat >/dev/null; echo 'error: No solution found when resolving dependencies\n  cause: Because there is \
              no version of torch==9' >&2; exit 1";
    let error = Bench::new(no).uv(&[]).python(&request()).unwrap_err();
    let IndexError::NoSolution { words } = error else { panic!("{error:?}") };
    assert_eq!(words, "Because there is no version of torch==9");

    let no_network = "cat >/dev/null; echo 'error: Request failed after 3 retries' >&2; exit 2";
    let error = Bench::new(no_network).uv(&[]).python(&request()).unwrap_err();
    let IndexError::Failed(error) = error else { panic!("{error:?}") };
    assert!(error.to_string().contains("Request failed"), "{error}");

    // Without the login it is not known whether there is one.
    let no_login = "cat >/dev/null; echo 'error: No solution found when resolving dependencies\n  cause: Because \
                    einops was not found in the package registry\n\nhint: An index URL (http://lab.invalid/simple) \
                    could not be queried due to a lack of valid authentication credentials (401 Unauthorized)' >&2; exit 1";
    let error = Bench::new(no_login).uv(&[]).python(&request()).unwrap_err();
    let IndexError::Failed(error) = error else { panic!("{error:?}") };
    let hint = error.downcast::<UvError>().unwrap().hint().unwrap();
    assert!(hint.contains(".netrc") && hint.contains("UV_INDEX_<NAME>_USERNAME"), "{hint}");
    assert!(!hint.contains("network"), "{hint}");

    let bench = Bench::new(no);
    let program = (bench.path("bin/uv"), "0.13.9".to_owned());
    let options = Options { offline: true, ..bench.options() };
    let mut uv = Uv::at(program, options, &|name| env(&[], name)).unwrap();
    let IndexError::Failed(error) = uv.python(&request()).unwrap_err() else {
        panic!("a solution?")
    };
    let error = error.downcast::<UvError>().unwrap();
    assert!(error.hint().unwrap().contains("--offline"), "{error}");
}

/// A folder's files have no day, and are there all the same where only what is old is to be seen.
#[test]
fn a_folder_beside_a_day() {
    let bench = Bench::new(ANSWERS);
    fs::create_dir(bench.path("wheels")).unwrap();
    fs::write(bench.path("wheels/own_thing-1.0-py3-none-any.whl"), "").unwrap();
    let folder = IndexRequest { name: "here".into(), url: "./wheels".into() };
    let request = PythonRequest { indexes: vec![folder], ..request() };
    let says = |variables: &[(&str, &str)]| {
        bench.uv(variables).python(&request).unwrap();
        let calls = fs::read_to_string(bench.path("calls")).unwrap();
        fs::remove_file(bench.path("calls")).unwrap();
        calls.contains("--exclude-newer-package own-thing=false")
    };
    assert!(says(&[("UV_EXCLUDE_NEWER", "2026-11-20")]));
    assert!(!says(&[]));
}

/// A folder of wheels that is configured and has none of an answer's packages costs no second question.
#[test]
fn a_folder_that_gives_nothing_is_not_asked_about() {
    let bench = Bench::new(ANSWERS);
    let folder = bench.path("wheels");
    fs::create_dir(&folder).unwrap();
    let mut uv = bench.uv(&[("PIP_FIND_LINKS", folder.to_str().unwrap())]);
    let answer = uv.python(&request()).unwrap();
    assert!(answer.indexes.is_empty());
    let calls = || fs::read_to_string(bench.path("calls")).unwrap().lines().count();
    assert_eq!(calls(), 1);
    let here = format!("file://{}", folder.display());
    let pylock = PYLOCK.replace("https://u:p@files.example.invalid", &here);
    fs::write(bench.path("pylock"), pylock).unwrap();
    uv.python(&request()).unwrap();
    assert_eq!(calls(), 3);
}

#[test]
fn a_uv_that_answers_nothing_is_an_error() {
    let error = Bench::new("cat >/dev/null; exit 0").uv(&[]).python(&request()).unwrap_err();
    assert!(matches!(error, IndexError::Failed(_)), "{error:?}");
}

#[test]
fn found_on_the_path_when_new_enough_else_installed() {
    let bench = Bench::new("echo 'uv 0.13.9 (x)'");
    let bin = bench.path("bin");
    let cache = bench.path("cache");
    let options = Options { cache: Some(&cache), ..bench.options() };
    let find = |variables: &[(&str, &str)], options: Options<'_>| {
        let mut notes = Vec::new();
        let mut note = |text: &str| notes.push(text.to_owned());
        let found = super::find::find(options, &|name| env(variables, name), &mut note);
        (found, notes)
    };
    let path = format!("{}:/bin:/usr/bin", bin.display());
    let (found, _) = find(&[("PATH", &path)], options);
    assert_eq!(found.unwrap(), (bin.join("uv"), "0.13.9".to_owned()));

    // Too old: our own is installed, by pip.
    bench.program("uv", "echo 'uv 0.1.0'");
    let named = bin.join("uv");
    let (found, _) = find(&[("SCONCE_UV", named.to_str().unwrap())], options);
    assert!(matches!(found, Err(UvError::Named { .. })), "{found:?}");
    let (found, _) = find(&[("PATH", &path)], Options { offline: true, ..options });
    assert!(matches!(found, Err(UvError::Offline)), "{found:?}");
    bench.program(
        "python3",
        "echo \"$@\" >$here/pip\nwhile [ \"$1\" != --target ]; do shift; done\nmkdir -p $2/bin\n\
         printf '#!/bin/sh\\necho uv 0.13.9\\n' >$2/bin/uv\nchmod 755 $2/bin/uv\n",
    );
    let (found, notes) = find(&[("PATH", &path)], options);
    let (program, _) = found.unwrap();
    assert!(program.starts_with(&cache), "{}", program.display());
    assert_eq!(notes.len(), 1);
    let asked = fs::read_to_string(bench.path("pip")).unwrap();
    assert!(asked.contains("uv==") && asked.contains("--only-binary :all:"), "{asked}");
    // The second time it is there.
    let (found, notes) = find(&[("PATH", &path)], options);
    assert!(found.is_ok() && notes.is_empty());
    let left: Vec<_> = fs::read_dir(cache.join("uv")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");

    // Neither.
    bench.program("python3", "echo 'No module named pip' >&2; exit 1");
    let other = bench.path("other");
    let (found, _) =
        find(&[("PATH", bin.to_str().unwrap())], Options { cache: Some(&other), ..options });
    let error = found.unwrap_err();
    assert!(matches!(error, UvError::Missing { .. }), "{error}");
    assert!(error.hint().unwrap().contains("apt install"));
    bench.program("python3", "echo 'no route to host' >&2; exit 1");
    let (found, _) =
        find(&[("PATH", bin.to_str().unwrap())], Options { cache: Some(&other), ..options });
    assert!(found.unwrap_err().to_string().contains("no route to host"));
}

/// In a folder that a group writes to, each member would run what another left there.
#[test]
fn no_uv_is_run_that_others_can_have_put_there() {
    use std::os::unix::fs::{MetadataExt, chown, symlink};
    let bench = Bench::new("echo 'uv 0.1.0'");
    fs::set_permissions(bench.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let pinned = &sconce_lock::resolver().pinned;
    let uv_in = |tools: &Path| {
        let bin = tools.join("uv").join(pinned).join("bin");
        fs::create_dir_all(&bin).unwrap();
        let script = format!("#!/bin/sh\ntouch {}\necho uv 0.13.9\n", bench.path("ran").display());
        write_program(&bin.join("uv"), &script);
        bin.join("uv")
    };
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let (shared, home) = (bench.path("shared"), bench.path("home"));
    uv_in(&shared.join("tools"));
    mode(&shared, 0o2770);
    fs::create_dir(&home).unwrap();
    let find = |home: &Path, cache: Option<&Path>| {
        let variables = [("HOME", home.to_str().unwrap())];
        let options = Options { cache, offline: true, ..bench.options() };
        super::find::find(options, &|name| env(&variables, name), &mut |_| {})
    };
    let of_store = shared.join("tools");
    let found = find(&home, Some(&of_store));
    assert!(matches!(found, Err(UvError::Offline)), "{found:?}");
    assert!(!bench.path("ran").exists());
    // That of one's own cache is, which nobody else enters.
    let own = uv_in(&home.join(".cache/sconce/tools"));
    assert_eq!(find(&home, Some(&of_store)).unwrap().0, own);
    assert_eq!(fs::metadata(home.join(".cache/sconce/tools")).unwrap().mode() & 0o777, 0o700);
    fs::remove_file(bench.path("ran")).unwrap();
    // A link, and the file of another user, from when it was open.
    fs::rename(&own, bench.path("theirs")).unwrap();
    symlink(bench.path("theirs"), &own).unwrap();
    let error = find(&home, None).unwrap_err();
    assert!(error.to_string().contains("uv` is a link: remove it"), "{error}");
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        fs::rename(bench.path("theirs"), &own).unwrap();
        chown(&own, Some(65534), None).unwrap();
        let error = find(&home, None).unwrap_err();
        assert!(error.to_string().contains("uv` is another user's: remove it"), "{error}");
    }
    assert!(!bench.path("ran").exists());
}

/// Against the real uv and the index that is configured: `cargo test -p sconce-fetch -- --ignored real_uv`.
#[test]
#[ignore = "asks the configured package index"]
fn real_uv_resolves_torch() {
    struct Real(Uv);
    impl sconce_lock::Index for Real {
        fn python(
            &mut self,
            request: &PythonRequest,
        ) -> Result<sconce_lock::PythonAnswer, IndexError> {
            self.0.python(request)
        }
        fn releases(
            &mut self,
            _: &[String],
        ) -> Result<std::collections::BTreeMap<String, Vec<sconce_lock::ListedFile>>, IndexError>
        {
            Ok(Default::default())
        }
        fn native(
            &mut self,
            wheels: &[(sconce_lock::Wheel, bool)],
        ) -> Vec<Result<sconce_lock::Native, String>> {
            wheels.iter().map(|_| Ok(Default::default())).collect()
        }

        fn debian(
            &mut self,
            _: &sconce_lock::DebianRequest,
        ) -> Result<sconce_lock::DebianAnswer, IndexError> {
            Ok(sconce_lock::DebianAnswer::default())
        }
    }
    let cache = std::env::temp_dir().join("sconce-real-uv");
    let text = std::env::var("SCONCE_TEST_SPEC").unwrap_or_default();
    let leads = Leads::of(Path::new("/"));
    let options = Options { cache: Some(&cache), leads: &leads, offline: false, stop: None };
    let uv = Uv::find(options, &mut |_| {}).unwrap();
    let mut index = Real(uv);
    let spec = Spec::parse(&text).unwrap();
    let host = sconce_lock::Host { machine: Some("x86_64".parse().unwrap()), ..Default::default() };
    let (lock, explanation) =
        sconce_lock::resolve(&spec, &host, sconce_lock::Previous::NONE, &mut index).unwrap();
    assert_eq!(sconce_lock::Lock::parse(&lock.to_text()).unwrap(), lock);
    if let Some(out) = std::env::var_os("SCONCE_TEST_OUT") {
        fs::write(out, format!("{}\n{}", lock.to_text(), explanation.render())).unwrap();
    }
}
