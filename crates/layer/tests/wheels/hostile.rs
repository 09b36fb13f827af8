//! Wheels that mean harm, or were cut off: each gets an error that names file and place.

use crate::world::{Draft, Member, Opened, make, open, zip};
use sconce_layer::{ContentFault, Error, PathFault, Wheel, ZipFault};

fn draft() -> Draft {
    Draft::new("demo").file("demo/a.py", b"a = 1\n").file("demo/b.py", b"b = 2\n")
}

fn zip_fault(member: Member) -> ZipFault {
    match draft().member(member).open().map(|_| ()) {
        Err(Error::Archive { fault, entry, .. }) => {
            assert!(entry.is_some(), "the entry is not named");
            fault
        }
        other => panic!("not an archive error: {other:?}"),
    }
}

fn made(draft: Draft) -> Error {
    let error = make(vec![draft.open().unwrap()], 2).err().expect("it was accepted");
    assert!(error.hint().is_some());
    error
}

macro_rules! refused {
    ($($name:ident: $member:expr => $fault:pat),* $(,)?) => {$(
        #[test]
        fn $name() {
            let fault = zip_fault($member);
            assert!(matches!(fault, $fault), "{fault:?}");
        }
    )*};
}

fn plain(name: &str) -> Member {
    Member::deflated(name, b"x")
}

refused! {
    parent_directory: plain("demo/../../etc/passwd") => ZipFault::Name(PathFault::Traversal),
    current_directory: plain("./demo/c.py") => ZipFault::Name(PathFault::Traversal),
    absolute: plain("/etc/passwd") => ZipFault::Name(PathFault::Absolute),
    empty_name: plain("") => ZipFault::Name(PathFault::Empty),
    nul: plain("demo/\0c.py") => ZipFault::Name(PathFault::Control),
    backslash: plain("demo\\c.py") => ZipFault::Backslash,
    drive_with_backslash: plain("C:\\c.py") => ZipFault::Backslash,
    duplicate: plain("demo/a.py") => ZipFault::Duplicate,
    whiteout: plain("demo/.wh.a.py") => ZipFault::Name(PathFault::Whiteout),
    opaque: plain(".wh..wh..opq") => ZipFault::Name(PathFault::Whiteout),
    long_name: plain(&"n".repeat(300)) => ZipFault::Name(PathFault::TooLong),
    symlink: Member { mode: 0o120_777, ..plain("demo/link") } => ZipFault::Special(0o120_777),
    device: Member { mode: 0o060_600, ..plain("demo/sda") } => ZipFault::Special(_),
    encrypted: Member { flags: 1, ..plain("demo/c.py") } => ZipFault::Encrypted,
    other_method: Member { method: 12, ..plain("demo/c.py") } => ZipFault::Method(12),
    not_utf8: Member { name: b"demo/\xff.py".to_vec(), ..plain("x") } => ZipFault::Encoding,
    unmarked_utf8: Member { flags: 0, ..plain("demo/\u{e4}.py") } => ZipFault::Encoding,
    other_local_name: Member { local_name: Some(b"demo/d.py".to_vec()), ..plain("demo/c.py") }
        => ZipFault::Disagreement,
    stored_of_another_size: Member { size: 2, ..Member::stored("demo/c.py", b"x") }
        => ZipFault::Ratio { .. },
    impossible_ratio: Member { size: 1 << 40, wide: true, ..plain("demo/c.py") } => ZipFault::Ratio { .. },
    directory_with_content: Member::stored("demo/sub/", b"x") => ZipFault::DirectoryContent,
}

#[test]
fn a_wheel_cut_off_anywhere_is_refused() {
    let whole = draft().bytes();
    assert!(open("demo", whole.clone()).is_ok());
    for len in 0..whole.len() {
        let error = open("demo", whole[..len].to_vec()).err();
        assert!(
            matches!(error, Some(Error::Archive { .. })),
            "cut at {len} of {}: {error:?}",
            whole.len()
        );
    }
    for more in [1, 22, 100] {
        let mut longer = whole.clone();
        longer.resize(whole.len() + more, 0);
        assert!(open("demo", longer).is_err(), "with {more} bytes after it");
    }
    let shifted = [b"MZ", &whole[..]].concat();
    assert!(open("demo", shifted).is_err(), "with bytes before it");
}

#[test]
fn any_changed_byte_is_an_error_or_changes_nothing_that_is_installed() {
    let whole = draft().bytes();
    let sound = make(vec![open("demo", whole.clone()).unwrap()], 1).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        if let Ok(opened) = open("demo", bytes)
            && let Ok(made) = make(vec![opened], 1)
        {
            // Times, versions and permission bits are not covered by any sum of the zip.
            assert_eq!(made.trees[0].files(), sound.trees[0].files(), "byte {at}");
        }
    }
}

#[test]
fn entries_that_share_bytes_are_refused() {
    // Two entries of the directory point to one local header, as in a better zip bomb.
    let members = [plain("demo/a"), plain("demo/b")];
    let mut bytes = zip(&members);
    let second = bytes.windows(4).rposition(|four| four == [0x50, 0x4b, 1, 2]).unwrap();
    bytes[second + 42..second + 46].fill(0);
    match open("demo", bytes).err() {
        Some(Error::Archive { fault: ZipFault::Overlap, entry: Some(_), .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn bombs_stop_at_the_declared_size() {
    let zeros = vec![0; 1 << 20];
    let mut bomb = draft().file("demo/zeros", &zeros[..4096]);
    bomb.members.last_mut().unwrap().packed = Member::deflated("demo/zeros", &zeros).packed;
    match made(bomb) {
        Error::Content { fault: ContentFault::TooLong(4096), entry, .. } => {
            assert_eq!(entry, "demo/zeros");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_archive_that_unpacks_to_far_too_much_is_refused() {
    // Each entry is possible alone: 2 MiB of deflate for 2 GiB declared.
    let big = Member { size: 2 << 30, packed: vec![0; 2 << 20], ..plain("demo/big") };
    match draft().member(big).open().err() {
        Some(Error::Archive { fault: ZipFault::Bomb(_), .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn content_that_is_not_what_it_says() {
    let break_last = |change: fn(&mut Member)| {
        let mut draft = draft();
        change(draft.members.last_mut().unwrap());
        match made(draft) {
            Error::Content { fault, entry, offset, .. } => {
                assert_eq!(entry, "demo/b.py");
                assert!(offset > 0);
                fault
            }
            other => panic!("{other:?}"),
        }
    };
    let fault = break_last(|member| member.crc ^= 1);
    assert!(matches!(fault, ContentFault::Crc { .. }), "{fault:?}");
    let fault = break_last(|member| member.packed.extend(b"hidden"));
    assert!(matches!(fault, ContentFault::Trailing(6)), "{fault:?}");
    let fault = break_last(|member| member.packed.truncate(3));
    assert!(matches!(fault, ContentFault::CutOff), "{fault:?}");
    let fault = break_last(|member| member.packed[0] = 0xff);
    assert!(matches!(fault, ContentFault::Corrupt(_)), "{fault:?}");
}

/// Of a wheel whose RECORD is wrong the files are hashed: the installed RECORD is that of a right one.
#[test]
fn a_wrong_record_is_left_aside() {
    let sound = draft();
    let path = "demo-1.0.dist-info/RECORD";
    let installed = |wheel: Opened| {
        let made = make(vec![wheel], 1).unwrap();
        made.trees[0].text(&format!("opt/venv/lib/python3.13/site-packages/{path}"))
    };
    let wanted = installed(sound.open().unwrap());
    let right = |skip: &str| {
        let mut text = String::new();
        for member in &sound.members {
            let name = String::from_utf8(member.name.clone()).unwrap();
            if name != skip {
                let (hash, len) =
                    (crate::world::record_hash(&member.content), member.content.len());
                text.push_str(&format!("{name},{hash},{len}\n"));
            }
        }
        text + path + ",,\n"
    };
    for (record, why) in [
        (right("demo/b.py"), "`demo/b.py` is in the wheel but not listed"),
        (right("") + "demo/c.py,,\n", "`demo/c.py` is listed but is not in the wheel"),
        (right("demo/b.py") + "demo/b.py,,\n", "`demo/b.py` is listed without a hash"),
        (right("demo/b.py") + "demo/b.py,md5=1B2M2Y8AsgTpgAmY7PhCfg,6\n", "the hash `md5="),
        (right("").replace(",6\n", ",7\n"), "has 6 bytes, not 7"),
        (right("") + &right(""), "is listed twice"),
        ("\"".to_owned(), "`path,hash,size`"),
    ] {
        let wheel = Draft { record: Some(record), ..sound.clone() }.open().unwrap();
        let found = wheel.wheel.unsound_record().expect("a reason").to_owned();
        assert!(found.contains(why), "{found}");
        assert_eq!(installed(wheel), wanted, "{why}");
    }
    assert_eq!(sound.open().unwrap().wheel.unsound_record(), None);

    // A wrong hash shows when the files are read.
    let record = right("demo/b.py") + "demo/b.py," + &crate::world::record_hash(b"c") + ",6\n";
    let lying = Draft { record: Some(record), ..sound.clone() };
    match made(lying.clone()) {
        Error::Hash { entry, .. } => assert_eq!(entry, "demo/b.py"),
        other => panic!("{other:?}"),
    }
    let bytes = std::sync::Arc::new(lying.bytes());
    let digest = sconce_blob::Digest::of(&bytes);
    let name = "demo-1.0-py3-none-any.whl";
    let wheel = Wheel::open_without_record(name, digest, bytes.clone(), "it lies").unwrap();
    assert_eq!(wheel.unsound_record(), Some("it lies"));
    assert_eq!(installed(Opened { wheel, bytes }), wanted);
}

#[test]
fn names_that_differ_in_case_alone_are_two_files() {
    let both = draft().file("demo/A.py", b"other");
    let made = make(vec![both.open().unwrap()], 1).unwrap();
    let site = "opt/venv/lib/python3.13/site-packages/demo";
    assert_eq!(made.trees[0].text(&format!("{site}/A.py")), "other");
    assert_ne!(made.trees[0].text(&format!("{site}/a.py")), "other");
}

#[test]
fn the_environment_itself_is_no_wheels_to_make() {
    for path in ["bin/python", "bin/python/x", "bin/python3.13/x", "lib64/x", "pyvenv.cfg"] {
        let wheel = draft().file(&format!("{{}}.data/data/{path}"), b"x").open().unwrap();
        let error = make(vec![wheel], 1).err().expect("it was accepted");
        assert!(matches!(error, Error::Reserved { .. }), "{path}: {error}");
    }
    make(vec![draft().file("{}.data/data/bin/python-x", b"x").open().unwrap()], 1).unwrap();
}

#[test]
fn a_folder_of_another_project_is_refused() {
    let mut draft = draft();
    for member in &mut draft.members {
        let name = String::from_utf8(member.name.clone()).unwrap();
        member.name = name.replace("demo-1.0.dist-info", "victim-1.0.dist-info").into_bytes();
    }
    draft.record = Some(String::new());
    let error = draft.open().err().expect("it was accepted");
    assert!(error.to_string().contains("it describes `victim`, not `demo`"), "{error}");
}

#[test]
fn empty_files_are_compared_with_record_too() {
    let mut lying = draft().file("demo/empty.py", b"");
    lying.members.last_mut().unwrap().content = b"not empty".to_vec();
    // RECORD gets the hash of other content, without a size.
    let mut text = String::new();
    for member in &lying.members {
        let name = String::from_utf8(member.name.clone()).unwrap();
        text.push_str(&format!("{name},{},\n", crate::world::record_hash(&member.content)));
    }
    lying.record = Some(text + "demo-1.0.dist-info/RECORD,,\n");
    assert!(matches!(made(lying), Error::Hash { .. }));
}

#[test]
fn the_archive_must_be_the_wheel_it_is_called() {
    let error = open("other", draft().bytes()).err().unwrap();
    assert!(error.to_string().contains("it describes `demo`, not `other`"), "{error}");
    let newer = Draft {
        members: vec![
            Member::deflated("demo-1.0.dist-info/METADATA", b"Name: demo\n"),
            Member::deflated("demo-1.0.dist-info/WHEEL", b"Wheel-Version: 2.0\n"),
        ],
        ..Draft::new("demo")
    };
    let error = newer.open().err().unwrap();
    assert!(error.to_string().contains("format `2.0`"), "{error}");
    let scheme = draft().file("{}.data/etc/x", b"x").open().unwrap();
    let error = make(vec![scheme], 1).err().unwrap();
    assert!(error.to_string().contains("`demo-1.0.data/etc`"), "{error}");
    let reserved = draft().file("{}.data/scripts/python3", b"x").open().unwrap();
    assert!(matches!(make(vec![reserved], 1).err(), Some(Error::Reserved { .. })));
}
