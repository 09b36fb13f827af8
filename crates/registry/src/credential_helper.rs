//! Credential helpers: programs that keep logins, asked as Docker asks them, and not waited for without end.
//!
//! Source: docker/docker-credential-helpers (the protocol).

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::logins::MAX_FILE;

/// What docker's helpers answer to `get` for a login that they do not have (docker-credential-helpers,
/// `errCredentialsNotFoundMessage`).
pub(crate) const NONE_THERE: &str = "credentials not found in native keychain";

/// Runs `docker-credential-NAME VERB`. The inner error is its own refusal in its words, which `get` gives where it
/// knows no login.
pub(crate) fn run_helper(
    name: &str,
    verb: &str,
    input: &str,
) -> Result<Result<Vec<u8>, String>, Error> {
    let failed = |why: String| Error::Helper { name: name.to_owned(), why };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(failed("that is not a name of a program".to_owned()));
    }
    let program = format!("docker-credential-{name}");
    let mut command = Command::new(&program);
    answer_of(command.arg(verb), input, HELPER).map_err(|why| match why {
        Unanswered::NotRun(error) => failed(format!("can't run {program}: {error}")),
        Unanswered::Unread(error) => failed(format!("can't read its answer: {error}")),
        Unanswered::Late => failed(format!(
            "`{program} {verb}` did not answer within {} s, and was ended",
            HELPER.as_secs()
        )),
    })
}

/// How long a helper may take: a person may have to unlock what it asks. Docker and podman wait without end.
const HELPER: Duration = Duration::from_secs(30);
/// Between two looks whether one has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Why there is no answer of a helper.
#[derive(Debug)]
enum Unanswered {
    NotRun(std::io::Error),
    Unread(std::io::Error),
    Late,
}

/// What a program answers that is told `input`; the inner error is what it says where it fails.
fn answer_of(
    command: &mut Command,
    input: &str,
    patience: Duration,
) -> Result<Result<Vec<u8>, String>, Unanswered> {
    let end = Instant::now() + patience;
    // In the terminal's own group: it may ask there.
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().map_err(Unanswered::NotRun)?;
    let (stdin, stdout, input) = (child.stdin.take(), child.stdout.take(), input.to_owned());
    let (tell, told) = mpsc::channel();
    // Left behind where nothing comes: a program that the helper began may hold its output after it.
    std::thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // One that ends without reading says why by its status.
            let _ = stdin.write_all(input.as_bytes());
        }
        let mut answer = Vec::new();
        let read = stdout.map_or(Ok(0), |out| out.take(MAX_FILE).read_to_end(&mut answer));
        let _ = tell.send(read.map(|_| answer));
    });
    let answer = told.recv_timeout(patience);
    let status = loop {
        match child.try_wait().map_err(Unanswered::Unread)? {
            Some(status) => break Some(status),
            None if answer.is_err() || Instant::now() >= end => break None,
            None => std::thread::sleep(LOOK),
        }
    };
    let (Ok(answer), Some(status)) = (answer, status) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(Unanswered::Late);
    };
    let answer = answer.map_err(Unanswered::Unread)?;
    Ok(match status.success() {
        true => Ok(answer),
        false => Err(String::from_utf8_lossy(&answer).trim().to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither one that says nothing, nor one that leaves its output to another, nor one that does not read, is waited for.
    #[test]
    fn a_helper_that_hangs() {
        let shell = |script: &str, input: &str, patience| {
            let mut command = Command::new("sh");
            answer_of(command.args(["-c", script]), input, patience)
        };
        let begun = Instant::now();
        for script in ["sleep 9", "sleep 9 &", "exec >&-; sleep 9", "cat >/dev/null; sleep 9"] {
            let answer = shell(script, &"x".repeat(200_000), Duration::from_millis(300));
            assert!(matches!(answer, Err(Unanswered::Late)), "{script}: {answer:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(20));
        for (script, expected) in [
            ("cat", Ok(b"in".to_vec())),
            ("cat; exit 1", Err("in".to_owned())),
            ("exec <&-", Ok(Vec::new())),
        ] {
            assert_eq!(shell(script, "in", Duration::from_secs(20)).unwrap(), expected, "{script}");
        }
    }
}
