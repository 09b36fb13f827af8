//! `sconce facts`.

use std::process::ExitCode;

use sconce_facts::{CudaVersion, Gpu, Machine, Release};
use serde_json::{Value, json};

use crate::error::{Failure, Kind};
use crate::table::{Table, shown};

/// Print what is known of GPUs, drivers, CUDA and torch releases, by which all else here is decided
///
/// GPUs with their data-sheet peaks (dense), torch releases with what their wheels are built for, CUDA
/// releases with their drivers, compute capabilities with their first and last ones. With the name of a GPU or the version of
/// a torch release all that is known of it, with sources.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce facts                    GPUs with memory, bandwidth and TFLOPS
  sconce facts v100               one GPU: its drivers, and the torch releases that have code for it
  sconce facts torch --markdown   torch releases, for a page
  sconce facts drivers            which drivers run which compute capability")]
pub struct Args {
    /// gpus, torch, cuda or drivers; or one GPU (h100), or one torch release (2.15.0)
    #[arg(value_name = "WHAT", default_value = "gpus")]
    what: String,
    /// GPUs whose peaks are not known too
    #[arg(long)]
    all: bool,
    /// As JSON: a list of objects, or one object; sizes in GB, rates in GB/s and TFLOPS, power in W
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// As a table in Markdown
    #[arg(long)]
    markdown: bool,
}

pub fn main(args: &Args) -> Result<ExitCode, Failure> {
    let table = match &*args.what {
        "gpus" => gpus(args.all),
        "torch" => releases(),
        "cuda" => toolkits(),
        "drivers" => capabilities(),
        name => return one(args, name),
    };
    match (args.json, args.markdown) {
        (true, _) => print_json(&table.json())?,
        (_, true) => print!("{}", table.markdown()),
        _ => print!("{}", table.text()),
    }
    if args.what == "gpus" && !args.all && !args.json {
        let more = sconce_facts::gpus().iter().filter(|gpu| !has_peaks(gpu)).count();
        eprintln!("{more} more are known without peaks: `sconce facts gpus --all`");
    }
    Ok(ExitCode::SUCCESS)
}

fn print_json(value: &Value) -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(value).map_err(Failure::unwritable)?);
    Ok(())
}

const fn has_peaks(gpu: &Gpu) -> bool {
    gpu.memory_gb.is_some()
}

/// `1979`, not `1979.0`.
fn number(value: Option<f64>) -> Value {
    match value {
        Some(value) if value.fract() == 0.0 => json!(value as i64),
        value => json!(value),
    }
}

fn gpus(all: bool) -> Table {
    let known = sconce_facts::gpus().iter().filter(|gpu| all || has_peaks(gpu));
    let rows = known.map(|gpu| {
        vec![
            json!(gpu.name),
            json!(gpu.capability),
            number(gpu.memory_gb),
            number(gpu.memory_bandwidth_gb_s),
            number(gpu.fp32_tflops),
            number(gpu.tf32_tflops),
            number(gpu.bf16_tflops),
            number(gpu.fp8_tflops),
            number(gpu.fp4_tflops),
            number(gpu.nvlink_gb_s),
            number(gpu.tdp_w),
        ]
    });
    Table {
        columns: &[
            ("name", "GPU"),
            ("capability", "CC"),
            ("memory_gb", "GB"),
            ("memory_bandwidth_gb_s", "GB/S"),
            ("fp32_tflops", "FP32"),
            ("tf32_tflops", "TF32"),
            ("bf16_tflops", "BF16"),
            ("fp8_tflops", "FP8"),
            ("fp4_tflops", "FP4"),
            ("nvlink_gb_s", "NVLINK"),
            ("tdp_w", "W"),
        ],
        rows: rows.collect(),
    }
}

fn floor(cuda: CudaVersion) -> Value {
    json!(cuda.floor().map(|floor| floor.driver.as_str()))
}

fn releases() -> Table {
    let rows = sconce_facts::releases().iter().rev().map(|release| {
        let build = release.build(Machine::X86_64);
        let architectures: Vec<String> =
            build.architectures.iter().map(ToString::to_string).collect();
        vec![
            json!(release.version),
            json!(release.uploaded),
            json!(release.cuda.to_string()),
            floor(release.cuda),
            json!(build.cudnn),
            json!(build.nccl),
            json!(architectures),
        ]
    });
    Table {
        columns: &[
            ("version", "TORCH"),
            ("uploaded", "UPLOADED"),
            ("cuda", "CUDA"),
            ("driver", "DRIVER FROM"),
            ("cudnn", "CUDNN"),
            ("nccl", "NCCL"),
            ("architectures", "GPU CODE (X86_64)"),
        ],
        rows: rows.collect(),
    }
}

fn toolkits() -> Table {
    let rows = sconce_facts::toolkits().iter().rev().map(|toolkit| {
        let cuda = toolkit.version.parse::<CudaVersion>().ok();
        vec![
            json!(toolkit.version),
            json!(toolkit.driver.as_ref().map(sconce_facts::DriverVersion::as_str)),
            cuda.map_or(Value::Null, floor),
        ]
    });
    Table {
        columns: &[("version", "CUDA"), ("shipped", "SHIPPED WITH"), ("driver", "DRIVER FROM")],
        rows: rows.collect(),
    }
}

fn capabilities() -> Table {
    let rows = sconce_facts::capabilities().iter().rev().map(|row| {
        let gpus = sconce_facts::gpus().iter().filter(|gpu| gpu.capability == row.cc);
        let gpus: Vec<&str> = gpus.map(|gpu| gpu.name.as_str()).take(3).collect();
        vec![
            json!(row.cc),
            json!(row.architecture),
            json!(row.first_driver.as_ref().map(sconce_facts::DriverVersion::as_str)),
            json!(row.last_driver),
            json!(row.first_cuda),
            json!(row.last_cuda),
            json!(gpus.join(", ")),
        ]
    });
    Table {
        columns: &[
            ("capability", "CC"),
            ("architecture", "GENERATION"),
            ("first_driver", "DRIVER FROM"),
            ("last_driver", "LAST BRANCH"),
            ("first_cuda", "CUDA FROM"),
            ("last_cuda", "LAST CUDA"),
            ("gpus", "GPUS AMONG THEM"),
        ],
        rows: rows.collect(),
    }
}

/// All that is known of one GPU or release.
fn one(args: &Args, name: &str) -> Result<ExitCode, Failure> {
    let is_version =
        name.starts_with(|c: char| c.is_ascii_digit()) && name.matches('.').count() > 1;
    let facts = match is_version {
        true => of_release(sconce_facts::release(name).map_err(unknown)?),
        false => of_gpu(sconce_facts::gpu(name).map_err(unknown)?),
    };
    if args.json {
        print_json(&Value::Object(
            facts.into_iter().map(|(key, v)| (key.to_owned(), v)).collect(),
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let table = Table {
        columns: &[("what", "WHAT"), ("value", "VALUE")],
        rows: facts.iter().map(|(key, value)| vec![json!(key), value.clone()]).collect(),
    };
    match args.markdown {
        true => print!("{}", table.markdown()),
        false => {
            let width = facts.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
            for (key, value) in &facts {
                println!("{key:<width$}  {}", shown(value));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn unknown(error: sconce_facts::UnknownName) -> Failure {
    Failure::new(Kind::Usage, error.to_string())
        .hint("`sconce facts gpus --all` and `sconce facts torch` list what is known")
}

fn of_gpu(gpu: &Gpu) -> Vec<(&'static str, Value)> {
    let row = gpu.capability.row();
    let serving = sconce_facts::releases().iter();
    let serving: Vec<&str> = serving
        .filter(|release| release.build(gpu.host.unwrap_or(Machine::X86_64)).serves(gpu.capability))
        .map(|release| release.version.as_str())
        .collect();
    let facts = [
        ("name", json!(gpu.name)),
        ("aliases", json!(gpu.aliases)),
        ("capability", json!(gpu.capability)),
        ("generation", json!(row.map(|row| &row.architecture))),
        ("form", json!(gpu.form)),
        ("first_driver", json!(gpu.first_driver.as_ref().map(sconce_facts::DriverVersion::as_str))),
        ("last_driver", json!(row.and_then(|row| row.last_driver.as_ref()))),
        ("torch", json!(serving)),
        ("memory_gb", number(gpu.memory_gb)),
        ("memory_bandwidth_gb_s", number(gpu.memory_bandwidth_gb_s)),
        ("sm_count", json!(gpu.sm_count)),
        ("sm_max_mhz", json!(gpu.sm_max_mhz)),
        ("fp64_tflops", number(gpu.fp64_tflops)),
        ("fp32_tflops", number(gpu.fp32_tflops)),
        ("tf32_tflops", number(gpu.tf32_tflops)),
        ("fp16_tflops", number(gpu.fp16_tflops)),
        ("bf16_tflops", number(gpu.bf16_tflops)),
        ("fp8_tflops", number(gpu.fp8_tflops)),
        ("fp4_tflops", number(gpu.fp4_tflops)),
        ("nvlink_gb_s", number(gpu.nvlink_gb_s)),
        ("pcie_generation", json!(gpu.pcie_generation)),
        ("pcie_lanes", json!(gpu.pcie_lanes)),
        ("tdp_w", number(gpu.tdp_w)),
        ("mig_instances", json!(gpu.mig_instances)),
        ("source", json!(gpu.source)),
    ];
    facts.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

fn of_release(release: &Release) -> Vec<(&'static str, Value)> {
    let build = release.build(Machine::X86_64);
    let served = |gpu: &&Gpu| has_peaks(gpu) && build.serves(gpu.capability);
    let gpus: Vec<&str> =
        sconce_facts::gpus().iter().filter(served).map(|gpu| gpu.name.as_str()).collect();
    let variants: Vec<&str> =
        release.variants.iter().map(|variant| variant.name.as_str()).collect();
    let architectures: Vec<String> = build.architectures.iter().map(ToString::to_string).collect();
    let facts = [
        ("version", json!(release.version)),
        ("uploaded", json!(release.uploaded)),
        ("cuda", json!(release.cuda.to_string())),
        ("first_driver", floor(release.cuda)),
        ("python", json!(build.python)),
        ("platform", json!(build.platform)),
        ("cudnn", json!(build.cudnn)),
        ("nccl", json!(build.nccl)),
        ("triton", json!(build.triton)),
        ("architectures", json!(architectures)),
        ("gpus", json!(gpus.join(", "))),
        ("variants", json!(variants)),
    ];
    facts.into_iter().filter(|(_, value)| !value.is_null()).collect()
}
