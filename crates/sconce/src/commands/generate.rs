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
        .map(quote)
        .collect();
    let home = home.map_or(String::new(), |home| {
        format!("Environment={}\n", quote(&format!("SCONCE_HOME={home}")))
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
        name.replace('%', "%%"),
        invocation.folder.to_string_lossy().replace('%', "%%"),
        line.join(" "),
        seconds + 5
    )
}

/// A word of a command line (systemd.service(5), "COMMAND LINES"): `%` and `$` stand for
/// themselves twice.
fn quote(word: &str) -> String {
    let word = word.replace('%', "%%").replace('$', "$$");
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_./:=,@+%$".contains(char);
    if !word.is_empty() && word.chars().all(plain) {
        return word;
    }
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
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
}
