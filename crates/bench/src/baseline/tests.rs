//! What is read of an earlier result, and what is refused.

use super::*;

fn refused(text: &str, why: &str) {
    let said = Baseline::read(text.as_bytes()).expect_err(text);
    assert!(said.contains(why), "{text}: {said}");
}

fn of(figure: &str) -> String {
    format!(r#"{{"version": 1, "gpus": [{{"gpu": 0, "name": "H"}}], "figures": [{figure}]}}"#)
}

fn one(value: &str, unit: &str) -> String {
    of(&format!(
        r#"{{"figure": "host-to-device", "gpus": [0], "value": {value}, "unit": "{unit}"}}"#
    ))
}

#[test]
fn a_result_is_read() {
    let read = Baseline::read(one("51.5", "GB/s").as_bytes()).expect("a result");
    assert_eq!(read.value("host-to-device", &[0]), Some(51.5));
    assert_eq!(read.value("host-to-device", &[1]), None);
    let array = format!("[{}]", one("51.5", "GB/s"));
    assert_eq!(Baseline::read(array.as_bytes()), Ok(read));
    // One that this sconce does not know is left alone.
    let other = of(r#"{"figure": "speed", "gpus": [], "value": 1, "unit": "m/s"}"#);
    assert!(Baseline::read(other.as_bytes()).is_ok());
}

#[test]
fn what_is_none_is_said() {
    refused("", "EOF");
    refused("[]", "no result");
    refused("{}", "no result of `sconce bench --json`");
    refused(&format!("[{0}, {0}]", one("1", "GB/s")), "2 results");
    refused(r#"{"version": 2}"#, "it has version 2, and this sconce reads 1");
    refused(r#"{"version": "1"}"#, "no result");
    refused(r#"{"version": -1}"#, "no result");
    refused(r#"{"version": 1, "figures": []}"#, "missing field `gpus`");
    refused(&one("51", "us"), "its `host-to-device` is in `us`, and is measured in GB/s");
    refused(&one("51", r"\u001b[31m"), r"is in `\u{1b}[31m`");
    for value in ["0", "-5", "5e-324", "1e300"] {
        refused(&one(value, "GB/s"), "which can't be");
    }
    refused(&one("1e999", "GB/s"), "number out of range");
    let wide = of(r#"{"figure": "memory-read", "gpus": [0], "value": 9000, "unit": "GB/s"}"#)
        .replace(r#""name": "H""#, r#""name": "NVIDIA H100 80GB HBM3""#);
    refused(&wide, "its `memory-read` can't be: 9000 GB/s is more than its memory has: 3685");
    let off = one("51", "GB/s").replace("\"value\"", "\"error\": [0.5, 0.001], \"value\"");
    refused(&off, "its `host-to-device` can't be: its result is off by 5.0e-1");
    let best = one("51", "GB/s").replace("\"value\"", "\"best\": -3, \"value\"");
    refused(&best, "is -3e0, which can't be");
    refused(&one("NaN", "GB/s"), "expected value");
    refused(&one("\"x\"", "GB/s"), "invalid type: string");
    refused(&one(&"1".repeat(65), "GB/s"), "more than 64 digits at byte");
    refused(&"[".repeat(10_000), "recursion limit");
    let foreign = one("51", "GB/s").replace(r#""gpus": [0]"#, r#""gpus": [3]"#);
    refused(&foreign, "is of GPU 3, which it does not list");
    let twice =
        one("51", "GB/s").replace("}], \"figures", "}, {\"gpu\": 0, \"name\": \"H\"}], \"figures");
    refused(&twice, "it lists GPU 0 twice");
    let figure = r#"{"figure": "launch", "gpus": [0], "value": 3, "unit": "us"}"#;
    refused(&of(&format!("{figure}, {figure}")), "it has `launch` twice");
}
