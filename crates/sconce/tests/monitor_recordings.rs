//! Recordings that are damaged, or whose time does not go on evenly: `sconce monitor --replay`, `monitor rules --replay`, `top --replay`.

#[allow(dead_code)]
mod world;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use world::World;

const HEAD: &str = "{\"sconce_recording\":1,\"host\":\"node7\"}\n";
const BEGUN: u64 = 1_700_000_000_000;

/// A sample of a healthy GPU at so many seconds.
fn sample(second: u64) -> String {
    of(second, "\"power_watts\":70", "")
}

fn of(second: u64, values: &str, more: &str) -> String {
    let at = BEGUN + second * 1000;
    format!(
        "{{\"at_ms\":{at},\"gpus\":[{{\"index\":0,\"uuid\":\"GPU-1\",\"values\":{{{values}}}{more}}}]}}\n"
    )
}

fn compressed(path: &Path, lines: &str) {
    let mut gzip = Command::new("gzip");
    let mut gzip =
        gzip.stdin(Stdio::piped()).stdout(fs::File::create(path).unwrap()).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(gzip.wait().unwrap().success());
}

/// What each way to read `r.gz` says: the exit code, and all that is printed.
fn each_way(world: &World) -> Vec<(i32, String)> {
    let ways: [&[&str]; 6] = [
        &["monitor", "rules", "--replay", "r.gz"],
        &["monitor", "rules", "--replay", "r.gz", "--json"],
        &["monitor", "--replay", "r.gz", "--once"],
        &["monitor", "--replay", "r.gz", "--textfile", "out.prom"],
        &["top", "--replay", "r.gz", "--once"],
        &["top", "--replay", "r.gz", "--json"],
    ];
    let said = ways.iter().map(|words| {
        let (code, out, err) = world.says(words);
        (code, format!("{words:?}: {out}{err}"))
    });
    said.collect()
}

/// Whatever is wrong in the middle is told with its line, and is no success.
#[test]
fn damage_in_the_middle() {
    let world = World::new();
    let lines = |middle: &str| {
        let before: String = (0..3).map(sample).collect();
        let after: String = (4..6).map(sample).collect();
        format!("{HEAD}{before}{middle}{after}")
    };
    for (middle, says) in [
        ("{}\n", "line 5 of the recording is no sample"),
        ("\n", "line 5 of the recording is no sample"),
        ("[]\n", "line 5 of the recording is no sample"),
        ("{\"at_ms\":-5}\n", "line 5 of the recording is no sample"),
        ("{\"at_ms\":1,\"at_ms\":2}\n", "line 5 of the recording is no sample"),
        ("{\"gpus\":[]}\n", "line 5 of the recording is no sample"),
        (&"\0".repeat(4096), "line 5 of the recording is no sample"),
        (HEAD, "line 5 of the recording is the head of another recording"),
    ] {
        compressed(&world.path("r.gz"), &lines(middle));
        for (code, said) in each_way(&world) {
            assert!(code == 3 && said.contains(says) && said.contains("hint: "), "{code} {said}");
            assert!(!said.contains("nothing was wrong"), "{said}");
        }
    }
    // Two recordings in one file, as `cat` joins them.
    compressed(&world.path("r.gz"), &lines(""));
    let one = fs::read(world.path("r.gz")).unwrap();
    fs::write(world.path("r.gz"), [&one[..], &one].concat()).unwrap();
    for (code, said) in each_way(&world) {
        assert!(code == 3 && said.contains("line 7 of the recording is the head"), "{code} {said}");
    }
    // A line that does not end.
    compressed(&world.path("r.gz"), &lines(&format!("{}\n", " ".repeat(17 << 20))));
    for (code, said) in each_way(&world) {
        assert!(code == 3 && said.contains("line 5 of the recording is longer"), "{code} {said}");
    }
}

/// Bytes that were changed after they were written are no tear: a killed monitor leaves none.
#[test]
fn bytes_that_were_changed() {
    let world = World::new();
    let lines: String =
        (0..400).map(|at| of(at, &format!("\"power_watts\":{}", at * 7 % 13), "")).collect();
    compressed(&world.path("r.gz"), &format!("{HEAD}{lines}"));
    let whole = fs::read(world.path("r.gz")).unwrap();
    for at in [whole.len() / 2, whole.len() - 6, whole.len() - 2] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(world.path("r.gz"), bytes).unwrap();
        let (code, out, err) = world.says(&["monitor", "rules", "--replay", "r.gz"]);
        assert!(
            code == 3 && err.contains("of the recording ") && err.contains("hint: "),
            "{at}: {code} {out}{err}"
        );
        assert!(
            !out.contains("break off") && !out.contains("nothing was wrong"),
            "{at}: {out}{err}"
        );
    }
    // What is behind the end.
    fs::write(world.path("r.gz"), [&whole[..], b"more than the header of a member"].concat())
        .unwrap();
    assert_eq!(world.says(&["monitor", "rules", "--replay", "r.gz"]).0, 3);
    // One that was cut off is that of a monitor that was killed.
    fs::write(world.path("r.gz"), &whole[..whole.len() / 2]).unwrap();
    let (code, out, err) = world.says(&["monitor", "rules", "--replay", "r.gz"]);
    assert!(code == 0 && out.contains("break off there"), "{code} {out}{err}");
    let (code, out, err) = world.says(&["top", "--replay", "r.gz", "--once"]);
    assert!(
        code == 0 && err.contains("breaks off there") && out.contains("GPU"),
        "{code} {out}{err}"
    );
}

/// A machine that slept: what was on both sides of the gap was not seen in it, however fast a recording is played.
#[test]
fn a_gap() {
    let world = World::new();
    let waits = |second: u64| of(second, "", ",\"fabric\":\"in-progress\"");
    let lines: String = [0, 1, 2, 3600, 3601, 3602].map(waits).concat();
    compressed(&world.path("r.gz"), &format!("{HEAD}{lines}"));
    let (code, out, err) = world.says(&["monitor", "rules", "--replay", "r.gz", "--hold", "4s"]);
    assert!(code == 0 && !out.contains("critical"), "{out}{err}");
    assert!(out.contains("can't tell what was in a gap of 3598 s"), "{out}");
    let words = ["monitor", "--replay", "r.gz", "--textfile", "out.prom", "--hold", "4s"];
    let (code, _, err) = world.says(&words);
    assert!(code == 0 && !err.contains("critical"), "{code} {err}");
    // An interval that changes is none.
    let lines: String =
        (0..20).map(|at| waits(if at < 10 { at } else { 9 + (at - 9) * 60 })).collect();
    compressed(&world.path("r.gz"), &format!("{HEAD}{lines}"));
    let (_, out, _) = world.says(&["monitor", "rules", "--replay", "r.gz"]);
    assert!(out.contains("critical: fabric") && !out.contains("gap"), "{out}");
}

/// Times that no clock has.
#[test]
fn odd_times() {
    let world = World::new();
    let at = |at: u64, more: &str| format!("{{\"at_ms\":{at},\"gpus\":[]{more}}}\n");
    let event = format!(",\"events\":[{{\"at_ms\":{},\"kind\":\"xid\",\"code\":79}}]", u64::MAX);
    for times in [
        &[0, u64::MAX, 0, u64::MAX, 1][..],
        &[u64::MAX, u64::MAX, u64::MAX],
        &[1, u64::MAX / 2, u64::MAX - 1, u64::MAX],
    ] {
        let lines: String = times.iter().map(|time| at(*time, &event)).collect();
        compressed(&world.path("r.gz"), &format!("{HEAD}{lines}"));
        for words in [&["monitor", "rules"][..], &["top", "--once"], &["monitor", "--once"]] {
            let (code, out, err) = world.says(&[words, &["--replay", "r.gz"]].concat());
            assert_eq!(code, 0, "{words:?} {times:?}: {out}{err}");
        }
    }
}

/// A clock that was set back: times are those from the beginning, and no sample is before it.
#[test]
fn a_clock_that_was_set_back() {
    let world = World::new();
    let down = |second: u64| of(second, "\"ecc_uncorrected_errors_total\":0", ",\"lost\":15");
    let lines: String =
        [7200, 7201, 7202].map(sample).concat() + &(0..20).map(down).collect::<String>();
    compressed(&world.path("r.gz"), &format!("{HEAD}{lines}"));
    let (code, out, err) = world.says(&["monitor", "rules", "--replay", "r.gz"]);
    assert!(
        code == 0 && out.contains("23 samples of 21 s") && out.contains("set back once"),
        "{out}{err}"
    );
    assert!(out.contains("\n2 s to the end: critical: gpu-lost"), "{out}");
}
