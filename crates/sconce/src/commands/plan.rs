//! `sconce plan`.

use std::process::ExitCode;

use sconce_launch::plan::{Question, Shape, parameters, plan};
use sconce_run::parse_size;

use crate::error::{Failure, Kind};

/// Say how much memory a training run takes, and which GPUs hold it
///
/// From the number of parameters, the precision, the optimizer and what is divided among GPUs; the
/// arithmetic and its sources are shown. Exit code: 0 it fits, 1 it does not, 12 that can't be told
/// without the size of the activations.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce plan 7b --gpu h100 --gpus 8 --sharding fsdp
  sconce plan 350m --gpu a100 --gpu l40s
  sconce plan 7b --gpu h100 --gpus 8 --sharding fsdp --layers 32 --hidden 4096 --sequence 4096 --batch 2
  sconce plan 350m --workers 8 --batch-bytes 38m       what /dev/shm its DataLoader needs")]
pub struct Args {
    /// Parameters of the model: 350m, 7b
    #[arg(value_name = "PARAMETERS")]
    parameters: String,
    /// fp32; mixed (torch.autocast); bf16 (the whole model)
    #[arg(long, value_name = "NAME", default_value = "mixed")]
    precision: String,
    /// adamw, adamw8bit, momentum or sgd
    #[arg(long, value_name = "NAME", default_value = "adamw")]
    optimizer: String,
    /// What is divided among the GPUs: ddp (nothing), zero1, zero2 or fsdp
    #[arg(long, value_name = "NAME", default_value = "ddp")]
    sharding: String,
    /// GPUs
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    gpus: u32,
    /// A GPU that is to hold it: h100, "rtx 4090". May be given more than once
    #[arg(long = "gpu", value_name = "NAME")]
    models: Vec<String>,
    /// A transformer's layers, for its activations
    #[arg(long, value_name = "N", requires_all = ["hidden", "sequence", "batch"])]
    layers: Option<u32>,
    /// The width of a layer
    #[arg(long, value_name = "N", requires = "layers")]
    hidden: Option<u32>,
    /// Tokens of a sequence
    #[arg(long, value_name = "N", requires = "layers")]
    sequence: Option<u32>,
    /// Sequences that a GPU takes at once
    #[arg(long, value_name = "N", requires = "layers")]
    batch: Option<u32>,
    /// Each layer is computed again for its gradients (torch.utils.checkpoint)
    #[arg(long, requires = "layers")]
    checkpointing: bool,
    /// DataLoader workers of each rank
    #[arg(long, value_name = "N", requires = "batch_bytes")]
    workers: Option<u32>,
    /// The size of a batch as workers hand it over: 38m
    #[arg(long, value_name = "SIZE", requires = "workers")]
    batch_bytes: Option<String>,
    /// Ranks of a machine, which share its /dev/shm; as many as GPUs, 8 at most, if not given
    #[arg(long, value_name = "N")]
    ranks_per_node: Option<u32>,
    /// As JSON: {lines, total, fits, shm}
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args) -> Result<ExitCode, Failure> {
    let shape = match (args.layers, args.hidden, args.sequence, args.batch) {
        (Some(layers), Some(hidden), Some(sequence), Some(batch)) => {
            Some(Shape { layers, hidden, sequence, batch, checkpointing: args.checkpointing })
        }
        _ => None,
    };
    let loader = match (args.workers, &args.batch_bytes) {
        (Some(workers), Some(size)) => Some((workers, parse_size("--batch-bytes", size)? as f64)),
        _ => None,
    };
    let question = Question {
        parameters: parameters(&args.parameters)?,
        precision: args.precision.clone(),
        optimizer: args.optimizer.clone(),
        sharding: args.sharding.clone(),
        gpus: args.gpus,
        models: args.models.clone(),
        shape,
        loader,
        ranks_per_node: args.ranks_per_node.unwrap_or(args.gpus.min(8)),
    };
    let answer = plan(&question)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&answer).map_err(Failure::unwritable)?);
    } else {
        print!("{}", answer.text());
    }
    Ok(match answer.verdict() {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::from(Kind::No as u8),
        None => ExitCode::from(Kind::CantTell as u8),
    })
}
