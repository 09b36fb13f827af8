//! Runs a command in a container on a ready root, for measuring the runtime alone:
//! `bare SCRATCH LOWER[:LOWER...] COMMAND...`. `-t` first gives it a terminal, `-i` input.

use std::io::Write;
use std::process::ExitCode;

use sconce_run::{Container, Stdio};

fn main() -> ExitCode {
    sconce_run::shim_main();
    let mut arguments = std::env::args().skip(1).peekable();
    let mut stdio = Stdio::Output;
    let mut options = Vec::new();
    while let Some(option) = arguments.next_if(|argument| argument.starts_with('-')) {
        options.push(option);
    }
    let (Some(scratch), Some(lowers)) = (arguments.next(), arguments.next()) else {
        return ExitCode::from(125);
    };
    let lowers = lowers.split(':').map(Into::into).collect();
    let mut container = Container::new(lowers, scratch, arguments);
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((&option, ""));
        let value = value.to_owned();
        match name {
            "-t" => stdio = Stdio::Terminal,
            "-i" => stdio = Stdio::Inherit,
            "-w" => container.workdir = Some(value.into()),
            "-u" => container.user = Some(value),
            "-v" => container.volumes.extend(value.parse()),
            "-p" => container.ports.extend(value.parse()),
            "--none" => container.network = sconce_run::Network::None,
            "--read-only" => container.read_only = true,
            "--memory" => container.memory_bytes = sconce_run::parse_size("-m", &value).ok(),
            "--cpus" => container.cpus = sconce_run::parse_cpus(&value).ok(),
            "--processors" => {
                container.processors = value.split(',').map(|number| number.parse().ok()).collect();
            }
            "--pids" => container.pids = value.parse().ok(),
            "--ulimit" => {
                let (name, most) = value.split_once('=').unwrap_or((&value, "0"));
                let most = most.parse().ok();
                let ulimit = sconce_run::Ulimit { name: name.to_owned(), soft: most, hard: most };
                container.ulimits.push(ulimit);
            }
            "--device" => {
                let (source, target) = value.split_once(':').unwrap_or((&value, &value));
                let device = sconce_run::Device { source: source.into(), target: target.into() };
                container.devices.push(device);
            }
            "--private" => container.network = sconce_run::Network::Private,
            "--host-pids" => container.host_pids = true,
            "--seccomp" => container.seccomp = sconce_run::Seccomp::Unconfined,
            "--cap-add" => container.capabilities.add.push(value),
            "--hide" => container.hidden.push(value.into()),
            "--edit" => container.edits.extend(serde_json::from_str(&value)),
            "--keep" => container.keep_changes = Some(value.into()),
            _ => return ExitCode::from(125),
        }
    }
    container.stdio = stdio;
    // Words that cannot be written are nobody's to read.
    let say = |text: &str| drop(writeln!(std::io::stderr(), "bare: {text}"));
    let ended = sconce_run::Shim::spawn(&container.folder)
        .and_then(|shim| sconce_run::run(&container, shim, Vec::new(), &mut |note| say(note)));
    match ended {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            say(&error.to_string());
            if let Some(hint) = error.hint() {
                say(&hint);
            }
            ExitCode::from(error.exit_code())
        }
    }
}
