//! All nodes of a launch, from their start to their end: leases, checks before the first step, failures, restarts.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::choices::{self, Choice};
use crate::error::Error;
use crate::event::{self, End, Event, Hello, Stream};
use crate::evidence::Evidence;
use crate::hang::{self, Looked, Looks};
use crate::settings::{OnHang, Settings};

/// Between two words to each node.
const BEAT: Duration = Duration::from_secs(1);
/// How long nodes may take to end when they are told to; they give their ranks 5 s.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long the others may take to say how they ended, once one has.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Lines of a node that are no events and are kept for what it died of.
const MOST_WORDS: usize = 200;

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
}

/// Nodes to start.
pub struct Group<'a> {
    /// What is launched.
    pub settings: &'a Settings,
    /// What each node is called; its place is its number.
    pub names: Vec<String>,
    /// The command that starts a node.
    pub command: &'a dyn Fn(u32) -> Command,
    /// What this launch is called.
    pub id: String,
    /// The signal that a person sent.
    pub interrupted: &'a dyn Fn() -> Option<i32>,
}

/// A node that has been started.
struct Node {
    child: Child,
    orders: Option<ChildStdin>,
    heard: Instant,
    hello: Option<(Hello, f64)>,
    answer: Option<Result<(), String>>,
    end: Option<End>,
    gone: bool,
    words: Vec<String>,
}

/// What came of a node.
enum Came {
    Event(Event),
    Words(String),
    Gone,
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
        let mut attempt = 0;
        loop {
            let mut attending = Attempt {
                group: self,
                number: attempt,
                nodes: Vec::new(),
                evidence,
                looks: Looks::default(),
                end,
            };
            let outcome = attending.run(tell);
            attending.stop(tell);
            let outcome = outcome?;
            if attempt >= self.settings.restarts || !outcome.may_go_better() {
                return Ok(outcome);
            }
            attempt += 1;
            let what = hang::in_words(&outcome);
            tell(Told::Note(&format!(
                "{what}; starting all ranks again ({attempt} of {})",
                self.settings.restarts
            )));
        }
    }
}

struct Attempt<'a, 'b> {
    group: &'a Group<'b>,
    number: u32,
    nodes: Vec<Node>,
    evidence: &'a mut Evidence,
    looks: Looks,
    end: Option<Instant>,
}

impl Attempt<'_, '_> {
    fn run(&mut self, tell: &mut dyn FnMut(Told<'_>)) -> Result<Outcome, Error> {
        let (sender, inbox) = channel();
        for at in 0..self.group.names.len() as u32 {
            let node = start((self.group.command)(at), at, &sender)?;
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
        self.go(&master, tell);
        self.attend(&inbox, tell)
    }

    /// Waits until `ready` holds for all nodes, or something ends the launch.
    fn wait(
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
    fn step(
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
            return Ok(Some(Outcome::Lost { node: self.group.names[at].clone(), why }));
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
                    tell(Told::Note(&format!("{}: {text}", self.group.names[at as usize])));
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
                        let why = format!("{why} ({})", self.group.names[at as usize]);
                        tell(Told::Choice(&Choice { name, value, why }));
                    }
                    Event::Line { rank, stream, text } if rank < world => {
                        self.looks.line(&text);
                        self.evidence.log(rank, &text)?;
                        let error = stream == Stream::Err;
                        tell(Told::Line { rank, error, text: &text });
                    }
                    Event::Stack(stack) if stack.rank < world => self.looks.stack(stack),
                    Event::Asked { .. } => self.looks.asked(at),
                    Event::File { name, data } => self.evidence.file(&name, &data)?,
                    Event::End(end) => node.end = Some(end),
                    Event::Stopping { why } => node.words.push(why),
                    Event::Beat | Event::Started | Event::Line { .. } | Event::Stack(_) => {}
                }
            }
        }
        Ok(())
    }

    /// What keeps these nodes from working together, seen from inside their containers.
    fn check(&self, tell: &mut dyn FnMut(Told<'_>)) -> Option<Outcome> {
        let settings = self.group.settings;
        let hellos: Vec<(&str, &Hello, f64)> = self
            .nodes
            .iter()
            .zip(&self.group.names)
            .filter_map(|(node, name)| {
                node.hello.as_ref().map(|(hello, skew)| (name.as_str(), hello, *skew))
            })
            .collect();
        let (refusals, remarks) = hang::preflight(settings, &hellos);
        remarks.iter().for_each(|remark| tell(Told::Note(remark)));
        (!refusals.is_empty()).then(|| Outcome::Refused(refusals.join("\n")))
    }

    /// Has node 0 listen and all others reach it; answers the address at which they all did.
    fn meet(
        &mut self,
        inbox: &Receiver<(u32, Came)>,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<Result<String, Outcome>, Error> {
        let port = self.group.settings.port;
        if self.nodes.len() < 2 {
            return Ok(Ok(String::new()));
        }
        self.tell_node(0, &format!("listen {port}"));
        let answered = |node: &Node| node.answer.is_some();
        // Only node 0 is asked: the others have answered, as it were.
        self.nodes.iter_mut().skip(1).for_each(|node| node.answer = Some(Ok(())));
        if let Some(outcome) = self.wait(inbox, tell, &answered)? {
            return Ok(Err(outcome));
        }
        if let Some(Err(why)) = &self.nodes[0].answer {
            let why =
                format!("{}: {why} is not free there; `--port` names another", self.group.names[0]);
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
        for address in addresses {
            let legal = |c: char| c.is_ascii_alphanumeric() || ".:-".contains(c);
            if !address.chars().all(legal) {
                continue;
            }
            for at in 1..self.nodes.len() {
                self.nodes[at].answer = None;
                self.tell_node(at, &format!("reach {address} {port}"));
            }
            if let Some(outcome) = self.wait(inbox, tell, &answered)? {
                return Ok(Err(outcome));
            }
            let unreached = self.nodes.iter().zip(&self.group.names).filter_map(|(node, name)| {
                let why = node.answer.as_ref()?.as_ref().err()?;
                Some(format!("{name} does not reach {}: {why}", self.group.names[0]))
            });
            match unreached.collect::<Vec<_>>() {
                none if none.is_empty() => return Ok(Ok(address)),
                some => reasons.extend(some),
            }
        }
        if reasons.is_empty() {
            reasons.push(format!("{} has no address besides the loopback's", self.group.names[0]));
        }
        reasons.push(
            "`--master-addr ADDRESS` says which address of the first machine the others reach"
                .to_owned(),
        );
        Ok(Err(Outcome::Refused(reasons.join("\n"))))
    }

    fn go(&mut self, master: &str, tell: &mut dyn FnMut(Told<'_>)) {
        let settings = self.group.settings;
        let id = format!("{}-{}", self.group.id, self.number);
        for at in 0..self.nodes.len() {
            let cpus = self.nodes[at].hello.as_ref().map_or(1, |(hello, _)| hello.cpus);
            let arguments = choices::torchrun(settings, at as u32, &id, master);
            let variables = choices::variables(settings, cpus, self.number);
            if at == 0 {
                arguments.iter().chain(&variables).for_each(|choice| tell(Told::Choice(choice)));
            }
            let words = arguments.iter().map(|choice| format!("{}={}", choice.name, choice.value));
            let words: Vec<String> = words.chain(choices::program(settings)).collect();
            let env: BTreeMap<&str, &str> = variables
                .iter()
                .map(|choice| (choice.name.as_str(), choice.value.as_str()))
                .collect();
            let master = (!master.is_empty()).then_some(master);
            let order = json!({"words": words, "env": env, "id": id, "master": master,
                "per_node": settings.ranks_per_node});
            self.tell_node(at, &format!("go {order}"));
        }
        self.looks.output();
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
                    return Ok(self.first_failure());
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
            Looked::Ask => {
                self.order("stacks");
                Ok(None)
            }
            Looked::Judge => {
                let (page, stuck) = self.looks.page(settings, &self.group.names, self.evidence)?;
                tell(Told::Page(&page));
                let abort = stuck && settings.on_hang == OnHang::Abort;
                Ok(abort.then_some(Outcome::Hung))
            }
        }
    }

    /// The rank that failed first: one killed by a signal that was not torchrun's own, else the one that wrote its
    /// exception first.
    fn first_failure(&self) -> Outcome {
        let ends = || {
            self.nodes.iter().enumerate().filter_map(|(at, node)| Some((at, node.end.as_ref()?)))
        };
        let failing = || ends().filter(|(_, end)| end.code != 0);
        let shell =
            |code: i32| u8::try_from(if code < 0 { 128 - code } else { code }).unwrap_or(1).max(1);
        let killed = failing().find_map(|(at, end)| {
            let excused = |rank: u32| end.failures.iter().any(|failure| failure.rank == rank);
            let found = end
                .codes
                .iter()
                .find(|code| code.code < 0 && code.code != -15 && !excused(code.rank));
            found.map(|code| (at, *code))
        });
        let first = failing()
            .flat_map(|(at, end)| end.failures.iter().map(move |failure| (at, end, failure)))
            .min_by(|(_, _, a), (_, _, b)| a.written.total_cmp(&b.written));
        let name = |at: usize| self.group.names[at].clone();
        if let Some((at, code)) = killed {
            let why = format!("killed by signal {}", -code.code);
            return Outcome::Failed {
                rank: Some(code.rank),
                node: name(at),
                code: shell(code.code),
                why,
            };
        }
        if let Some((at, end, failure)) = first {
            let code =
                end.codes.iter().find(|code| code.rank == failure.rank).map_or(1, |code| code.code);
            let why = match failure.trace.trim_end() {
                "" => failure.message.clone(),
                trace => trace.to_owned(),
            };
            return Outcome::Failed {
                rank: Some(failure.rank),
                node: name(at),
                code: shell(code),
                why,
            };
        }
        let coded = failing().find_map(|(at, end)| {
            end.codes.iter().find(|code| code.code != -15).map(|code| (at, *code))
        });
        if let Some((at, code)) = coded {
            let why = format!("it ended with exit code {}", code.code);
            return Outcome::Failed {
                rank: Some(code.rank),
                node: name(at),
                code: shell(code.code),
                why,
            };
        }
        let (at, end) = failing().next().unwrap_or((0, &NO_END));
        let lines: Vec<&str> = end.words.lines().rev().take(30).collect();
        let why = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
        Outcome::Failed { rank: None, node: name(at), code: shell(end.code), why }
    }

    fn order(&mut self, word: &str) {
        for at in 0..self.nodes.len() {
            self.tell_node(at, word);
        }
    }

    /// A node that can't be told has gone, and that is seen elsewhere.
    fn tell_node(&mut self, at: usize, word: &str) {
        if let Some(orders) = &mut self.nodes[at].orders {
            let _ = orders.write_all(format!("{word}\n").as_bytes()).and_then(|()| orders.flush());
        }
    }

    /// Ends what still runs: told first, then without its lease, then killed.
    fn stop(&mut self, tell: &mut dyn FnMut(Told<'_>)) {
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
                        let name = &self.group.names[at];
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

static NO_END: End = End { code: 1, failures: Vec::new(), codes: Vec::new(), words: String::new() };

/// Starts a node, and reads what it says.
fn start(mut command: Command, at: u32, sender: &Sender<(u32, Came)>) -> Result<Node, Error> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Ctrl-C at the terminal is for the launcher, which tells the nodes.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().map_err(|source| Error::Start { program, source })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (events, words) = (sender.clone(), sender.clone());
    let errors = thread::spawn(move || {
        let Some(stderr) = stderr else { return };
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        while let Ok(1..) = std::io::Read::take(&mut reader, 65536).read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if words.send((at, Came::Words(text))).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        if let Some(stdout) = stdout {
            event::read(BufReader::new(stdout), &mut |event| {
                let came = match event {
                    Ok(event) => Came::Event(event),
                    Err(text) => Came::Words(text),
                };
                let _ = events.send((at, came));
            });
        }
        let _ = errors.join();
        let _ = events.send((at, Came::Gone));
    });
    let orders = child.stdin.take();
    Ok(Node {
        child,
        orders,
        heard: Instant::now(),
        hello: None,
        answer: None,
        end: None,
        gone: false,
        words: Vec::new(),
    })
}
