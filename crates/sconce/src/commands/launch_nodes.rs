//! The machines of a launch: this one's idle GPUs, and others made ready over ssh.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use sconce_blob::Digest;
use sconce_doctor::fleet;
use sconce_gpu::job::Job;
use sconce_gpu::select::{self, Request};
use sconce_gpu::{Machine, driver};
use sconce_launch::{Evidence, quoted, shell_line};
use sconce_start::Target;

use crate::cli::Global;
use crate::commands::{paths, push};
use crate::context::Context;
use crate::error::{Failure, Kind};

/// How long NVML may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Machines made ready at the same time.
const AT_ONCE: usize = 32;
/// A connection that is silent for twice this long is given up by ssh itself.
const ALIVE: [&str; 2] = ["ServerAliveInterval=2", "ServerAliveCountMax=2"];

/// How many GPUs of this machine nobody uses; none where there is no driver.
pub fn idle_gpus() -> Result<u32, Failure> {
    let machine = Machine::host();
    let mut driver = match driver::find(&machine) {
        Ok(driver) => driver,
        Err(sconce_gpu::Error::NoDriver { .. }) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    driver::with_nvml(&machine, &mut driver.survey, PATIENCE);
    let job = Job::of(&|name| std::env::var(name).ok());
    // More than there are: what is idle is in the refusal. Nothing is kept locked.
    match select::choose(&Request::Count(usize::from(u16::MAX)), &machine, &driver, &job) {
        Err(sconce_gpu::Error::NotEnough { idle: 0, wanted: _, total, busy }) if total > 0 => {
            Err(Failure::new(Kind::Machine, format!("none of {total} GPUs is idle ({busy})"))
                .hint("end what computes on them, or train on the CPU: `--ranks 2`"))
        }
        Err(sconce_gpu::Error::NotEnough { idle, .. }) => {
            Ok(u32::try_from(idle).unwrap_or(u32::MAX))
        }
        Err(sconce_gpu::Error::NoneGiven { .. }) => Ok(0),
        Err(error) => Err(error.into()),
        Ok(selection) => Ok(u32::try_from(selection.devices.len()).unwrap_or(u32::MAX)),
    }
}

/// What this machine is called.
pub fn local_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A machine behind ssh that is ready to start a node. What was put there is removed with it.
pub struct Remote {
    /// What it is called.
    pub host: String,
    /// What sconce is called there.
    pub program: String,
    /// The folder that the container is shown.
    pub folder: String,
    /// What the image is called there.
    pub target: String,
    /// All that was put there.
    base: String,
}

impl Remote {
    /// Makes machines ready: a folder, the programs of a node, sconce and the image where they are missing. As many as
    /// are needed must be; of others it is said why they are not.
    pub fn prepare(
        hosts: &[String],
        needed: usize,
        program: &str,
        target: &str,
        global: &Global,
        trusted: bool,
    ) -> Result<Vec<Self>, Failure> {
        let found =
            Target::find_for(&paths::target(target)?, "launch", sconce_start::Kind::STARTABLE)?;
        let digest = match &found {
            // Each machine takes it from the registry, by its digest where one was named.
            Target::Reference(_) => None,
            _ => {
                let context = Context::open(global)?;
                let image = push::source(&context, "launch", target, trusted, None)?;
                Some(image.manifest.to_string())
            }
        };
        let mut remotes = Vec::new();
        let mut failures = Vec::new();
        for group in hosts.chunks(AT_ONCE) {
            let made: Vec<Result<Self, String>> = thread::scope(|scope| {
                let digest = digest.as_deref();
                let threads: Vec<_> = group
                    .iter()
                    .map(|host| scope.spawn(move || Self::one(host, program, target, digest)))
                    .collect();
                let join = |thread: thread::ScopedJoinHandle<'_, Result<Self, String>>| {
                    thread.join().unwrap_or_else(|_| Err("making it ready failed".to_owned()))
                };
                threads.into_iter().map(join).collect()
            });
            for (host, made) in group.iter().zip(made) {
                match made {
                    Ok(remote) => remotes.push(remote),
                    Err(why) => failures.push(format!("{host}: {why}")),
                }
            }
        }
        if remotes.len() >= needed {
            failures.iter().for_each(|failure| eprintln!("note: {failure}; it is left out"));
        }
        match remotes.len() >= needed {
            true => Ok(remotes),
            false => Err(Failure::new(Kind::Machine, failures.join("\n"))
                .hint("`ssh HOST true` must work without a question; `sconce doctor --hosts HOST` says more")),
        }
    }

    fn one(host: &str, program: &str, target: &str, digest: Option<&str>) -> Result<Self, String> {
        let mut script = String::from(
            "set -e\numask 077\nbase=$(mktemp -d \"${TMPDIR:-/tmp}/sconce-launch.XXXXXX\")\nchmod 711 \"$base\"\n",
        );
        script += &Evidence::script("\"$base\"/node");
        script += &format!(
            "echo \"base=$base\"\necho \"version=$({} --version 2>/dev/null || true)\"\n",
            quoted(program)
        );
        let said = ask(host, "sh -s", script.as_bytes())?;
        let value = |name: &str| {
            said.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
        };
        let base = value("base=").ok_or("it did not say where its folder is")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        if !base.starts_with('/') || !base.chars().all(plain) {
            return Err(format!("its folder has an odd name: {base:?}"));
        }
        let mut remote = Self {
            host: host.to_owned(),
            program: program.to_owned(),
            folder: format!("{base}/node"),
            target: target.to_owned(),
            base,
        };
        // From here on the folder is removed with `remote`.
        if value("version=").as_deref() != Some(concat!("sconce ", env!("CARGO_PKG_VERSION"))) {
            remote.copy_program()?;
        }
        if let Some(digest) = digest {
            remote.copy_image(target, digest)?;
        }
        Ok(remote)
    }

    /// Copies this very program, and believes it arrived when its digest is right there.
    fn copy_program(&mut self) -> Result<(), String> {
        let myself = std::env::current_exe().map_err(|error| error.to_string())?;
        let bytes = std::fs::read(&myself).map_err(|error| error.to_string())?;
        let path = format!("{}/sconce", self.base);
        let script = format!("cat > {path} && chmod 755 {path} && sha256sum {path}");
        let said = ask(&self.host, &script, &bytes)?;
        let digest = Digest::of(&bytes);
        if said.split_whitespace().next() != Some(&*digest.hex()) {
            return Err("sconce was copied there, and arrived with another digest".to_owned());
        }
        self.program = path;
        Ok(())
    }

    /// Streams the image there, unless it is there: it is called by its digest.
    fn copy_image(&mut self, target: &str, digest: &str) -> Result<(), String> {
        let hex = digest.rsplit(':').next().unwrap_or(digest);
        let name = format!("launch/{}:latest", hex.get(..32).unwrap_or(hex));
        let known = format!(
            "{} images -q 2>/dev/null | grep -qF {} && echo yes || true",
            self.program,
            quoted(&name)
        );
        if ask(&self.host, &known, b"")?.trim() != "yes" {
            let myself = std::env::current_exe().map_err(|error| error.to_string())?;
            let mut source = Command::new(myself);
            source.args(["copy", "--trust", "--image-only", target, "oci-archive:-"]);
            source.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut source = source.spawn().map_err(|error| error.to_string())?;
            let take =
                [&*self.program, "copy", "--image-only", "oci-archive:-", &format!("store:{name}")];
            let mut ssh = fleet::ssh(&self.host, &[]);
            ssh.arg(shell_line(&take.map(str::to_owned)));
            ssh.stdin(source.stdout.take().map_or_else(Stdio::null, Stdio::from));
            let taken = ssh.output().map_err(|error| format!("ssh can't be started: {error}"))?;
            let _ = source.kill();
            let _ = source.wait();
            if !taken.status.success() {
                return Err(format!("it did not take the image: {}", last_line(&taken.stderr)));
            }
            let said = String::from_utf8_lossy(&taken.stdout).into_owned();
            if !said.contains(digest) {
                return Err(format!("it took another image than {digest}: {}", said.trim()));
            }
        }
        self.target = name;
        Ok(())
    }

    /// What runs a node there; its folder goes with it where the launcher has gone before.
    pub fn command(&self, words: &[String]) -> Command {
        let mut ssh = fleet::ssh(&self.host, &ALIVE);
        // 3 is a node without a launcher (node.py): nobody else will remove what was put there.
        let line = format!(
            "{}; code=$?; [ $code != 3 ] || rm -rf {}; exit $code",
            shell_line(words),
            self.base
        );
        ssh.arg(format!("exec sh -c {}", quoted(&line)));
        ssh
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = ask(&self.host, &format!("rm -rf {}", quoted(&self.base)), b"");
    }
}

/// Runs a line there with this input, and gives what it printed.
fn ask(host: &str, line: &str, input: &[u8]) -> Result<String, String> {
    let mut ssh = fleet::ssh(host, &[]);
    ssh.arg(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = ssh.spawn().map_err(|error| format!("ssh can't be started: {error}"))?;
    let stdin = child.stdin.take();
    let (output, errors) = thread::scope(|scope| {
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        let errors = child.stderr.take();
        let errors = scope.spawn(move || read(errors));
        let output = read(child.stdout.take());
        (output, errors.join().unwrap_or_default())
    });
    let status = child.wait().map_err(|error| error.to_string())?;
    match status.success() {
        true => Ok(String::from_utf8_lossy(&output).into_owned()),
        false => Err(last_line(&errors)),
    }
}

fn read(stream: Option<impl Read>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        drop(stream.by_ref().take(1 << 20).read_to_end(&mut kept));
        drop(std::io::copy(&mut stream, &mut std::io::sink()));
    }
    kept
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines = || text.lines().rev().filter(|line| !line.trim().is_empty());
    // sconce's own error has a hint behind it.
    let found = lines().find(|line| line.starts_with("error: ")).or_else(|| lines().next());
    found.unwrap_or("ssh failed without a word").trim().to_owned()
}
