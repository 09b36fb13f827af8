//! Options of Docker's commands that are not here, and what to do instead. Commands of Docker that are not here, and the
//! options of `docker run`, are in `sconce_start`, a row each.

use sconce_start::docker;

use crate::error::{Failure, Kind};

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

/// That there is no such command, if it is one of Docker's; `after` is the word behind it.
pub fn command(name: &str, after: Option<&str>) -> Option<Failure> {
    let commands = docker::commands();
    let row = |name: &str| commands.iter().find(|known| known.name == name);
    // `image ls`, or `image` alone.
    let row = after.and_then(|after| row(&format!("{name} {after}"))).or_else(|| row(name))?;
    Some(
        Failure::new(Kind::Usage, format!("there is no `sconce {}`", row.name))
            .hint(row.words.as_str()),
    )
}
