//! `sconce facts`: what is known, as people and programs read it.

use std::process::Command;

fn facts(words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
    // It opens no store.
    command.arg("facts").args(words).env("SCONCE_HOME", "/proc/nowhere");
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn tables_for_people_pages_and_programs() {
    let (code, text, more) = facts(&[]);
    assert_eq!(code, 0);
    let h100 = text.lines().find(|line| line.starts_with("H100 SXM5 80GB")).unwrap();
    let cells: Vec<&str> = h100.split_whitespace().collect();
    // NVIDIA H100 Tensor Core GPU data sheet, dense.
    assert_eq!(cells[3..], ["9.0", "80", "3350", "67", "494.5", "989", "1979", "-", "900", "700"]);
    assert!(more.contains("more are known without peaks"), "{more}");
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    let (_, all, _) = facts(&["gpus", "--all"]);
    assert!(all.lines().count() > text.lines().count() && all.contains("GTX 1080 Ti"), "{all}");
    for what in ["gpus", "torch", "cuda", "drivers"] {
        let (code, markdown, _) = facts(&[what, "--markdown"]);
        let columns = |line: &str| line.replace("\\|", "").matches('|').count();
        let first = columns(markdown.lines().next().unwrap());
        assert!(code == 0 && markdown.lines().all(|line| columns(line) == first), "{markdown}");
        let (code, json, _) = facts(&[what, "--json"]);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        assert!(code == 0 && rows.len() == markdown.lines().count() - 2, "{what}: {json}");
    }
}

#[test]
fn one_gpu_and_one_release() {
    let (code, text, _) = facts(&["v100"]);
    assert!(code == 0 && text.contains("last_driver") && text.contains("R580"), "{text}");
    let (_, json, _) = facts(&["v100", "--json"]);
    let v100: serde_json::Value = serde_json::from_str(&json).unwrap();
    let torch: Vec<&str> =
        v100["torch"].as_array().unwrap().iter().filter_map(|one| one.as_str()).collect();
    assert!(torch.contains(&"2.1.0") && !torch.contains(&"2.15.0"), "{torch:?}");
    let (code, text, _) = facts(&["2.15.0"]);
    assert!(code == 0 && text.contains("cuda ") && text.contains("13.2"), "{text}");
    let (code, _, said) = facts(&["h1000"]);
    assert!(code == 2 && said.contains("sconce facts gpus --all"), "{said}");
    let (code, _, said) = facts(&["2.15.99"]);
    assert!(code == 2 && said.contains("hint"), "{said}");
}
