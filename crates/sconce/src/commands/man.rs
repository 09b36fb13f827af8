//! `sconce man`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::commands::paths;
use crate::error::{Failure, Kind};

/// Write the manual pages, one for each command
#[derive(clap::Args)]
pub struct Args {
    /// The folder to write them to, such as /usr/local/share/man/man1
    dir: PathBuf,
}

pub fn main(args: &Args) -> Result<ExitCode, Failure> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add(command, &mut pages).and_then(|()| paths::write_all(&args.dir, &pages)).map_err(
        |error| {
            Failure::new(Kind::Storage, format!("can't write to {}: {error}", args.dir.display()))
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Adds the pages of a command and of those below it, each with the name of its file.
fn add(command: clap::Command, pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        add(below.clone(), pages)?;
    }
    let page = clap_mangen::Man::new(command);
    let mut text = Vec::new();
    page.render(&mut text)?;
    pages.push((page.get_filename(), text));
    Ok(())
}
