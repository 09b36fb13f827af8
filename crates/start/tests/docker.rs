//! The table of Docker's flags: whole, in order, and as `docs/docker.md` shows it; and command lines
//! read by it.

use std::ffi::OsString;

use expect_test::expect_file;
use sconce_start::docker::{
    AfterTarget, Declared, Verdict, command_options, commands, flags, page, read,
};

#[test]
fn the_page_is_the_table() {
    expect_file!["../../../docs/docker.md"].assert_eq(&page());
}

#[test]
fn rows_are_whole() {
    let mut letters = Vec::new();
    for (flag, next) in flags().iter().zip(flags().iter().skip(1)) {
        assert!(flag.name < next.name, "{} and {} are not in order", flag.name, next.name);
    }
    for flag in flags() {
        assert!(!flag.words.is_empty() && !flag.words.ends_with('.'), "--{}", flag.name);
        assert_eq!(
            flag.values.is_empty() || flag.value.is_none(),
            flag.values.is_empty(),
            "--{}",
            flag.name
        );
        let limited = !flag.values.is_empty() || flag.value.is_none();
        assert!(
            flag.otherwise.is_none() || (flag.verdict == Verdict::Taken && limited),
            "--{}",
            flag.name
        );
        assert!(flag.values.is_empty() || flag.otherwise.is_some(), "--{}", flag.name);
        letters.extend(flag.short);
    }
    let count = letters.len();
    letters.sort_unstable();
    letters.dedup();
    assert_eq!(letters.len(), count, "a letter stands twice");
}

#[test]
fn commands_are_whole_and_in_order() {
    for (command, next) in commands().iter().zip(commands().iter().skip(1)) {
        assert!(command.name < next.name, "{} and {} are not in order", command.name, next.name);
    }
    for command in commands() {
        assert!(!command.words.is_empty() && !command.words.ends_with('.'), "{}", command.name);
    }
}

#[test]
fn options_of_other_commands_are_whole_and_in_order() {
    let rows = command_options();
    for (row, next) in rows.iter().zip(rows.iter().skip(1)) {
        let before = (&row.command, &row.names) < (&next.command, &next.names);
        assert!(before, "{} {:?} and {:?} are not in order", row.command, row.names, next.names);
    }
    let mut known = std::collections::BTreeSet::new();
    for row in rows {
        assert!(!row.words.is_empty() && !row.words.ends_with('.'), "{row:?}");
        for name in &row.names {
            assert!(name.starts_with('-') && known.insert((&row.command, name)), "{row:?}");
        }
    }
}

fn declared() -> Vec<Declared> {
    let option =
        |name: &str, short, takes_value| Declared { name: name.into(), short, takes_value };
    vec![
        option("volume", Some('v'), true),
        option("publish", Some('p'), true),
        option("interactive", Some('i'), false),
        option("tty", Some('t'), false),
        option("network", None, true),
        option("gpus", None, true),
        option("force", None, false),
    ]
}

fn line(words: &str, after: AfterTarget) -> String {
    let words = words.split_whitespace().map(OsString::from);
    match read("run", &declared(), after, words) {
        Ok(words) => {
            let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
            words.join(" ")
        }
        Err(error) => format!("error: {error}"),
    }
}

#[track_caller]
fn check(words: &str, expected: &str) {
    assert_eq!(line(words, AfterTarget::Command), expected);
}

#[test]
fn lines_are_read_as_docker_reads_them() {
    check("-it IMAGE bash", "--interactive --tty -- IMAGE bash");
    check("-itv /a:/b IMAGE", "--interactive --tty --volume=/a:/b -- IMAGE");
    check(
        "-p80:80 -p=81:81 -p 82:82 IMAGE",
        "--publish=80:80 --publish=81:81 --publish=82:82 -- IMAGE",
    );
    check("--gpus=all --gpus all IMAGE", "--gpus=all --gpus=all -- IMAGE");
    check("--gpus -1 IMAGE", "--gpus=-1 -- IMAGE");
    check("--net host IMAGE", "--network=host -- IMAGE");
    check("-i=false --tty=true IMAGE", "--tty -- IMAGE");
    check("--force IMAGE", "--force -- IMAGE");
    check("IMAGE -h --privileged -- --help", "-- IMAGE -h --privileged -- --help");
    check("-- IMAGE -- x", "-- IMAGE -- x");
    check("- x", "-- - x");
    check("", "");
}

#[test]
fn what_needs_nothing_is_left_out_and_the_rest_refused() {
    check("--init --ipc=host --runtime nvidia --expose 80 IMAGE", "-- IMAGE");
    check("-ic 0 -t IMAGE", "--interactive --tty -- IMAGE");
    check("--privileged=false --sig-proxy IMAGE", "-- IMAGE");
    check("--restart= --restart NO IMAGE", "-- IMAGE");
    assert!(
        line("--privileged IMAGE", AfterTarget::Command)
            .starts_with("error: --privileged is refused: ")
    );
    assert!(line("-c 5 IMAGE", AfterTarget::Command).starts_with("error: -c 5 is refused: "));
    assert!(
        line("--ipc container:x IMAGE", AfterTarget::Command)
            .starts_with("error: --ipc container:x is refused: ")
    );
    assert!(
        line("--sig-proxy=false IMAGE", AfterTarget::Command)
            .starts_with("error: --sig-proxy false is refused: ")
    );
    check("--nope IMAGE", "error: `sconce run` has no option --nope");
    check("-iZ IMAGE", "error: `sconce run` has no option -Z");
    check("--volume", "error: `sconce run`: --volume needs a value");
    check("-p", "error: `sconce run`: --publish needs a value");
}

#[test]
fn options_may_follow_the_target_where_there_is_no_command() {
    assert_eq!(
        line("IMAGE --gpus all -i", AfterTarget::Options),
        "--gpus=all --interactive -- IMAGE"
    );
    assert!(line("IMAGE --privileged", AfterTarget::Options).starts_with("error: "));
}

/// A word that is no UTF-8 stays what it is.
#[test]
fn any_bytes() {
    use std::os::unix::ffi::OsStringExt;
    let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let words =
        vec![odd(b"--volume=/\xff:/x"), odd(b"-v"), odd(b"/\xfe:/y"), odd(b"IMAGE"), odd(b"\xff")];
    let read = read("run", &declared(), AfterTarget::Command, words).unwrap();
    assert_eq!(read[0], odd(b"--volume=/\xff:/x"));
    assert_eq!(read[1], odd(b"--volume=/\xfe:/y"));
    assert_eq!(read[4], odd(b"\xff"));
    assert!(self::read_fails(odd(b"-\xff")));
}

fn read_fails(word: OsString) -> bool {
    read("run", &declared(), AfterTarget::Command, [word]).is_err()
}
