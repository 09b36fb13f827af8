//! `sconce verify`.

use std::process::ExitCode;

use sconce_build::{Progress, Stage};
use sconce_inside::{Listener, Session};
use sconce_verify::{Answer, CHECKS, Check};

use crate::cli::Global;
use crate::commands::options::Options;
use crate::commands::prepared;
use crate::error::{Failure, Kind};
use crate::progress::Display;

/// Prove from inside a container that its GPUs and its PyTorch work
///
/// Starts the container as `sconce run` would and checks what people do there: the driver, a kernel,
/// torch, cuDNN, mixed precision, TF32, FP8, sparsity, graphs, torch.compile, NCCL, DataLoader,
/// TensorBoard. docs/verify.md has a section for each. Exit code: 0 nothing failed, 1 a check failed.
#[derive(clap::Args)]
#[command(disable_help_flag = true, args_override_self = true)]
pub struct Args {
    /// A folder with a sconce.toml, a tag such as torch:2.15.0, an image of the store or of a registry
    /// (HOST/NAME:TAG, docker://NAME), an OCI layout or an image archive
    #[arg(value_name = "TARGET", default_value = ".")]
    target: String,
    /// The Python inside that has torch; `python` on the image's PATH, else `python3`, if not given
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
    /// Make only these checks
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<String>,
    /// As JSON, when all is done (docs/format/verify.md)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: Options,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let asked = asked(&args.only)?;
    let ready = prepared::ready(global, "verify", &args.target, &args.options)?;
    let (gpus, boards) = (ready.gpus.devices(), ready.gpus.boards());
    let mut lines = Lines { print: !args.json, display: Display::new(global.quiet), waiting: None };
    let folder = ready.lease.scratch().join("verify");
    let session = Session::new(ready.container, &folder, asked, &mut lines)?;
    let report = session.run(gpus, boards, args.python.as_deref())?;
    if args.json {
        let text = serde_json::to_string_pretty(&report.json(&args.target, gpus));
        println!("{}", text.map_err(Failure::unwritable)?);
    } else {
        println!("{}", report.verdict());
    }
    drop((ready.gpus, ready.lease));
    Ok(ExitCode::from(if report.tally().fail == 0 { 0 } else { Kind::No as u8 }))
}

/// The checks to make.
fn asked(only: &[String]) -> Result<Vec<&'static Check>, Failure> {
    if let Some(unknown) = only.iter().find(|name| sconce_verify::check(name).is_none()) {
        let names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
        return Err(Failure::new(Kind::Usage, format!("there is no check `{unknown}`"))
            .hint(format!("there are {}", names.join(", "))));
    }
    let wanted = |check: &&Check| only.is_empty() || only.iter().any(|name| name == check.name);
    Ok(CHECKS.iter().filter(wanted).collect())
}

/// Answers as lines, as they come; with `--json` they wait for the end. On a terminal the check that is
/// waited for stands below them.
struct Lines {
    print: bool,
    display: Display,
    waiting: Option<Box<dyn Stage>>,
}

impl Listener for Lines {
    fn answer(&mut self, answer: &Answer) {
        // The line of progress goes before another is printed.
        drop(self.waiting.take());
        if self.print {
            println!("{answer}");
        }
    }

    fn waiting(&mut self, check: &Check) {
        drop(self.waiting.take());
        self.waiting = Some(self.display.begin(check.name, None));
    }

    fn idle(&mut self) {
        drop(self.waiting.take());
    }

    fn note(&mut self, text: &str) {
        drop(self.waiting.take());
        eprintln!("note: {text}");
    }
}
