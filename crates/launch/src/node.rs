//! A node that was started: its process, the orders to it, and what comes of it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Instant;

use crate::error::Error;
use crate::event::{self, End, Event, Hello};

/// A node that has been started.
pub(crate) struct Node {
    pub(crate) child: Child,
    pub(crate) orders: Option<ChildStdin>,
    pub(crate) heard: Instant,
    pub(crate) hello: Option<(Hello, f64)>,
    pub(crate) answer: Option<Result<(), String>>,
    /// How its ranks ended before the first step.
    pub(crate) checked: Option<End>,
    pub(crate) end: Option<End>,
    pub(crate) gone: bool,
    pub(crate) words: Vec<String>,
}

impl Node {
    /// Gives it an order. One that can't be told has gone, and that is seen elsewhere.
    pub(crate) fn order(&mut self, word: &str) {
        if let Some(orders) = &mut self.orders {
            let _ = orders.write_all(format!("{word}\n").as_bytes()).and_then(|()| orders.flush());
        }
    }
}

/// What came of a node.
pub(crate) enum Came {
    Event(Event),
    Words(String),
    Gone,
}

/// Starts a node, and reads what it says.
pub(crate) fn start(
    mut command: Command,
    at: u32,
    sender: &Sender<(u32, Came)>,
) -> Result<Node, Error> {
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
        checked: None,
        end: None,
        gone: false,
        words: Vec::new(),
    })
}
