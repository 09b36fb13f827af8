//! Lines of a requirements.txt: what people write, and what is refused.

use super::*;

fn asks(text: &str) -> Vec<String> {
    let lines = parse(text, Path::new("/p/r.txt")).unwrap();
    let show = |line: Line| match line.ask {
        Ask::Requirement(text) | Ask::Option(text) => format!("{} {text}", line.number),
        Ask::RequireHashes => format!("{} --require-hashes", line.number),
        Ask::File { path, constraints } => format!("{} {path} {constraints}", line.number),
    };
    lines.into_iter().map(show).collect()
}

fn fault(text: &str) -> Fault {
    match parse(text, Path::new("/p/r.txt")) {
        Ok(lines) => panic!("{text:?} passed as {lines:?}"),
        Err(fault) => fault,
    }
}

#[test]
fn what_people_write() {
    let text = "\u{feff}# a comment\nnumpy>=1 # why\r\ntorch \\\n  >=2 ; python_version > '3.9'\n\n\
                -r base.txt\n--constraint=c/d.txt\n-i https://h.invalid/simple --extra-index-url 'https://x.invalid/s'\n\
                --find-links ./wheels\n--pre\n--trusted-host h\n\
                a==1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n\
                lab @ ./lab-1-py3-none-any.whl ; extra == 'x'\n../w/x y-1-py3-none-any.whl";
    let all = asks(text.rsplit_once('\n').unwrap().0);
    assert_eq!(
        all,
        [
            "2 numpy>=1",
            "3 torch   >=2 ; python_version > '3.9'",
            "6 base.txt false",
            "7 c/d.txt true",
            "8 --index-url https://h.invalid/simple",
            "8 --extra-index-url https://x.invalid/s",
            "9 --find-links file:///p/wheels",
            "12 a==1 --hash=sha256:00 --hash=sha256:11",
            "15 lab @ file:///p/lab-1-py3-none-any.whl ; extra == 'x'",
        ]
    );
    assert!(fault(text).why.contains("%20"));
    assert_eq!(asks("./x-1-py3-none-any.whl[a,b]"), ["1 file:///p/x-1-py3-none-any.whl[a,b]"]);
    assert_eq!(
        asks("-i https://${U}:${P}@h.invalid/"),
        ["1 --index-url https://${U}:${P}@h.invalid/"]
    );
    assert_eq!(
        asks("a @ https://h.test/a-1-py3-none-any.whl#x=1 # y").len(),
        1,
        "as uv has it, a comment needs a blank"
    );
}

/// Each would run code of the project's on this machine, or reach uv without being understood.
#[test]
fn nothing_that_is_built_gets_through() {
    for text in [
        "-e .",
        "-e ${PWD}",
        "-e${PWD}",
        "--editable=.",
        "--editable .",
        " \t-e .",
        "numpy\n\n-e .",
        "numpy\r-e .",
        "# c\r-e .",
        "# c \\\n-e .",
        "\\\n-e .",
        "-e \\\n.",
        "\u{feff}-e .",
        "--no-index -e .",
        "--pre --editable=.",
        ".",
        "./",
        "..",
        "/",
        "~/x",
        "./src[dev]",
        "file:.",
        "file:///x",
        "FILE:.",
        "${PWD}",
        "x @ .",
        "x @ file:///y",
        "x@file:///y",
        "x[a] @ ./y ; python_version > '3'",
        "x @ git+https://h.invalid/x",
        "x @ ${REPO}",
        "git+https://h.invalid/x.whl",
        "https://h.invalid/x-1.tar.gz",
        "https://h.invalid/x-1.tar.gz#/y.whl",
        "./x.zip",
        "x.tar.gz",
        "x-1.zip ; python_version > '3'",
        "--no-binary :all:",
        "--no-binary=x",
    ] {
        assert!(fault(text).builds, "{text:?}: {:?}", fault(text));
    }
    for text in [
        "numpy --hash=sha256:00 -e .",
        "numpy -e .",
        "numpy --hash=sha256:00 .",
        "a.whl -e .",
        "./a-1-py3-none-any.whl -e .",
        "numpy --config-settings=x",
        "--global-option=x",
        "--unknown",
        "-",
        "-r https://h.invalid/r.txt",
        "-r ${X}/r.txt",
        "-r",
        "x\u{c}-e .",
        "x\0y",
        "a-/b",
        "numpy ; nonsense",
        "\"-e\" .",
    ] {
        assert!(!fault(text).why.is_empty(), "{text:?}");
    }
    assert_eq!(fault("numpy\n\n# x\n-e \\\n ${PWD}").number, 4);
}

/// Pieces of the grammar in every order of three: read or refused, without a panic, and what is read
/// has no way to say two things.
#[test]
fn no_panic_and_one_statement_a_line() {
    let pieces = [
        "-e",
        "--hash=sha256:0",
        "-r",
        "\"",
        "'",
        "\\\n",
        "#",
        " ",
        ";",
        "@",
        "ü",
        "[",
        "]",
        "file:",
        "x.whl",
        "x",
        "${A}",
        "--",
        "=",
        "\r",
        "https://h/",
        "%",
        "-",
        "\u{feff}",
        "/",
    ];
    for a in pieces {
        for b in pieces {
            for c in pieces {
                let text = format!("{a}{b}{c}");
                for line in parse(&text, Path::new("/p/r.txt")).into_iter().flatten() {
                    if let Ask::Requirement(text) | Ask::Option(text) = &line.ask {
                        assert!(!text.contains(['\n', '\r']), "{text:?}");
                        let words: Vec<&str> = text.split_whitespace().collect();
                        assert!(!words.iter().any(|word| word.starts_with("-e")), "{text:?}");
                    }
                }
            }
        }
    }
}
