//! What `sconce launch` and `sconce plan` say without starting anything.

use std::fs;

use crate::world::World;

const IMAGE: &str = "registry.example/lab/train@sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn a_dry_run_says_what_would_run_and_why() {
    let world = World::new();
    let words = [
        "launch",
        "--dry-run",
        "--explain",
        "--hosts",
        "gpu[1-2]",
        "--gpus-per-node",
        "8",
        IMAGE,
        "--",
    ];
    let (code, out, err) = world.says(&[&words[..], &["train.py", "a b"]].concat());
    assert_eq!(code, 0, "{err}");
    for part in ["ssh gpu2 -- sconce run", "--node_rank=1", "--master_port=29500", "train.py a b"] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    assert!(
        err.contains("--rdzv_backend=static\n    node 0 hosts the store by its number"),
        "{err}"
    );
    assert!(!world.path("launches").exists());
    let hosts = ["--hosts", "gpu[1,3],lab", "--ranks", "1", IMAGE, "--", "train.py"];
    let (code, out, err) = world.says(&[&["launch", "--dry-run"], &hosts[..]].concat());
    assert_eq!(code, 0, "{err}");
    for line in
        ["# node 0, over ssh on gpu1", "# node 1, over ssh on gpu3", "# node 2, over ssh on lab"]
    {
        assert!(out.lines().any(|known| known == line), "{line}\n{out}");
    }
}

#[test]
fn launch_of_a_project_is_read() {
    let world = World::new();
    fs::create_dir(world.path("p")).unwrap();
    let toml = "[launch]\ngpus-per-node = 4\ncommand = [\"-m\", \"train\"]\nenv = { A = \"b\" }\nport = 1234\n";
    fs::write(world.path("p/sconce.toml"), toml).unwrap();
    let (code, out, err) = world.says(&["launch", "--dry-run", "p"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("--nproc_per_node=4") && out.contains("-m train") && out.contains("# A=b"),
        "{out}"
    );
    for (key, part) in [
        ("nodes = 0", "a number from 1 to 4096"),
        ("evidence = \"../x\"", "a folder below this one"),
        ("port = \"x\"", "a number from 1 to 65535"),
        ("gpus = 1", "belongs under"),
    ] {
        fs::write(world.path("p/sconce.toml"), format!("[launch]\n{key}\n")).unwrap();
        let (code, _, err) = world.says(&["launch", "--dry-run", "p"]);
        assert!(code == 3 && err.contains(part), "{key}: {code} {err}");
    }
    fs::write(world.path("p/sconce.toml"), "[launch]\nhosts = [\"gpu1\"]\ngpus-per-node = 1\n")
        .unwrap();
    let (code, _, err) = world.says(&["launch", "p", "--", "train.py"]);
    assert!(code == 9 && err.contains("starts ranks over ssh on gpu1"), "{code} {err}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let world = World::new();
    let refused = |words: &[&str], part: &str| {
        let (code, out, err) = world.says(&[&["launch"], words].concat());
        assert!(code == 2 && out.is_empty() && err.contains(part), "{words:?}: {code} {out} {err}");
    };
    refused(&["--hosts", "a[1-", IMAGE, "--", "x.py"], "a `[` is not closed");
    refused(&["--hosts", "a,", "--ranks", "1", IMAGE, "--", "x.py"], "a name is missing");
    refused(&["--hosts", "a,b,a", "--ranks", "1", IMAGE, "--", "x.py"], "named twice");
    refused(&["--hosts", "a a", "--ranks", "1", IMAGE, "--", "x.py"], "named twice");
    refused(
        &["--hosts=-oProxyCommand=x", "--ranks", "1", IMAGE, "--", "x.py"],
        "a name has letters",
    );
    refused(&["--nodes", "2", "--ranks", "1", IMAGE, "--", "x.py"], "one machine");
    refused(&["--hosts", "a b", IMAGE, "--", "x.py"], "how many GPUs");
    refused(&["--ranks", "1", IMAGE], "what the ranks are to run");
    refused(&["--ranks", "1", "--hang-after", "soon", IMAGE, "--", "x.py"], "hang-after");
    refused(&["--engine", "slurm", "--ranks", "1", "torch:2.15.0", "--", "x.py"], "sconce push");
    refused(
        &["--engine", "kubernetes", "--ranks", "1", "--name", "A", IMAGE, "--", "x.py"],
        "no name of a job",
    );
}

#[test]
fn scripts_and_manifests_are_printed() {
    let world = World::new();
    let words = |engine: &'static str, more: &[&'static str]| {
        let mut words = vec!["launch", "--engine", engine, "--nodes", "2", "--gpus-per-node", "8"];
        words.extend(more);
        words.extend([IMAGE, "--", "train.py"]);
        let (code, out, err) = world.says(&words);
        assert_eq!(code, 0, "{err}");
        out
    };
    let script =
        words("slurm", &["--partition", "main", "--sbatch", "--account=lab", "--time-limit", "2h"]);
    for part in
        ["#SBATCH --nodes=2", "#SBATCH --time=120", "#SBATCH --account=lab", "sconce run", IMAGE]
    {
        assert!(script.contains(part), "{part}\n{script}");
    }
    assert!(
        words("slurm", &["--pyxis"])
            .contains("--container-image='registry.example#lab/train@sha256:")
    );
    // What is not wanted needs nobody who could do it.
    assert!(words("slurm", &["--preflight=never"]).contains("srun"));
    refused_before_the_first_step(&world);
    assert!(words("kubernetes", &[]).contains("completionMode: Indexed"));
    assert!(words("kubernetes", &["--kind", "jobset"]).contains("kind: JobSet"));
    assert!(words("kubernetes", &["--kind", "trainjob"]).contains("kind: TrainJob"));
}

fn refused_before_the_first_step(world: &World) {
    let words = ["launch", "--engine", "slurm", "--ranks", "1", "--preflight", IMAGE, "--", "x.py"];
    let (code, out, err) = world.says(&words);
    assert!(code == 2 && out.is_empty() && err.contains("`--preflight`"), "{code} {out} {err}");
}

#[test]
fn plans_show_their_arithmetic() {
    let world = World::new();
    let (code, out, err) = world.says(&["plan", "7b", "--gpu", "h100", "--gpus", "8"]);
    assert_eq!(code, 1, "{err}");
    assert!(
        out.contains("7e9 x 8 bytes")
            && out.contains("does not fit")
            && out.contains("arXiv:1910.02054"),
        "{out}"
    );
    assert_eq!(
        world.says(&["plan", "7b", "--gpu", "h100", "--gpus", "8", "--sharding", "fsdp"]).0,
        12
    );
    let (code, out, _) =
        world.says(&["plan", "350m", "--workers", "8", "--batch-bytes", "100m", "--json"]);
    assert_eq!(code, 0);
    assert!(out.contains("\"schema\": 1") && out.contains("prefetch_factor"), "{out}");
    assert_eq!(world.says(&["plan", "many"]).0, 2);
    assert_eq!(world.says(&["plan", "7b", "--gpu", "voodoo"]).0, 2);
}
