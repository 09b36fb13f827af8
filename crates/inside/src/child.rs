//! A program that is run for so long at most, and what it printed.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sconce_verify::Report;

/// Of what a program prints, this many bytes are kept.
const MOST_OUTPUT: u64 = 64 << 10;

/// `reason`, with the last words of a program, if there are some.
pub(crate) fn with_words(reason: String, printed: &[u8]) -> String {
    match Report::last_words(printed) {
        words if words.is_empty() => reason,
        words => format!("{reason}; last words: {words}"),
    }
}

/// `signal 9`, `exit code 1`.
pub(crate) fn how(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, code) => format!("exit code {}", code.unwrap_or_default()),
    }
}

/// Runs a command for so long at most: its status, unless its time was up, and what it printed.
pub(crate) fn attend(
    command: &mut Command,
    limit: Duration,
) -> Result<(Option<ExitStatus>, Vec<u8>), String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().map_err(|error| format!("can't start {name}: {error}"))?;
    let streams = [drain(child.stdout.take()), drain(child.stderr.take())];
    let status =
        wait(&mut child, limit).map_err(|error| format!("can't wait for {name}: {error}"))?;
    // What a killed process left running may hold the pipes open: then its words are not waited for.
    let gone = |stream: &thread::JoinHandle<Vec<u8>>| status.is_some() || stream.is_finished();
    let printed =
        streams.into_iter().filter(gone).flat_map(|stream| stream.join().unwrap_or_default());
    Ok((status, printed.collect()))
}

pub(crate) fn drain(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        let Some(mut stream) = stream else { return kept };
        // A stream that fails gives the words that came before; the rest is read so that nobody waits.
        drop(stream.by_ref().take(MOST_OUTPUT).read_to_end(&mut kept));
        drop(std::io::copy(&mut stream, &mut std::io::sink()));
        kept
    })
}

/// Waits for a child; kills it when its time is up.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            // One that the kernel can't kill is left to the end of the container.
            child.kill()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}
