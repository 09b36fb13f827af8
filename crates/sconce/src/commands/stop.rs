//! `sconce stop`.

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::Global;
use crate::commands::ps::{self, Done};
use crate::error::Failure;

/// End containers: their stop signal first, KILL when the time is up
#[derive(clap::Args)]
pub struct Args {
    /// Seconds to wait before KILL; the container's own --stop-timeout, or 10, if not given
    #[arg(short, long, value_name = "SECONDS")]
    time: Option<u64>,
    /// Names or ids
    #[arg(required = true)]
    container: Vec<String>,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let stop = |name: &str| -> Result<(), Failure> {
        let one = ps::find(global, name)?;
        if one.alive {
            one.stop(args.time.map(Duration::from_secs))?;
        }
        Ok(())
    };
    // All at once: each may take its time, and one that does not answer keeps no other.
    let mut stopped = std::thread::scope(|scope| {
        let threads: Vec<_> =
            args.container.iter().map(|name| scope.spawn(|| stop(name))).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    })
    .into_iter();
    ps::each(&args.container, |_| match stopped.next() {
        Some(Ok(result)) => result.map(|()| Done::Named),
        Some(Err(panic)) => std::panic::resume_unwind(panic),
        None => Ok(Done::Named),
    })
}
