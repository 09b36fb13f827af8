//! Before the first step: nodes that can work together, an address at which they meet, and ranks that all-reduce numbers.

use std::sync::mpsc::Receiver;
use std::time::Instant;

use crate::attempt::{Attempt, LAST_WORDS};
use crate::choices;
use crate::error::Error;
use crate::event::{End, Hello};
use crate::failure;
use crate::group::{Outcome, Told};
use crate::node::{Came, Node};
use crate::preflight;

impl Attempt<'_, '_> {
    /// What keeps these nodes from working together, seen from inside their containers.
    pub(crate) fn check(&mut self, tell: &mut dyn FnMut(Told<'_>)) -> Option<Outcome> {
        let settings = self.group.settings;
        let hellos: Vec<(&str, &Hello, f64)> = self
            .nodes
            .iter()
            .zip(&self.names)
            .filter_map(|(node, name)| {
                node.hello.as_ref().map(|(hello, skew)| (name.as_str(), hello, *skew))
            })
            .collect();
        let found = preflight::of_nodes(settings, &hellos);
        found.remarks.iter().for_each(|remark| tell(Told::Note(remark)));
        if found.refused.is_empty() {
            return None;
        }
        self.bad = found.bad;
        Some(Outcome::Refused(found.refused.join("\n")))
    }

    /// Has node 0 listen and all others reach it; answers the address at which they all did.
    pub(crate) fn meet(
        &mut self,
        inbox: &Receiver<(u32, Came)>,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<Result<String, Outcome>, Error> {
        let port = self.group.settings.port;
        if self.nodes.len() < 2 {
            return Ok(Ok(String::new()));
        }
        self.nodes[0].order(&format!("listen {port}"));
        let answered = |node: &Node| node.answer.is_some();
        // Only node 0 is asked: the others have answered, as it were.
        self.nodes.iter_mut().skip(1).for_each(|node| node.answer = Some(Ok(())));
        if let Some(outcome) = self.wait(inbox, tell, &answered)? {
            return Ok(Err(outcome));
        }
        if let Some(Err(why)) = &self.nodes[0].answer {
            let why = format!("{}: {why} is not free there; `--port` names another", self.names[0]);
            self.bad = vec![(0, format!("port {port} is not free there"))];
            return Ok(Err(Outcome::Refused(why)));
        }
        let addresses = match &self.group.settings.master {
            Some(address) => vec![address.clone()],
            None => self.nodes[0]
                .hello
                .iter()
                .flat_map(|(hello, _)| hello.addresses.clone())
                .take(8)
                .collect(),
        };
        let mut reasons = Vec::new();
        // Those that reached none of them.
        let mut cut_off: Vec<usize> = (1..self.nodes.len()).collect();
        for address in addresses {
            let legal = |c: char| c.is_ascii_alphanumeric() || ".:-".contains(c);
            if !address.chars().all(legal) {
                continue;
            }
            for at in 1..self.nodes.len() {
                self.nodes[at].answer = None;
                self.nodes[at].order(&format!("reach {address} {port}"));
            }
            if let Some(outcome) = self.wait(inbox, tell, &answered)? {
                return Ok(Err(outcome));
            }
            let unreached = self.nodes.iter().zip(&self.names).filter_map(|(node, name)| {
                let why = node.answer.as_ref()?.as_ref().err()?;
                Some(format!("{name} does not reach {}: {why}", self.names[0]))
            });
            match unreached.collect::<Vec<_>>() {
                none if none.is_empty() => return Ok(Ok(address)),
                some => reasons.extend(some),
            }
            cut_off.retain(|at| matches!(self.nodes[*at].answer, Some(Err(_))));
        }
        // Nobody reached it: then it is the one that is cut off.
        if cut_off.len() > 1 && cut_off.len() + 1 == self.nodes.len() {
            cut_off = vec![0];
        }
        let why = |at: usize| match at {
            0 => "no other machine reaches it".to_owned(),
            _ => format!("it does not reach {}", self.names[0]),
        };
        self.bad = cut_off.into_iter().map(|at| (at, why(at))).collect();
        if reasons.is_empty() {
            reasons.push(format!("{} has no address besides the loopback's", self.names[0]));
        }
        reasons.push(
            "`--master-addr ADDRESS` says which address of the first machine the others reach"
                .to_owned(),
        );
        Ok(Err(Outcome::Refused(reasons.join("\n"))))
    }

    /// Has all ranks meet and all-reduce numbers, where that is wanted, and judges what they measured.
    pub(crate) fn preflight(
        &mut self,
        master: &str,
        inbox: &Receiver<(u32, Came)>,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<Option<Outcome>, Error> {
        let settings = self.group.settings;
        let Some(limit) = settings.preflight else { return Ok(None) };
        let id = format!("{}-{}-preflight", self.group.id, self.number);
        for at in 0..self.nodes.len() {
            let (arguments, variables) = self.choose(at, &id, master);
            let program = choices::preflight(settings);
            let order = self.torchrun(&id, &arguments, &variables, program, master);
            self.nodes[at].order(&format!("check {order}"));
        }
        let end = Instant::now() + limit;
        let (mut beat, mut failed) = (Instant::now(), None);
        let over = loop {
            let came = self.step(inbox, tell, &mut beat)?;
            let ends = || self.nodes.iter().map(|node| node.checked.as_ref());
            if ends().all(|end| end.is_some()) {
                break false;
            }
            if ends().flatten().any(|end| end.code != 0)
                && failed.get_or_insert_with(Instant::now).elapsed() >= LAST_WORDS
            {
                break false;
            }
            if came.is_some() {
                return Ok(came);
            }
            if Instant::now() >= end {
                break true;
            }
        };
        let ends: Vec<Option<&End>> = self.nodes.iter().map(|node| node.checked.as_ref()).collect();
        if ends.iter().flatten().any(|end| end.code != 0) {
            return Ok(Some(self.failed_before(failure::first(&self.names, &ends))));
        }
        let judged = match over {
            true => self.measured.stuck(settings, &self.names, limit),
            false => self.measured.judge(settings, &self.names),
        };
        judged.remarks.iter().for_each(|remark| tell(Told::Note(remark)));
        if !judged.refused.is_empty() {
            self.bad = judged.bad;
            return Ok(Some(Outcome::Refused(judged.refused.join("\n"))));
        }
        // Slow machines do work: they are only left out where others can take their places.
        if !judged.bad.is_empty() && judged.bad.len() <= self.spares {
            let words = judged.bad.iter().map(|(at, why)| format!("{}: {why}", self.names[*at]));
            let words = words.collect::<Vec<_>>().join("\n");
            self.bad = judged.bad;
            return Ok(Some(Outcome::Refused(words)));
        }
        for (at, why) in &judged.bad {
            tell(Told::Note(&format!("{}: {why}", self.names[*at])));
        }
        Ok(None)
    }

    /// The rank that failed before the first step, and its machine.
    fn failed_before(&mut self, failure: Outcome) -> Outcome {
        let Outcome::Failed { rank, node, why, .. } = failure else { return failure };
        let who = rank.map_or_else(|| "torchrun".to_owned(), |rank| format!("rank {rank}"));
        let last = why.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        if let Some(at) = self.names.iter().position(|name| *name == node) {
            self.bad = vec![(at, format!("{who} failed before the first step: {}", last.trim()))];
        }
        Outcome::Refused(format!("{node}: {who} failed before the first step:\n{why}"))
    }
}
