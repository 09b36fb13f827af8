//! Progress on standard error: a line that moves on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sconce_build::{Progress, Silent, Stage};

/// How often a plain line says how far a stage is.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Draws on standard error.
pub struct Display {
    quiet: bool,
    /// The lines under way, on a terminal.
    lines: Option<MultiProgress>,
}

impl Display {
    /// A display; `quiet` says nothing but remarks.
    pub fn new(quiet: bool) -> Self {
        let target = || ProgressDrawTarget::stderr_with_hz(10);
        let terminal = std::io::stderr().is_terminal();
        Self { quiet, lines: terminal.then(|| MultiProgress::with_draw_target(target())) }
    }
}

impl Progress for Display {
    fn begin(&self, what: &str, total: Option<u64>) -> Box<dyn Stage> {
        if self.quiet {
            return Box::new(Silent);
        }
        let what = what.to_owned();
        match &self.lines {
            Some(lines) => Box::new(Line::new(lines.clone(), what, total)),
            None => Box::new(Plain::new(what, total)),
        }
    }

    fn note(&self, text: &str) {
        match &self.lines {
            Some(lines) => lines.suspend(|| eprintln!("note: {text}")),
            None => eprintln!("note: {text}"),
        }
    }

    fn looking_for(&self, what: &str) {
        let line = || eprintln!("{:16} looking for {what}", "locking");
        match &self.lines {
            _ if self.quiet => {}
            Some(lines) => lines.suspend(line),
            None => line(),
        }
    }
}

/// A line that moves.
struct Line {
    lines: MultiProgress,
    bar: ProgressBar,
    what: String,
    begun: Instant,
}

impl Line {
    fn new(lines: MultiProgress, what: String, total: Option<u64>) -> Self {
        let bar = lines.add(match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        });
        let template = match total {
            Some(_) => {
                "{msg:16} {bar:28} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left"
            }
            None => "{msg:16} {spinner} {elapsed}",
        };
        // The templates are constants of this file; indicatif checks them at run time only.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.clone());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { lines, bar, what, begun: Instant::now() }
    }
}

impl Stage for Line {
    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        // All bytes are there: what remains is not told by them.
        if self.bar.length().is_some_and(|total| self.bar.position() >= total)
            && let Ok(style) =
                ProgressStyle::with_template("{msg:16} {spinner} finishing, {elapsed}")
        {
            self.bar.set_style(style);
        }
    }

    fn end(self: Box<Self>, summary: &str) {
        self.bar.finish_and_clear();
        self.lines.suspend(|| eprintln!("{}", ended(&self.what, summary, self.begun)));
    }
}

impl Drop for Line {
    /// A stage that failed leaves no half-drawn line.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.lines.remove(&self.bar);
    }
}

/// Lines now and then, where nothing can move; also of a stage of which nothing comes, so that none looks as if it hung.
struct Plain {
    what: String,
    begun: Instant,
    state: Arc<Told>,
}

/// What a stage and the thread that tells of it share.
#[derive(Default)]
struct Told {
    state: Mutex<State>,
    ended: Condvar,
}

/// How far a stage is.
#[derive(Default)]
struct State {
    done: u64,
    ended: bool,
}

impl Told {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how far the stage is, every so often until it ends.
    fn tell(&self, what: &str, total: Option<u64>, begun: Instant) {
        let (mut then, mut at) = (0, begun);
        let mut state = self.state();
        loop {
            let left = PLAIN_EVERY.saturating_sub(at.elapsed());
            let waited = self.ended.wait_timeout_while(state, left, |state| !state.ended);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.ended {
                return;
            }
            let rate = (state.done - then) as f64 / at.elapsed().as_secs_f64();
            eprintln!("{what:16} {}", how_far(state.done, total, rate, begun.elapsed()));
            (then, at) = (state.done, Instant::now());
        }
    }
}

impl Plain {
    fn new(what: String, total: Option<u64>) -> Self {
        let (begun, state) = (Instant::now(), Arc::new(Told::default()));
        let (told, name) = (Arc::clone(&state), what.clone());
        // Without a thread nothing is told before the end: no reason to fail.
        let _ = thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || told.tell(&name, total, begun));
        Self { what, begun, state }
    }
}

impl Stage for Plain {
    fn advance(&self, bytes: u64) {
        self.state.state().done += bytes;
    }

    fn end(self: Box<Self>, summary: &str) {
        eprintln!("{}", ended(&self.what, summary, self.begun));
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.state.state().ended = true;
        self.state.ended.notify_all();
    }
}

fn ended(what: &str, summary: &str, begun: Instant) -> String {
    format!("{what:16} {summary} ({:.1} s)", begun.elapsed().as_secs_f64())
}

/// How far a stage is, at `rate` bytes a second lately.
fn how_far(done: u64, total: Option<u64>, rate: f64, elapsed: Duration) -> String {
    let speed = bytes_in_words(rate as u64);
    match total {
        Some(total) if done >= total => format!("all of {}, finishing", bytes_in_words(total)),
        Some(total) if done == 0 || rate <= 0.0 => {
            format!("{} of {}, {speed}/s", bytes_in_words(done), bytes_in_words(total))
        }
        Some(total) => {
            let left = (total - done) as f64 / rate.max(1.0);
            let (done, total) = (bytes_in_words(done), bytes_in_words(total));
            format!("{done} of {total}, {:.0} s left, {speed}/s", left.ceil())
        }
        None if done == 0 => format!("{} s so far", elapsed.as_secs()),
        None => format!("{}, {speed}/s", bytes_in_words(done)),
    }
}

/// A size in the largest binary unit that keeps it above one: `3.0 GiB`.
pub fn bytes_in_words(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{bytes_in_words, how_far};

    #[test]
    fn an_estimate_goes_by_the_rate_of_late() {
        let gib = 1 << 30;
        let how_far = |done, total, rate| how_far(done, total, rate, Duration::from_millis(10_010));
        assert_eq!(how_far(gib, Some(3 * gib), 1e8), "1.0 GiB of 3.0 GiB, 22 s left, 95.4 MiB/s");
        assert_eq!(
            how_far(3 * gib - 1, Some(3 * gib), 1e8),
            "3.0 GiB of 3.0 GiB, 1 s left, 95.4 MiB/s"
        );
        assert_eq!(how_far(3 * gib, Some(3 * gib), 0.0), "all of 3.0 GiB, finishing");
        assert_eq!(how_far(gib, Some(3 * gib), 0.0), "1.0 GiB of 3.0 GiB, 0 B/s");
        assert_eq!(how_far(gib, None, 0.0), "1.0 GiB, 0 B/s");
        assert_eq!(how_far(0, None, 0.0), "10 s so far");
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(bytes_in_words(0), "0 B");
        assert_eq!(bytes_in_words(1023), "1023 B");
        assert_eq!(bytes_in_words(1 << 20), "1.0 MiB");
        assert_eq!(bytes_in_words(5_470_000_000), "5.1 GiB");
    }
}
