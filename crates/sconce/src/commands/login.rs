//! `sconce login` and `sconce logout`.

use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use sconce_registry::{Login, Reference, Registry};

use crate::cli::Global;
use crate::commands::registries::Registries;
use crate::context::Context;
use crate::error::{Failure, Kind};

/// The longest password that is read, bytes.
const MAX_PASSWORD: u64 = 64 << 10;

/// Log in to a registry
///
/// The login is tried, and kept where docker and podman find it: with the credential helper that
/// Docker's config.json names, else in that file.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce login registry:5000
  sconce login -u bot --password-stdin ghcr.io < token")]
pub struct Args {
    /// HOST[:PORT]
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,
    /// The user's name; asked for at a terminal if not given
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// The password; others see it in the list of processes
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    registries: Registries,
}

/// Forget the login of a registry
#[derive(clap::Args)]
pub struct Logout {
    /// HOST[:PORT]
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let host = host(&args.registry)?;
    let file = file()?;
    let user = match &args.username {
        Some(user) => user.clone(),
        None => ask("User name: ", false)?,
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => {
            let mut text = String::new();
            let read = std::io::stdin().take(MAX_PASSWORD).read_to_string(&mut text);
            read.map_err(|error| unread(&error))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        None => ask("Password: ", true)?,
    };
    if user.is_empty() || password.is_empty() || user.contains(':') {
        return Err(Failure::new(Kind::Usage, "a login has a name without `:` and a password"));
    }
    let context = Context::open(global)?;
    let access = args.registries.access(&context)?;
    if !Registry::try_login(&access, &host, Login::new(&user, &password))? {
        eprintln!("note: {host} asked for no login, so this one was not tried");
    }
    let helped = sconce_registry::save(&file, &host, &user, &password)?;
    match helped {
        true => eprintln!("logged in to {host}"),
        false => eprintln!("logged in to {host}; the password is in {}", file.display()),
    }
    Ok(ExitCode::SUCCESS)
}

pub fn logout(args: &Logout) -> Result<ExitCode, Failure> {
    let host = host(&args.registry)?;
    match sconce_registry::forget(&file()?, &host)? {
        true => eprintln!("logged out of {host}"),
        false => eprintln!("there was no login for {host}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The registry's name: an address and a repository behind it are passed over.
fn host(text: &str) -> Result<String, Failure> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    let wrong = || {
        Failure::new(Kind::Usage, format!("`{text}` is not a registry"))
            .hint("write HOST or HOST:PORT")
    };
    let reference = Reference::parse(&format!("{host}/x")).map_err(|_| wrong())?;
    // A single word is the beginning of a name at Docker Hub, but a host here.
    match reference.repository == "x" || host == "docker.io" {
        true => Ok(reference.host),
        false => Err(wrong()),
    }
}

/// Where logins are kept.
fn file() -> Result<PathBuf, Failure> {
    let env = |name: &str| -> Option<OsString> { std::env::var_os(name) };
    let named = env("REGISTRY_AUTH_FILE").map(PathBuf::from);
    named.or_else(|| sconce_registry::docker_file(&env)).ok_or_else(|| {
        Failure::new(Kind::Machine, "there is no folder for logins: HOME is not set")
            .hint("name one with DOCKER_CONFIG")
    })
}

/// What a person types; hidden, where it is not to be seen.
pub fn ask(what: &str, hidden: bool) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new(Kind::Usage, "there is no terminal to ask for the login at")
            .hint("`sconce login -u NAME --password-stdin HOST < FILE`"));
    }
    eprint!("{what}");
    let _ = std::io::stderr().flush();
    let shown = if hidden { tcgetattr(&stdin).ok() } else { None };
    if let Some(shown) = &shown {
        let mut dark = shown.clone();
        dark.local_modes.remove(LocalModes::ECHO);
        let _ = tcsetattr(&stdin, OptionalActions::Flush, &dark);
    }
    let mut line = String::new();
    let read = stdin.lock().take(MAX_PASSWORD).read_line(&mut line);
    if let Some(shown) = &shown {
        let _ = tcsetattr(&stdin, OptionalActions::Flush, shown);
        eprint!("\n");
    }
    read.map_err(|error| unread(&error))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn unread(error: &std::io::Error) -> Failure {
    Failure::new(Kind::Usage, format!("can't read the login: {error}"))
}
