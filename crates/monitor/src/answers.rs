//! What a kubelet answers, read from bytes alone: the way in for fuzzing (`fuzz/fuzz_targets/kubelet.rs`) and for tests.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::{grpc, hpack, kubelet};

/// How long the bytes of an answer may take, all of which are there: none waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reads a block of headers.
///
/// # Panics
/// What is kept of it could do something to a terminal.
pub fn headers(block: &[u8]) {
    let found = hpack::read(block);
    assert!(!found.message.contains(char::is_control) && found.message.chars().count() <= 200);
}

/// Reads a list of pods: how many devices it gives away, nothing where it is no such list.
///
/// # Panics
/// A name is longer than any is kept.
pub fn pods(message: &[u8]) -> Option<usize> {
    let all = kubelet::read(message)?;
    for given in &all {
        for name in [&given.device, &given.namespace, &given.pod, &given.container] {
            assert!(name.chars().count() <= kubelet::LONGEST);
        }
    }
    Some(all.len())
}

/// Reads what a server sends, whole: frames of HTTP/2 with a message in them; what became of the call in words.
///
/// # Errors
/// The words of a call that failed.
///
/// # Panics
/// They could do something to a terminal.
pub fn answer(bytes: &[u8]) -> Result<Vec<u8>, String> {
    // Beyond what a socket takes at once the rest is cut off.
    let (ours, mut theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
    theirs.set_nonblocking(true).map_err(|error| error.to_string())?;
    let _ = theirs.write_all(bytes);
    let _ = theirs.shutdown(Shutdown::Write);
    grpc::over(ours, "/v1.PodResourcesLister/List", PATIENCE).map_err(|failed| {
        let words = failed.to_string();
        assert!(!words.contains(char::is_control), "{words:?}");
        words
    })
}
