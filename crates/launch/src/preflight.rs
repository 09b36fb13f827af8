//! What keeps nodes from working together: what they say of themselves, and what their ranks measure before the first step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use crate::event::Hello;
use crate::judge::named;
use crate::settings::Settings;

/// A machine is slow where it has less than this part of what the fastest one has. That is an assumption: how far machines that are
/// well lie apart was not measured on many. Half is meant to be beyond any spread, so that a slow one may pass, and none that is well is named.
const SLOW: f64 = 0.5;
/// Pairs that a rank may tell of: two neighbours, and some more than it has.
const MOST_PAIRS: usize = 4;

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// Why nothing can start.
    pub(crate) refused: Vec<String>,
    /// What a person should know.
    pub(crate) remarks: Vec<String>,
    /// Nodes that another machine had better take the place of, and why.
    pub(crate) bad: Vec<(usize, String)>,
}

impl Found {
    fn refuse(&mut self, name: &str, at: usize, why: String) {
        self.refused.push(format!("{name}: {why}"));
        self.bad.push((at, why));
    }
}

/// Of what nodes say of themselves: each with its name, and how far its clock is from ours.
pub(crate) fn of_nodes(settings: &Settings, nodes: &[(&str, &Hello, f64)]) -> Found {
    let mut found = Found::default();
    for (at, (name, hello, skew)) in nodes.iter().enumerate() {
        if hello.torch.is_none() {
            let why = format!("the image's python3 ({}) has no torch", hello.python);
            found.refuse(name, at, why);
        }
        if settings.gpus && hello.gpus < settings.ranks_per_node {
            let why = format!(
                "{} GPUs are in the container, and {} ranks want one each",
                hello.gpus, settings.ranks_per_node
            );
            found.refuse(name, at, why);
        }
        // ssh takes part of a second itself. Certificates and file times care about more.
        if skew.abs() > 30.0 {
            found.remarks.push(format!("{name}: its clock is {skew:+.0} s from this machine's"));
        }
        if hello.disk < 1 << 30 {
            found.remarks.push(format!("{name}: less than 1 GiB is free for logs"));
        }
        if hello.shm < 64 << 20 && settings.ranks_per_node > 1 {
            found.remarks.push(format!(
                "{name}: {} MiB are free in /dev/shm, through which NCCL and DataLoader workers speak",
                hello.shm >> 20
            ));
        }
        if settings.gpus && settings.nodes > 1 && (0..1 << 30).contains(&hello.memlock) {
            found.remarks.push(format!(
                "{name}: only {} KiB can be locked, which RDMA needs",
                hello.memlock >> 10
            ));
        }
    }
    let torches: BTreeSet<&str> =
        nodes.iter().filter_map(|(_, hello, _)| hello.torch.as_deref()).collect();
    if torches.len() > 1 {
        let said = nodes.iter().map(|(name, hello, _)| {
            format!("{name} has {}", hello.torch.as_deref().unwrap_or("none"))
        });
        let said = said.collect::<Vec<_>>().join(", ");
        found.refused.push(format!("the nodes have different torches: {said}"));
    }
    found
}

/// How far a rank has come (`python/preflight.py`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    #[default]
    Begun,
    Imported,
    Device,
    Met,
    Together,
    All,
    Inside,
    Pair,
    Done,
}

impl Stage {
    /// What a rank that came so far has not done.
    fn next(self) -> &'static str {
        match self {
            Self::Begun => "has not imported torch",
            Self::Imported => "did not get an answer from its GPU",
            Self::Device => "did not meet the others",
            Self::Met => "did not come back from the first sum",
            Self::Together => "did not come back from the sum of all ranks",
            Self::All | Self::Inside => "did not come back from the sums after that",
            Self::Pair => "did not come back from its neighbour",
            Self::Done => "is done",
        }
    }
}

/// A line of a rank.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Said {
    stage: Stage,
    gpu: Option<String>,
    /// Numbers that are not what they must be.
    wrong: u64,
    bytes: u64,
    /// Bytes a second.
    rate: f64,
    node: usize,
    other: usize,
}

#[derive(Debug, Default)]
struct Rank {
    stage: Stage,
    gpu: Option<String>,
    all: Option<Said>,
    inside: Option<Said>,
    pairs: Vec<Said>,
}

/// What ranks have measured.
#[derive(Debug, Default)]
pub(crate) struct Measured(BTreeMap<u32, Rank>);

impl Measured {
    /// Takes a line of a rank; others than those of `preflight.py` are libraries' words.
    pub(crate) fn line(&mut self, rank: u32, text: &str) {
        let Ok(said) = serde_json::from_str::<Said>(text) else { return };
        if !said.rate.is_finite() || said.rate < 0.0 {
            return;
        }
        let known = self.0.entry(rank).or_default();
        known.stage = known.stage.max(said.stage);
        match said.stage {
            Stage::Device => known.gpu = said.gpu,
            Stage::All => known.all = Some(said),
            Stage::Inside => known.inside = Some(said),
            Stage::Pair if known.pairs.len() < MOST_PAIRS => known.pairs.push(said),
            _ => {}
        }
    }

    /// Of ranks that have not come to an end in time.
    pub(crate) fn stuck(&self, settings: &Settings, names: &[String], limit: Duration) -> Found {
        let stage = |rank: u32| self.0.get(&rank).map_or(Stage::Begun, |rank| rank.stage);
        let ranks = 0..settings.world();
        let least = ranks.clone().map(stage).min().unwrap_or_default();
        let behind: Vec<u32> = ranks.clone().filter(|rank| stage(*rank) == least).collect();
        let mut found = Found::default();
        let seconds = limit.as_secs();
        if behind.len() == ranks.len() {
            found.refused.push(format!(
                "within {seconds} s none of {} ranks {}; which of them holds up the others can't be told. `-e NCCL_DEBUG=INFO` says more in the logs",
                ranks.len(),
                // "none has not" is one negation too many.
                match least {
                    Stage::Begun => "has imported torch",
                    Stage::Imported => "got an answer from its GPU",
                    Stage::Device => "met the others",
                    Stage::Met | Stage::Together => "came back from a sum of all ranks",
                    _ => "came to the end of the check",
                }
            ));
            return found;
        }
        let mut by_node: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for rank in behind {
            let node = (rank / settings.ranks_per_node.max(1)) as usize;
            by_node.entry(node).or_default().push(rank);
        }
        for (node, ranks) in by_node {
            let why = format!(
                "{} {} within {seconds} s, as all others did",
                named(&ranks),
                if ranks.len() == 1 {
                    least.next().to_owned()
                } else {
                    least.next().replacen("has not", "have not", 1).replacen(
                        "its GPU",
                        "their GPUs",
                        1,
                    )
                }
            );
            found.refuse(names.get(node).map_or("", String::as_str), node, why);
        }
        found
    }

    /// Of ranks that all came to an end.
    pub(crate) fn judge(&self, settings: &Settings, names: &[String]) -> Found {
        let mut found = Found::default();
        let per_node = settings.ranks_per_node.max(1);
        let name = |at: usize| names.get(at).map_or("", String::as_str);
        for rank in 0..settings.world() {
            let node = (rank / per_node) as usize;
            let Some(known) = self.0.get(&rank).filter(|known| known.stage == Stage::Done) else {
                let why = format!("rank {rank} ended well without a word of what it measured");
                found.refuse(name(node), node, why);
                continue;
            };
            let sums = known.all.iter().chain(&known.inside);
            let wrong: u64 = sums.chain(&known.pairs).map(|said| said.wrong).sum();
            if wrong > 0 {
                let why = format!("{wrong} numbers that came to rank {rank} are wrong");
                found.refuse(name(node), node, why);
            }
        }
        if !found.refused.is_empty() {
            // A wrong number goes round to all: who altered it can't be told of several.
            if found.bad.iter().map(|(at, _)| at).collect::<BTreeSet<_>>().len() > 1 {
                found.bad.clear();
            }
            return found;
        }
        self.rates(settings, names, &mut found);
        found
    }

    /// How fast it went, in words, and who is slow.
    fn rates(&self, settings: &Settings, names: &[String], found: &mut Found) {
        let name = |at: usize| names.get(at).map_or("", String::as_str);
        let per_node = settings.ranks_per_node.max(1);
        let nodes = settings.nodes as usize;
        let slowest = |rates: &mut dyn Iterator<Item = f64>| rates.min_by(f64::total_cmp);
        let all = slowest(&mut self.0.values().filter_map(|rank| Some(rank.all.as_ref()?.rate)));
        let size = self.0.values().find_map(|rank| Some(rank.all.as_ref()?.bytes)).unwrap_or(0);
        let world = settings.world();
        let mut line =
            format!("before the first step: all-reduce of {} MiB over {world} ranks", size >> 20);
        match all.filter(|_| world > 1) {
            Some(rate) => {
                line += &format!(" at {} (busbw), and all sums are right", in_words(rate))
            }
            None => line += ", and all sums are right",
        }
        found.remarks.push(line);

        let inside: Vec<f64> = (0..nodes)
            .filter_map(|node| {
                let of = |rank: &u32| (*rank / per_node) as usize == node;
                let own = self.0.iter().filter(|(rank, _)| of(rank));
                slowest(&mut own.filter_map(|(_, rank)| Some(rank.inside.as_ref()?.rate)))
            })
            .collect();
        if inside.len() == nodes && nodes > 1 {
            let (least, most) = spread(&inside);
            found.remarks.push(format!("within each machine: {}", range(least, most)));
            for (at, rate) in inside.iter().enumerate().filter(|(_, rate)| **rate < SLOW * most) {
                let why = format!(
                    "all-reduce over its own ranks at {}, on the fastest machine at {}",
                    in_words(*rate),
                    in_words(most)
                );
                found.bad.push((at, why));
            }
        }
        if let Some(rate) = if nodes == 1 { all } else { slowest(&mut inside.iter().copied()) } {
            self.beside_nvlink(settings, rate, found);
        }

        // Each edge was measured by both of its ends; the slower of the two counts.
        let mut edges: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        for said in self.0.values().flat_map(|rank| &rank.pairs) {
            if said.node >= nodes || said.other >= nodes || said.node == said.other {
                continue;
            }
            let edge = (said.node.min(said.other), said.node.max(said.other));
            edges.entry(edge).and_modify(|rate| *rate = rate.min(said.rate)).or_insert(said.rate);
        }
        if edges.is_empty() {
            return;
        }
        let (least, most) = spread(&edges.values().copied().collect::<Vec<_>>());
        found.remarks.push(format!("between neighbours, one way: {}", range(least, most)));
        let slow = |rate: f64| rate < SLOW * most;
        let of = |node: usize| edges.iter().filter(move |((a, b), _)| *a == node || *b == node);
        let mut told = BTreeSet::new();
        for node in 0..nodes {
            // Who is slow with all its neighbours, each of which is fast with another.
            let alone = of(node).count() > 1
                && of(node).all(|(_, rate)| slow(*rate))
                && of(node).all(|((a, b), _)| {
                    let other = if *a == node { *b } else { *a };
                    of(other).any(|(_, rate)| !slow(*rate))
                });
            if alone {
                told.extend(of(node).map(|(edge, _)| *edge));
                let rate = of(node).map(|(_, rate)| *rate).fold(f64::INFINITY, f64::min);
                let why = format!(
                    "{} to and from its neighbours, where others have {}",
                    in_words(rate),
                    in_words(most)
                );
                match found.bad.iter_mut().find(|(at, _)| *at == node) {
                    Some((_, known)) => *known += &format!("; {why}"),
                    None => found.bad.push((node, why)),
                }
            }
        }
        for ((a, b), rate) in edges.iter().filter(|(edge, _)| !told.contains(*edge)) {
            if slow(*rate) {
                found.remarks.push(format!(
                    "{} and {}: {} between them, where others have {}; which of the two is slow can't be told",
                    name(*a),
                    name(*b),
                    in_words(*rate),
                    in_words(most)
                ));
            }
        }
    }

    /// Beside what the data sheet gives, where all GPUs of a machine have NVLink.
    fn beside_nvlink(&self, settings: &Settings, rate: f64, found: &mut Found) {
        if settings.ranks_per_node < 2 {
            return;
        }
        let gpus = || self.0.values().map(|rank| rank.gpu.as_deref());
        let links = gpus().map(|name| {
            let gpu = sconce_facts::gpu(name?).ok()?;
            Some((gpu.nvlink_gb_s? / 2.0 * 1e9, gpu.name.clone()))
        });
        let slowest = links.collect::<Option<Vec<_>>>();
        let Some((link, gpu)) =
            slowest.and_then(|all| all.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)))
        else {
            return;
        };
        if rate < SLOW * link {
            found.remarks.push(format!(
                "all-reduce over the GPUs of one machine at {}, and NVLink of {gpu} gives {} one way: `sconce doctor` says whether it is up \
                 (cards without a bridge have none)",
                in_words(rate),
                in_words(link)
            ));
        }
    }
}

fn spread(rates: &[f64]) -> (f64, f64) {
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    (least, rates.iter().copied().fold(0.0, f64::max))
}

fn range(least: f64, most: f64) -> String {
    match in_words(least) == in_words(most) {
        true => in_words(most),
        false => format!("{} to {}", in_words(least), in_words(most)),
    }
}

/// Bytes a second, in three digits.
fn in_words(rate: f64) -> String {
    let (number, unit) = match rate {
        rate if rate >= 1e9 => (rate / 1e9, "GB/s"),
        rate if rate >= 1e6 => (rate / 1e6, "MB/s"),
        rate => (rate / 1e3, "kB/s"),
    };
    match number {
        number if number >= 99.95 => format!("{number:.0} {unit}"),
        number if number >= 9.995 => format!("{number:.1} {unit}"),
        number => format!("{number:.2} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::tests::settings;

    /// Ranks of so many machines with four each, whose edges and sums are as fast as is said, GB/s.
    fn measured(inside: &[f64], edges: &[(usize, usize, f64)]) -> Measured {
        let mut measured = Measured::default();
        for (node, rate) in inside.iter().enumerate() {
            for local in 0..4 {
                let rank = node as u32 * 4 + local;
                let mut say = |text: &str| measured.line(rank, text);
                say("a library's word");
                say(r#"{"stage": "all", "wrong": 0, "bytes": 268435456, "rate": 4e10}"#);
                say(&format!(r#"{{"stage": "inside", "wrong": 0, "rate": {}}}"#, rate * 1e9));
                for (a, b, rate) in
                    edges.iter().filter(|(a, b, _)| local == 0 && (*a == node || *b == node))
                {
                    let other = if *a == node { b } else { a };
                    let rate = rate * 1e9;
                    say(&format!(
                        r#"{{"stage": "pair", "node": {node}, "other": {other}, "rate": {rate}}}"#
                    ));
                }
                say(r#"{"stage": "done"}"#);
            }
        }
        measured
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("gpu{at}")).collect()
    }

    fn bad(measured: &Measured, nodes: u32) -> (Vec<usize>, Found) {
        let found = measured.judge(&settings(nodes, true), &names(nodes as usize));
        (found.bad.iter().map(|(at, _)| *at).collect(), found)
    }

    #[test]
    fn machines_that_are_well_are_left_in_peace() {
        let well = measured(&[370.0, 380.0, 365.0], &[(0, 1, 47.0), (1, 2, 48.0), (0, 2, 46.0)]);
        let (bad, found) = bad(&well, 3);
        assert!(bad.is_empty() && found.refused.is_empty(), "{found:?}");
        assert_eq!(
            found.remarks,
            [
                "before the first step: all-reduce of 256 MiB over 12 ranks at 40.0 GB/s (busbw), and all sums are right",
                "within each machine: 365 GB/s to 380 GB/s",
                "between neighbours, one way: 46.0 GB/s to 48.0 GB/s",
            ]
        );
    }

    #[test]
    fn a_slow_machine_is_named_and_a_slow_line_between_two_is_not_blamed_on_one() {
        let ring = |slow: &[usize]| {
            let rate = |a: usize, b: usize| {
                if slow.contains(&a) || slow.contains(&b) { 5.0 } else { 47.0 }
            };
            (0..4).map(|a| (a, (a + 1) % 4, rate(a, (a + 1) % 4))).collect::<Vec<_>>()
        };
        let (found, _) = bad(&measured(&[370.0; 4], &ring(&[2])), 4);
        assert_eq!(found, [2]);
        let (found, _) = bad(&measured(&[370.0, 370.0, 90.0, 370.0], &ring(&[2])), 4);
        assert_eq!(found, [2]);
        let mut one_line = ring(&[]);
        one_line[1].2 = 5.0;
        let (found, all) = bad(&measured(&[370.0; 4], &one_line), 4);
        assert!(found.is_empty() && all.remarks[3].starts_with("gpu1 and gpu2: "), "{all:?}");
        assert!(all.remarks[3].contains("which of the two"), "{all:?}");
        // Two that are slow have all lines between them slow: who it is can't be told of all four.
        let (found, _) = bad(&measured(&[370.0; 4], &ring(&[1, 2])), 4);
        assert!(found.is_empty());
        let (found, _) = bad(&measured(&[370.0, 100.0], &[(0, 1, 47.0)]), 2);
        assert_eq!(found, [1]);
    }

    #[test]
    fn wrong_sums_and_silence_are_never_well() {
        let mut one = measured(&[370.0; 2], &[(0, 1, 47.0)]);
        one.line(5, r#"{"stage": "inside", "wrong": 3, "rate": 1e9}"#);
        let (found, all) = bad(&one, 2);
        assert_eq!(found, [1]);
        assert_eq!(all.refused, ["gpu1: 3 numbers that came to rank 5 are wrong"]);
        one.line(0, r#"{"stage": "all", "wrong": 1, "rate": 1e9}"#);
        let (found, all) = bad(&one, 2);
        assert!(found.is_empty() && all.refused.len() == 2, "{all:?}");
        let (_, all) = bad(&Measured::default(), 1);
        assert!(all.refused[0].contains("without a word"), "{all:?}");
        for odd in [
            "{}",
            "[]",
            r#"{"stage": "all", "rate": -1}"#,
            r#"{"stage": "x"}"#,
            r#"{"stage": "pair", "node": 99}"#,
        ] {
            let mut measured = Measured::default();
            measured.line(0, odd);
            assert!(!bad(&measured, 1).1.refused.is_empty(), "{odd}");
        }
    }

    #[test]
    fn who_has_not_come_as_far_as_the_others_is_named() {
        let mut measured = Measured::default();
        for rank in 0..8 {
            measured.line(rank, r#"{"stage": "imported"}"#);
        }
        let stuck = |measured: &Measured| {
            measured.stuck(&settings(2, true), &names(2), Duration::from_secs(120))
        };
        let found = stuck(&measured);
        assert!(
            found.bad.is_empty() && found.refused[0].contains("none of 8 ranks got an answer"),
            "{found:?}"
        );
        for rank in [0, 1, 2, 3, 4, 7] {
            measured.line(rank, r#"{"stage": "met"}"#);
        }
        let found = stuck(&measured);
        assert_eq!(
            found.refused,
            [
                "gpu1: ranks 5-6 did not get an answer from their GPUs within 120 s, as all others did"
            ]
        );
        assert_eq!(found.bad.len(), 1);
    }
}
