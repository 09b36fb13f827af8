//! Tasks of the project: `cargo run -p xtask -- TASK`. The fences are tests beside this (`xtask/tests/fences.rs`).

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo run -p xtask -- TASK

  fences                              print the arrows that the fence test allows, for ARCHITECTURE.md
  dist [--binary FILE] [--out DIR]    make the packages of a release from a built program
                                      (target/release/sconce) in a folder (target/dist)";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let done = match args.next().as_deref() {
        None | Some("fences") => {
            for (from, to) in xtask::ARROWS {
                println!(
                    "{from} -> {}",
                    if to.is_empty() { "(nothing)".into() } else { to.join(", ") }
                );
            }
            Ok(())
        }
        Some("dist") => dist(args),
        Some(_) => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn dist(mut args: impl Iterator<Item = String>) -> Result<(), String> {
    let workspace = xtask::dist::workspace();
    let (mut binary, mut out) =
        (workspace.join("target/release/sconce"), workspace.join("target/dist"));
    while let Some(arg) = args.next() {
        let place = match arg.as_str() {
            "--binary" => &mut binary,
            "--out" => &mut out,
            _ => return Err(USAGE.to_owned()),
        };
        *place = args.next().map(PathBuf::from).ok_or(USAGE)?;
    }
    for file in xtask::dist::make(&binary, &out)? {
        println!("{}", file.display());
    }
    Ok(())
}
