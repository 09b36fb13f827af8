//! Who is not where the others are: stacks of ranks, looked at twice, to a verdict. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Stack;
use crate::ras::Nccl;

/// A line of a stack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Frame {
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) function: String,
}

impl Frame {
    fn is_librarys(&self) -> bool {
        ["/site-packages/", "/dist-packages/", "/lib/python", "/torch/"]
            .iter()
            .any(|part| self.file.contains(part))
            || self.file.starts_with('<')
            || self.file.ends_with("/sconce-launch/rank.py")
    }
}

/// Processors that a rank which sleeps may keep busy: its other threads look at their clocks.
const IDLE: f64 = 0.02;

/// Functions of torch in which a rank waits for others, or for the GPU that does. From torch 2.15's
/// `torch/distributed/distributed_c10d.py`, `torch/autograd/graph.py`, `torch/cuda/__init__.py`.
const WAITING: [&str; 22] = [
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_reduce",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "monitored_barrier",
    "new_group",
    "init_process_group",
    "_engine_run_backward",
    "backward",
    "recv",
    "reduce",
    "reduce_scatter_tensor",
    "scatter",
    "send",
    "synchronize",
    "wait",
];

/// Where a rank is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Its innermost line.
    pub(crate) innermost: Frame,
    /// The innermost line that is the program's own.
    pub(crate) own: Option<Frame>,
    /// The collective, or other wait, that it is in.
    pub(crate) waits: Option<String>,
}

impl Place {
    /// For people.
    pub(crate) fn text(&self, many: bool) -> String {
        let (waits, is) = if many { ("wait", "are") } else { ("waits", "is") };
        let own = self.own.as_ref().unwrap_or(&self.innermost);
        let at = format!("{}:{} in {}", own.file, own.line, own.function);
        match &self.waits {
            Some(name) => format!("{waits} in {name}, at {at}"),
            None if self.innermost == *own => format!("{is} at {at}"),
            None => format!("{is} at {at} (in {})", self.innermost.function),
        }
    }
}

/// The main thread's stack, innermost line first: faulthandler writes threads from the newest to the oldest, which is
/// the main one (CPython, `_Py_DumpTracebackThreads`).
pub(crate) fn main_thread(text: &str) -> Vec<Frame> {
    let mut frames = Vec::new();
    for line in text.lines().take(100_000) {
        if line.starts_with("Thread 0x") || line.starts_with("Current thread 0x") {
            frames.clear();
        }
        let parsed = line.trim_start().strip_prefix("File \"").and_then(|rest| {
            let (file, rest) = rest.split_once("\", line ")?;
            let (line, function) = rest.split_once(" in ")?;
            Some(Frame { file: file.into(), line: line.parse().ok()?, function: function.into() })
        });
        frames.extend(parsed);
    }
    frames
}

/// Where the stack says a rank is.
pub(crate) fn place(stack: &Stack) -> Option<Place> {
    let frames = main_thread(&stack.python);
    let innermost = frames.first()?.clone();
    let own = frames.iter().find(|frame| !frame.is_librarys()).cloned();
    let before_own = frames.iter().take_while(|frame| frame.is_librarys());
    let waits = before_own
        .filter(|frame| frame.file.contains("/torch/"))
        .filter(|frame| WAITING.contains(&frame.function.as_str()))
        .last()
        .map(|frame| frame.function.clone());
    Some(Place { innermost, own, waits })
}

/// What two looks say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// These ranks were somewhere else the second time: it is slow, and does not hang.
    Moving(Vec<u32>),
    /// Nobody moved where Python shows it, and NCCL has counted more collectives meanwhile.
    Counting {
        /// How many.
        more: u64,
        /// What the looks alone say.
        looks: Box<Verdict>,
    },
    /// These are not where the others are.
    Odd {
        /// Which.
        ranks: Vec<u32>,
        /// What they do.
        they: String,
        /// What the others do.
        others: String,
    },
    /// It can't be told which of them it is.
    CantTell {
        /// Why.
        why: String,
        /// Nobody will go on by themselves: all wait for each other, or sleep where they slept before.
        stuck: bool,
    },
}

/// Judges two looks at ranks, all of `expected`.
pub(crate) fn judge(
    expected: impl IntoIterator<Item = u32>,
    first: &BTreeMap<u32, Stack>,
    second: &BTreeMap<u32, Stack>,
) -> Verdict {
    let places: BTreeMap<u32, Place> =
        second.iter().filter_map(|(rank, stack)| Some((*rank, place(stack)?))).collect();
    let gone: Vec<u32> = expected.into_iter().filter(|rank| !second.contains_key(rank)).collect();
    let moved = |rank: &u32| match (first.get(rank), second.get(rank)) {
        // The whole stack: an import is in one line of the program for seconds.
        (Some(before), Some(now)) if !before.python.is_empty() => {
            main_thread(&before.python) != main_thread(&now.python)
        }
        _ => false,
    };
    let moving: Vec<u32> = places.keys().copied().filter(moved).collect();
    if !moving.is_empty() {
        return Verdict::Moving(moving);
    }
    let mut groups: BTreeMap<&Place, Vec<u32>> = BTreeMap::new();
    for (rank, place) in &places {
        groups.entry(place).or_default().push(*rank);
    }
    let describe = |ranks: &[u32]| {
        let texts =
            groups.iter().filter(|(_, members)| members.iter().any(|rank| ranks.contains(rank)));
        let texts: Vec<String> = texts
            .map(|(place, members)| format!("{} {}", named(members), place.text(members.len() > 1)))
            .collect();
        texts.join("; ")
    };
    let present: Vec<u32> = places.keys().copied().collect();
    if !gone.is_empty() && !present.is_empty() && second.len() == present.len() {
        return Verdict::Odd {
            ranks: gone,
            they: "has no process".to_owned(),
            others: describe(&present),
        };
    }
    if present.len() < second.len() || present.is_empty() {
        let silent: Vec<u32> =
            second.keys().copied().filter(|rank| !places.contains_key(rank)).collect();
        let why =
            second.values().find(|stack| !stack.why.is_empty()).map(|stack| stack.why.clone());
        let why = why.unwrap_or_else(|| "no rank was found".to_owned());
        let why = match silent.is_empty() {
            true => why,
            false => format!("{} gave no Python stack: {why}", named(&silent)),
        };
        return Verdict::CantTell { why, stuck: false };
    }
    let (waiting, working): (Vec<u32>, Vec<u32>) =
        present.iter().partition(|rank| places[*rank].waits.is_some());
    if !waiting.is_empty() && !working.is_empty() {
        return Verdict::Odd {
            they: describe(&working),
            others: describe(&waiting),
            ranks: working,
        };
    }
    let largest = groups.values().map(Vec::len).max().unwrap_or_default();
    let tie = groups.values().filter(|members| members.len() == largest).count() > 1;
    if groups.len() > 1 && !tie {
        let ranks: Vec<u32> =
            groups.values().filter(|members| members.len() < largest).flatten().copied().collect();
        let others: Vec<u32> =
            present.iter().copied().filter(|rank| !ranks.contains(rank)).collect();
        return Verdict::Odd { they: describe(&ranks), others: describe(&others), ranks };
    }
    let why = match groups.len() {
        1 if working.is_empty() => {
            format!("all ranks are in the same place: {}", describe(&present))
        }
        1 => format!(
            "all ranks are in one place, and none waits for another: {}",
            describe(&present)
        ),
        _ => format!("as many ranks are in one place as in another: {}", describe(&present)),
    };
    let idle =
        second.values().chain(first.values()).all(|stack| stack.cpu < IDLE && stack.state != "R");
    Verdict::CantTell { why, stuck: working.is_empty() || idle }
}

/// Whether a main thread that was `before` is elsewhere `now`. A dump that is still being written is no other place: it lacks the
/// main thread, which comes last, or its outer frames.
pub(crate) fn moved(before: &str, now: &str) -> bool {
    let id = |text: &str| {
        let header = text.lines().rev().find_map(|line| line.split_once("hread 0x"));
        header.map(|(_, rest)| rest.split(' ').next().unwrap_or_default().to_owned())
    };
    let (first, second) = (main_thread(before), main_thread(now));
    !second.is_empty() && id(before) == id(now) && !first.starts_with(&second)
}

/// What was judged of two looks, beside ranks that were elsewhere between them and what NCCL has counted.
pub(crate) fn weigh(verdict: Verdict, between: &BTreeSet<u32>, nccl: &Nccl) -> Verdict {
    if matches!(verdict, Verdict::Moving(_)) {
        return verdict;
    }
    if !between.is_empty() {
        return Verdict::Moving(between.iter().copied().collect());
    }
    if nccl.more > 0 {
        return Verdict::Counting { more: nccl.more, looks: Box::new(verdict) };
    }
    let behind: Vec<u32> = nccl.behind.keys().copied().collect();
    if behind.is_empty() {
        return verdict;
    }
    let counted: Vec<String> = nccl.behind.iter().map(|(rank, count)| count.text(*rank)).collect();
    let counted = counted.join("; ");
    match verdict {
        // Of ranks that are not where the others are, some are behind: NCCL says which it is that they wait for.
        Verdict::Odd { ranks, they, others } if behind.iter().all(|rank| ranks.contains(rank)) => {
            Verdict::Odd { ranks: behind, they: format!("{they}\n  {counted}"), others }
        }
        Verdict::Odd { ranks, they, others } if ranks.iter().all(|rank| behind.contains(rank)) => {
            Verdict::Odd { ranks, they: format!("{they}\n  {counted}"), others }
        }
        Verdict::Odd { ranks, they, .. } => Verdict::CantTell {
            why: format!(
                "by its stack it is {} ({they}), by what NCCL counts {} ({counted})",
                named(&ranks),
                named(&behind)
            ),
            stuck: true,
        },
        Verdict::CantTell { why, stuck: true } => {
            Verdict::Odd { ranks: behind, they: counted, others: why }
        }
        Verdict::CantTell { why, stuck: false } => {
            let why = format!("{why}. By what NCCL counts it is {}: {counted}", named(&behind));
            Verdict::CantTell { why, stuck: false }
        }
        other => other,
    }
}

/// `rank 3`, or `ranks 0-2, 5`.
pub(crate) fn named(ranks: &[u32]) -> String {
    if let [rank] = ranks {
        return format!("rank {rank}");
    }
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for rank in ranks {
        match parts.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*rank) => *last = *rank,
            _ => parts.push((*rank, *rank)),
        }
    }
    let text = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    format!("ranks {}", parts.iter().map(text).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ras::Count;

    const WAITS: &str = "Thread 0x01 (most recent call first):\n  File \"/usr/lib/python3.11/threading.py\", line 3 in wait\n\nCurrent thread 0x02 (most recent call first):\n  File \"/opt/lib/python3/site-packages/torch/distributed/distributed_c10d.py\", line 1992 in all_reduce\n  File \"/opt/lib/python3/site-packages/torch/distributed/c10d_logger.py\", line 83 in wrapper\n  File \"train.py\", line 14 in main\n  File \"/run/sconce-launch/rank.py\", line 80 in main\n";
    const SLEEPS: &str = "Current thread 0x02 (most recent call first):\n  File \"train.py\", line 9 in load\n  File \"train.py\", line 12 in main\n";

    fn look(stacks: &[(u32, &str)]) -> BTreeMap<u32, Stack> {
        let stack = |(rank, python): &(u32, &str)| {
            let why = if python.is_empty() { "no handler".to_owned() } else { String::new() };
            (*rank, Stack { rank: *rank, python: (*python).to_owned(), why, ..Stack::default() })
        };
        stacks.iter().map(stack).collect()
    }

    #[track_caller]
    fn odd(world: u32, stacks: &[(u32, &str)]) -> (Vec<u32>, String, String) {
        match judge(0..world, &look(stacks), &look(stacks)) {
            Verdict::Odd { ranks, they, others } => (ranks, they, others),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_one_that_does_not_wait_is_named() {
        let (ranks, they, others) = odd(2, &[(0, WAITS), (1, SLEEPS)]);
        assert_eq!(ranks, [1]);
        assert_eq!(they, "rank 1 is at train.py:9 in load");
        assert_eq!(others, "rank 0 waits in all_reduce, at train.py:14 in main");
        // It is still the one, where most are late.
        assert_eq!(odd(4, &[(0, SLEEPS), (1, SLEEPS), (2, WAITS), (3, SLEEPS)]).0, [0, 1, 3]);
    }

    #[test]
    fn another_collective_is_another_place() {
        let other = WAITS.replace("line 14", "line 20").replace("all_reduce", "barrier");
        assert_eq!(odd(3, &[(0, WAITS), (1, &other), (2, WAITS)]).0, [1]);
        let verdict =
            judge(0..2, &look(&[(0, WAITS), (1, &other)]), &look(&[(0, WAITS), (1, &other)]));
        assert!(
            matches!(verdict, Verdict::CantTell { why, .. } if why.contains("barrier") && why.contains("all_reduce"))
        );
    }

    #[test]
    fn no_guess_where_nothing_is_known() {
        let verdict = |stacks: &[(u32, &str)]| judge(0..2, &look(stacks), &look(stacks));
        assert!(
            matches!(verdict(&[(0, WAITS), (1, "")]), Verdict::CantTell { why, .. } if why.contains("rank 1"))
        );
        assert!(matches!(verdict(&[(0, WAITS), (1, WAITS)]), Verdict::CantTell { .. }));
        assert!(matches!(verdict(&[]), Verdict::CantTell { .. }));
        assert_eq!(odd(2, &[(0, WAITS)]).0, [1]);
        for noise in ["\0\u{1b}[2J", "File \"x\", line 99999999999 in f", "Thread 0x"] {
            assert!(matches!(verdict(&[(0, noise), (1, noise)]), Verdict::CantTell { .. }));
        }
    }

    /// What imports for seconds is in one line of the program, and is not to be ended for it.
    #[test]
    fn who_works_is_not_stuck() {
        let one = look(&[(0, SLEEPS), (1, SLEEPS)]);
        let mut busy = one.clone();
        busy.values_mut().for_each(|stack| stack.cpu = 0.5);
        let stuck = |looks: &BTreeMap<u32, Stack>| match judge(0..2, looks, looks) {
            Verdict::CantTell { stuck, .. } => stuck,
            other => panic!("{other:?}"),
        };
        assert!(stuck(&one) && !stuck(&busy));
        assert!(stuck(&look(&[(0, WAITS), (1, WAITS)])));
        let deeper = look(&[(0, SLEEPS), (1, &SLEEPS.replace("line 12", "line 13"))]);
        assert_eq!(judge(0..2, &one, &deeper), Verdict::Moving(vec![1]));
    }

    #[test]
    fn what_moves_does_not_hang() {
        let before = look(&[(0, WAITS), (1, &SLEEPS.replace("line 9", "line 8"))]);
        assert_eq!(
            judge(0..2, &before, &look(&[(0, WAITS), (1, SLEEPS)])),
            Verdict::Moving(vec![1])
        );
    }

    #[test]
    fn half_a_dump_is_no_other_place() {
        let deeper = SLEEPS.replace("line 9", "line 8");
        assert!(moved(SLEEPS, &deeper) && !moved(SLEEPS, SLEEPS) && !moved(SLEEPS, ""));
        let cut = SLEEPS.rsplit_once("  File").unwrap().0;
        assert!(!moved(SLEEPS, cut));
        let other = WAITS.split_once("\n\nCurrent").unwrap().0;
        assert!(!moved(WAITS, other));
    }

    #[test]
    fn what_nccl_counts_is_weighed() {
        let behind = |ranks: &[u32]| Nccl {
            more: 0,
            behind: ranks.iter().map(|rank| (*rank, Count { has: 5, most: 6 })).collect(),
        };
        let none = BTreeSet::new();
        let verdict = |stacks: &[(u32, &str)]| judge(0..3, &look(stacks), &look(stacks));
        let same = verdict(&[(0, WAITS), (1, WAITS), (2, WAITS)]);
        let named = |verdict: &Verdict, nccl: &Nccl| match weigh(verdict.clone(), &none, nccl) {
            Verdict::Odd { ranks, .. } => ranks,
            _ => Vec::new(),
        };
        assert_eq!(named(&same, &behind(&[2])), [2]);
        let two = verdict(&[(0, WAITS), (1, SLEEPS), (2, SLEEPS)]);
        assert_eq!(named(&two, &behind(&[2])), [2]);
        assert_eq!(named(&two, &Nccl::default()), [1, 2]);
        // Two witnesses that contradict each other.
        assert!(named(&two, &behind(&[0])).is_empty());
        // What may be working is not ended for a count.
        let unread = verdict(&[(0, WAITS), (1, ""), (2, WAITS)]);
        let weighed = weigh(unread, &none, &behind(&[1]));
        assert!(
            matches!(weighed, Verdict::CantTell { stuck: false, why } if why.contains("rank 1 has come to 5"))
        );
        let counts = weigh(same.clone(), &none, &Nccl { more: 3, ..behind(&[2]) });
        assert!(matches!(counts, Verdict::Counting { more: 3, .. }));
        assert_eq!(weigh(same, &BTreeSet::from([1]), &behind(&[2])), Verdict::Moving(vec![1]));
    }

    #[test]
    fn ranks_in_words() {
        assert_eq!(named(&[3]), "rank 3");
        assert_eq!(named(&[0, 1, 2, 5, 7, 8]), "ranks 0-2, 5, 7-8");
    }
}
