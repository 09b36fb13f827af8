//! One attempt of a launch: its nodes' leases, what they say, failures and hangs.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::choices::{self, Choice};
use crate::error::Error;
use crate::event::{End, Event, Stream};
use crate::evidence::Evidence;
use crate::failure;
use crate::group::{Group, Outcome, Told};
use crate::hang::{Looked, Looks};
use crate::node::{self, Came, Node};
use crate::preflight::Measured;
use crate::settings::OnHang;

/// Between two words to each node.
const BEAT: Duration = Duration::from_secs(1);
/// How long nodes may take to end when they are told to; they give their ranks 5 s.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long the others may take to say how they ended, once one has.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);
/// Lines of a node that are no events and are kept for what it died of.
const MOST_WORDS: usize = 200;

/// All nodes, once.
pub(crate) struct Attempt<'a, 'b> {
    pub(crate) group: &'a Group<'b>,
    /// The machine of each node, by its place among all.
    machines: &'a [usize],
    /// What each node is called.
    pub(crate) names: Vec<String>,
    /// Machines that could take the place of one.
    pub(crate) spares: usize,
    /// Counted up with each attempt.
    pub(crate) number: u32,
    /// Counted up only where ranks had begun.
    restarts: u32,
    pub(crate) nodes: Vec<Node>,
    evidence: &'a mut Evidence,
    looks: Looks,
    /// What ranks measure before they begin.
    pub(crate) measured: Measured,
    end: Option<Instant>,
    /// Whether ranks run the program.
    pub(crate) began: bool,
    /// Nodes that are in the way, and why.
    pub(crate) bad: Vec<(usize, String)>,
}

impl<'a, 'b> Attempt<'a, 'b> {
    pub(crate) fn new(
        group: &'a Group<'b>,
        machines: &'a [usize],
        spares: usize,
        (number, restarts): (u32, u32),
        evidence: &'a mut Evidence,
        end: Option<Instant>,
    ) -> Self {
        Self {
            group,
            machines,
            names: machines.iter().map(|machine| group.machines[*machine].clone()).collect(),
            spares,
            number,
            restarts,
            nodes: Vec::new(),
            evidence,
            looks: Looks::default(),
            measured: Measured::default(),
            end,
            began: false,
            bad: Vec::new(),
        }
    }
}

impl Attempt<'_, '_> {
    /// From the start of the nodes to an end. Then [`Attempt::stop`] has to be called.
    pub(crate) fn run(&mut self, tell: &mut dyn FnMut(Told<'_>)) -> Result<Outcome, Error> {
        let (sender, inbox) = channel();
        for (at, machine) in self.machines.iter().enumerate() {
            let at = at as u32;
            let node = node::start((self.group.command)(at, *machine), at, &sender)?;
            self.nodes.push(node);
        }
        drop(sender);
        if let Some(outcome) = self.wait(&inbox, tell, &|node| node.hello.is_some())? {
            return Ok(outcome);
        }
        if let Some(outcome) = self.check(tell) {
            return Ok(outcome);
        }
        let master = match self.meet(&inbox, tell)? {
            Ok(master) => master,
            Err(outcome) => return Ok(outcome),
        };
        if let Some(outcome) = self.preflight(&master, &inbox, tell)? {
            return Ok(outcome);
        }
        self.began = true;
        self.go(&master, tell);
        self.attend(&inbox, tell)
    }

    /// Waits until `ready` holds for all nodes, or something ends the launch.
    pub(crate) fn wait(
        &mut self,
        inbox: &Receiver<(u32, Came)>,
        tell: &mut dyn FnMut(Told<'_>),
        ready: &dyn Fn(&Node) -> bool,
    ) -> Result<Option<Outcome>, Error> {
        let mut beat = Instant::now();
        while !self.nodes.iter().all(ready) {
            if let Some(outcome) = self.step(inbox, tell, &mut beat)? {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    /// Takes what came, keeps up the leases, and says what ends the launch.
    pub(crate) fn step(
        &mut self,
        inbox: &Receiver<(u32, Came)>,
        tell: &mut dyn FnMut(Told<'_>),
        beat: &mut Instant,
    ) -> Result<Option<Outcome>, Error> {
        match inbox.recv_timeout(Duration::from_millis(50)) {
            Ok((at, came)) => {
                self.take(at, came, tell)?;
                // What waits is taken at once: a rank that prints much is not slowed by looks at the clock.
                for (at, came) in inbox.try_iter().take(4096) {
                    self.take(at, came, tell)?;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(Duration::from_millis(5)),
        }
        if beat.elapsed() >= BEAT {
            *beat = Instant::now();
            self.order("beat");
        }
        if let Some(signal) = (self.group.interrupted)() {
            return Ok(Some(Outcome::Interrupted(signal)));
        }
        if self.end.is_some_and(|end| Instant::now() >= end) {
            return Ok(Some(Outcome::TimeLimit));
        }
        let silent = |node: &Node| {
            // Until it has said its first word its image may be built or pulled.
            let late =
                node.hello.is_some() && node.heard.elapsed() > self.group.settings.node_timeout;
            node.end.is_none() && (node.gone || late)
        };
        if let Some(at) = self.nodes.iter().position(silent) {
            let seconds = self.group.settings.node_timeout.as_secs();
            let node = &mut self.nodes[at];
            let why = match node.gone {
                false => format!("it has said nothing for {seconds} s"),
                true => {
                    let status =
                        node.child.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
                    let words = node.words.iter().rev().take(12).rev().cloned();
                    let words: Vec<String> = words.collect();
                    match words.is_empty() {
                        true => format!("it ended with {status}"),
                        false => format!("it ended with {status}:\n  {}", words.join("\n  ")),
                    }
                }
            };
            let first = why.lines().next().unwrap_or_default().trim_end_matches(':').to_owned();
            self.bad = vec![(at, first)];
            return Ok(Some(Outcome::Lost { node: self.names[at].clone(), why }));
        }
        Ok(None)
    }

    fn take(&mut self, at: u32, came: Came, tell: &mut dyn FnMut(Told<'_>)) -> Result<(), Error> {
        let Some(node) = self.nodes.get_mut(at as usize) else { return Ok(()) };
        let world = self.group.settings.world();
        match came {
            Came::Gone => node.gone = true,
            Came::Words(text) => {
                // Errors of `sconce run` itself, or what an image prints before our program.
                if node.hello.is_some() && !text.is_empty() {
                    tell(Told::Note(&format!("{}: {text}", self.names[at as usize])));
                }
                node.words.push(text);
                if node.words.len() > MOST_WORDS {
                    node.words.remove(0);
                }
            }
            Came::Event(event) => {
                node.heard = Instant::now();
                match event {
                    Event::Hello(hello) => {
                        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                        let skew = hello.time - now.map_or(0.0, |time| time.as_secs_f64());
                        node.hello.get_or_insert((hello, skew));
                    }
                    Event::Listening { ok, why } | Event::Reached { ok, why } => {
                        node.answer = Some(if ok { Ok(()) } else { Err(why) });
                    }
                    Event::Choice { name, value, why } => {
                        let why = format!("{why} ({})", self.names[at as usize]);
                        tell(Told::Choice(&Choice { name, value, why }));
                    }
                    Event::Line { rank, text, .. } if rank < world && !self.began => {
                        self.evidence.log("preflight-rank", rank, &text)?;
                        self.measured.line(rank, &text);
                    }
                    Event::Line { rank, stream, text } if rank < world => {
                        self.looks.line(&text);
                        self.evidence.log("rank", rank, &text)?;
                        let error = stream == Stream::Err;
                        tell(Told::Line { rank, error, text: &text });
                    }
                    Event::Stack(stack) if stack.rank < world => self.looks.stack(stack),
                    Event::Glance { order, rank, python } => {
                        self.looks.glance(order, rank, &python);
                    }
                    Event::Nccl { order, look, answer } => {
                        self.looks.nccl(order, look, at, answer);
                    }
                    Event::Asked { order } => self.looks.asked(order, at),
                    Event::File { name, data } => self.evidence.file(&name, &data)?,
                    Event::Checked(end) => node.checked = Some(end),
                    Event::End(end) => node.end = Some(end),
                    Event::Stopping { why } => node.words.push(why),
                    Event::Beat | Event::Started | Event::Line { .. } | Event::Stack(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Has all ranks run the program.
    fn go(&mut self, master: &str, tell: &mut dyn FnMut(Told<'_>)) {
        let settings = self.group.settings;
        let id = format!("{}-{}", self.group.id, self.number);
        for at in 0..self.nodes.len() {
            let (arguments, variables) = self.choose(at, &id, master);
            if at == 0 {
                arguments.iter().chain(&variables).for_each(|choice| tell(Told::Choice(choice)));
            }
            let words = choices::program(settings);
            let order = self.torchrun(&id, &arguments, &variables, words, master);
            self.nodes[at].order(&format!("go {order}"));
        }
        self.looks.output();
    }

    /// torchrun's arguments and the variables of a node.
    pub(crate) fn choose(&self, at: usize, id: &str, master: &str) -> (Vec<Choice>, Vec<Choice>) {
        let settings = self.group.settings;
        let cpus = self.nodes[at].hello.as_ref().map_or(1, |(hello, _)| hello.cpus);
        let arguments = choices::torchrun(settings, at as u32, id, master);
        (arguments, choices::variables(settings, cpus, self.restarts))
    }

    /// What a node is told to start torchrun with.
    pub(crate) fn torchrun(
        &self,
        id: &str,
        arguments: &[Choice],
        variables: &[Choice],
        program: Vec<String>,
        master: &str,
    ) -> serde_json::Value {
        let words = arguments.iter().map(|choice| format!("{}={}", choice.name, choice.value));
        let words: Vec<String> = words.chain(program).collect();
        let env: BTreeMap<&str, &str> =
            variables.iter().map(|choice| (choice.name.as_str(), choice.value.as_str())).collect();
        let master = (!master.is_empty()).then_some(master);
        json!({"words": words, "env": env, "id": id, "master": master,
            "per_node": self.group.settings.ranks_per_node})
    }

    /// Until all have ended, or one failed.
    fn attend(
        &mut self,
        inbox: &Receiver<(u32, Came)>,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<Outcome, Error> {
        let mut beat = Instant::now();
        let mut failed: Option<Instant> = None;
        loop {
            let outcome = self.step(inbox, tell, &mut beat)?;
            let failure =
                self.nodes.iter().any(|node| node.end.as_ref().is_some_and(|end| end.code != 0));
            if failure {
                let since = *failed.get_or_insert_with(Instant::now);
                if since.elapsed() >= LAST_WORDS
                    || self.nodes.iter().all(|node| node.end.is_some() || node.gone)
                {
                    let ends: Vec<Option<&End>> =
                        self.nodes.iter().map(|node| node.end.as_ref()).collect();
                    return Ok(failure::first(&self.names, &ends));
                }
                // A node that is gone meanwhile went for this.
                if matches!(outcome, Some(Outcome::Lost { .. })) {
                    continue;
                }
            }
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
            if self.nodes.iter().all(|node| node.end.is_some()) {
                return Ok(Outcome::Done);
            }
            if !failure && let Some(outcome) = self.look(tell)? {
                return Ok(outcome);
            }
        }
    }

    /// Looks into ranks that say nothing.
    fn look(&mut self, tell: &mut dyn FnMut(Told<'_>)) -> Result<Option<Outcome>, Error> {
        let Some(limit) = self.group.settings.hang_after else { return Ok(None) };
        let settings = self.group.settings;
        match self.looks.due(limit, self.nodes.len() as u32) {
            Looked::Nothing => Ok(None),
            Looked::Ask(number) => {
                self.order(&format!("stacks {number}"));
                Ok(None)
            }
            Looked::Judge => {
                let (page, stuck) = self.looks.page(settings, &self.names, self.evidence)?;
                tell(Told::Page(&page));
                let abort = stuck && settings.on_hang == OnHang::Abort;
                Ok(abort.then_some(Outcome::Hung))
            }
        }
    }

    pub(crate) fn order(&mut self, word: &str) {
        self.nodes.iter_mut().for_each(|node| node.order(word));
    }

    /// Ends what still runs: told first, then without its lease, then killed.
    pub(crate) fn stop(&mut self, tell: &mut dyn FnMut(Told<'_>)) {
        self.order("stop");
        for node in &mut self.nodes {
            node.orders = None;
        }
        let end = Instant::now() + PATIENCE;
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            loop {
                match node.child.try_wait() {
                    Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(10)),
                    Ok(None) => {
                        let _ = node.child.kill();
                        let _ = node.child.wait();
                        let name = &self.names[at];
                        tell(Told::Note(&format!(
                            "{name} did not end when told to, and was killed"
                        )));
                        break;
                    }
                    _ => break,
                }
            }
        }
    }
}
