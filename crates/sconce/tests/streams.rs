//! What becomes of a command whose words or results nobody can take.

#[allow(dead_code)]
mod world;

use std::fs::File;
use std::process::Stdio;

use world::World;

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn a_full_disk_behind_standard_error_changes_no_exit_code() {
    let world = World::new();
    for words in
        [&["images"][..], &["lock", "--check", "nowhere"], &["run", "no-such-image"], &["x"]]
    {
        let seen = world.sconce(words).output().unwrap();
        let unseen = world.sconce(words).stderr(full()).output().unwrap();
        assert_eq!((unseen.status, unseen.stdout), (seen.status, seen.stdout), "{words:?}");
    }
}

#[test]
fn results_that_cannot_be_written_are_an_error() {
    let world = World::new();
    for words in [&["images", "--json"][..], &["ps"], &["completions", "bash"]] {
        let output = world.sconce(words).stdout(full()).output().unwrap();
        let words_of_it = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{words:?}\n{words_of_it}");
        let wanted = "error: cannot write to standard output: No space left on device";
        assert!(words_of_it.starts_with(wanted), "{words:?}\n{words_of_it}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_without_a_word() {
    let world = World::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = world.sconce(&["completions", "bash"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(141), &b""[..]));
}
