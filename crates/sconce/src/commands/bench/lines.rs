//! Answers as lines, while they come.

use sconce_bench::answer::{Gpu, Line, Moment};
use sconce_bench::{impossible, judge, report};
use sconce_build::{Progress, Stage};
use sconce_inside::bench::Listener;

use super::earlier::{Earlier, Notes};
use crate::progress::Display;

/// Prints answers as they come, unless they wait for the end.
pub struct Lines<'a> {
    print: bool,
    display: Display,
    /// The line of progress, below the answers.
    stage: Option<Box<dyn Stage>>,
    gpus: Vec<Gpu>,
    /// What differs from an earlier result.
    notes: Option<Notes<'a>>,
}

impl Listener for Lines<'_> {
    fn line(&mut self, line: &Line) {
        // The line of progress goes before another is printed.
        drop(self.stage.take());
        self.show(line);
        self.stage = Some(self.display.begin("measuring", None));
    }

    fn note(&mut self, text: &str) {
        drop(self.stage.take());
        eprintln!("note: {text}");
    }
}

impl<'a> Lines<'a> {
    pub fn new(print: bool, quiet: bool) -> Self {
        Self { print, display: Display::new(quiet), stage: None, gpus: Vec::new(), notes: None }
    }

    /// Says what is not as it was in an earlier result, before anything is measured.
    pub(super) fn beside(self, earlier: Option<&'a Earlier>) -> Self {
        Self { notes: earlier.map(Earlier::notes), ..self }
    }

    /// It is measured in this image.
    pub(super) fn image(&mut self, image: &str) {
        if let Some(notes) = &mut self.notes {
            notes.image(image);
        }
    }

    /// Takes the line of progress away.
    pub fn end(mut self) {
        drop(self.stage.take());
    }

    fn show(&mut self, line: &Line) {
        if let Line::Gpu(gpu) = line {
            self.gpus.push(gpu.clone());
        }
        if let (Some(notes), Line::Torch(torch)) = (&mut self.notes, line) {
            notes.torch(torch);
        }
        match (&mut self.notes, line) {
            (Some(notes), Line::Gpu(gpu)) => notes.gpu(gpu),
            (Some(_), Line::Torch(_)) | (None, _) => {}
            (Some(notes), _) => notes.measures(),
        }
        if !self.print {
            return;
        }
        match line {
            Line::Torch(_) => {}
            Line::Gpu(gpu) => println!("{}", report::about(gpu)),
            Line::Figure(figure) => {
                for one in judge::judge(&self.gpus, vec![figure.clone()]) {
                    match impossible(&self.gpus, figure) {
                        None => println!("{one}"),
                        Some(reason) => println!("{:<26} WRONG: {reason}", one.named()),
                    }
                }
            }
            Line::Unavailable(one) => println!("{:<26} not measured: {}", one.named(), one.reason),
            Line::Wrong(one) => println!("{:<26} WRONG: {}", one.named(), one.reason),
            Line::Moment(moment) => eprintln!("{}", words(moment)),
        }
    }
}

/// `burn: 60 of 600 s: GPU 0 at 706, GPU 1 at 702`.
fn words(moment: &Moment) -> String {
    let values: Vec<String> =
        moment.values.iter().map(|(gpu, value)| format!("GPU {gpu} at {value:.0}")).collect();
    let Moment { figure, seconds, of, .. } = moment;
    let unit = sconce_bench::figure(figure).map_or("", |row| row.unit);
    format!("{figure}: {seconds:.0} of {of:.0} s: {} {unit}", values.join(", "))
}
