//! `sconce exec`.

use std::process::ExitCode;

use sconce_run::{Exec, Listed, Stdio, parse_env};

use crate::cli::Global;
use crate::commands::ps;
use crate::error::{Failure, Kind};

/// Run another command in a running container
#[derive(clap::Args)]
#[command(args_override_self = true)]
pub struct Args {
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable: NAME=VALUE, or NAME to pass this machine's on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Where the command starts
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Who it runs as: name or uid, with :group or :gid
    #[arg(short, long)]
    user: Option<String>,
    /// Name or id
    container: String,
    /// The command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let one = ps::find(global, &args.container)?;
    exec(&one, args).map_err(Failure::before_start)
}

fn exec(one: &Listed, args: &Args) -> Result<ExitCode, Failure> {
    let host = |name: &str| std::env::var(name).ok();
    let env = args.env.iter().map(|given| parse_env(given, host));
    let env = env.collect::<Result<_, _>>()?;
    let exec = Exec {
        command: args.command.clone(),
        env,
        workdir: args.workdir.clone().filter(|folder| !folder.is_empty()),
        // As Docker: the container's own.
        user: args.user.clone().filter(|user| !user.is_empty()),
        terminal: None,
    };
    let stdio = match (args.tty, args.interactive) {
        (true, _) => Stdio::Terminal,
        (false, true) => Stdio::Inherit,
        (false, false) => Stdio::Output,
    };
    match one.exec(exec, stdio, &mut |text| eprintln!("note: {text}")) {
        Ok(exit) => Ok(ps::exit_code(exit)),
        Err(error @ sconce_run::Error::NotRunning(_)) => {
            Failure::from(error).print();
            Ok(ExitCode::from(Kind::No as u8))
        }
        Err(error) => {
            let code = error.exit_code();
            Failure::from(error).print();
            Ok(ExitCode::from(code))
        }
    }
}
