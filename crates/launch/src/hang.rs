//! Looks at ranks that say nothing, and the page that sums them up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::event::Stack;
use crate::evidence::Evidence;
use crate::judge::{self, Verdict, judge, named};
use crate::settings::Settings;

/// Between two looks.
pub(crate) const BETWEEN: Duration = Duration::from_secs(2);
/// How long nodes may take for one.
const PATIENCE: Duration = Duration::from_secs(10);
/// Lines of ranks on the page.
const MOST_ROWS: usize = 16;

/// What torch says when it is asked for its record of collectives (torch/csrc/distributed/c10d, ProcessGroupNCCL.cpp and
/// Utils.hpp of 2.11): seen of two ranks that hung.
const OF_THE_RECORD: [&str; 2] = [
    "ProcessGroupNCCL preparing to dump debug info",
    "Environment variable TORCH_NCCL_DEBUG_INFO_TEMP_FILE is deprecated",
];

/// What is to be done now.
pub(crate) enum Looked {
    Nothing,
    /// All nodes are to be asked.
    Ask,
    /// Both looks are there.
    Judge,
}

/// Looks at all ranks.
pub(crate) struct Looks {
    /// When a rank said something last.
    quiet: Instant,
    /// So much longer they may be quiet: slow ranks are looked at less and less.
    factor: u32,
    asked: Option<Instant>,
    answered: BTreeSet<u32>,
    first: Option<(BTreeMap<u32, Stack>, Instant)>,
    now: BTreeMap<u32, Stack>,
    pages: u32,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            quiet: Instant::now(),
            factor: 1,
            asked: None,
            answered: BTreeSet::new(),
            first: None,
            now: BTreeMap::new(),
            pages: 0,
        }
    }
}

impl Looks {
    /// A rank said something: nobody hangs.
    pub(crate) fn output(&mut self) {
        let pages = self.pages;
        *self = Self { pages, ..Self::default() };
    }

    /// A rank said this: nobody hangs, unless it is torch's word on being asked by us.
    pub(crate) fn line(&mut self, text: &str) {
        if !OF_THE_RECORD.iter().any(|words| text.contains(words)) {
            self.output();
        }
    }

    pub(crate) fn stack(&mut self, stack: Stack) {
        self.now.insert(stack.rank, stack);
    }

    pub(crate) fn asked(&mut self, node: u32) {
        self.answered.insert(node);
    }

    /// What is due, where ranks may be quiet for so long.
    pub(crate) fn due(&mut self, limit: Duration, nodes: u32) -> Looked {
        if let Some(asked) = self.asked {
            if (self.answered.len() as u32) < nodes && asked.elapsed() < PATIENCE {
                return Looked::Nothing;
            }
            if self.first.is_some() {
                return Looked::Judge;
            }
            self.first = Some((std::mem::take(&mut self.now), Instant::now()));
            self.asked = None;
            return Looked::Nothing;
        }
        let due = match &self.first {
            None => self.quiet.elapsed() >= limit.saturating_mul(self.factor),
            Some((_, taken)) => taken.elapsed() >= BETWEEN,
        };
        if !due {
            return Looked::Nothing;
        }
        self.answered.clear();
        self.asked = Some(Instant::now());
        Looked::Ask
    }

    /// Judges, writes the evidence, and begins anew: the page, and whether they are stuck.
    pub(crate) fn page(
        &mut self,
        settings: &Settings,
        names: &[String],
        evidence: &Evidence,
    ) -> Result<(String, bool), Error> {
        let first = self.first.take().map(|(first, _)| first).unwrap_or_default();
        let second = std::mem::take(&mut self.now);
        let quiet = self.quiet.elapsed().as_secs();
        self.asked = None;
        self.pages += 1;
        self.factor = self.factor.saturating_mul(2);
        self.quiet = Instant::now();
        let verdict = judge(0..settings.world(), &first, &second);
        let mut page = format!("no rank has said anything for {quiet} s. ");
        page += &sentences(&verdict);
        let stuck = match verdict {
            Verdict::Moving(_) => false,
            Verdict::Odd { .. } => true,
            Verdict::CantTell { stuck, .. } => {
                if !stuck {
                    page += "They may be working: they go on, and are looked at again later.\n";
                }
                stuck
            }
        };
        _ = writeln!(page, "\n rank  node              state  busy  where");
        for (rank, stack) in second.iter().take(MOST_ROWS) {
            let node = (*rank / settings.ranks_per_node.max(1)) as usize;
            let node = names.get(node).map_or("", String::as_str);
            page += &row(&rank.to_string(), node, stack);
        }
        if second.len() > MOST_ROWS {
            _ = writeln!(page, " and {} more", second.len() - MOST_ROWS);
        }
        let page = plain(&page);
        for (look, stacks) in [(1, &first), (2, &second)] {
            for stack in stacks.values() {
                evidence.stack(&format!("hang-{}-look-{look}", self.pages), stack)?;
            }
        }
        let path = evidence.page(&format!("hang-{}.txt", self.pages), &page)?;
        let page =
            format!("{page}all threads of all ranks: {}", path.parent().unwrap_or(&path).display());
        Ok((page, stuck))
    }
}

fn are(ranks: &[u32]) -> String {
    format!("{} {}", named(ranks), if ranks.len() == 1 { "is" } else { "are" })
}

/// What a verdict says, in lines.
pub(crate) fn sentences(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Moving(ranks) => {
            format!("They do not hang: {} moved between two looks.\n", named(ranks))
        }
        Verdict::Odd { ranks, they, others } => {
            format!("{} not where the others are:\n  {they}\n  {others}\n", are(ranks))
        }
        Verdict::CantTell { why, .. } => {
            format!("Which rank holds up the others can't be told: {why}\n")
        }
    }
}

/// A line of the page: where one is.
pub(crate) fn row(rank: &str, of: &str, stack: &Stack) -> String {
    let place =
        judge::place(stack).map_or_else(|| format!("? {}", stack.why), |place| place.text(false));
    let kernel = match stack.state.as_str() {
        "D" | "Z" => format!(" [kernel: {}]", stack.wchan),
        _ => String::new(),
    };
    let (state, cpu) = (&stack.state, stack.cpu);
    format!(" {rank:>4}  {of:16}  {state:5}  {cpu:4.1}  {place}{kernel}\n")
}

/// What comes from inside, as a terminal may show it.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_torch_says_of_our_question_is_no_sign_of_life() {
        let mut looks = Looks::default();
        let limit = Duration::ZERO;
        assert!(matches!(looks.due(limit, 1), Looked::Ask));
        looks.line("[rank0]:[E1127 21:24:29.875330642 ProcessGroupNCCL.cpp:1628] [PG ID 0 PG GUID 0(default_pg) Rank 0] ProcessGroupNCCL preparing to dump debug info. Include stack trace: 1, only active collectives: 0");
        looks.line("[rank0]:[W1127 21:24:34.803166959 Utils.hpp:112] Warning: Environment variable TORCH_NCCL_DEBUG_INFO_TEMP_FILE is deprecated; use TORCH_FR_DUMP_TEMP_FILE instead (function operator())");
        looks.asked(0);
        assert!(matches!(looks.due(limit, 1), Looked::Nothing) && looks.first.is_some());
        looks.line("step 7");
        assert!(looks.first.is_none());
    }
}
