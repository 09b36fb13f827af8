//! What NCCL says of a job itself, where its RAS port answers (NCCL 2.24 and later; `src/ras/client_support.cc`): a question without
//! privilege, and nothing in the process is stopped for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Where NCCL listens if nobody says otherwise.
const PORT: u16 = 28028;
const LONGEST: u64 = 4 << 20;
const CONNECT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(5);
/// Communicators that are told of.
const MOST: usize = 8;

/// Where a process with this `NCCL_RAS_ADDR` listens: numbers, or localhost.
pub fn address(given: Option<&str>) -> Option<SocketAddr> {
    let given = given.filter(|given| !given.is_empty());
    let Some(given) = given else { return Some(SocketAddr::from(([127, 0, 0, 1], PORT))) };
    given.replace("localhost:", "127.0.0.1:").parse().ok()
}

/// Asks, in the network namespace of the thread that calls.
///
/// # Errors
/// Nobody answers there, or not as NCCL does.
pub fn ask(address: SocketAddr) -> Result<Vec<u8>, String> {
    let asked = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let mut answers = BufReader::new(stream.try_clone()?.take(LONGEST));
        let mut line = String::new();
        for order in ["CLIENT PROTOCOL 2", "TIMEOUT 3", "SET FORMAT json"] {
            line.clear();
            stream.write_all(format!("{order}\n").as_bytes())?;
            answers.read_line(&mut line)?;
            if order.starts_with("CLIENT") && !line.starts_with("SERVER PROTOCOL") {
                return Err(std::io::Error::other("what listens there is not NCCL"));
            }
        }
        stream.write_all(b"STATUS\n")?;
        let mut answer = Vec::new();
        answers.read_to_end(&mut answer)?;
        Ok(answer)
    };
    asked().map_err(|error| error.to_string())
}

/// All collectives that the ranks of an answer have counted: it only grows while they go on.
#[must_use]
pub fn counted(answer: &[u8]) -> Option<u64> {
    let answer = serde_json::from_slice::<Value>(answer).ok()?;
    let ranks = answer["communicators"].as_array()?.iter();
    let ranks = ranks.flat_map(|one| one["ranks"].as_array().into_iter().flatten());
    let counts = ranks.flat_map(|rank| rank["collective_counts"].as_object().into_iter().flatten());
    Some(counts.filter_map(|(_, count)| count.as_u64()).fold(0, u64::saturating_add))
}

/// Collectives that ranks of a communicator have counted differently, a line each.
#[must_use]
pub fn counts(answer: &[u8]) -> Vec<String> {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else {
        return vec!["NCCL answered in a form that is not known".to_owned()];
    };
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let communicators = list(&answer, "communicators");
    let mut lines = Vec::new();
    for one in communicators.iter().take(MOST) {
        let mut kinds: BTreeMap<String, BTreeMap<u64, u64>> = BTreeMap::new();
        for rank in list(one, "ranks") {
            let Some(number) = rank["rank"].as_u64() else { continue };
            for (kind, count) in rank["collective_counts"].as_object().into_iter().flatten() {
                let count = count.as_u64().unwrap_or_default();
                kinds.entry(kind.clone()).or_default().insert(number, count);
            }
        }
        for (kind, ranks) in kinds {
            let different: BTreeSet<u64> = ranks.values().copied().collect();
            if different.len() > 1 {
                let ranks =
                    ranks.iter().take(16).map(|(rank, count)| format!("rank {rank}: {count}"));
                let ranks = ranks.collect::<Vec<_>>().join(", ");
                lines.push(format!(
                    "NCCL has counted {kind} differently: {ranks} (of its communicator)"
                ));
            }
        }
    }
    if lines.is_empty() {
        let count = communicators.len();
        lines.push(format!(
            "NCCL answers: {count} communicators, whose ranks have counted the same"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_counts() {
        assert_eq!(address(None), address(Some("localhost:28028")));
        assert_eq!(address(Some("[::1]:9")).unwrap().port(), 9);
        assert_eq!(address(Some("host.example:1")), None);
        let answer =
            br#"{"communicators": [{"ranks": [{"rank": 0, "collective_counts": {"AllReduce": 6}},
            {"rank": 1, "collective_counts": {"AllReduce": 5}}]}]}"#;
        let said = counts(answer);
        assert!(
            said.len() == 1 && said[0].contains("AllReduce differently: rank 0: 6, rank 1: 5"),
            "{said:?}"
        );
        assert_eq!(counted(answer), Some(11));
        assert_eq!(counted(br#"{"communicators": []}"#), Some(0));
        assert!([&b"{}"[..], b"\0", b"[]"].iter().all(|answer| counted(answer).is_none()));
        assert!(counts(b"{}")[0].starts_with("NCCL answers: 0"));
        assert!(counts(b"\0")[0].contains("not known"));
    }
}
