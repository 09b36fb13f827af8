//! What a node says: lines of JSON from inside a container, so bounded, and never trusted for a path.

use std::io::{BufRead, Read};

use serde::Deserialize;

/// A line longer than this is left out. A file of 4 MiB in base64 is the longest that a node sends.
const LONGEST: u64 = 8 << 20;

/// Something that a node says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub(crate) enum Event {
    /// It is there.
    Hello(Hello),
    /// It is still there.
    Beat,
    /// Whether the port could be taken.
    Listening { ok: bool, why: String },
    /// Whether node 0 was reached.
    Reached { ok: bool, why: String },
    /// Something that could only be chosen there.
    Choice { name: String, value: String, why: String },
    /// torchrun runs.
    Started,
    /// A line of a rank.
    Line { rank: u32, stream: Stream, text: String },
    /// Where a rank is.
    Stack(Stack),
    /// Where the main thread of a rank is between two looks, if not where it was at the first.
    Glance { order: u32, rank: u32, python: String },
    /// What NCCL answered at a look.
    Nccl { order: u32, look: u32, answer: String },
    /// A file of evidence.
    File { name: String, data: String },
    /// All ranks of the node have been asked.
    Asked { order: u32 },
    /// torchrun has ended, before the first step.
    Checked(End),
    /// torchrun has ended.
    End(End),
    /// The node ends before its ranks.
    Stopping { why: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stream {
    Out,
    Err,
}

/// What a node is, seen from inside its container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Hello {
    pub(crate) host: String,
    /// Its clock, seconds since 1970.
    pub(crate) time: f64,
    pub(crate) python: String,
    pub(crate) torch: Option<String>,
    pub(crate) gpus: u32,
    pub(crate) cpus: u32,
    /// Free, bytes.
    pub(crate) shm: u64,
    /// Free where logs go, bytes.
    pub(crate) disk: u64,
    /// Bytes; -1 is no limit.
    pub(crate) memlock: i64,
    pub(crate) addresses: Vec<String>,
}

/// Where a rank is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Stack {
    /// The number of the order that it answers.
    pub(crate) order: u32,
    /// The first look, or the second.
    pub(crate) look: u32,
    pub(crate) rank: u32,
    pub(crate) pid: u32,
    /// The kernel's letter: R, S, D, Z.
    pub(crate) state: String,
    pub(crate) wchan: String,
    pub(crate) syscall: String,
    pub(crate) kernel: String,
    /// Processors it kept busy while it was looked at.
    pub(crate) cpu: f64,
    /// Of all threads, in faulthandler's form.
    pub(crate) python: String,
    /// Why there is none.
    pub(crate) why: String,
}

/// How torchrun ended.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct End {
    pub(crate) code: i32,
    pub(crate) failures: Vec<Failure>,
    pub(crate) codes: Vec<Code>,
    pub(crate) words: String,
}

/// An exception of a rank.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Failure {
    pub(crate) rank: u32,
    pub(crate) message: String,
    pub(crate) trace: String,
    /// When its file was written, by the node's clock.
    pub(crate) written: f64,
}

/// How a rank ended, as torchrun says it: negative is a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Code {
    pub(crate) rank: u32,
    pub(crate) code: i32,
}

/// Reads events until the stream ends, and tells what is no event as it came.
pub(crate) fn read(mut stream: impl BufRead, tell: &mut dyn FnMut(Result<Event, String>)) {
    loop {
        let mut line = Vec::new();
        match stream.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == LONGEST {
            // The rest of it is skipped in pieces.
            loop {
                let mut rest = Vec::new();
                match stream.by_ref().take(LONGEST).read_until(b'\n', &mut rest) {
                    Ok(0) | Err(_) => return,
                    Ok(_) if rest.last() == Some(&b'\n') => break,
                    Ok(_) => {}
                }
            }
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(event) => tell(Ok(event)),
            Err(_) => {
                tell(Err(String::from_utf8_lossy(&line).trim_end().chars().take(2000).collect()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_event_is_a_line() {
        let text = b"{\"t\": \"beat\"}\nbanner of an image\n{\"t\": \"line\", \"rank\": 3, \"stream\": \"err\", \"text\": \"x\"}\n{\"t\": \"line\"}\n";
        let mut seen = Vec::new();
        read(&text[..], &mut |event| seen.push(event));
        assert_eq!(seen[0], Ok(Event::Beat));
        assert_eq!(seen[1], Err("banner of an image".to_owned()));
        assert_eq!(seen[2], Ok(Event::Line { rank: 3, stream: Stream::Err, text: "x".into() }));
        assert_eq!((seen[3].is_err(), seen.len()), (true, 4));
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let long = std::io::repeat(b'x').take(3 * LONGEST).chain(&b"\n{\"t\": \"beat\"}\n"[..]);
        let mut seen = Vec::new();
        read(std::io::BufReader::new(long), &mut |event| seen.push(event));
        assert_eq!(seen, [Ok(Event::Beat)]);
    }
}
