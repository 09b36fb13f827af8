//! A batch script for Slurm, which starts a node's container on each of its nodes: `sconce run` through srun, or pyxis
//! where a cluster has it.

use std::fmt::Write;

use crate::choices::torchrun;
use crate::settings::{Program, Settings};
use crate::words::{quoted, shell_line};

/// Where logs are in the container.
const LOGS: &str = "/logs";

/// What starts containers on the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// `srun sconce run`.
    Sconce,
    /// `srun --container-image`.
    Pyxis,
}

/// What is particular to Slurm.
#[derive(Debug, Clone)]
pub struct Job {
    /// The job's name.
    pub name: String,
    /// The image.
    pub image: String,
    /// What starts it.
    pub by: By,
    /// `sconce run`'s own options.
    pub options: Vec<String>,
    /// `-p`, if any.
    pub partition: Option<String>,
    /// More `#SBATCH` words, as the user gave them.
    pub more: Vec<String>,
    /// The folder of logs, which all nodes see.
    pub logs: String,
}

/// The batch script.
#[must_use]
pub fn script(settings: &Settings, job: &Job) -> String {
    let mut out = String::from("#!/bin/bash\n");
    let mut option = |text: String| _ = writeln!(out, "#SBATCH {text}");
    option(format!("--job-name={}", job.name));
    option(format!("--nodes={}", settings.nodes));
    option("--ntasks-per-node=1".to_owned());
    if settings.gpus {
        option(format!("--gpus-per-node={}", settings.ranks_per_node));
    }
    option("--exclusive".to_owned());
    if let Some(partition) = &job.partition {
        option(format!("--partition={partition}"));
    }
    if let Some(limit) = settings.time_limit {
        option(format!("--time={}", limit.as_secs().div_ceil(60)));
        option("--signal=B:TERM@90".to_owned());
    }
    if settings.restarts > 0 {
        option("--requeue".to_owned());
    }
    option("--open-mode=append".to_owned());
    option(format!("--output={}/slurm-%j.out", job.logs));
    job.more.iter().for_each(|word| option(word.clone()));

    out += "set -u\n";
    if settings.restarts > 0 {
        let most = settings.restarts;
        _ = writeln!(
            out,
            "# Slurm requeues a job whose node was lost, or that asks for it; it is not to go on for ever.\n\
             if [ \"${{SLURM_RESTART_COUNT:-0}}\" -gt {most} ]; then\n  echo \"restarted {most} times already\"\n  exit 1\nfi"
        );
    }
    out += "# Node 0 hosts the store, by its number; its address is the one at which Slurm reaches it.\n";
    out += "head=$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -n 1)\n";
    out += "export LAUNCH_HEAD=$(scontrol show node -o \"$head\" | sed -n 's/.* NodeAddr=\\([^ ]*\\).*/\\1/p')\n";
    let ranks = settings.ranks_per_node.max(1);
    if !settings.env.contains_key("OMP_NUM_THREADS") {
        out += "# The processors of a node for its ranks; torchrun would set 1.\n";
        _ = writeln!(
            out,
            "threads=$(( ${{SLURM_CPUS_ON_NODE:-{ranks}}} / {ranks} ))\nexport OMP_NUM_THREADS=$(( threads > 0 ? threads : 1 ))"
        );
    }
    out += "export PYTHONUNBUFFERED=1\n";
    for (name, value) in &settings.env {
        _ = writeln!(out, "export {name}={}", quoted(value));
    }
    _ = writeln!(out, "mkdir -p {}", quoted(&job.logs));

    let task = task(settings, job);
    out += "# --propagate=NONE: the limits of whoever submits it (locked memory above all) are not the nodes'.\n";
    let mut srun = String::from("srun --kill-on-bad-exit=1 --label --propagate=NONE");
    if job.by == By::Pyxis {
        let names = ["OMP_NUM_THREADS", "PYTHONUNBUFFERED"].into_iter();
        let names: Vec<&str> = names.chain(settings.env.keys().map(String::as_str)).collect();
        _ = write!(
            srun,
            " \\\n  --container-image={} --container-mounts={} --no-container-mount-home --container-env={}",
            quoted(&pyxis_name(&job.image)),
            quoted(&format!("{}:{LOGS}", job.logs)),
            quoted(&names.join(","))
        );
    }
    _ = writeln!(out, "{srun} \\\n  bash -c {} &", quoted(&task));
    out += "step=$!\n\
            # The signal before the time limit comes here alone; the ranks are told, and may write a checkpoint.\n\
            trap 'kill -TERM \"$step\"' TERM\n\
            wait \"$step\"\n\
            code=$?\n\
            # A signal ends `wait`, and not the step.\n\
            while kill -0 \"$step\" 2>/dev/null; do\n  wait \"$step\"\n  code=$?\ndone\n\
            exit \"$code\"\n";
    out
}

/// What each node runs; the shell there knows its number.
fn task(settings: &Settings, job: &Job) -> String {
    let mut words = Vec::new();
    for choice in torchrun(settings, 0, "", "") {
        let value = match choice.name.as_str() {
            "--node_rank" => "\"$SLURM_NODEID\"".to_owned(),
            "--master_addr" => "\"$LAUNCH_HEAD\"".to_owned(),
            "--rdzv_id" => "\"$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}\"".to_owned(),
            "--log_dir" => LOGS.to_owned(),
            _ => quoted(&choice.value),
        };
        words.push(format!("{}={value}", choice.name));
    }
    // Slurm labels the lines of nodes; those of ranks are in files as well.
    words.push("--tee=3".to_owned());
    let program = match &settings.program {
        Program::Script(words) => shell_line(words),
        Program::Module(words) => format!("-m {}", shell_line(words)),
        Program::Other(words) => format!("--no_python {}", shell_line(words)),
    };
    let torchrun = format!("python3 -m torch.distributed.run {} {program}", words.join(" "));
    match job.by {
        By::Pyxis => format!("exec {torchrun}"),
        By::Sconce => {
            let env = ["OMP_NUM_THREADS", "PYTHONUNBUFFERED"].into_iter();
            let env =
                env.chain(settings.env.keys().map(String::as_str)).map(|name| format!("-e {name}"));
            let mut env: Vec<String> = env.collect();
            env.dedup();
            let gpus = if settings.gpus { "all" } else { "none" };
            format!(
                "exec sconce run -q --no-import-check --gpus {gpus} --entrypoint \"\" {} -v {} {} {} {torchrun}",
                env.join(" "),
                quoted(&format!("{}:{LOGS}", job.logs)),
                shell_line(&job.options),
                quoted(&job.image)
            )
        }
    }
}

/// The image as pyxis wants it: `#` between the registry and the name.
fn pyxis_name(image: &str) -> String {
    let image = image.strip_prefix("docker://").unwrap_or(image);
    match image.split_once('/') {
        Some((host, name)) if host.contains(['.', ':']) || host == "localhost" => {
            format!("{host}#{name}")
        }
        _ => image.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::OnHang;

    fn job(by: By) -> (Settings, Job) {
        let settings = Settings {
            nodes: 2,
            ranks_per_node: 8,
            gpus: true,
            program: Program::Script(vec!["train.py".into(), "it's".into()]),
            port: 29500,
            master: None,
            restarts: 1,
            time_limit: Some(Duration::from_secs(5400)),
            hang_after: None,
            on_hang: OnHang::Abort,
            node_timeout: Duration::from_secs(5),
            preflight: None,
            env: [("NCCL_DEBUG".to_owned(), "WARN".to_owned())].into(),
        };
        let job = Job {
            name: "train".into(),
            image: "registry.example/train@sha256:00".into(),
            by,
            options: Vec::new(),
            partition: Some("main".into()),
            more: vec!["--account=lab".into()],
            logs: "/shared/my logs".into(),
        };
        (settings, job)
    }

    #[test]
    fn bash_can_read_it() {
        for by in [By::Sconce, By::Pyxis] {
            let (settings, job) = job(by);
            let text = script(&settings, &job);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("job.sh");
            std::fs::write(&path, &text).unwrap();
            let read = std::process::Command::new("bash").arg("-n").arg(&path).output().unwrap();
            assert!(read.status.success() && read.stderr.is_empty(), "{text}\n{read:?}");
        }
    }

    #[test]
    fn what_it_asks_of_slurm() {
        let (settings, job) = job(By::Sconce);
        let text = script(&settings, &job);
        for line in [
            "#SBATCH --nodes=2",
            "#SBATCH --gpus-per-node=8",
            "#SBATCH --time=90",
            "#SBATCH --requeue",
            "#SBATCH --account=lab",
            "export NCCL_DEBUG=WARN",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        assert!(text.contains(
            "--node_rank=\"$SLURM_NODEID\" --rdzv_backend=static --master_addr=\"$LAUNCH_HEAD\""
        ));
        assert_eq!(pyxis_name("host:5000/a/b:1"), "host:5000#a/b:1");
        assert_eq!(pyxis_name("docker://lab/a"), "lab/a");
    }
}
