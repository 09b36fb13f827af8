//! A look from outside at processes that anybody started: which ranks they are, where they are, and who is not where the others are.
//! Nothing is stopped there, and nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

use crate::cpython::{NoStacks, Python};
use crate::error::Error;
use crate::event::Stack;
use crate::evidence::Evidence;
use crate::hang::{self, BETWEEN};
use crate::judge::{self, Verdict, judge, named, weigh};
use crate::ras::Nccl;
use crate::tree::{self, Process};

/// Between the two looks so often: a job that goes on step by step is caught at another place.
const GLANCES: Duration = Duration::from_millis(100);
/// How long processors are counted for.
const COUNTED: Duration = Duration::from_millis(500);
/// Ticks of the kernel's clock in a second (`USER_HZ`, the same on all of Linux's own processors).
const TICKS: f64 = 100.0;
/// Processes on the page.
const MOST_ROWS: usize = 64;

/// Processes that run Python, below one that was named.
#[derive(Debug)]
pub struct Outside {
    pythons: Vec<(Process, Result<Python, String>)>,
    /// By rank: the place among `pythons`.
    ranks: BTreeMap<u32, usize>,
    /// Ranks that should be there.
    expected: BTreeSet<u32>,
}

/// What two looks at processes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// Some of them moved.
    Moving,
    /// None moved, and ranks are named that are not where the others are.
    Named,
    /// None moved, or some could not be read: who holds up whom is not known.
    CantTell,
}

/// A process, by what a caller needs of it.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Its number.
    pub pid: u32,
    /// Its rank.
    pub rank: Option<u32>,
    /// Its variables.
    pub env: &'a BTreeMap<String, String>,
}

impl Outside {
    /// Finds what runs Python from `root` down.
    ///
    /// # Errors
    /// There is no such process, none below it runs Python, or none that does may be looked at.
    pub fn find(root: u32) -> Result<Self, Error> {
        if !std::path::Path::new(&format!("/proc/{root}")).exists() {
            return Err(Error::NoProcess { pid: root });
        }
        let (mut pythons, mut forbidden) = (Vec::new(), None);
        let own = std::process::id();
        for process in tree::below(root).into_iter().filter(|process| process.pid != own) {
            match Python::find(process.pid) {
                Ok(python) => pythons.push((process, Ok(python))),
                Err(NoStacks::NotPython) => {}
                Err(NoStacks::Unread(why)) => pythons.push((process, Err(why))),
                Err(NoStacks::Forbidden(error)) => {
                    // Whether that one is Python only its words say.
                    let python = process.words.split(' ').next().unwrap_or_default();
                    if python.contains("python") {
                        pythons
                            .push((process.clone(), Err(format!("not ours to look at: {error}"))));
                    }
                    forbidden.get_or_insert((process.pid, error));
                }
            }
        }
        if pythons.iter().all(|(_, python)| python.is_err())
            && let Some((pid, source)) = forbidden
        {
            return Err(Error::NotOurs { pid, source });
        }
        if pythons.is_empty() {
            return Err(Error::NoPython { pid: root });
        }
        let mut found = Self { pythons, ranks: BTreeMap::new(), expected: BTreeSet::new() };
        if let Some(rank) = found.number() {
            return Err(Error::TwoJobs { pid: root, rank });
        }
        Ok(found)
    }

    /// Which of them are ranks: those that have one, and whose parent has not the same (what a rank starts inherits it).
    /// Answers a rank that is there twice.
    fn number(&mut self) -> Option<u32> {
        let of: BTreeMap<u32, Option<u32>> =
            self.pythons.iter().map(|(process, _)| (process.pid, process.rank())).collect();
        for (at, (process, _)) in self.pythons.iter().enumerate() {
            let Some(rank) = process.rank() else { continue };
            if of.get(&process.parent) == Some(&Some(rank)) {
                continue;
            }
            if self.ranks.insert(rank, at).is_some() {
                return Some(rank);
            }
            self.expected.insert(rank);
            // Below whoever started it all ranks of this machine should be.
            let (local, count) = (process.number("LOCAL_RANK"), process.number("LOCAL_WORLD_SIZE"));
            if let (Some(local), Some(count), Some(None)) = (local, count, of.get(&process.parent))
            {
                let first = rank.saturating_sub(local);
                self.expected.extend(first..first.saturating_add(count.min(1024)));
            }
        }
        None
    }

    /// All of them.
    pub fn seen(&self) -> impl Iterator<Item = Seen<'_>> {
        self.pythons.iter().enumerate().map(|(at, (process, _))| Seen {
            pid: process.pid,
            rank: self.ranks.iter().find(|(_, place)| **place == at).map(|(rank, _)| *rank),
            env: &process.env,
        })
    }

    /// One look, by place.
    fn look(&self) -> BTreeMap<usize, Stack> {
        let before: Vec<u64> = self.pythons.iter().map(|(process, _)| process.ticks()).collect();
        let mut stacks = BTreeMap::new();
        for (at, (process, python)) in self.pythons.iter().enumerate() {
            let state = process.state();
            if state == "gone" || state == "Z" {
                continue;
            }
            let python = python.as_ref().map_err(Clone::clone);
            let (python, why) = match python.and_then(|python| python.stacks(process.inner())) {
                Ok(text) => (text, String::new()),
                Err(why) => (String::new(), why),
            };
            let kernel = process.threads();
            let stack = Stack { pid: process.pid, state, kernel, python, why, ..Stack::default() };
            stacks.insert(at, stack);
        }
        thread::sleep(COUNTED);
        for (at, stack) in &mut stacks {
            let ticks = self.pythons[*at].0.ticks().saturating_sub(before[*at]);
            stack.cpu = ticks as f64 / TICKS / COUNTED.as_secs_f64();
        }
        stacks
    }

    /// Which processes are somewhere else than at the first look, at any moment until the second.
    fn moved_since(&self, first: &BTreeMap<usize, Stack>) -> BTreeSet<usize> {
        let until = Instant::now() + BETWEEN;
        let mut moved = BTreeSet::new();
        while Instant::now() < until {
            thread::sleep(GLANCES);
            let still = first.iter().filter(|(_, stack)| !stack.python.is_empty());
            let still: Vec<_> = still.filter(|(at, _)| !moved.contains(*at)).collect();
            for (at, before) in still {
                let (process, python) = &self.pythons[*at];
                let now =
                    python.as_ref().ok().and_then(|python| python.stacks(process.inner()).ok());
                if now.is_some_and(|now| judge::moved(&before.python, &now)) {
                    moved.insert(*at);
                }
            }
        }
        moved
    }

    /// Two looks: the page, and what they say. Stacks of all threads go into the evidence. `counted` tells after the second what
    /// NCCL has counted since before the first, in a job of so many ranks.
    ///
    /// # Errors
    /// Evidence can't be written.
    pub fn page(
        &self,
        evidence: Option<&Evidence>,
        more: &[String],
        counted: impl FnOnce(u32) -> Nccl,
    ) -> Result<(String, Stands), Error> {
        let first = self.look();
        let moved = self.moved_since(&first);
        let second = self.look();
        let nccl = counted(self.world());
        let by_rank = |look: &BTreeMap<usize, Stack>| -> BTreeMap<u32, Stack> {
            let ranks = self.ranks.iter();
            ranks
                .filter_map(|(rank, at)| {
                    let stack = look.get(at)?.clone();
                    Some((*rank, Stack { rank: *rank, ..stack }))
                })
                .collect()
        };
        let mut page = String::new();
        let stands = if self.ranks.is_empty() {
            self.without_ranks(&first, &second, &moved, &mut page)
        } else {
            let moved = self.ranks.iter().filter(|(_, at)| moved.contains(at));
            let moved: BTreeSet<u32> = moved.map(|(rank, _)| *rank).collect();
            let verdict = judge(self.expected.iter().copied(), &by_rank(&first), &by_rank(&second));
            let verdict = weigh(verdict, &moved, &nccl);
            let stands = match &verdict {
                Verdict::Moving(_) | Verdict::Counting { .. } => Stands::Moving,
                Verdict::Odd { .. } => Stands::Named,
                Verdict::CantTell { .. } => Stands::CantTell,
            };
            page += &hang::sentences(&verdict);
            self.others(&mut page);
            stands
        };
        _ = writeln!(page, "\n rank  process           state  busy  where");
        for (at, stack) in second.iter().take(MOST_ROWS) {
            let rank = self.ranks.iter().find(|(_, place)| *place == at);
            let rank = rank.map_or_else(|| "-".to_owned(), |(rank, _)| rank.to_string());
            page += &hang::row(&rank, &stack.pid.to_string(), stack);
        }
        if second.len() > MOST_ROWS {
            _ = writeln!(page, " and {} more", second.len() - MOST_ROWS);
        }
        for line in more {
            _ = writeln!(page, "{line}");
        }
        if let Some(evidence) = evidence {
            for (look, stacks) in [(1, &first), (2, &second)] {
                for stack in stacks.values() {
                    let name = format!("process-{}-look-{look}.txt", stack.pid);
                    evidence.page(&name, &threads(stack))?;
                }
            }
            evidence.page("hang.txt", &hang::plain(&page))?;
            let folder = evidence.folder().display();
            _ = write!(page, "all threads of all processes: {folder}");
        } else {
            for stack in second.values() {
                _ = write!(page, "\n{}", threads(stack));
            }
        }
        Ok((hang::plain(&page), stands))
    }

    fn without_ranks(
        &self,
        first: &BTreeMap<usize, Stack>,
        second: &BTreeMap<usize, Stack>,
        between: &BTreeSet<usize>,
        page: &mut String,
    ) -> Stands {
        let moved = |at: &usize| match (first.get(at), second.get(at)) {
            _ if between.contains(at) => true,
            (Some(before), Some(now)) if !before.python.is_empty() && !now.python.is_empty() => {
                judge::main_thread(&before.python) != judge::main_thread(&now.python)
            }
            _ => false,
        };
        let moving: Vec<String> = (0..self.pythons.len())
            .filter(moved)
            .map(|at| self.pythons[at].0.pid.to_string())
            .collect();
        *page += "no process has a RANK, so that none waits for another as far as is known. ";
        match moving.is_empty() {
            true => {
                *page += "None moved between two looks: whether it hangs, or waits for work, can't be told.\n";
                Stands::CantTell
            }
            false => {
                _ = writeln!(page, "Moved between two looks: {}.", moving.join(", "));
                Stands::Moving
            }
        }
    }

    /// How many ranks the job has, here and elsewhere.
    fn world(&self) -> u32 {
        let said = self.pythons.iter().filter_map(|(process, _)| process.number("WORLD_SIZE"));
        said.max().unwrap_or(self.expected.len() as u32)
    }

    /// Says that other ranks are elsewhere.
    fn others(&self, page: &mut String) {
        let world = self.world();
        if world > self.expected.len() as u32 {
            let here: Vec<u32> = self.expected.iter().copied().collect();
            _ = writeln!(
                page,
                "Only {} of {world} were looked at: the others are not below this process, and may be what they wait for.",
                named(&here)
            );
        }
    }
}

fn threads(stack: &Stack) -> String {
    let Stack { pid, state, cpu, python, why, kernel, .. } = stack;
    format!(
        "process {pid}\nstate: {state}\nprocessors kept busy: {cpu:.2}\n{why}\n\nPython, all threads:\n{python}\nkernel, all threads:\n{kernel}"
    )
}
