//! `sconce bench log`: what this machine has reached so far.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sconce_bench::report::{Report, VERSION, says_nothing};
use serde_json::Value;

use crate::commands::ps::since;
use crate::context::open_store;
use crate::error::{Failure, Kind};

/// The folder of results in the store.
const FOLDER: &str = "bench";
/// Results that are kept: the oldest go.
const MOST: usize = 1000;
/// Bytes of one.
const MOST_BYTES: u64 = 16 << 20;
/// What is shown if nothing is named.
const SHOWN: &[&str] = &["bf16", "memory-read", "host-to-device", "all-reduce"];

/// Keeps a result. What can't be kept is said, and was measured nevertheless.
pub fn keep(report: &Report) -> Result<(), Failure> {
    let folder = open_store()?.root().join(FOLDER);
    let kept = write(&folder, report).and_then(|()| {
        let names = names(&folder)?;
        let old = names.len().saturating_sub(MOST);
        names.iter().take(old).try_for_each(fs::remove_file)
    });
    if let Err(error) = kept {
        eprintln!("note: this result is not in `sconce bench log`: {}: {error}", folder.display());
    }
    Ok(())
}

fn write(folder: &Path, report: &Report) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec(report)?)?;
    file.as_file().sync_all()?;
    // Sorted by name they are sorted by time.
    let name = format!("{:012}-{:016x}.json", report.time, report.seed);
    file.persist(folder.join(name))?;
    Ok(())
}

/// The results, the oldest first.
fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    let is_result = |path: &PathBuf| path.extension().is_some_and(|name| name == "json");
    let mut found: Vec<PathBuf> = paths.into_iter().filter(is_result).collect();
    found.sort();
    Ok(found)
}

/// Prints the results, the oldest first: some figures of each, `only` those where they are named, and of these GPUs.
pub fn print(only: &[String], gpus: &[u32], json: bool) -> Result<ExitCode, Failure> {
    let folder = open_store()?.root().join(FOLDER);
    let unreadable = |error: io::Error| {
        Failure::new(Kind::Storage, format!("can't read {}: {error}", folder.display()))
    };
    let mut results = Vec::new();
    for path in names(&folder).map_err(unreadable)? {
        match read(&path) {
            Ok(Kept::Result(mut result)) => {
                keep_only(&mut result, only, gpus);
                results.push(result);
            }
            Ok(Kept::Newer(version)) if json => eprintln!(
                "note: {} has version {version}, and this sconce reads {VERSION}: it is left out",
                path.display()
            ),
            Ok(Kept::Newer(version)) => results.push(serde_json::json!({ "version": version })),
            Err(why) => eprintln!("note: {} is left out: {why}", path.display()),
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&results).map_err(Failure::unwritable)?);
        return Ok(ExitCode::SUCCESS);
    }
    if results.is_empty() {
        eprintln!("nothing was measured yet: `sconce bench` does");
        return Ok(ExitCode::SUCCESS);
    }
    let shown: Vec<&str> = match only {
        [] => SHOWN.to_vec(),
        only => only.iter().map(String::as_str).collect(),
    };
    for result in &results {
        match result.get("version").and_then(Value::as_u64) {
            Some(VERSION) => show(result, &shown),
            version => println!(
                "a result of a newer sconce: version {}, and this one reads {VERSION}",
                version.unwrap_or_default()
            ),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A file of the folder.
enum Kept {
    Result(Value),
    /// Of a version that this sconce does not know.
    Newer(u64),
}

fn read(path: &Path) -> Result<Kept, String> {
    let text = sconce_open::file_unfollowed(path)
        .and_then(|file| sconce_open::bounded(file, MOST_BYTES))
        .map_err(|error| error.to_string())?;
    let result: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    match result.get("version").and_then(Value::as_u64) {
        Some(VERSION) => Ok(Kept::Result(result)),
        Some(version) if version > VERSION => Ok(Kept::Newer(version)),
        _ => Err("it is no result".to_owned()),
    }
}

/// Leaves of a result what is asked for: figures by name, and of these GPUs alone.
fn keep_only(result: &mut Value, only: &[String], gpus: &[u32]) {
    let wanted = |number: &Value| {
        gpus.is_empty()
            || number
                .as_u64()
                .is_some_and(|number| gpus.iter().any(|one| u64::from(*one) == number))
    };
    let all_wanted = |one: &Value| {
        one.get("gpus").and_then(Value::as_array).is_none_or(|its| its.iter().all(wanted))
    };
    let named = |one: &Value| {
        let name = one.get("figure").and_then(Value::as_str).unwrap_or_default();
        only.is_empty() || only.iter().any(|one| one == name)
    };
    for (key, keeps) in [
        ("gpus", &(|one: &Value| one.get("gpu").is_some_and(wanted)) as &dyn Fn(&Value) -> bool),
        ("figures", &|one| named(one) && all_wanted(one)),
        ("unavailable", &all_wanted),
        ("wrong", &all_wanted),
    ] {
        if let Some(Value::Array(all)) = result.get_mut(key) {
            all.retain(keeps);
        }
    }
}

/// A line for each GPU of a result, and one for what several have done together.
fn show(result: &Value, shown: &[&str]) {
    let text = |key: &str| plain(result.get(key).and_then(Value::as_str).unwrap_or("-"));
    let image = text("image");
    let image = image.strip_prefix("sha256:").and_then(|hex| hex.get(..12));
    let image = image.map_or(String::new(), |hex| format!("  image {hex}"));
    let age = since(result.get("time").and_then(Value::as_u64).unwrap_or_default());
    println!("{age} ago  {}{image}  {}", text("target"), text("effort"));
    let all = |key: &str| result.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let figures = all("figures");
    let line = |gpus: &dyn Fn(&[Value]) -> bool| {
        let mut found = Vec::new();
        for name in shown {
            let of = |one: &&Value| {
                let its = one.get("gpus").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                one.get("figure").and_then(Value::as_str) == Some(name) && gpus(its)
            };
            let Some(one) = figures.iter().find(of) else { continue };
            let value = one.get("value").and_then(Value::as_f64).unwrap_or_default();
            let unit = one.get("unit").and_then(Value::as_str).unwrap_or_default();
            let because = one.get("because").and_then(Value::as_str).unwrap_or_default();
            let low = match one.get("verdict").and_then(Value::as_str) {
                Some("low") => " LOW",
                Some("unknown") if says_nothing(because) => " (can't tell)",
                _ => "",
            };
            found.push(format!("{name} {value:.0} {}{low}", plain(unit)));
        }
        found.join(", ")
    };
    for gpu in all("gpus") {
        let number = gpu.get("gpu").cloned().unwrap_or_default();
        let text = |key: &str| plain(gpu.get(key).and_then(Value::as_str).unwrap_or("-"));
        let its = line(&|gpus| gpus.first() == Some(&number) && gpus.len() == 1);
        let driver = gpu.get("driver").and_then(Value::as_str).filter(|driver| !driver.is_empty());
        let driver = driver.map_or_else(
            || "driver not known".to_owned(),
            |driver| format!("driver {}", plain(driver)),
        );
        let its = if its.is_empty() { String::new() } else { format!(": {its}") };
        println!("  GPU {number}: {}, {driver}{its}", text("name"));
    }
    let together = line(&|gpus| gpus.len() != 1);
    if !together.is_empty() {
        println!("  together: {together}");
    }
    for one in all("wrong") {
        let text = |key: &str| plain(one.get(key).and_then(Value::as_str).unwrap_or("-"));
        let gpus = one.get("gpus").and_then(Value::as_array).cloned().unwrap_or_default();
        let gpus: Vec<String> = gpus.iter().map(Value::to_string).collect();
        let gpus =
            if gpus.is_empty() { String::new() } else { format!(" gpu {}", gpus.join(", ")) };
        println!("  WRONG: {}{gpus}: {}", text("figure"), text("reason"));
    }
}

/// Words that came out of a container once.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
