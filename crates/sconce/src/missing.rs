//! Commands of Docker's, and options of its commands, that are not here: what to do instead. The rows are in `sconce_start`,
//! beside those of the options of `docker run`.

use sconce_start::docker;

use crate::error::{Failure, Kind};

/// What to do without an option that a command of Docker's has.
pub fn option(command: &str, option: &str) -> Option<&'static str> {
    let found = |row: &&docker::CommandOption| {
        row.command == command && row.names.iter().any(|name| name == option)
    };
    docker::command_options().iter().find(found).map(|row| row.words.as_str())
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
