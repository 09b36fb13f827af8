//! The command line: what there is to call, and what is common to all of it.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use sconce_start::docker::{self, AfterTarget, Declared};

use crate::commands::{
    add, attach, bench, build, cdi, completions, copy, cp, diff, doctor, exec, facts, finish,
    generate, hang, images, init, inspect, kill, launch, load, lock, login, logs, man, measure,
    monitor, oci, outdated, plan, probe, prune, ps, pull, push, rm, rmi, run, sbom, serve, show,
    sign, stats, stop, top, trust, verify, verify_signature, wait, wheel,
};
use crate::error::{Failure, Kind};
use crate::missing;
use crate::output::in_one_line;

/// From a bare NVIDIA driver to a running, verified PyTorch-CUDA container in one command.
#[derive(Parser)]
#[command(name = "sconce", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(clap::Args, Clone)]
pub struct Global {
    /// Use only what is in the store already
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub offline: bool,
    /// Say nothing but errors and remarks
    #[arg(short, long, global = true, help_heading = "Everywhere")]
    pub quiet: bool,
    /// Ask another machine's `sconce serve` for wheels, Debian packages and layers before the internet:
    /// node1:5000. May be given more than once; nothing of what comes is believed before its digest is right
    #[arg(
        long = "peer",
        global = true,
        value_name = "HOST:PORT",
        env = "SCONCE_PEERS",
        value_delimiter = ',',
        help_heading = "Everywhere"
    )]
    pub peers: Vec<String>,
    /// How many threads may work at once; all cores if not given
    #[arg(long, global = true, value_name = "N", help_heading = "Everywhere")]
    pub threads: Option<std::num::NonZeroUsize>,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::Args>),
    Ps(ps::Args),
    Logs(logs::Args),
    Exec(exec::Args),
    Attach(attach::Args),
    Stop(stop::Args),
    Kill(kill::Args),
    Wait(wait::Args),
    Rm(rm::Args),
    Cp(cp::Args),
    Stats(stats::Args),
    Generate(generate::Args),
    Init(init::Args),
    Add(add::Add),
    Remove(add::Remove),
    Lock(lock::Args),
    Wheel(wheel::Args),
    Build(build::Args),
    Inspect(inspect::Args),
    Outdated(outdated::Args),
    Diff(diff::Args),
    Sbom(sbom::Args),
    Doctor(doctor::Args),
    Verify(Box<verify::Args>),
    Bench(Box<bench::Args>),
    Launch(Box<launch::Args>),
    Hang(hang::Args),
    Plan(plan::Args),
    Facts(facts::Args),
    Monitor(Box<monitor::Args>),
    Top(top::Args),
    Cdi(cdi::Args),
    Oci(Box<oci::Args>),
    Images(images::Args),
    Pull(pull::Args),
    Push(push::Args),
    Copy(copy::Args),
    Load(load::Args),
    Serve(serve::Args),
    Sign(sign::Args),
    VerifySignature(verify_signature::Args),
    Show(show::Args),
    Login(login::Args),
    Logout(login::Logout),
    Prune(prune::Args),
    Rmi(rmi::Args),
    Trust(trust::Args),
    Completions(completions::Args),
    Man(man::Args),
    #[command(hide = true)]
    Finish(finish::Args),
    #[command(hide = true)]
    Probe(probe::Args),
    #[command(hide = true)]
    Measure(measure::Args),
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 the answer is no, or there is no such container; 2 wrong arguments; 3 a document that can't be read; \
4 nothing fits what was asked; 5 network; 6 bytes that are not what was promised; 7 disk or store; \
8 this machine can't; 9 the project is not trusted; 10 this machine has no NVIDIA GPU (`doctor`); 11 yes, \
but in part; 12 can't tell (`inspect --for`, `diff`, `outdated`, `verify-signature`); 130 interrupted, or 128 and the number of another signal. `run` passes on the exit code of its command; \
125 is whatever kept it from starting, 126 a command that can't be executed, 127 one that is not there.";

/// Reads the arguments and does what they say.
pub fn main() -> Result<ExitCode, Failure> {
    let words = words();
    let Cli { global, command } = parse(words.clone())?;
    match command {
        Command::Run(args) => run::main(&global, &args),
        Command::Ps(args) => ps::main(&global, &args),
        Command::Logs(args) => logs::main(&global, &args),
        Command::Exec(args) => exec::main(&global, &args),
        Command::Attach(args) => attach::main(&global, &args),
        Command::Stop(args) => stop::main(&global, &args),
        Command::Kill(args) => kill::main(&global, &args),
        Command::Wait(args) => wait::main(&global, &args),
        Command::Rm(args) => rm::main(&global, &args),
        Command::Cp(args) => cp::main(&global, &args),
        Command::Stats(args) => stats::main(&global, &args),
        Command::Generate(args) => generate::main(&global, &args),
        Command::Init(args) => init::main(&args),
        Command::Add(args) => add::add(&global, &args),
        Command::Remove(args) => add::remove(&global, &args),
        Command::Lock(args) => lock::main(&global, &args),
        Command::Wheel(args) => wheel::main(&global, &args),
        Command::Build(args) => build::main(&global, &args),
        Command::Doctor(args) => doctor::main(&global, &args),
        Command::Finish(args) => finish::main(&global, &args),
        Command::Verify(args) => verify::main(&global, &args),
        Command::Bench(args) => bench::main(&global, &args),
        Command::Monitor(args) => monitor::main(&global, &args),
        Command::Top(args) => top::main(&global, &args),
        Command::Probe(args) => probe::main(&args),
        Command::Measure(args) => measure::main(&args),
        Command::Launch(args) => launch::main(&global, &args),
        Command::Hang(args) => hang::main(&global, &args),
        Command::Plan(args) => plan::main(&args),
        Command::Facts(args) => facts::main(&args),
        Command::Cdi(args) => cdi::main(&args),
        Command::Oci(args) => oci::main(&global, &args, words),
        Command::Inspect(args) => inspect::main(&global, &args),
        Command::Outdated(args) => outdated::main(&global, &args),
        Command::Diff(args) => diff::main(&global, &args),
        Command::Sbom(args) => sbom::main(&global, &args),
        Command::Images(args) => images::main(&global, &args),
        Command::Pull(args) => pull::main(&global, &args),
        Command::Push(args) => push::main(&global, &args),
        Command::Copy(args) => copy::main(&global, &args),
        Command::Load(args) => load::main(&global, &args),
        Command::Serve(args) => serve::main(&global, &args),
        Command::Sign(args) => sign::main(&global, &args),
        Command::VerifySignature(args) => verify_signature::main(&global, &args),
        Command::Show(args) => show::main(&global, &args),
        Command::Login(args) => login::main(&global, &args),
        Command::Logout(args) => login::logout(&args),
        Command::Prune(args) => prune::main(&global, &args),
        Command::Rmi(args) => rmi::main(&global, &args),
        Command::Trust(args) => trust::main(&global, &args),
        Command::Completions(args) => completions::main(&args),
        Command::Man(args) => man::main(&args),
    }
}

/// The name under which this program is an OCI runtime: podman takes one path for a runtime, and no word behind it.
const OCI: &str = "sconce-oci";

/// The words of the command line, with `oci` where the program was called by that command's name.
fn words() -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let called = words.first().and_then(|name| std::path::Path::new(name).file_name());
    if called.is_some_and(|name| name == OCI) {
        words.insert(1, "oci".into());
    }
    words
}

/// Reads a command line. What follows `run`, `verify` and `bench` is read by the table of Docker's flags first:
/// clap then sees only options that it knows.
fn parse(mut words: Vec<OsString>) -> Result<Cli, Failure> {
    let cli = Cli::command();
    let Some(at) = command_at(&cli, &words) else { return Ok(Cli::parse_from(words)) };
    let given = words.clone();
    let plain = |command: &OsStr, error| plain(&given, command, error);
    let after = words.get(at + 1).and_then(|word| word.to_str());
    if let Some(failure) = words[at].to_str().and_then(|name| missing::command(name, after)) {
        return Err(failure);
    }
    let (name, after) = match words[at].to_str() {
        Some("run") => ("run", AfterTarget::Command),
        Some("verify") => ("verify", AfterTarget::Options),
        Some("bench") => ("bench", AfterTarget::Options),
        Some("exec") => {
            let rest = words.split_off(at + 1);
            let command = words[at].clone();
            words.extend(command_after_first(&declared(&cli, "exec"), rest));
            let parsed = Cli::try_parse_from(words);
            return parsed.map_err(|error| plain(&command, error).before_start());
        }
        Some("cp") => {
            return Cli::try_parse_from(&words)
                .map_err(|error| plain(&words[at], error).before_start());
        }
        _ => return Cli::try_parse_from(&words).map_err(|error| plain(&words[at], error)),
    };
    let rest = words.split_off(at + 1);
    // `-h` is the host's name, but nobody who types it alone wants to give one.
    let help = rest.len() == 1 && rest[0] == "-h";
    let rest = if help { vec!["--help".into()] } else { rest };
    let declared = declared(&cli, name);
    let idle = idle_on_the_host(name, &declared, &rest);
    let read = docker::read(name, &declared, after, rest);
    let failed = |failure: Failure| if name == "run" { failure.before_start() } else { failure };
    words.extend(read.map_err(|error| failed(error.into()))?);
    if let Some(option) = idle {
        let what = format!("`--host` starts no container, and `{option}` is an option of one");
        return Err(Failure::new(Kind::Usage, what).hint("leave `--host` or the other out"));
    }
    let parsed = cli.try_get_matches_from(words);
    let parsed = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| match error.kind() {
        ErrorKind::MissingRequiredArgument => {
            let what = format!("`sconce {name}` needs a target: a folder, a tag or an image");
            failed(Failure::new(Kind::Usage, what).hint(format!(
                "`sconce {name} --help` has examples; options come before the target"
            )))
        }
        _ if !error.use_stderr() => error.exit(),
        ErrorKind::InvalidUtf8 => failed(not_text(&given)),
        _ => {
            let words = in_one_line(&error.to_string());
            let what =
                words.trim().trim_start_matches("error: ").lines().next().unwrap_or_default();
            failed(Failure::new(Kind::Usage, what))
        }
    })
}

/// A flag of Docker's that is taken where a container is started (`--init`, `--ipc host`), and means nothing beside `bench --host`.
fn idle_on_the_host(name: &str, declared: &[Declared], rest: &[OsString]) -> Option<String> {
    let options = || rest.iter().filter_map(|word| word.to_str()).take_while(|word| *word != "--");
    if name != "bench" || !options().any(|word| word == "--host") {
        return None;
    }
    let long = |word: &str| {
        word.split('=').next().unwrap_or_default().strip_prefix("--").map(str::to_owned)
    };
    let known = |name: &str| declared.iter().any(|one| one.name == name);
    options().filter_map(long).find(|name| !known(name)).map(|name| format!("--{name}"))
}

/// What clap found, without its guesses, which name things that nobody typed. Help is printed here.
fn plain(given: &[OsString], command: &OsStr, error: clap::Error) -> Failure {
    if error.kind() == ErrorKind::InvalidUtf8 {
        return not_text(given);
    }
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit();
    }
    let command = command.to_string_lossy();
    let words = in_one_line(&error.to_string());
    let what = words.trim().trim_start_matches("error: ").lines().next().unwrap_or_default();
    let option =
        what.strip_prefix("unexpected argument '").and_then(|rest| rest.split('\'').next());
    let instead = option.and_then(|option| missing::option(&command, option));
    let what = match option {
        Some(option) => format!("`sconce {command}` takes no `{option}`"),
        None if error.kind() == ErrorKind::MissingRequiredArgument => {
            let missing = words.lines().map(str::trim).filter(|line| line.starts_with(['<', '-']));
            format!("`sconce {command}` needs {}", missing.collect::<Vec<_>>().join(" and "))
        }
        None => what.to_owned(),
    };
    let failure = Failure::new(Kind::Usage, what);
    match error.kind() {
        // "did you mean" is worth something for a command's name.
        ErrorKind::InvalidSubcommand => match words.lines().find(|line| line.contains("tip:")) {
            Some(tip) => failure.hint(tip.trim().trim_start_matches("tip: ")),
            None => failure.hint("`sconce --help` lists the commands"),
        },
        // `docker load < FILE`, and FILE where Docker has `-i FILE`.
        ErrorKind::MissingRequiredArgument if command == "load" && what_is_missing(&words, "--into") => {
            failure.hint(
                "as `docker load` into this store: `sconce pull docker-archive:FILE`, or `sconce pull -` from standard input; `sconce load IMAGE --into docker` gives an image to Docker, and so podman and containerd",
            )
        }
        _ => match instead {
            Some(instead) => failure.hint(instead),
            None => failure.hint(format!("`sconce {command} --help` lists what it takes")),
        },
    }
}

/// Which arguments are no text. (Clap does not say.)
fn not_text(given: &[OsString]) -> Failure {
    let shown = |word: &OsString| {
        let chunks = word.as_encoded_bytes().utf8_chunks();
        let chunks =
            chunks.map(|part| format!("{}{}", part.valid(), part.invalid().escape_ascii()));
        format!("`{}`", chunks.collect::<String>())
    };
    let no_text = given.iter().filter(|word| word.to_str().is_none());
    let words: Vec<String> = no_text.map(shown).collect();
    let are = if words.len() == 1 { "is" } else { "are" };
    Failure::new(Kind::Usage, format!("{} {are} not UTF-8", words.join(" and "))).hint(
        "names, settings and the words of commands are UTF-8; `ls -b` shows what is not as `\\NNN`",
    )
}

/// Whether clap says that an option is missing.
fn what_is_missing(words: &str, option: &str) -> bool {
    words.lines().any(|line| line.trim_start().starts_with(option))
}

/// Where the name of the command stands: behind the options that come before it.
fn command_at(cli: &clap::Command, words: &[OsString]) -> Option<usize> {
    let mut at = 1;
    while let Some(word) = words.get(at) {
        let text = word.to_string_lossy();
        if !text.starts_with('-') {
            return Some(at);
        }
        let takes = |arg: &&clap::Arg| {
            let long = arg.get_long().is_some_and(|long| text == format!("--{long}"));
            let short = arg.get_short().is_some_and(|short| text == format!("-{short}"));
            (long || short) && arg.get_action().takes_values()
        };
        at += if cli.get_arguments().any(|arg| takes(&arg)) { 2 } else { 1 };
    }
    None
}

/// Puts `--` after the first word that is not an option and no option's value: what follows a container's
/// name is the command's, `-h` too.
fn command_after_first(declared: &[Declared], mut words: Vec<OsString>) -> Vec<OsString> {
    let takes_value = |found: Option<&Declared>| found.is_some_and(|option| option.takes_value);
    let mut at = 0;
    while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
        let value_follows = match (word.strip_prefix("--"), word.strip_prefix('-')) {
            (Some(""), _) => return words,
            (Some(name), _) => takes_value(declared.iter().find(|option| option.name == name)),
            (None, Some(letters)) => {
                let known = |letter| declared.iter().find(|option| option.short == Some(letter));
                let first = letters.char_indices().find(|(_, letter)| takes_value(known(*letter)));
                first.is_some_and(|(index, letter)| index + letter.len_utf8() == letters.len())
            }
            (None, None) => break,
        };
        at += if value_follows { 2 } else { 1 };
    }
    if words.len() > at + 1 && words[at + 1] != "--" {
        words.insert(at + 1, "--".into());
    }
    words
}

/// The options of a command, as the table of Docker's flags is held against them. Nothing is built for
/// it, which takes clap as long as all the rest: what building adds is the global options and `--help`.
fn declared(cli: &clap::Command, name: &str) -> Vec<Declared> {
    let global = cli.get_arguments().filter(|arg| arg.is_global_set());
    let own = cli.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments);
    let options = own.filter(|arg| !arg.is_positional()).chain(global);
    let help = Declared { name: "help".to_owned(), short: None, takes_value: false };
    let declared = options.filter_map(|arg| {
        Some(Declared {
            name: arg.get_long()?.to_owned(),
            short: arg.get_short(),
            takes_value: arg.get_action().takes_values(),
        })
    });
    declared.chain([help]).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use sconce_start::docker::{Verdict, flags};

    #[test]
    fn what_follows_a_containers_name() {
        let declared = super::declared(&super::Cli::command(), "exec");
        for (given, expected) in [
            ("c cmd -h", "c -- cmd -h"),
            ("-it c cmd", "-it c -- cmd"),
            ("-itu me c cmd", "-itu me c -- cmd"),
            ("-uroot -e A --workdir /x c a b", "-uroot -e A --workdir /x c -- a b"),
            ("--workdir=/x c -- cmd", "--workdir=/x c -- cmd"),
            ("-- c cmd", "-- c cmd"),
            ("c", "c"),
            ("-h", "-h"),
        ] {
            let words = given.split(' ').map(Into::into).collect();
            assert_eq!(super::command_after_first(&declared, words).join(" ".as_ref()), expected);
        }
    }

    #[test]
    fn the_command_line_holds_together() {
        super::Cli::command().debug_assert();
    }

    /// What the table says works is declared, with the same letter and a value where Docker has one;
    /// what it says is taken or refused is not.
    #[test]
    fn the_table_of_dockers_flags_is_true() {
        let declared = super::declared(&super::Cli::command(), "run");
        for flag in flags() {
            let found = declared.iter().find(|declared| declared.name == flag.name);
            assert_eq!(found.is_some(), flag.verdict == Verdict::Works, "--{}", flag.name);
            let Some(found) = found else { continue };
            assert_eq!(found.takes_value, flag.value.is_some(), "--{}", flag.name);
            assert_eq!(found.short, flag.short, "--{}", flag.name);
        }
        let letters: Vec<char> = declared.iter().filter_map(|declared| declared.short).collect();
        for letter in letters {
            assert!(
                flags().iter().any(|flag| flag.short == Some(letter)),
                "-{letter} is not Docker's"
            );
        }
    }
}
