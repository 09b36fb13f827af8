//! Progress on standard error: a line that moves on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sconce_build::Progress;

/// How often a plain line says how far a stage is.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Draws on standard error.
pub struct Display {
    quiet: bool,
    terminal: bool,
    stage: Mutex<Option<Stage>>,
}

struct Stage {
    what: String,
    total: Option<u64>,
    done: u64,
    begun: Instant,
    spoke: Instant,
    bar: Option<ProgressBar>,
}

impl Display {
    /// A display; `quiet` says nothing but remarks.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, terminal: std::io::stderr().is_terminal(), stage: Mutex::new(None) }
    }

    /// Takes a stage away without a word.
    pub fn clear(&self) {
        if let Some(bar) = self.stage().take().and_then(|stage| stage.bar) {
            bar.finish_and_clear();
        }
    }

    fn stage(&self) -> std::sync::MutexGuard<'_, Option<Stage>> {
        self.stage.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Progress for Display {
    fn begin(&self, what: &str, total: Option<u64>) {
        if self.quiet {
            return;
        }
        let bar = self.terminal.then(|| {
            let bar = match total {
                Some(total) => ProgressBar::new(total),
                None => ProgressBar::new_spinner(),
            };
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            let template = match total {
                Some(_) => {
                    "{msg:12} {bar:28} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left"
                }
                None => "{msg:12} {spinner} {elapsed}",
            };
            // The templates are constants of this file; indicatif checks them at run time only.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let now = Instant::now();
        let what = what.to_owned();
        *self.stage() = Some(Stage { what, total, done: 0, begun: now, spoke: now, bar });
    }

    fn advance(&self, bytes: u64) {
        let mut guard = self.stage();
        let Some(stage) = guard.as_mut() else { return };
        stage.done += bytes;
        if let Some(bar) = &stage.bar {
            bar.inc(bytes);
        } else if stage.spoke.elapsed() >= PLAIN_EVERY {
            stage.spoke = Instant::now();
            let rate = stage.done as f64 / stage.begun.elapsed().as_secs_f64().max(0.001);
            let mut line = format!("{:12} {}", stage.what, bytes_in_words(stage.done));
            if let Some(total) = stage.total {
                let left = total.saturating_sub(stage.done) as f64 / rate.max(1.0);
                line += &format!(" of {}, {left:.0} s left", bytes_in_words(total));
            }
            eprintln!("{line}, {}/s", bytes_in_words(rate as u64));
        }
    }

    fn end(&self, summary: &str) {
        let Some(stage) = self.stage().take() else { return };
        if let Some(bar) = &stage.bar {
            bar.finish_and_clear();
        }
        eprintln!("{:12} {summary} ({:.1} s)", stage.what, stage.begun.elapsed().as_secs_f64());
    }

    fn note(&self, text: &str) {
        match self.stage().as_ref().and_then(|stage| stage.bar.as_ref()) {
            Some(bar) => bar.suspend(|| eprintln!("note: {text}")),
            None => eprintln!("note: {text}"),
        }
    }
}

impl Drop for Display {
    /// A stage that failed leaves no half-drawn line.
    fn drop(&mut self) {
        self.clear();
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
    use super::bytes_in_words;

    #[test]
    fn sizes_for_people() {
        assert_eq!(bytes_in_words(0), "0 B");
        assert_eq!(bytes_in_words(1023), "1023 B");
        assert_eq!(bytes_in_words(1 << 20), "1.0 MiB");
        assert_eq!(bytes_in_words(5_470_000_000), "5.1 GiB");
    }
}
