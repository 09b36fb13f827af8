//! Finding uv, or installing the pinned one.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::process::{Failed, Stop};
use super::{Options, UvError, place, process};

/// The oldest uv that will do.
pub fn minimum() -> &'static str {
    &sconce_lock::resolver().minimum
}

pub(super) fn find(
    options: Options<'_>,
    env: &dyn Fn(&str) -> Option<OsString>,
    note: &mut dyn FnMut(&str),
) -> Result<(PathBuf, String), UvError> {
    let path = env("PATH").unwrap_or_default();
    if let Some(named) = env("SCONCE_UV").filter(|name| !name.is_empty()) {
        let program = PathBuf::from(named);
        let named = |why: String| UvError::Named { program: program.clone(), why };
        let version =
            version_of(&program).ok_or_else(|| named("it does not say a uv version".into()))?;
        if !new_enough(&version) {
            return Err(named(format!("it is uv {version}, older than {}", minimum())));
        }
        return Ok((program, version));
    }
    if let Some(found) = on_path(&path) {
        return Ok(found);
    }
    let pinned = &sconce_lock::resolver().pinned;
    let tools = place::closed(options.cache, env)?;
    let home = tools.join("uv").join(pinned);
    let program = home.join("bin").join("uv");
    // What is there may be from a time when others could write to it.
    place::check(&tools, &program).map_err(|why| UvError::NoPlace { why })?;
    if let Some(version) = version_of(&program) {
        return Ok((program, version));
    }
    if options.offline {
        return Err(UvError::Offline);
    }
    note(&format!("no uv on the PATH: installing uv {pinned} into {}", home.display()));
    install(pinned, &home, (&path, options.stop))?;
    match version_of(&program) {
        Some(version) => Ok((program, version)),
        None => Err(UvError::Install {
            version: pinned.clone(),
            words: format!("{} does not run", program.display()),
        }),
    }
}

/// The first uv on the PATH that is new enough.
fn on_path(path: &OsStr) -> Option<(PathBuf, String)> {
    programs(path, "uv").find_map(|program| {
        let version = version_of(&program).filter(|version| new_enough(version))?;
        Some((program, version))
    })
}

/// The first Python on the PATH that uv can ask about this machine at once. Version managers put scripts there
/// which look for a Python first, and uv, left to itself, waits for one of them after the other each time.
pub(super) fn python(env: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if env("UV_PYTHON").is_some() {
        return None;
    }
    let path = env("PATH").unwrap_or_default();
    programs(&path, "python3").find(|program| is_elf(program) && is_plain(program))
}

fn is_elf(program: &Path) -> bool {
    let mut head = [0; 4];
    let read = fs::File::open(program).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head == *b"\x7fELF"
}

/// Whether a Python is one whose answers about the machine are those of any other: uv takes version and platform
/// from the question, the rest from here.
fn is_plain(program: &Path) -> bool {
    let question = "import sys; print(sys.implementation.name, sys.version_info >= (3, 8), repr(sys.abiflags))";
    let output = quiet(Command::new(program).args(["-I", "-S", "-c", question]));
    output.is_ok_and(|output| output.stdout.trim_ascii_end() == b"cpython True ''")
}

fn programs<'a>(path: &'a OsStr, name: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
    env::split_paths(path)
        // An empty or relative entry is the current folder, whoever wrote what is in it.
        .filter(|folder| folder.is_absolute())
        .map(move |folder| folder.join(name))
        .filter(|program| program.is_file())
}

/// What `uv --version` says: "uv 0.13.9 (…)".
fn version_of(program: &Path) -> Option<String> {
    let output = quiet(Command::new(program).arg("--version")).ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.strip_prefix("uv ")?.split_whitespace().next()?;
    output.status.success().then(|| version.to_owned())
}

fn new_enough(version: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        let plain = text.split(['+', '-']).next().unwrap_or(text);
        plain.split('.').map(|part| part.parse().unwrap_or(0)).collect()
    };
    numbers(version) >= numbers(minimum())
}

/// The PATH, and what stops the installation.
type How<'a> = (&'a OsStr, Option<&'a Stop>);

/// Installs into a folder beside `home` and renames: a kill leaves nothing that looks like uv.
fn install(version: &str, home: &Path, how: How<'_>) -> Result<(), UvError> {
    let parent = home.parent().unwrap_or(home);
    fs::create_dir_all(parent).map_err(|source| UvError::io("create", parent, source))?;
    let staging = parent.join(format!(".{version}.{}", std::process::id()));
    let result = pip(version, &staging, how).and_then(|()| match fs::rename(&staging, home) {
        Ok(()) => Ok(()),
        // Another sconce was faster.
        Err(_) if home.join("bin").join("uv").is_file() => Ok(()),
        Err(source) => Err(UvError::io("create", home, source)),
    });
    if staging.exists() {
        fs::remove_dir_all(&staging).map_err(|source| UvError::io("remove", &staging, source))?;
    }
    result
}

fn pip(version: &str, into: &Path, (path, stop): How<'_>) -> Result<(), UvError> {
    let tries: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip3"], &["pip"]];
    let mut why = Vec::new();
    for words in tries {
        let Some((name, arguments)) = words.split_first() else { continue };
        let Some(program) = programs(path, name).next() else {
            why.push(format!("there is no {name} on the PATH"));
            continue;
        };
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .args(["install", "--quiet", "--no-input", "--disable-pip-version-check"])
            .args(["--only-binary", ":all:", "--no-deps", "--target"])
            .arg(into)
            .arg(format!("uv=={version}"))
            .current_dir("/");
        match process::output(&mut command, "", stop) {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                if !words.contains("No module named pip") {
                    return Err(UvError::Install { version: version.to_owned(), words });
                }
                why.push(words);
            }
            Err(Failed::Stopped) => return Err(UvError::Stopped),
            Err(Failed::Io(error)) => why.push(format!("{}: {error}", program.display())),
        }
    }
    Err(UvError::Missing { why: why.join("; ") })
}

fn quiet(command: &mut Command) -> io::Result<Output> {
    command.stdin(Stdio::null()).output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(new_enough(minimum()) && new_enough("99.0.0") && new_enough("0.100.0"));
        assert!(!new_enough("0.6.2") && !new_enough("0.0.1") && !new_enough(""));
        assert!(new_enough("0.13.9+5") && new_enough(&sconce_lock::resolver().pinned));
    }
}
