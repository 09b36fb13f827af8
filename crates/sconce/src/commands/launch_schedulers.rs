//! What `sconce launch` hands to Slurm and Kubernetes.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use sconce_launch::Settings;
use sconce_launch::kubernetes::{self, Objects};
use sconce_launch::slurm::{self, By, Job};
use sconce_lock::Launch;
use sconce_run::parse_size;

use crate::commands::launch::Args;
use crate::error::{Failure, Kind};

#[derive(clap::Args)]
#[command(next_help_heading = "Slurm")]
pub struct SlurmArgs {
    /// Hand the script to sbatch instead of printing it
    #[arg(long)]
    submit: bool,
    /// Containers are started by pyxis (`srun --container-image`), not by sconce
    #[arg(long)]
    pyxis: bool,
    /// The partition
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Another option of sbatch: --account=lab
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    sbatch: Vec<String>,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct KubernetesArgs {
    /// job (Indexed, with a headless service), jobset or trainjob
    #[arg(long, value_name = "KIND", default_value = "job")]
    kind: ObjectKind,
    /// The name of the objects, or of the job
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Memory of a pod, /dev/shm included: 960Gi
    #[arg(long, value_name = "QUANTITY")]
    memory: Option<String>,
    /// Processors of a pod
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// A resource of an RDMA device plugin: rdma/hca=8
    #[arg(long, value_name = "NAME=N")]
    rdma: Option<String>,
    /// Kueue's queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    Job,
    Jobset,
    Trainjob,
}

/// The image as other systems take it: they pull it from a registry.
fn image(args: &Args) -> Result<String, Failure> {
    let image = args.target.strip_prefix("docker://").unwrap_or(&args.target);
    if image.starts_with(['.', '/']) || !image.contains('/') {
        let what =
            format!("`{image}` is on this machine, and other nodes take images from a registry");
        return Err(Failure::new(Kind::Usage, what).hint(format!(
            "`sconce push {image} HOST/NAME:TAG` sends it there and prints its digest; launch HOST/NAME@sha256:..."
        )));
    }
    if !image.contains("@sha256:") {
        eprintln!(
            "note: `{image}` is a tag, which may be another image on another node; HOST/NAME@sha256:... is the same on all"
        );
    }
    Ok(image.to_owned())
}

/// A word that a batch script and Kubernetes take as a name.
fn job_name(args: &Args, image: &str) -> Result<String, Failure> {
    let given = args.kubernetes.name.clone();
    let base = image.split(['@']).next().unwrap_or(image);
    let base = base.rsplit('/').next().unwrap_or(base).split(':').next().unwrap_or("launch");
    let name = given.unwrap_or_else(|| base.replace(['_', '.'], "-"));
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let legal = name.chars().all(plain)
        && name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_lowercase());
    match legal && !name.ends_with('-') {
        true => Ok(name),
        false => Err(Failure::new(Kind::Usage, format!("`{name}` is no name of a job")).hint(
            "`--name train`: lower case letters, digits and `-`, 40 at most, a letter first",
        )),
    }
}

pub fn slurm(args: &Args, asked: &Launch, settings: &Settings) -> Result<ExitCode, Failure> {
    let image = image(args)?;
    let control = |word: &&String| word.contains(char::is_control);
    if let Some(word) = args.slurm.sbatch.iter().chain(&args.slurm.partition).find(control) {
        return Err(Failure::new(Kind::Usage, format!("{word:?} is more than one line")));
    }
    let mut options = Vec::new();
    for volume in &args.volume {
        options.extend(["-v".to_owned(), volume.clone()]);
    }
    if let Some(size) = &args.shm_size {
        options.extend(["--shm-size".to_owned(), size.clone()]);
    }
    let logs = match (&args.evidence, &asked.evidence) {
        (Some(given), _) => given.clone(),
        (None, given) => PathBuf::from(given.as_deref().unwrap_or("launches")),
    };
    let logs = std::path::absolute(&logs).unwrap_or(logs).display().to_string();
    if logs.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Failure::new(
            Kind::Usage,
            format!("sbatch takes no folder with blanks: {logs:?}"),
        )
        .hint("`--evidence DIR` names another"));
    }
    let job = Job {
        name: job_name(args, &image)?,
        image,
        by: if args.slurm.pyxis { By::Pyxis } else { By::Sconce },
        options,
        partition: args.slurm.partition.clone(),
        more: args.slurm.sbatch.clone(),
        logs: logs.clone(),
    };
    let script = slurm::script(settings, &job);
    if !args.slurm.submit || args.dry_run {
        print!("{script}");
        return Ok(ExitCode::SUCCESS);
    }
    // Slurm opens the job's output before its script runs.
    let made = std::fs::create_dir_all(&logs);
    made.map_err(|error| Failure::new(Kind::Storage, format!("{logs} can't be made: {error}")))?;
    let failed = |error: std::io::Error| {
        Failure::new(Kind::Machine, format!("`sbatch` can't be started: {error}"))
            .hint("without `--submit` the script is printed: `sconce launch ... > job.sh`")
    };
    let mut sbatch =
        Command::new("sbatch").stdin(std::process::Stdio::piped()).spawn().map_err(failed)?;
    if let Some(mut stdin) = sbatch.stdin.take() {
        std::io::Write::write_all(&mut stdin, script.as_bytes()).map_err(failed)?;
    }
    let status = sbatch.wait().map_err(failed)?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

pub fn kubernetes(args: &Args, settings: &Settings) -> Result<ExitCode, Failure> {
    let image = image(args)?;
    let given = &args.kubernetes;
    let rdma = given.rdma.as_ref().map(|text| {
        let parsed = text
            .split_once('=')
            .and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
        parsed.ok_or_else(|| {
            Failure::new(Kind::Usage, format!("`--rdma {text}` is no resource"))
                .hint("as in `--rdma rdma/hca=8`")
        })
    });
    let shm = parse_size("--shm-size", args.shm_size.as_deref().unwrap_or("16g"))?;
    let objects = Objects {
        name: job_name(args, &image)?,
        kind: match given.kind {
            ObjectKind::Job => kubernetes::Kind::Job,
            ObjectKind::Jobset => kubernetes::Kind::JobSet,
            ObjectKind::Trainjob => kubernetes::Kind::TrainJob,
        },
        image,
        shm: format!("{}Mi", shm >> 20),
        memory: given.memory.clone(),
        cpus: given.cpus,
        rdma: rdma.transpose()?,
        queue: given.queue.clone(),
    };
    if settings.restarts > 0 && given.kind != ObjectKind::Jobset {
        eprintln!(
            "note: only a JobSet starts all its pods again after one failed: `--kind jobset`"
        );
    }
    print!("{}", kubernetes::manifest(settings, &objects));
    Ok(ExitCode::SUCCESS)
}
