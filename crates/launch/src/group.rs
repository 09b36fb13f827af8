//! All nodes of a launch, from their start to their end: attempts, restarts, and machines that are left out for spares.

use std::process::Command;
use std::time::Instant;

use crate::attempt::Attempt;
use crate::choices::Choice;
use crate::error::Error;
use crate::evidence::Evidence;
use crate::settings::Settings;

/// Something that a person should see.
#[derive(Debug)]
pub enum Told<'a> {
    /// A line of a rank.
    Line {
        /// Which.
        rank: u32,
        /// It came on standard error.
        error: bool,
        /// Without its end.
        text: &'a str,
    },
    /// A remark.
    Note(&'a str),
    /// Something chosen.
    Choice(&'a Choice),
    /// A page that sums up.
    Page(&'a str),
}

/// How a launch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All ranks ended well.
    Done,
    /// A rank failed; it is the first that did.
    Failed {
        /// Which, where that is known.
        rank: Option<u32>,
        /// Its node.
        node: String,
        /// Its exit code, as a shell says it.
        code: u8,
        /// Its exception, or other words.
        why: String,
    },
    /// A node ended, or said nothing any more, before its ranks ended.
    Lost {
        /// Which.
        node: String,
        /// What it said last.
        why: String,
    },
    /// The nodes can't work together; nothing was started.
    Refused(String),
    /// The ranks hung, and were ended.
    Hung,
    /// The time was over.
    TimeLimit,
    /// A signal ended it.
    Interrupted(i32),
}

impl Outcome {
    /// Whether another attempt may go better.
    fn may_go_better(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Lost { .. } | Self::Hung)
    }

    /// Whether no other machine makes a difference.
    fn is_final(&self) -> bool {
        matches!(self, Self::Done | Self::TimeLimit | Self::Interrupted(_))
    }

    /// For people.
    fn in_words(&self) -> String {
        match self {
            Self::Done => "all ranks ended well".to_owned(),
            Self::Failed { rank: Some(rank), node, .. } => format!("rank {rank} on {node} failed"),
            Self::Failed { rank: None, node, .. } => format!("{node} failed"),
            Self::Lost { node, why } => format!("{node} was lost: {why}"),
            Self::Refused(why) => why.clone(),
            Self::Hung => "the ranks hung".to_owned(),
            Self::TimeLimit => "the time was over".to_owned(),
            Self::Interrupted(signal) => format!("signal {signal}"),
        }
    }
}

/// Nodes to start.
pub struct Group<'a> {
    /// What is launched.
    pub settings: &'a Settings,
    /// What each machine is called; those behind the first [`Settings::nodes`] are spares.
    pub machines: Vec<String>,
    /// The command that starts a node, by its number, on a machine, by its place in `machines`.
    pub command: &'a dyn Fn(u32, usize) -> Command,
    /// What this launch is called.
    pub id: String,
    /// The signal that a person sent.
    pub interrupted: &'a dyn Fn() -> Option<i32>,
}

impl Group<'_> {
    /// Runs to the end, with restarts.
    ///
    /// # Errors
    /// A node's command can't be started; evidence can't be written.
    pub fn run(
        &self,
        evidence: &mut Evidence,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<Outcome, Error> {
        let end = self.settings.time_limit.map(|limit| Instant::now() + limit);
        let mut machines: Vec<usize> = (0..self.machines.len()).collect();
        let mut spares = machines.split_off((self.settings.nodes as usize).min(machines.len()));
        let (mut number, mut restarts) = (0, 0);
        loop {
            let counted = (number, restarts);
            let mut attempt = Attempt::new(self, &machines, spares.len(), counted, evidence, end);
            let outcome = attempt.run(tell);
            attempt.stop(tell);
            let (bad, began) = (attempt.bad, attempt.began);
            let outcome = outcome?;
            // Another node 0 has another address than the one that was said.
            let bound = |node: usize| node == 0 && self.settings.master.is_some();
            let replaced = !bad.is_empty()
                && bad.len() <= spares.len()
                && !bad.iter().any(|(node, _)| bound(*node));
            // Before the first step nothing of the user's ran: another machine's turn is no restart.
            let free = !began && replaced && !outcome.is_final();
            let again = restarts < self.settings.restarts && outcome.may_go_better();
            if !free && !again {
                return Ok(outcome);
            }
            if replaced {
                for (node, why) in bad {
                    let spare = spares.remove(0);
                    let (old, new) = (&self.machines[machines[node]], &self.machines[spare]);
                    tell(Told::Note(&format!("{old} is left out, {new} takes its place: {why}")));
                    machines[node] = spare;
                }
            }
            number += 1;
            if !free {
                restarts += 1;
                let what = outcome.in_words();
                tell(Told::Note(&format!(
                    "{what}; starting all ranks again ({restarts} of {})",
                    self.settings.restarts
                )));
            }
        }
    }
}
