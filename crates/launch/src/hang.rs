//! Looks at ranks that say nothing, and the page that sums them up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::event::Stack;
use crate::evidence::Evidence;
use crate::judge::{self, Verdict, judge, named, weigh};
use crate::ras::{self, Nccl};
use crate::settings::Settings;

/// Between two looks.
pub(crate) const BETWEEN: Duration = Duration::from_secs(2);
/// How long nodes may take for both: the looks, NCCL that does not answer, and torch's dumps.
const PATIENCE: Duration = Duration::from_secs(30);
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
    /// All nodes are to be asked, by an order of this number.
    Ask(u32),
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
    /// The order that is answered: what comes of an earlier one is of another hang.
    order: u32,
    answered: BTreeSet<u32>,
    first: BTreeMap<u32, Stack>,
    second: BTreeMap<u32, Stack>,
    /// Ranks that were elsewhere between the looks.
    moved: BTreeSet<u32>,
    /// NCCL's answers, by node and look.
    nccl: BTreeMap<(u32, u32), String>,
    pages: u32,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            quiet: Instant::now(),
            factor: 1,
            asked: None,
            order: 0,
            answered: BTreeSet::new(),
            first: BTreeMap::new(),
            second: BTreeMap::new(),
            moved: BTreeSet::new(),
            nccl: BTreeMap::new(),
            pages: 0,
        }
    }
}

impl Looks {
    /// A rank said something: nobody hangs.
    pub(crate) fn output(&mut self) {
        let Self { pages, order, .. } = *self;
        *self = Self { pages, order, ..Self::default() };
    }

    /// A rank said this: nobody hangs, unless it is torch's word on being asked by us.
    pub(crate) fn line(&mut self, text: &str) {
        if !OF_THE_RECORD.iter().any(|words| text.contains(words)) {
            self.output();
        }
    }

    pub(crate) fn stack(&mut self, stack: Stack) {
        if !self.answers(stack.order) {
            return;
        }
        let look = if stack.look == 1 { &mut self.first } else { &mut self.second };
        look.insert(stack.rank, stack);
    }

    /// A rank was elsewhere than at the first look.
    pub(crate) fn glance(&mut self, order: u32, rank: u32, python: &str) {
        let first = self.first.get(&rank).filter(|_| self.answers(order));
        if first.is_some_and(|first| judge::moved(&first.python, python)) {
            self.moved.insert(rank);
        }
    }

    pub(crate) fn nccl(&mut self, order: u32, look: u32, node: u32, answer: String) {
        if self.answers(order) && (1..=2).contains(&look) {
            self.nccl.insert((node, look), answer);
        }
    }

    pub(crate) fn asked(&mut self, order: u32, node: u32) {
        if self.answers(order) {
            self.answered.insert(node);
        }
    }

    fn answers(&self, order: u32) -> bool {
        self.asked.is_some() && order == self.order
    }

    /// What is due, where ranks may be quiet for so long.
    pub(crate) fn due(&mut self, limit: Duration, nodes: u32) -> Looked {
        if let Some(asked) = self.asked {
            return match (self.answered.len() as u32) < nodes && asked.elapsed() < PATIENCE {
                true => Looked::Nothing,
                false => Looked::Judge,
            };
        }
        if self.quiet.elapsed() < limit.saturating_mul(self.factor) {
            return Looked::Nothing;
        }
        self.order += 1;
        self.asked = Some(Instant::now());
        Looked::Ask(self.order)
    }

    /// Judges, writes the evidence, and begins anew: the page, and whether they are stuck.
    pub(crate) fn page(
        &mut self,
        settings: &Settings,
        names: &[String],
        evidence: &Evidence,
    ) -> Result<(String, bool), Error> {
        let first = std::mem::take(&mut self.first);
        let second = std::mem::take(&mut self.second);
        let moved = std::mem::take(&mut self.moved);
        let nccl = std::mem::take(&mut self.nccl);
        let quiet = self.quiet.elapsed().as_secs();
        self.asked = None;
        self.answered.clear();
        self.pages += 1;
        self.factor = self.factor.saturating_mul(2);
        self.quiet = Instant::now();
        let both = nccl.iter().filter(|((_, look), _)| *look == 1);
        let both = both.filter_map(|((node, _), before)| {
            Some((before.as_bytes(), nccl.get(&(*node, 2))?.as_bytes()))
        });
        let counts = Nccl::between(both, settings.world());
        let verdict = weigh(judge(0..settings.world(), &first, &second), &moved, &counts);
        let mut page = format!("no rank has said anything for {quiet} s. ");
        page += &sentences(&verdict);
        let stuck = match verdict {
            Verdict::Moving(_) | Verdict::Counting { .. } => false,
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
        // Any node's NCCL answers for all.
        if let Some(answer) = nccl.iter().find(|((_, look), _)| *look == 2).map(|(_, text)| text) {
            page += &(ras::counts(answer.as_bytes()).join("\n") + "\n");
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
        Verdict::Counting { more, looks } => format!(
            "They do not hang: NCCL has counted {more} more collectives between the looks. At both of them:\n{}",
            sentences(looks)
        ),
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
        assert!(matches!(looks.due(limit, 1), Looked::Ask(1)));
        looks.stack(Stack { order: 1, look: 1, ..Stack::default() });
        // The answer to another order is of another hang.
        looks.stack(Stack { order: 2, look: 1, rank: 7, ..Stack::default() });
        looks.line("[rank0]:[E1127 21:24:29.875330642 ProcessGroupNCCL.cpp:1628] [PG ID 0 PG GUID 0(default_pg) Rank 0] ProcessGroupNCCL preparing to dump debug info. Include stack trace: 1, only active collectives: 0");
        looks.line("[rank0]:[W1127 21:24:34.803166959 Utils.hpp:112] Warning: Environment variable TORCH_NCCL_DEBUG_INFO_TEMP_FILE is deprecated; use TORCH_FR_DUMP_TEMP_FILE instead (function operator())");
        looks.asked(1, 0);
        assert!(matches!(looks.due(limit, 1), Looked::Judge) && looks.first.len() == 1);
        looks.line("step 7");
        assert!(looks.first.is_empty() && matches!(looks.due(limit, 1), Looked::Ask(2)));
    }
}
