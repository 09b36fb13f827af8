//! The Python program, run by this machine's python3: that one check's crash, hang, noise or death is
//! that check's failure alone; that files of events are read strictly; that table and program agree.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use expect_test::{expect, expect_file};
use sconce_verify::{Answer, By, CHECKS, Outcome, PROGRAM, Reader, page};

/// Checks that misbehave, in place of the real ones.
const REGISTRY: &str = r#"
import ctypes, os, signal, subprocess, sys, time
from sconce_checks.outcome import Failed, NotApplicable

def passes(gpus):
    os.write(1, b'{"check": "passes", "verdict": "fail"}\n')
    return "given %d" % gpus, {"good": 1.5, "endless": float("inf"), "none": float("nan")}

def fails(gpus):
    raise Failed("as it must")

def refuses(gpus):
    raise NotApplicable("not here")

def raises(gpus):
    raise ValueError("two\nlines")

def compiles(gpus):
    # As a compiler that another library starts does.
    subprocess.call(["sh", "-c", "echo 'fatal error: Python.h' >&2; exit 1"])
    raise RuntimeError("the compiler failed")

def exits(gpus):
    sys.exit(3)

def leaves(gpus):
    os._exit(0)

def crashes(gpus):
    sys.stderr.write("about to go\n")
    sys.stderr.flush()
    ctypes.string_at(0)

def killed(gpus):
    os.kill(os.getpid(), signal.SIGKILL)

def hangs(gpus):
    # What it leaves running must not outlive it.
    child = subprocess.Popen(["sleep", "600"])
    with open(os.environ["WITNESS"], "w") as file:
        file.write(str(child.pid))
    stuck_in_here()

def stuck_in_here():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)

def babbles(gpus):
    raise ValueError("x" * 100000)

def load(name):
    return globals()[name]
"#;

/// Puts the program into a folder, with the registry and a torch that are given.
fn stage(folder: &Path, registry: Option<&str>, torch: Option<&str>) {
    for (name, text) in PROGRAM {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    if let Some(registry) = registry {
        fs::write(folder.join("sconce_checks/__init__.py"), registry).unwrap();
    }
    if let Some(torch) = torch {
        fs::write(folder.join("torch.py"), torch).unwrap();
    }
    fs::write(folder.join("results"), "").unwrap();
}

fn python(folder: &Path, plan: &[&str]) -> Output {
    let mut command = Command::new("python3");
    // Isolated: this machine's own torch, if it has one, is not asked.
    command.args(["-B", "-E", "-S"]).arg(folder).arg("--results").arg(folder.join("results"));
    command.args(["--gpus", "2"]).args(plan).env("WITNESS", folder.join("witness"));
    command.output().unwrap()
}

fn answers(folder: &Path, names: &[&str]) -> Vec<Answer> {
    let mut reader = Reader::new(names.iter().copied());
    let found = reader.read(&fs::read(folder.join("results")).unwrap());
    found.into_iter().map(Result::unwrap).collect()
}

#[test]
fn one_check_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    stage(folder.path(), Some(REGISTRY), Some(""));
    let names = [
        "passes", "fails", "refuses", "raises", "compiles", "exits", "leaves", "crashes", "killed",
        "unknown", "babbles", "hangs",
    ];
    let plan: Vec<String> = names.iter().map(|name| format!("{name}:20")).collect();
    let mut plan: Vec<&str> = plan.iter().map(String::as_str).collect();
    plan.pop();
    plan.push("hangs:1.5");
    let begun = Instant::now();
    let output = python(folder.path(), &plan);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(begun.elapsed() < Duration::from_secs(100), "the hang was waited for");
    let answers = answers(folder.path(), &names);
    let told: Vec<String> = answers
        .iter()
        .map(|answer| {
            // Which thread hung has another number each time.
            let detail = answer.detail.split("; last words: Timeout").next().unwrap();
            let detail: String = detail.chars().take(80).collect();
            format!("{:?} {}: {detail} {:?}", answer.verdict, answer.check, answer.figures)
        })
        .collect();
    expect![[r#"
        Pass passes: given 2 {"good": 1.5}
        Fail fails: as it must {}
        NotApplicable refuses: not here {}
        Fail raises: ValueError: two lines (__init__.py:16) {}
        Fail compiles: RuntimeError: the compiler failed (__init__.py:21); last words: fatal error: Pyt {}
        Fail exits: SystemExit: 3 (__init__.py:24) {}
        Fail leaves: it ended without an answer {}
        Fail crashes: it crashed: SIGSEGV; last words: about to go | Fatal Python error: Segmentation  {}
        Fail killed: it crashed: SIGKILL (the kernel does that when memory runs out) {}
        Fail unknown: KeyError: 'unknown' (__init__.py:53) {}
        Fail babbles: ValueError: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx {}
        Fail hangs: no end after 1.5 s {}"#]]
    .assert_eq(&told.join("\n"));
    let hang = answers.last().unwrap();
    assert!(hang.detail.contains("stuck_in_here"), "{}", hang.detail);
    let crash = &answers[7];
    assert!(crash.detail.contains("about to go"), "{}", crash.detail);
    let witness = fs::read_to_string(folder.path().join("witness")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{witness}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "what the hang started still runs: {stat}");
}

/// What happens to every check where torch can't be imported.
fn without(torch: Option<&str>) -> Vec<(Outcome, String)> {
    let folder = tempfile::tempdir().unwrap();
    stage(folder.path(), Some(REGISTRY), torch);
    let output = python(folder.path(), &["passes:5", "fails:5"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers = answers(folder.path(), &["passes", "fails"]);
    assert_eq!(answers.len(), 2);
    answers.into_iter().map(|answer| (answer.verdict, answer.detail)).collect()
}

#[test]
fn no_torch_is_no_fault_and_a_broken_one_is() {
    let (outcome, reason) = without(None).remove(1);
    assert_eq!((outcome, &*reason), (Outcome::NotApplicable, "there is no torch for this Python"));
    let (outcome, reason) =
        without(Some("raise ImportError('libcudart.so.13: cannot open')")).remove(1);
    assert_eq!(outcome, Outcome::Fail);
    assert!(reason.contains("libcudart.so.13"), "{reason}");
    // A torch whose own parts are missing is broken, not absent.
    let (outcome, _) = without(Some("import torch_part_that_is_not_there")).remove(0);
    assert_eq!(outcome, Outcome::Fail);
}

/// Runs a piece of Python beside the program's modules.
fn evaluate(code: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    stage(folder.path(), None, None);
    let output = Command::new("python3")
        .args(["-B", "-c", code])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn table_and_program_agree() {
    let code = "from sconce_checks import CHECKS; print('\\n'.join(CHECKS))";
    let names = evaluate(code);
    let table: Vec<&str> =
        CHECKS.iter().filter(|check| check.by == By::Torch).map(|check| check.name).collect();
    assert_eq!(names.lines().collect::<Vec<_>>(), table);
    // Each has its module and its function; read, for importing needs torch.
    let code = "
import ast
from sconce_checks import CHECKS
for entry in CHECKS.values():
    module, function = entry.split(':')
    tree = ast.parse(open('sconce_checks/%s.py' % module).read(), feature_version=(3, 9))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    assert len(found) == 1 and [arg.arg for arg in found[0].args.args] == ['gpus'], entry
ast.parse(open('__main__.py').read(), feature_version=(3, 9))
";
    evaluate(code);
}

/// CRC-32C of RFC 3720 B.4, and records: whole, cut, and with each single bit of a file turned.
#[test]
fn files_of_events_are_read_strictly() {
    let code = r#"
import struct
from sconce_checks.events import crc32c, masked, records
from sconce_checks.outcome import Failed

assert crc32c(bytes(32)) == 0x8A9136AA
assert crc32c(b"\xff" * 32) == 0x62A8AB43
assert crc32c(bytes(range(32))) == 0x46DD794E
assert crc32c(b"123456789") == 0xE3069283

def record(body):
    head = struct.pack("<Q", len(body))
    return head + struct.pack("<I", masked(head)) + body + struct.pack("<I", masked(body))

def refused(data):
    try:
        records(data)
    except Failed as reason:
        return str(reason)
    raise AssertionError("taken for whole: %r" % data)

whole = record(b"first") + record(b"") + record(b"third")
assert records(whole) == [b"first", b"", b"third"] and records(b"") == []
bounds = {0, len(record(b"first")), len(record(b"first") + record(b""))}
for cut in range(len(whole)):
    if cut not in bounds:
        refused(whole[:cut])
for bit in range(len(whole) * 8):
    turned = bytearray(whole)
    turned[bit // 8] ^= 1 << bit % 8
    refused(bytes(turned))
head = struct.pack("<Q", 2**63)
print(refused(head + struct.pack("<I", masked(head)) + bytes(8)))
"#;
    expect!["record 0 is longer than the file\n"].assert_eq(&evaluate(code));
}

#[test]
fn the_manual_is_the_table() {
    expect_file!["../../../docs/verify.md"].assert_eq(&page());
    for check in CHECKS {
        assert!(CHECKS.iter().filter(|other| other.name == check.name).count() == 1);
        assert!(check.limit >= 20 && !check.proves.is_empty() && !check.bound.is_empty());
    }
}

/// Every file of the folder is embedded: one forgotten would be missed only inside a container.
#[test]
fn all_files_are_embedded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    for folder in ["", "sconce_checks"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "py") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
                let text = fs::read_to_string(&path).unwrap();
                assert!(
                    PROGRAM.iter().any(|(known, held)| *known == name && *held == text),
                    "{name}"
                );
            }
        }
    }
}
