//! `sconce monitor` from its first sample to its end: what becomes of each sample, and of what happens between two.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sconce_gpu::nvml::times;
use sconce_monitor::exporter::Exporter;
use sconce_monitor::sample::Sample;
use sconce_monitor::sampler;

use crate::cli::Global;
use crate::commands::monitor::Args;
use crate::commands::monitor_output::{costs, tell, tell_of_kubelet, write_textfile};
use crate::commands::monitor_record::Recording;
use crate::error::{Failure, Kind};

/// A monitor under way.
pub struct Course<'a> {
    args: &'a Args,
    quiet: bool,
    exporter: Arc<Exporter>,
    recording: Option<Recording>,
    /// It serves nobody: where it can't write it has failed.
    alone: bool,
    stop: Arc<AtomicBool>,
    begun: Instant,
    failed: Option<Failure>,
    /// Exit codes of what was told when it happened: the recording, and the textfile as it is now.
    broken: Option<u8>,
    unwritten: Option<u8>,
    unkept: bool,
    silent: Option<String>,
    /// What was said of the kubelet.
    told: Vec<String>,
}

impl<'a> Course<'a> {
    /// Begins it.
    pub fn begin(
        args: &'a Args,
        global: &Global,
        exporter: &Arc<Exporter>,
        recording: Option<Recording>,
        alone: bool,
    ) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        if recording.is_some() {
            finish_when_interrupted(Arc::clone(&stop), args.interval)?;
        }
        if args.times {
            times::begin();
        }
        Ok(Self {
            args,
            quiet: global.quiet,
            exporter: Arc::clone(exporter),
            recording,
            alone,
            stop,
            begun: Instant::now(),
            failed: None,
            broken: None,
            unwritten: None,
            unkept: false,
            silent: None,
            told: Vec::new(),
        })
    }

    /// When it is to end.
    pub fn until(&self) -> Option<Instant> {
        self.args.duration.map(|most| self.begun + most)
    }

    /// Takes the next sample, and says whether to go on.
    pub fn take(&mut self, sample: Sample) -> bool {
        if self.silent != sample.silence {
            self.silent.clone_from(&sample.silence);
            if let Some(why) = &self.silent {
                eprintln!("note: NVML does not answer: {why}; it is asked again");
            }
        }
        tell_of_kubelet(&sample, &mut self.told);
        if let Some(open) = self.recording.take() {
            match times::measure("(recording)", || open.push(&sample)) {
                Ok(still) => self.recording = still,
                Err(failure) => {
                    self.broken = Some(failure.code());
                    if !self.lost(failure) {
                        return false;
                    }
                }
            }
        }
        let push = || self.exporter.push(sample);
        let (changes, kept) = times::measure("(metrics and history)", push);
        tell(self.quiet, &changes);
        // Tried again at the next sample; told of once.
        if let Err(error) = &kept
            && !self.unkept
        {
            eprintln!("note: the history can't be written: {error}; it is tried again");
        }
        self.unkept = kept.is_err();
        if let Some(path) = &self.args.textfile {
            let written = write_textfile(path, &self.exporter);
            // Tried again at the next sample; told of once.
            let now = written.as_ref().err().map(Failure::code);
            let told = std::mem::replace(&mut self.unwritten, now).is_some();
            if let Err(failure) = written
                && !told
                && !self.lost(failure)
            {
                return false;
            }
        }
        !self.stop.load(Ordering::Relaxed) && self.until().is_none_or(|end| Instant::now() < end)
    }

    /// Who serves metrics goes on doing so on a full disk; who only writes has failed.
    fn lost(&mut self, failure: Failure) -> bool {
        if self.alone {
            self.failed = Some(failure);
        } else {
            failure.print();
        }
        !self.alone
    }

    /// What is done while the next sample is not due: what happened is told of, and who is to end does.
    pub fn between(&self) -> sampler::Between {
        let (exporter, stop) = (Arc::clone(&self.exporter), Arc::clone(&self.stop));
        let (quiet, end, textfile) = (self.quiet, self.until(), self.args.textfile.clone());
        Box::new(move |events| {
            if !events.is_empty() {
                tell(quiet, &exporter.happened(events).0);
                // That something can't be written the next sample tells.
                if let Some(path) = &textfile {
                    drop(write_textfile(path, &exporter));
                }
            }
            !stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end)
        })
    }

    /// Ends it.
    pub fn end(self, damaged: Option<Failure>) -> Result<ExitCode, Failure> {
        if let Some(recording) = self.recording {
            recording.finish()?;
        }
        if self.args.times {
            eprint!("{}", costs(self.begun.elapsed()));
        }
        // A textfile is whole again once it was written again; a recording is not.
        match (self.failed.or(damaged), self.broken.or(self.unwritten)) {
            (Some(failure), _) => Err(failure),
            (None, Some(code)) => Ok(ExitCode::from(code)),
            (None, None) => Ok(ExitCode::SUCCESS),
        }
    }
}

/// Lets a recording be ended by Ctrl-C, whole. A monitor whose driver does not come back ends all the same.
fn finish_when_interrupted(stop: Arc<AtomicBool>, interval: Duration) -> Result<(), Failure> {
    let interrupts = sconce_run::Interrupts::listen()?;
    let wait = move || {
        while interrupts.came().is_none() {
            thread::sleep(Duration::from_millis(100));
        }
        stop.store(true, Ordering::Relaxed);
        thread::sleep(interval.min(Duration::from_secs(2)) + Duration::from_secs(4));
        std::process::exit(Kind::Interrupted as i32);
    };
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(wait);
    thread.map(drop).map_err(|error| Failure::of(Kind::Machine, &error, None))
}
