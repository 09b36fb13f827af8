//! Every key of `sconce.toml`: one row decides what is accepted, and what the annotated file says about it.

/// A key of `sconce.toml`.
pub(crate) struct Key {
    /// Its section: "environment".
    pub section: &'static str,
    /// Its name in it.
    pub name: &'static str,
    /// Its default, as TOML.
    pub default: &'static str,
    /// What it is for, a line each.
    pub doc: &'static [&'static str],
}

const fn key(
    section: &'static str,
    name: &'static str,
    default: &'static str,
    doc: &'static [&'static str],
) -> Key {
    Key { section, name, default, doc }
}

/// Sections in the order of the annotated file, with what they are about.
pub(crate) const SECTIONS: &[(&str, &str)] = &[
    ("environment", "What is in the environment."),
    ("base", "The Debian system below it."),
    ("image", "What the image is called. This does not change it."),
    ("app", "Your own code, in the last layer."),
    ("run", "How `sconce run` starts it. None of this changes the image."),
    (
        "launch",
        "How `sconce launch` starts it on several GPUs or machines. None of this changes the image.",
    ),
];

/// Every key, in the order of the annotated file.
pub(crate) const KEYS: &[Key] = &[
    key(
        "environment",
        "torch",
        r#""newest""#,
        &[
            r#"A version ("2.9.1"), a range (">=2.8,<2.12"), "newest", or false for an environment without torch."#,
        ],
    ),
    key(
        "environment",
        "gpus",
        "[]",
        &[
            r#"The GPUs it must run on: names ("h100", "rtx 4090"), capabilities ("9.0", "sm_90"), or "host" for"#,
            "those in this machine. The torch chosen has code for all of them, or there is none.",
        ],
    ),
    key(
        "environment",
        "driver",
        r#""auto""#,
        &[
            r#"The oldest NVIDIA driver it must run on, e.g. "535.104.05". "auto" is this machine's, if it has one;"#,
            r#""any" asks for nothing. Torch is chosen by it; of other packages `sconce inspect --driver` says it."#,
        ],
    ),
    key(
        "environment",
        "cuda",
        r#""auto""#,
        &[
            r#"A CUDA release ("12.6") or major ("12"). Where PyPI's wheel has another, PyTorch's own index is used."#,
            r#""cpu" takes the build without CUDA."#,
        ],
    ),
    key(
        "environment",
        "python",
        r#""auto""#,
        &[
            r#""3.13" is Debian trixie's and "3.11" bookworm's; others from "3.9" to "3.14" are python-build-standalone's,"#,
            r#"as are "3.13t" and "3.14t", without the GIL. "auto" is what torch and the requirements have wheels for."#,
        ],
    ),
    key(
        "environment",
        "platform",
        r#""auto""#,
        &[
            r#""x86_64" or "aarch64". "auto" follows the GPUs named (GH200 is aarch64), else this machine."#,
        ],
    ),
    key(
        "environment",
        "requirements",
        "[]",
        &[
            r#"Python packages besides torch: a list (["transformers>=4.50", "einops"]), or the path of a"#,
            "requirements.txt, pylock.toml, uv.lock, pyproject.toml or environment.yml. A list may name files as well:",
            r#"["-r requirements.txt", "-r pyproject.toml", "-c constraints.txt", "einops"]."#,
        ],
    ),
    key(
        "environment",
        "extras",
        "[]",
        &["Extras of the pyproject.toml among the requirements: [\"train\"]."],
    ),
    key("environment", "groups", "[]", &["Dependency groups of it: [\"dev\"]."]),
    key(
        "environment",
        "from-source",
        "[]",
        &[
            "Packages that are built from their source distribution: [\"deepspeed\"]. `sconce lock` builds each once,",
            "in a container of the same environment without network, for the GPUs asked for.",
        ],
    ),
    key(
        "environment",
        "exclude",
        "[]",
        &["Packages that are left out though another package requires them: [\"opencv-python\"]."],
    ),
    key(
        "environment",
        "prefer",
        "[]",
        &[
            "Packages whose files win where two packages install different files at one path:",
            r#"["opencv-python-headless"]."#,
        ],
    ),
    key(
        "environment",
        "indexes",
        "[]",
        &[
            r#"Package indexes asked before the default one: [{ name = "lab", url = "https://pypi.example.invalid/simple" }],"#,
            "or a folder of wheels as url. Names and passwords belong in uv's or pip's own configuration.",
        ],
    ),
    key(
        "environment",
        "flavour",
        r#""runtime""#,
        &[
            r#""runtime" runs and compiles with torch.compile; "devel" adds nvcc, CUDA headers and build tools."#,
        ],
    ),
    key(
        "environment",
        "bytecode",
        "true",
        &[
            "Whether .pyc files are in the image: larger by a little, and `import torch` three times as fast.",
        ],
    ),
    key(
        "base",
        "debian",
        r#""auto""#,
        &[r#""trixie" or "bookworm". "auto" goes with the Python."#],
    ),
    key(
        "base",
        "packages",
        "[]",
        &[r#"Debian packages besides what the flavour needs: ["git", "ffmpeg"]."#],
    ),
    key(
        "base",
        "mirror",
        r#""auto""#,
        &[r#"The address of a Debian mirror. "auto" is the one that apt on this machine uses."#],
    ),
    key(
        "base",
        "allow-missing",
        "[]",
        &[
            r#"Suites of fixes that the image may go without where no mirror has them: ["trixie-security"]."#,
        ],
    ),
    key(
        "image",
        "name",
        r#""auto""#,
        &[
            r#"Its name: "demo:1.2". "auto" is made of the folder's name. One with a slash ("lab/demo:1.2") is a registry's, and asks for trust."#,
        ],
    ),
    key(
        "app",
        "include",
        "[]",
        &[
            "Files, folders and patterns of what is copied into the working directory: [\"train.py\", \"src\",",
            "\"configs/**/*.yaml\"]. What .gitignore and .dockerignore leave out of a folder is left out here.",
        ],
    ),
    key(
        "app",
        "exclude",
        "[]",
        &["What else is left out of that, as .gitignore writes it: [\"*.ckpt\", \"/data\"]."],
    ),
    key(
        "app",
        "install",
        "false",
        &[
            "Whether this folder is installed as a Python package too, as `pip install .` does: its wheel is built of",
            "pyproject.toml in a container without network, again whenever a file changes.",
        ],
    ),
    key("app", "workdir", r#""/app""#, &["The working directory, and where the files go."]),
    key(
        "app",
        "command",
        "[]",
        &[r#"What runs when nothing else is said: ["python", "train.py"]."#],
    ),
    key("app", "env", "{}", &[r#"Environment variables: { OMP_NUM_THREADS = "8" }."#]),
    key(
        "run",
        "gpus",
        r#""auto""#,
        &[
            r#""all", "none", or a list of indexes or UUIDs. "auto" is all there are, and none is no error."#,
        ],
    ),
    key(
        "run",
        "shm",
        r#""auto""#,
        &[r#"The size of /dev/shm: "8g". "auto" goes by the machine's memory."#],
    ),
    key("run", "ports", "[]", &[r#"Ports to publish: ["6006:6006"]."#]),
    key(
        "run",
        "volumes",
        "[]",
        &[
            r#"Folders to mount: ["./data:/data", "~/cache:/cache", "$SCRATCH/out:/out", "/models:/models:ro"]."#,
            "$NAME is a variable of whoever starts it, and must be set; $$ is a dollar sign.",
        ],
    ),
    key("run", "tmpfs", "[]", &[r#"Folders in memory: ["/cache:size=8g"]."#]),
    key("run", "devices", "[]", &[r#"Device nodes, besides those of the GPUs: ["/dev/fuse"]."#]),
    key(
        "run",
        "env",
        "{}",
        &[r#"Variables, which `-e` overrules: { HF_HOME = "/cache/hf", HF_TOKEN = "$HF_TOKEN" }."#],
    ),
    key(
        "run",
        "user",
        r#""auto""#,
        &[r#"Who it runs as: "1000:1000". "auto" is the image's user."#],
    ),
    key("run", "workdir", r#""auto""#, &[r#"Where it starts. "auto" is the image's folder."#]),
    key(
        "run",
        "network",
        r#""host""#,
        &[r#""host", "private" (one of its own, through pasta) or "none"."#],
    ),
    key("run", "hostname", r#""auto""#, &[r#"Its host name. "auto" is this machine's."#]),
    key("run", "memory", r#""auto""#, &[r#"The most memory: "64g". "auto" is no limit."#]),
    key("run", "cpus", r#""auto""#, &[r#"The most processors: "8", "0.5". "auto" is no limit."#]),
    key("run", "ulimits", "[]", &[r#"Limits of its processes: ["nofile=65536", "core=0"]."#]),
    key(
        "run",
        "read-only",
        "false",
        &["Whether its root is read-only; volumes, /dev/shm, /tmp, /var/tmp and /run are not."],
    ),
    key(
        "run",
        "import-check",
        "true",
        &[
            "Whether packages with native code are imported once, in a container of their own beside the first run:",
            "what can't be imported with this torch is then said at the end of that run.",
        ],
    ),
    key(
        "launch",
        "nodes",
        r#""auto""#,
        &[r#"Machines: 2. "auto" is as many as there are hosts, or 1."#],
    ),
    key(
        "launch",
        "hosts",
        "[]",
        &[r#"Machines that are reached over ssh, for the engine ssh: ["gpu[1-4]", "ann@gpu7"]."#],
    ),
    key(
        "launch",
        "gpus-per-node",
        r#""auto""#,
        &[
            r#"GPUs of each machine, a rank for each: 8. "auto" is all that are idle; 0 trains on the CPU."#,
        ],
    ),
    key(
        "launch",
        "command",
        "[]",
        &[
            r#"What each rank runs: ["train.py", "--epochs", "3"], ["-m", "train"]. Without it, `command` under [app]"#,
            "where that is a Python program.",
        ],
    ),
    key("launch", "port", r#""auto""#, &["The port of node 0 where ranks meet: 29500."]),
    key(
        "launch",
        "preflight",
        r#""auto""#,
        &[
            r#"A short all-reduce over all ranks before the first step, given up after "2m". "auto" is none."#,
        ],
    ),
    key(
        "launch",
        "spares",
        "0",
        &["The last so many hosts are spares, which take the places of others that can't be used."],
    ),
    key("launch", "restarts", "0", &["How often all ranks are started again after one failed."]),
    key(
        "launch",
        "time-limit",
        r#""auto""#,
        &[r#"When it is ended: "90m", "2h". "auto" is never."#],
    ),
    key(
        "launch",
        "hang-after",
        r#""10m""#,
        &[r#"When ranks that say nothing are looked into: "10m", or "never"."#],
    ),
    key(
        "launch",
        "env",
        "{}",
        &[r#"Variables of the ranks, over those under [run]: { NCCL_DEBUG = "WARN" }."#],
    ),
    key(
        "launch",
        "evidence",
        r#""launches""#,
        &["The folder, in this one, that gets a folder of logs and evidence for each launch."],
    ),
];

/// What a project says whose needs stand in a file of another tool, and that is not installed: its folder is where NVIDIA's
/// images and PyTorch's have it. Section, key, value.
fn of_file(file: &str) -> [(&'static str, &'static str, String); 3] {
    [
        ("environment", "requirements", format!("{file:?}")),
        ("run", "volumes", r#"[".:/workspace"]"#.to_owned()),
        ("run", "workdir", r#""/workspace""#.to_owned()),
    ]
}

/// The file in place of one that is not there, for a folder with this file of requirements.
pub(crate) fn stand_in(file: &str) -> String {
    let of_file = of_file(file);
    let lines = of_file.iter().map(|(section, key, value)| format!("{section}.{key} = {value}\n"));
    lines.collect()
}

/// The annotated file: every key commented out with its default, but for those that a file of requirements gives.
pub(crate) fn template(requirements: Option<&str>) -> String {
    let known = requirements.map(of_file);
    let mut out = String::from(
        "# What this container should be. Everything is optional: each line shows its default.\n\
         # `sconce lock` works out what it is exactly, and `sconce lock --explain` says why.\n",
    );
    for (section, about) in SECTIONS {
        out.push_str(&format!("\n[{section}] # {about}\n"));
        for key in KEYS.iter().filter(|key| key.section == *section) {
            for line in key.doc {
                out.push_str(&format!("# {line}\n"));
            }
            let is_this = |(section, name, _): &&(&str, &str, String)| {
                (*section, *name) == (key.section, key.name)
            };
            let line = match known.iter().flatten().find(is_this) {
                Some((_, name, value)) => format!("{name} = {value}\n"),
                None => format!("#{} = {}\n", key.name, key.default),
            };
            out.push_str(&line);
        }
    }
    out
}
