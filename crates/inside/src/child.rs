//! A program that is run for so long at most, and what it printed.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sconce_verify::Report;

/// Of what a program prints, this many bytes are kept.
const MOST_OUTPUT: usize = 64 << 10;

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
    let streams = [Drain::of(child.stdout.take()), Drain::of(child.stderr.take())];
    let status =
        wait(&mut child, limit).map_err(|error| format!("can't wait for {name}: {error}"))?;
    let end = Instant::now() + LEFTOVERS;
    Ok((status, streams.into_iter().flat_map(|stream| stream.words(end)).collect()))
}

/// How long a program's output is read after its end: what it left running may hold it open for good.
pub(crate) const LEFTOVERS: Duration = Duration::from_secs(2);

/// A stream that is read beside a program.
pub(crate) struct Drain {
    kept: Arc<Mutex<Vec<u8>>>,
    reading: thread::JoinHandle<()>,
}

impl Drain {
    pub(crate) fn of(stream: Option<impl Read + Send + 'static>) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&kept);
        let reading = thread::spawn(move || {
            let Some(mut stream) = stream else { return };
            let mut bytes = [0; 4096];
            // A stream that fails gives the words that came before; the rest is read so that nobody waits.
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let room = MOST_OUTPUT.saturating_sub(kept.len()).min(count);
                kept.extend_from_slice(&bytes[..room]);
            }
        });
        Self { kept, reading }
    }

    /// What came until the stream ended, or until then.
    pub(crate) fn words(self, end: Instant) -> Vec<u8> {
        while !self.reading.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        std::mem::take(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
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
