//! Variables and labels: files of them, and this machine's own.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// The largest file of variables or labels that is read, bytes.
const LIMIT: u64 = 1 << 20;

/// The caller's environment.
#[derive(Clone, Copy)]
pub struct Environment<'a>(pub &'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }

    /// A path with a leading `~/` replaced by the home folder; `~` is that folder.
    pub(crate) fn home(&self, option: &str, given: &str, path: &Path) -> Result<PathBuf, Error> {
        let Some(text) = path.to_str().filter(|text| text.starts_with('~')) else {
            return Ok(path.to_owned());
        };
        let rest = match text.strip_prefix("~/") {
            Some(rest) => rest,
            None if text == "~" => "",
            None => {
                let why = "only ~/ is read as a home folder, your own; write ./~… for a file of that name";
                return Err(Error::option(option, given, why));
            }
        };
        let home = self.get("HOME").filter(|home| home.starts_with('/'));
        let home = home.ok_or_else(|| Error::option(option, given, "HOME is not set"))?;
        Ok(Path::new(&home).join(rest))
    }

    /// A value of `[run]` with `$NAME` and `${NAME}` replaced; `$$` is a dollar sign.
    pub(crate) fn expand(&self, option: &str, given: &str) -> Result<String, Error> {
        let wrong = |why: String| Error::option(option, given, why);
        let mut out = String::new();
        let mut rest = given;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            let (name, after) = match rest.strip_prefix('{') {
                Some(braced) => {
                    braced.split_once('}').ok_or_else(|| wrong("a brace is not closed".into()))?
                }
                None => {
                    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    rest.split_at(rest.find(|c| !word(c)).unwrap_or(rest.len()))
                }
            };
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(wrong(
                    "$NAME and ${NAME} stand for variables, $$ for a dollar sign".into(),
                ));
            }
            let value = self.get(name);
            out.push_str(&value.ok_or_else(|| wrong(format!("the variable {name} is not set")))?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// The variables in a file, as Docker reads `--env-file` (docker/cli, opts/file.go): a line each, blank
/// ones and those with `#` in front left out; everything behind `=` is the value, quotes and spaces
/// included; NAME alone passes this machine's value on.
///
/// # Errors
/// A file that can't be read, a name that is empty or holds white space.
pub fn env_file(path: &Path, env: &Environment<'_>) -> Result<Vec<(String, String)>, Error> {
    let mut found = Vec::new();
    for line in lines(path)? {
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (line.as_str(), env.get(&line)),
        };
        if name.is_empty() || name.contains(char::is_whitespace) || line.contains('\0') {
            let given = format!("{}: {line}", path.display());
            let why = "write NAME=VALUE, without white space in the name";
            return Err(Error::option("--env-file", given, why));
        }
        found.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(found)
}

/// Reads `--label KEY[=VALUE]`.
///
/// # Errors
/// An empty key.
pub fn label(given: &str) -> Result<(String, String), Error> {
    let (key, value) = given.split_once('=').unwrap_or((given, ""));
    if key.trim().is_empty() {
        return Err(Error::option("--label", given, "write KEY=VALUE"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// The labels in a file, one a line.
///
/// # Errors
/// A file that can't be read, an empty key.
pub fn label_file(path: &Path) -> Result<Vec<(String, String)>, Error> {
    lines(path)?.iter().map(|line| label(line)).collect()
}

fn lines(path: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::File { what: "read", path: path.to_owned(), source };
    // What a shell pipes in will do as well, be it `--env-file <(…)` or a FIFO that has a name.
    // Links of the kernel's alone are followed here: the path was resolved before.
    let text = match sconce_open::pipe_resolved(path).map_err(failed)? {
        None => sconce_open::read_resolved(path, LIMIT).map_err(failed)?,
        Some(pipe) => {
            let bytes = sconce_open::bounded(pipe, LIMIT).map_err(failed)?;
            String::from_utf8(bytes)
                .map_err(|error| failed(std::io::Error::other(error.utf8_error())))?
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text.lines().map(str::trim_start);
    Ok(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path was resolved before it is opened: a link that has come into it since may be a container's.
    #[test]
    fn no_link_is_followed_to_a_fifo() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        std::fs::create_dir(at("mine")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(at("mine/fifo")).status().unwrap();
        assert!(made.success());
        std::os::unix::fs::symlink("mine", at("out")).unwrap();
        std::os::unix::fs::symlink("mine/fifo", at("link")).unwrap();
        // Open for both, so that nobody waits: for as long as a reader would be led here.
        let writes = |name: &str| {
            let path = at(name);
            let mut pipe = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
            std::io::Write::write_all(&mut pipe, b"A=b\n").unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(500));
                drop(pipe);
            })
        };
        for name in ["out/fifo", "link"] {
            let writer = writes("mine/fifo");
            let error = env_file(&at(name), &Environment(&host)).unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains("link"), "{name}: {cause}");
            writer.join().unwrap();
        }
        let writer = writes("mine/fifo");
        let found = env_file(&at("mine/fifo"), &Environment(&host)).unwrap();
        assert_eq!(found, [("A".to_owned(), "b".to_owned())]);
        writer.join().unwrap();
    }

    fn host(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/home/ann".into()),
            "USER" => Some("ann".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_of_a_document_are_replaced_or_refused_by_name() {
        let env = Environment(&host);
        let read = |given| env.expand("run.volumes", given);
        assert_eq!(read("/scratch/$USER/x").unwrap(), "/scratch/ann/x");
        assert_eq!(read("${USER}s $$5").unwrap(), "anns $5");
        assert_eq!(
            read("$NOWHERE").unwrap_err().to_string(),
            "run.volumes '$NOWHERE': the variable NOWHERE is not set"
        );
        for bad in ["${USER", "$", "$-x", "${a b}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_of_variables_are_read_as_docker_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        let text = "\u{feff}# a comment\n\n  A=1 \nB=\"two\"\r\nUSER\nNOWHERE\nC=a=b#c\nD=\n";
        std::fs::write(&path, text).unwrap();
        let found = env_file(&path, &Environment(&host)).unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let expected = [
            pair("A", "1 "),
            pair("B", "\"two\""),
            pair("USER", "ann"),
            pair("C", "a=b#c"),
            pair("D", ""),
        ];
        assert_eq!(found, expected);
        for bad in ["=x", "A B=1", "A =1"] {
            std::fs::write(&path, bad).unwrap();
            assert!(env_file(&path, &Environment(&host)).is_err(), "{bad}");
        }
        std::fs::write(&path, "A=".to_owned() + &"x".repeat(2 << 20)).unwrap();
        let error = env_file(&path, &Environment(&host)).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("more than 1048576 bytes"), "{cause}");
    }
}
