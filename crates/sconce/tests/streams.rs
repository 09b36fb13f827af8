//! What becomes of a command whose words or results nobody can take.

#[allow(dead_code)]
mod world;

use std::fs::File;
use std::process::Stdio;

use world::{World, texts};

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

/// A full disk must not look like a success, nor take a failure's own code.
#[test]
fn output_of_a_command_that_cannot_be_written_is_an_error() {
    let world = World::new();
    world.image(r#"{"Cmd": ["sh"]}"#);
    let lost = "output of the command was lost: No space left on device";
    let run =
        |script: &str| world.sconce(&["run", "--gpus", "none", "oci:image", "sh", "-c", script]);
    let output = run("echo result; true").stdout(full()).output().unwrap();
    let (code, _, err) = texts(&output);
    assert!(code == 125 && err.contains(&format!("error: {lost}")), "{code} {err}");
    let (code, _, err) = texts(&run("echo result; exit 7").stdout(full()).output().unwrap());
    assert!(code == 7 && err.contains(&format!("note: {lost}")), "{code} {err}");
    // What programs do about their errors: nothing.
    let (code, out, _) =
        texts(&run("echo result; echo error >&2").stderr(full()).output().unwrap());
    assert_eq!((code, out.as_str()), (0, "result\n"));

    // And where others join a container.
    let words = ["run", "-d", "--gpus", "none", "--name", "it", "-v", ".:/here", "oci:image"];
    let script = "until test -e /here/joined; do sleep 0.05; done; echo result; sleep 0.3";
    let (code, _, err) = world.says(&[&words[..], &["sh", "-c", script]].concat());
    assert_eq!(code, 0, "{err}");
    let exec = ["exec", "it", "sh", "-c", "echo result"];
    let (code, _, err) = texts(&world.sconce(&exec).stdout(full()).output().unwrap());
    assert!(code == 125 && err.contains(lost), "{code} {err}");
    let attached = world.sconce(&["attach", "it"]).stdout(full()).stderr(Stdio::piped()).spawn();
    let attached = attached.unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    File::create(world.path("joined")).unwrap();
    let (code, _, err) = texts(&attached.wait_with_output().unwrap());
    assert!(code == 125 && err.contains(lost), "{code} {err}");
}

#[test]
fn a_reader_of_a_command_that_goes_away_is_no_loss() {
    let world = World::new();
    world.image(r#"{"Cmd": ["sh"]}"#);
    // A socket's other end, as ssh and inetd have it: its copy gets EPIPE.
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(reader);
    let words = ["run", "--gpus", "none", "oci:image", "sh", "-c", "echo result; true"];
    let mut command = world.sconce(&words);
    let (code, _, err) =
        texts(&command.stdout(std::os::fd::OwnedFd::from(writer)).output().unwrap());
    assert!(code == 0 && !err.contains("lost"), "{code} {err}");
}

#[test]
fn an_image_for_another_processor_is_refused() {
    let world = World::new();
    let run = ["run", "--gpus", "none", "oci:image", "true"];
    world.image(r#"{"Cmd": ["sh"]}"#);
    let (code, _, err) = world.says(&run);
    assert!(code == 0 && !err.contains("the image is for"), "{code} {err}");
    world.image_for("riscv64", r#"{"Cmd": ["sh"]}"#);
    let (code, _, err) = world.says(&run);
    assert!(code == 125 && err.contains("it is for riscv64, not "), "{code} {err}");
}
