//! Snapshots that were saved, edited by hand, or made to deceive.

#[path = "../../gpu/tests/world/mod.rs"]
mod world;

use std::fs;
use std::path::Path;

use expect_test::{Expect, expect};
use sconce_doctor::{Error, Snapshot, examine};
use world::world;

fn snapshot(name: &str) -> Snapshot {
    Snapshot::capture(&world(name).machine)
}

/// A snapshot is text from elsewhere: nothing in it reaches the terminal as a command.
#[test]
fn a_hostile_snapshot_says_nothing_to_the_terminal() {
    let mut seen = snapshot("half-upgraded");
    seen.driver.module = Some("\u{1b}]0;mine\u{7}\r575".into());
    seen.gpus[0].model = "\u{9b}2J\nready: nothing stands in the way".into();
    let text = examine(&seen, None).text();
    assert!(text.contains("mine") && !text.lines().any(|line| line.starts_with("ready")));
    assert!(!text.chars().any(|char| char.is_control() && char != '\n'), "{text:?}");
}

/// What is saved is judged as the machine is, and holds nothing private.
#[test]
fn a_saved_snapshot_is_judged_the_same_and_names_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("snapshot.json");
    let taken = snapshot("sick");
    taken.save(&file).unwrap();
    let read = Snapshot::load(&file).unwrap();
    let ids = |snapshot: &Snapshot| {
        let report = examine(snapshot, None);
        report.findings.iter().map(|finding| finding.rule.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&taken), ids(&read));
    let text = fs::read_to_string(&file).unwrap();
    for private in [
        "ada",
        "secret-model",
        "4711",
        "hush",
        "GPU-1d5a7d1c",
        "node-2",
        "usb",
        "1652923",
        "builder",
    ] {
        assert!(!text.contains(private), "the saved snapshot holds `{private}`");
    }
}

#[test]
fn a_snapshot_edited_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("snapshot.json");
    let text = snapshot("h100").json();
    let load = |from: &str, to: &str| {
        assert!(text.contains(from), "the snapshot has no {from}");
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
        Snapshot::load(&file)
    };
    let says = |result: Result<Snapshot, Error>, expect: Expect| {
        let error = result.unwrap_err();
        assert!(error.hint().is_some());
        let text = error.to_string();
        // The fields that there are come and go.
        let text = text.split(", expected one of `schema`").next().unwrap();
        expect.assert_eq(text.split_once("snapshot.json").unwrap().1);
    };
    assert_eq!(load("580.159.04", "470.57.02").unwrap().driver.module.unwrap(), "470.57.02");
    says(
        load("\"schema\": 2", "\"schema\": 3"),
        expect![" is a snapshot of schema 3; this sconce reads up to 2"],
    );
    says(
        load("\"arch\": \"x86_64\"", "\"arch\": 64"),
        expect![[
            r#" is not a snapshot of sconce doctor: invalid type: integer `64`, expected a string at line 3 column 12"#
        ]],
    );
    says(
        load("\"arch\"", "\"ark\""),
        expect![[r#" is not a snapshot of sconce doctor: unknown field `ark`"#]],
    );
    says(
        load("\"capability\": \"9.0\"", "\"capability\": \"nine\""),
        expect![
            " is not a snapshot of sconce doctor: `nine` is not a compute capability; it looks like `9.0` or `sm_90` at line 34 column 26"
        ],
    );
    says(
        load("}", ""),
        expect![
            " is not a snapshot of sconce doctor: EOF while parsing an object at line 126 column 0"
        ],
    );
    says(
        load("\"schema\": 2", &format!("\"schema\": 2{}", " ".repeat(5 << 20))),
        expect![" is not a snapshot of sconce doctor: it has 5245334 bytes, more than 4194304"],
    );
    says(
        load("\"modules\": [", "\"modules\": [["),
        expect![" is not a snapshot of sconce doctor: expected `,` or `]` at line 101 column 12"],
    );
    fs::write(&file, "").unwrap();
    says(
        Snapshot::load(&file),
        expect![[
            r#" is not a snapshot of sconce doctor: EOF while parsing a value at line 1 column 0"#
        ]],
    );
    assert!(matches!(Snapshot::load(Path::new("/proc/none")), Err(Error::Read { .. })));
}
