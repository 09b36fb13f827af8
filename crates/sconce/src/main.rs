//! The `sconce` command: takes a machine from a bare NVIDIA driver to a running, verified
//! PyTorch-CUDA container, and proves what it says.

// First: its macros are for all that follow.
#[macro_use]
mod output;

mod cli;
mod commands;
mod context;
mod error;
mod missing;
mod progress;
mod table;
mod trust;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A container's shim is this program too.
    sconce_run::shim_main();
    match cli::main() {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code())
        }
    }
}
