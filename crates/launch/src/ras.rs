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

/// What the ranks of an answer have counted: by communicator, rank and kind.
fn counted(answer: &[u8]) -> Option<BTreeMap<(String, u64, String), u64>> {
    let answer = serde_json::from_slice::<Value>(answer).ok()?;
    let mut all = BTreeMap::new();
    for (at, one) in answer["communicators"].as_array()?.iter().enumerate() {
        let communicator = match &one["hash"] {
            Value::Null => at.to_string(),
            hash => hash.to_string(),
        };
        for rank in one["ranks"].as_array().into_iter().flatten() {
            let Some(number) = rank["rank"].as_u64() else { continue };
            for (kind, count) in rank["collective_counts"].as_object().into_iter().flatten() {
                let count = count.as_u64().unwrap_or_default();
                all.insert((communicator.clone(), number, kind.clone()), count);
            }
        }
    }
    Some(all)
}

/// How many more collectives were counted `after`, by ranks that answered both times: one that did not answer before, and does
/// now, has not gone on for that.
fn more(before: &[u8], after: &[u8]) -> u64 {
    let Some((before, after)) = counted(before).zip(counted(after)) else { return 0 };
    let grown =
        after.iter().filter_map(|(who, count)| Some(count.saturating_sub(*before.get(who)?)));
    grown.fold(0, u64::saturating_add)
}

/// What NCCL's counts of two looks say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nccl {
    /// So many more collectives were counted at the second: the job goes on.
    pub more: u64,
    /// Ranks that have not come as far as the others of a communicator.
    pub behind: BTreeMap<u32, Count>,
}

/// How far a rank has come that is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Collectives that it has counted.
    pub has: u64,
    /// What others have.
    pub most: u64,
}

impl Count {
    /// For people.
    pub(crate) fn text(self, rank: u32) -> String {
        let Self { has, most } = self;
        format!("rank {rank} has come to {has} collectives of NCCL, others to {most}")
    }
}

impl Nccl {
    /// Of what was answered before and after at each place that was asked, in a job of `world` ranks. Each place may answer for
    /// the whole job.
    #[must_use]
    pub fn between<'a>(answers: impl Iterator<Item = (&'a [u8], &'a [u8])>, world: u32) -> Self {
        let mut said = Self::default();
        for (before, after) in answers {
            said.more = said.more.max(more(before, after));
            let now = behind(after, world);
            if said.behind.is_empty() && now == behind(before, world) {
                said.behind = now;
            }
        }
        said
    }
}

/// A rank of a communicator: who it is, and what it has counted by kind.
type Member = (String, BTreeMap<String, u64>);

/// Ranks that have counted less than others of their communicator, but those that wait for one of them in another. None where
/// ranks have called different collectives, or can't be told from each other.
fn behind(answer: &[u8], world: u32) -> BTreeMap<u32, Count> {
    let named = || -> Option<BTreeMap<u32, Count>> {
        let answer = serde_json::from_slice::<Value>(answer).ok()?;
        let (mut ranks, mut late, mut waiting) =
            (BTreeMap::<String, u32>::new(), BTreeMap::<String, Count>::new(), BTreeSet::new());
        for one in answer["communicators"].as_array()? {
            if one["missing_ranks"].as_array().is_some_and(|missing| !missing.is_empty()) {
                return None;
            }
            let list = one["ranks"].as_array()?;
            let whole = list.len() == world as usize;
            let mut members: Vec<Member> = Vec::new();
            for rank in list {
                let number = u32::try_from(rank["rank"].as_u64()?).ok()?;
                // Who it is in the job only a process says, and its number where all are there.
                let who = match (rank["host"].as_str(), rank["pid"].as_u64()) {
                    (host, Some(pid)) => format!("{} {pid}", host.unwrap_or_default()),
                    _ if whole => number.to_string(),
                    _ => return None,
                };
                if whole && *ranks.entry(who.clone()).or_insert(number) != number {
                    return None;
                }
                let counts = rank["collective_counts"].as_object().into_iter().flatten();
                let counts =
                    counts.filter_map(|(kind, count)| Some((kind.clone(), count.as_u64()?)));
                members.push((who, counts.collect()));
            }
            let mut most: BTreeMap<&str, u64> = BTreeMap::new();
            for (kind, count) in members.iter().flat_map(|(_, counts)| counts) {
                let entry = most.entry(kind).or_default();
                *entry = (*entry).max(*count);
            }
            let leads = |(_, counts): &Member| {
                most.iter().all(|(kind, most)| counts.get(*kind).copied().unwrap_or(0) == *most)
            };
            if members.iter().all(leads) {
                continue;
            }
            if !members.iter().any(leads) {
                return None;
            }
            let most = most.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
            for member in &members {
                if leads(member) {
                    waiting.insert(member.0.clone());
                } else {
                    let has =
                        member.1.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
                    late.entry(member.0.clone()).or_insert(Count { has, most });
                }
            }
        }
        if ranks.len() != world as usize {
            return None;
        }
        let root = late.into_iter().filter(|(who, _)| !waiting.contains(who));
        root.map(|(who, count)| Some((*ranks.get(&who)?, count))).collect()
    };
    named().unwrap_or_default()
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

    /// Rank 2 waits for rank 3 in a group of two, and so is behind among all; rank 3 is the one.
    #[test]
    fn who_waits_for_another_is_not_the_one_behind() {
        let rank = |rank: u32, pid: u32, count: u64| {
            format!(
                "{{\"rank\": {rank}, \"host\": \"a\", \"pid\": {pid}, \"collective_counts\": {{\"AllReduce\": {count}}}}}"
            )
        };
        let answer = |all: &[String], group: &[String]| {
            format!(
                "{{\"communicators\": [{{\"ranks\": [{}]}}, {{\"ranks\": [{}]}}]}}",
                all.join(","),
                group.join(",")
            )
        };
        let all = [rank(0, 10, 7), rank(1, 11, 7), rank(2, 12, 6), rank(3, 13, 6)];
        let said = answer(&all, &[rank(0, 12, 3), rank(1, 13, 2)]);
        let said = behind(said.as_bytes(), 4);
        assert_eq!(said.keys().copied().collect::<Vec<_>>(), [3]);
        let same = answer(&all[..2], &[]);
        assert!(behind(same.as_bytes(), 2).is_empty());
        // Different collectives: neither has come less far.
        let other =
            answer(&[rank(0, 10, 7), rank(1, 11, 7).replace("AllReduce", "Broadcast")], &[]);
        assert!(behind(other.as_bytes(), 2).is_empty());
        let more = Nccl::between([(same.as_bytes(), said_more(&same).as_bytes())].into_iter(), 2);
        assert_eq!(more.more, 4);
    }

    fn said_more(answer: &str) -> String {
        answer.replace(": 7}", ": 9}")
    }

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
        let all = |answer: &[u8]| counted(answer).map(|all| all.values().sum::<u64>());
        assert_eq!((all(answer), all(br#"{"communicators": []}"#)), (Some(11), Some(0)));
        assert!([&b"{}"[..], b"\0", b"[]"].iter().all(|answer| counted(answer).is_none()));
        // Rank 1 did not answer before.
        let one = br#"{"communicators": [{"ranks": [{"rank": 0, "collective_counts": {"AllReduce": 4}}]}]}"#;
        assert_eq!((more(one, answer), more(answer, answer), more(b"", answer)), (2, 0, 0));
        assert_eq!(behind(answer, 2), BTreeMap::from([(1, Count { has: 5, most: 6 })]));
        // Of three, one was not told of: who is which is not known.
        assert!(behind(answer, 3).is_empty());
        assert!(counts(b"{}")[0].starts_with("NCCL answers: 0"));
        assert!(counts(b"\0")[0].contains("not known"));
    }
}
