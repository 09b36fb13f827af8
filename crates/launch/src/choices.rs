//! What each node runs, every choice with its reason: torchrun's arguments, variables, and the container's options.
//!
//! Nothing is left to be guessed from names: which node hosts the store, at which address, and how many ranks there are
//! is all said (torch's own guess compares host names, and misses aliases and second interfaces: pytorch issues 79388,
//! 73656).

use std::path::Path;

use crate::settings::{Program, Settings};

/// Where the launch's folder of a node is in its container.
pub const INSIDE: &str = "/run/sconce-launch";

/// Something chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its name: a variable, or torchrun's argument.
    pub name: String,
    /// What was chosen.
    pub value: String,
    /// Why.
    pub why: String,
}

fn choice(name: &str, value: impl Into<String>, why: impl Into<String>) -> Choice {
    Choice { name: name.to_owned(), value: value.into(), why: why.into() }
}

/// torchrun's arguments on a node; `master` is the address of node 0. The spelling with `_` is understood by old
/// and new releases.
#[must_use]
pub fn torchrun(settings: &Settings, node: u32, id: &str, master: &str) -> Vec<Choice> {
    let mut all = vec![
        choice(
            "--nnodes",
            settings.nodes.to_string(),
            "as many nodes as were asked for; none joins later",
        ),
        choice(
            "--nproc_per_node",
            settings.ranks_per_node.to_string(),
            match settings.gpus {
                true => "a rank for each GPU of the node",
                false => "as many ranks as were asked for, on the CPU",
            },
        ),
        choice("--rdzv_id", id, "this launch and attempt: what is left of another can't join"),
    ];
    if settings.nodes > 1 {
        all.extend([
            choice("--node_rank", node.to_string(), "ranks are numbered in the order of the nodes"),
            choice(
                "--rdzv_backend",
                "static",
                "node 0 hosts the store by its number, not by its name",
            ),
            choice(
                "--master_addr",
                master,
                "the address of node 0 that all others reached before the start",
            ),
            choice(
                "--master_port",
                settings.port.to_string(),
                "was free on node 0, and reached from the others",
            ),
        ]);
    } else {
        all.extend([
            choice(
                "--rdzv_backend",
                "c10d",
                "one node: the store takes a free port, so that jobs don't collide",
            ),
            choice(
                "--rdzv_endpoint",
                "127.0.0.1:0",
                "no name has to resolve, and 0 is any free port",
            ),
            choice(
                "--rdzv_conf",
                "is_host=1",
                "this node hosts the store; torch need not guess that from names",
            ),
        ]);
    }
    all.extend([
        choice(
            "--max_restarts",
            "0",
            "sconce starts all ranks again; torchrun can't where a node is lost",
        ),
        choice("--redirects", "3", "output of each rank goes to files, which outlive the ranks"),
        choice(
            "--log_dir",
            format!("{INSIDE}/logs/{id}"),
            "a folder of this machine that is shown inside",
        ),
    ]);
    all
}

/// What torchrun is to start.
pub(crate) fn program(settings: &Settings) -> Vec<String> {
    let rank = format!("{INSIDE}/rank.py");
    match &settings.program {
        Program::Script(words) => [vec![rank], words.clone()].concat(),
        Program::Module(words) => [vec![rank, "-m".to_owned()], words.clone()].concat(),
        Program::Other(words) => [vec!["--no_python".to_owned()], words.clone()].concat(),
    }
}

/// What torchrun is to start before that.
pub(crate) fn preflight(settings: &Settings) -> Vec<String> {
    let kind = if settings.gpus { "gpu" } else { "cpu" };
    vec![format!("{INSIDE}/rank.py"), format!("{INSIDE}/preflight.py"), kind.to_owned()]
}

/// Variables of the ranks on a node that may use so many processors. What the user said is not chosen again.
#[must_use]
pub fn variables(settings: &Settings, cpus: u32, attempt: u32) -> Vec<Choice> {
    let ranks = settings.ranks_per_node.max(1);
    let threads = (cpus / ranks).max(1);
    let mut all = vec![
        choice(
            "OMP_NUM_THREADS",
            threads.to_string(),
            format!("{cpus} processors for {ranks} ranks; torchrun would set 1"),
        ),
        choice("PYTHONUNBUFFERED", "1", "output of ranks comes when it is printed"),
        choice(
            "SCONCE_LAUNCH_ATTEMPT",
            attempt.to_string(),
            "0 at first, then counted up by restarts",
        ),
    ];
    if settings.gpus {
        let dump = format!("{INSIDE}/fr_");
        let pipe = format!("{INSIDE}/fr_pipe_");
        let why = "where torch leaves its record of collectives, which outlives the container";
        all.extend([
            choice("TORCH_FR_DUMP_TEMP_FILE", dump.clone(), why),
            choice(
                "TORCH_NCCL_DEBUG_INFO_TEMP_FILE",
                dump,
                format!("{why} (its name before torch 2.9)"),
            ),
            choice(
                "TORCH_NCCL_DEBUG_INFO_PIPE_FILE",
                pipe,
                "asked for that record when ranks hang",
            ),
        ]);
    } else {
        all.push(choice("CUDA_VISIBLE_DEVICES", "", "ranks on the CPU: none takes a GPU"));
    }
    if settings.nodes == 1 {
        all.push(choice(
            "GLOO_SOCKET_IFNAME",
            "lo",
            "one node: ranks speak over the loopback, whatever its name resolves to",
        ));
    }
    all.retain(|choice| !settings.env.contains_key(&choice.name));
    let given = settings.env.iter().map(|(name, value)| choice(name, value, "given"));
    all.extend(given);
    all
}

/// The words of `sconce run` for a node: options of the user's, then the image, then the node's program.
#[must_use]
pub fn container(
    program: &str,
    gpus: &str,
    folder: &Path,
    options: &[String],
    target: &str,
    node: u32,
    settings: &Settings,
) -> Vec<String> {
    let mut words: Vec<String> =
        [program, "run", "-q", "-i", "--no-import-check"].map(str::to_owned).to_vec();
    words.extend(["--gpus".to_owned(), gpus.to_owned(), "--entrypoint".to_owned(), String::new()]);
    words.extend(["-v".to_owned(), format!("{}:{INSIDE}", folder.display())]);
    words.extend(options.iter().cloned());
    words.push(target.to_owned());
    let limit = settings.node_timeout.as_secs_f64().max(1.0) * 2.0;
    words.extend(["python3".to_owned(), "-u".to_owned(), format!("{INSIDE}/node.py")]);
    words.extend([node.to_string(), format!("{limit:.0}")]);
    words
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::OnHang;

    pub(crate) fn settings(nodes: u32, gpus: bool) -> Settings {
        Settings {
            nodes,
            ranks_per_node: 4,
            gpus,
            program: Program::Script(vec!["train.py".into(), "-x".into()]),
            port: 29500,
            master: None,
            restarts: 0,
            time_limit: None,
            hang_after: None,
            on_hang: OnHang::Abort,
            node_timeout: Duration::from_secs(5),
            preflight: None,
            env: [("OMP_NUM_THREADS".to_owned(), "3".to_owned())].into(),
        }
    }

    fn value<'a>(choices: &'a [Choice], name: &str) -> Option<&'a str> {
        choices.iter().find(|choice| choice.name == name).map(|choice| choice.value.as_str())
    }

    #[test]
    fn nothing_is_left_to_names() {
        let many = torchrun(&settings(3, true), 2, "id", "10.0.0.1");
        assert_eq!(value(&many, "--node_rank"), Some("2"));
        assert_eq!(
            (value(&many, "--master_addr"), value(&many, "--rdzv_endpoint")),
            (Some("10.0.0.1"), None)
        );
        let one = torchrun(&settings(1, true), 0, "id", "");
        assert_eq!(
            (value(&one, "--rdzv_conf"), value(&one, "--master_addr")),
            (Some("is_host=1"), None)
        );
        assert!(many.iter().chain(&one).all(|choice| !choice.why.is_empty()));
    }

    #[test]
    fn what_was_given_is_not_chosen() {
        let chosen = variables(&settings(1, false), 64, 0);
        assert_eq!(chosen.iter().filter(|choice| choice.name == "OMP_NUM_THREADS").count(), 1);
        assert_eq!(value(&chosen, "OMP_NUM_THREADS"), Some("3"));
        let mut free = settings(1, true);
        free.env.clear();
        assert_eq!(value(&variables(&free, 64, 0), "OMP_NUM_THREADS"), Some("16"));
        assert_eq!(value(&variables(&free, 2, 0), "OMP_NUM_THREADS"), Some("1"));
    }
}
