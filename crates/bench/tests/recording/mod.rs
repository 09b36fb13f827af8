//! Reports of recorded runs, for the tests.

// Each test uses some of them.
#![allow(dead_code)]

use std::fs;
use std::path::Path;

use sconce_bench::answer::{Figure, Line, Malformed, Reader};
use sconce_bench::report::{Report, Subject};

/// The lines of a recording.
pub fn recorded(name: &str) -> Vec<Line> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(name);
    let text = fs::read(path).expect("the recording");
    let lines: Result<Vec<Line>, Malformed> = Reader::default().read(&text).into_iter().collect();
    lines.expect("answers")
}

/// What is made of them.
pub fn report(lines: Vec<Line>) -> Report {
    let subject = Subject { target: "torch".to_owned(), effort: "usual", ..Subject::default() };
    Report::new(subject, lines, Vec::new())
}

/// Changes the figures of that name.
pub fn change(lines: &mut [Line], name: &str, by: impl Fn(&mut Figure)) {
    for line in lines {
        if let Line::Figure(figure) = line
            && figure.figure == name
        {
            by(figure);
        }
    }
}
