//! Commands of Docker, and options of its commands, that are not here, and what to do instead. Those of
//! `docker run` are in `sconce_start`, a row each.

use crate::error::{Failure, Kind};

/// Name, and what to do.
const MISSING: [(&str, &str); 21] = [
    ("start", "a container that ended is not started again: `sconce run` starts a new one"),
    (
        "restart",
        "`sconce stop NAME`, then `sconce run` again; `sconce generate systemd` restarts by itself",
    ),
    ("create", "`sconce build` makes an image, `sconce run -d` starts it"),
    ("pause", "`sconce kill -s STOP NAME` stops its processes"),
    ("unpause", "`sconce kill -s CONT NAME` lets its processes go on"),
    ("top", "`sconce exec NAME ps aux`, or `sconce stats`"),
    ("port", "`sconce ps --json` shows ports"),
    ("rename", "the name is given by `sconce run --name`"),
    ("update", "limits are given by `sconce run`"),
    ("diff", "what a container changed is not listed"),
    ("commit", "an image is made from sconce.toml by `sconce build`"),
    ("export", "`sconce exec NAME tar -c /` writes its files"),
    ("save", "`sconce copy NAME docker-archive:FILE`"),
    ("import", "`sconce run docker-archive:FILE` takes an archive"),
    ("tag", "`sconce copy NAME store:OTHER`"),
    ("history", "`sconce inspect IMAGE` shows an image's layers and packages"),
    ("info", "`sconce doctor` says what this machine is"),
    ("version", "`sconce --version`"),
    ("volume", "there are no named volumes: `-v DIR:DIR` shows a folder"),
    ("network", "networks are given by `sconce run --network host|none|private`"),
    ("compose", "there is no compose: one sconce.toml describes one environment"),
];

/// Command, options, and what to do.
const OPTIONS: [(&str, &[&str], &str); 15] = [
    (
        "exec",
        &["-d", "--detach"],
        "`sconce exec NAME sh -c 'COMMAND >/tmp/log 2>&1 &'` leaves it running",
    ),
    ("exec", &["--env-file"], "`-e NAME=VALUE` for each"),
    ("exec", &["--privileged"], "a command has the rights of its container: see `sconce run`"),
    ("logs", &["--since", "--until"], "`sconce logs -t NAME` shows the time of each line"),
    ("logs", &["--details"], "`sconce ps --json` shows labels"),
    ("ps", &["-f", "--filter"], "`sconce ps --json` for a program such as jq to choose from"),
    ("ps", &["--format"], "`sconce ps --json` for a program such as jq to write"),
    ("ps", &["-n", "--last", "-l", "--latest"], "`sconce ps -a` lists them, the last first"),
    ("images", &["-f", "--filter", "--format"], "`sconce images --json`"),
    ("rm", &["-v", "--volumes"], "a container leaves no volumes behind: leave it out"),
    ("cp", &["-a", "--archive"], "`sconce exec NAME tar -c PATH` keeps owners"),
    ("inspect", &["-f", "--format"], "`sconce inspect --json` for a program such as jq"),
    ("stats", &["--no-stream"], "it shows this moment and ends: leave it out"),
    ("stop", &["-s", "--signal"], "`sconce kill -s SIGNAL NAME`, or `sconce run --stop-signal`"),
    ("build", &["-f", "--file"], "a Dockerfile is not read: sconce.toml says what is in an image"),
];

/// What to do without an option that a command of Docker's has.
pub fn option(command: &str, option: &str) -> Option<&'static str> {
    let found = |(known, options, _): &&(&str, &[&str], &str)| {
        *known == command && options.contains(&option)
    };
    OPTIONS.iter().find(found).map(|(_, _, instead)| *instead)
}

/// That there is no such command, if it is one of these.
pub fn command(name: &str) -> Option<Failure> {
    let (_, instead) = MISSING.iter().find(|(known, _)| *known == name)?;
    Some(Failure::new(Kind::Usage, format!("there is no `sconce {name}`")).hint(*instead))
}
