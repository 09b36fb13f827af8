//! The command line: what there is to call, and what is common to all of it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{
    build, cdi, completions, doctor, images, init, inspect, lock, man, probe, prune, run, verify,
};
use crate::error::Failure;

/// From a bare NVIDIA driver to a running, verified PyTorch-CUDA container in one command.
#[derive(Parser)]
#[command(name = "sconce", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(clap::Args, Clone)]
pub struct Global {
    /// Use only what is in the store already
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub offline: bool,
    /// Say nothing but errors and remarks
    #[arg(short, long, global = true, help_heading = "Everywhere")]
    pub quiet: bool,
    /// How many threads may work at once; all cores if not given
    #[arg(long, global = true, value_name = "N", help_heading = "Everywhere")]
    pub threads: Option<std::num::NonZeroUsize>,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::Args>),
    Init(init::Args),
    Lock(lock::Args),
    Build(build::Args),
    Inspect(inspect::Args),
    Doctor(doctor::Args),
    Verify(verify::Args),
    Cdi(cdi::Args),
    Images(images::Args),
    Prune(prune::Args),
    Completions(completions::Args),
    Man(man::Args),
    #[command(hide = true)]
    Probe(probe::Args),
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 the answer is no; 2 wrong arguments; 3 a document that can't be read; \
4 nothing fits what was asked; 5 network; 6 bytes that are not what was promised; 7 disk or store; \
8 this machine can't; 9 yes, but in part; 10 can't tell; 125 the container could not be started; 130 interrupted. `run` passes on the \
exit code of its command.";

/// Reads the arguments and does what they say.
pub fn main() -> Result<ExitCode, Failure> {
    let Cli { global, command } = Cli::parse();
    match command {
        Command::Run(args) => run::main(&global, &args),
        Command::Init(args) => init::main(&args),
        Command::Lock(args) => lock::main(&global, &args),
        Command::Build(args) => build::main(&global, &args),
        Command::Doctor(args) => doctor::main(&global, &args),
        Command::Verify(args) => verify::main(&global, &args),
        Command::Probe(args) => probe::main(&args),
        Command::Cdi(args) => cdi::main(&args),
        Command::Inspect(args) => inspect::main(&global, &args),
        Command::Images(args) => images::main(&global, &args),
        Command::Prune(args) => prune::main(&global, &args),
        Command::Completions(args) => completions::main(&args),
        Command::Man(args) => man::main(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_holds_together() {
        super::Cli::command().debug_assert();
    }
}
