//! `sconce generate`.

use std::process::ExitCode;

use clap::Subcommand;
use sconce_run::Invocation;

use crate::cli::Global;
use crate::commands::ps;
use crate::error::{Failure, Kind};

/// Print files that other programs take
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A systemd unit that starts a container as it was started, and again when it fails
    ///
    /// For all users as root: `sconce generate systemd NAME > /etc/systemd/system/NAME.service`. For
    /// one user: `> ~/.config/systemd/user/NAME.service`, and `systemctl --user` from there on.
    Systemd {
        /// Name or id
        container: String,
    },
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let What::Systemd { container } = &args.what;
    let one = ps::find(global, container)?;
    let invocation = one.container.invocation.as_ref().ok_or_else(|| {
        Failure::new(Kind::Usage, format!("{} was not started by `sconce run`", one.id))
    })?;
    check_folder(&invocation.folder.to_string_lossy())?;
    let name = one.container.name.as_deref().unwrap_or(&one.id);
    let seconds = one.container.stop_timeout.unwrap_or(10);
    print!("{}", unit(name, invocation, seconds, std::env::var("SCONCE_HOME").ok().as_deref()));
    Ok(ExitCode::SUCCESS)
}

/// systemd.service(5). The unit's program is the attached `sconce run`, whose end is the
/// container's.
fn unit(name: &str, invocation: &Invocation, seconds: u64, home: Option<&str>) -> String {
    let mut arguments = invocation.arguments.clone();
    // Attached, whatever it was: a unit's process is what systemd watches.
    if let Some(run) = arguments.iter().position(|word| word == "run") {
        arguments.insert(run + 1, "--attached".to_owned());
    }
    let program = invocation.program.to_string_lossy();
    let line: Vec<String> = std::iter::once(program.as_ref())
        .chain(arguments.iter().map(String::as_str))
        .map(|word| quote(word, Place::Command))
        .collect();
    let home = home.map_or(String::new(), |home| {
        format!("Environment={}\n", quote(&format!("SCONCE_HOME={home}"), Place::Assignment))
    });
    format!(
        "[Unit]\n\
         Description=sconce container {}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         WorkingDirectory={}\n\
         {home}\
         ExecStart={}\n\
         Restart=on-failure\n\
         # sconce passes TERM on and waits for the container.\n\
         KillMode=mixed\n\
         TimeoutStopSec={}\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        shown(name),
        // The rest of the line, as it is (systemd.exec(5)).
        invocation.folder.to_string_lossy().replace('%', "%%"),
        line.join(" "),
        seconds + 5
    )
}

/// Where a word stands in a unit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In `ExecStart=`, where `$` begins a variable.
    Command,
    /// In `Environment=`, where it is itself.
    Assignment,
}

/// A word of a unit (systemd.service(5), "COMMAND LINES"; systemd.syntax(7), "QUOTING"): `%` and, in a command, `$`
/// stand for themselves twice, and what moves a terminal's cursor is escaped.
fn quote(word: &str, place: Place) -> String {
    let mut word = word.replace('%', "%%");
    if place == Place::Command {
        word = word.replace('$', "$$");
    }
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_./:=,@+%$".contains(char);
    if !word.is_empty() && word.chars().all(plain) {
        return word;
    }
    let mut quoted = String::from("\"");
    for char in word.chars() {
        match char {
            '\\' | '"' => quoted.extend(['\\', char]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            char if char.is_control() => {
                let mut bytes = [0; 4];
                for byte in char.encode_utf8(&mut bytes).bytes() {
                    quoted.push_str(&format!("\\x{byte:02x}"));
                }
            }
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

/// A name in a description, which is read as it is: nothing is escaped there.
fn shown(name: &str) -> String {
    name.replace('%', "%%").chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// A folder that can't be named in a unit: a line can't hold its characters.
fn check_folder(folder: &str) -> Result<(), Failure> {
    match folder.chars().any(char::is_control) {
        false => Ok(()),
        true => {
            let what = format!("a unit can't name the folder {folder}: it has control characters");
            Err(Failure::new(Kind::Usage, what).hint("start the container in another folder"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_starts_what_was_started() {
        let invocation = Invocation {
            program: "/usr/local/bin/sconce".into(),
            arguments: ["run", "-d", "--name", "web", "-e", "A=50% $x", "torch:2.15.0", "serve"]
                .map(str::to_owned)
                .into(),
            folder: "/srv/web".into(),
        };
        let text = unit("web", &invocation, 10, Some("/srv/store"));
        let start = "ExecStart=/usr/local/bin/sconce run --attached -d --name web -e \
                     \"A=50%% $$x\" torch:2.15.0 serve\n";
        assert!(text.contains(start), "{text}");
        assert!(text.contains("Environment=SCONCE_HOME=/srv/store\n"), "{text}");
        assert!(text.contains("TimeoutStopSec=15\n"), "{text}");
    }

    #[test]
    fn what_moves_a_cursor_is_escaped() {
        let command = |word: &str| quote(word, Place::Command);
        assert_eq!(command("a\u{1b}[2J\u{9b}1m\r\n\t"), r#""a\x1b[2J\xc2\x9b1m\x0d\n\t""#);
        assert_eq!(command("it's \"so\" \\ é"), r#""it's \"so\" \\ é""#);
        assert_eq!(quote("A=$x y", Place::Assignment), r#""A=$x y""#);
        assert_eq!(shown("a\u{1b}[2J"), "a [2J");
        assert!(check_folder("/srv/a\nExecStart=x").is_err() && check_folder("/srv/é b").is_ok());
    }
}
