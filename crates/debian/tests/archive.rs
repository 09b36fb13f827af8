//! From a signature to a list of packages: what is believed, and what is refused.

mod world;

use pgp::crypto::hash::HashAlgorithm;
use sconce_debian::{Error, Lists, Mirror, Mirrors, Target};
use world::{Archive, Key, NOW, listed};

const MIRROR: &str = "http://m.invalid/debian";
const SECURITY: &str = "http://m.invalid/debian-security";

fn mirror(url: &str, key: &Key) -> Mirror {
    Mirror {
        url: url.into(),
        keyring: key.keyring(),
        check_valid_until: true,
        must_be_debian: true,
    }
}

fn load(archive: &Archive, mirrors: &[Mirror], now: u64) -> Result<Lists, Error> {
    load_allowing(archive, mirrors, &[], now)
}

fn load_allowing(
    archive: &Archive,
    mirrors: &[Mirror],
    allowed: &[&str],
    now: u64,
) -> Result<Lists, Error> {
    let allow_missing = allowed.iter().map(|suite| (*suite).to_owned()).collect();
    let mirrors = Mirrors { main: mirrors.to_vec(), security: Vec::new(), allow_missing };
    mirrors.load(Target::new("trixie", "amd64").unwrap(), now, archive)
}

/// An archive of all three suites.
fn whole(key: &Key) -> Archive {
    let mut archive = Archive::default();
    let same = |text: String| text;
    archive.suite(MIRROR, "trixie", &(listed("bash", "5.2-1") + &listed("dash", "1")), key, same);
    archive.suite(MIRROR, "trixie-updates", &listed("bash", "5.2-1+deb13u1"), key, same);
    archive.suite(SECURITY, "trixie-security", &listed("dash", "1+deb13u1"), key, same);
    archive
}

/// An error and what is below it.
fn words(error: &Error) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(below) = source {
        words = format!("{words}: {below}");
        source = below.source();
    }
    words
}

#[test]
fn suites_come_together() {
    for with_subkey in [false, true] {
        let key = Key::new(with_subkey);
        let mut archive = whole(&key);
        let lists = load(&archive, &[mirror(MIRROR, &key)], NOW).unwrap();
        let version = |name| lists.packages.get(name).unwrap().version.to_string();
        assert_eq!(
            (version("bash"), version("dash")),
            ("5.2-1+deb13u1".into(), "1+deb13u1".into())
        );
        assert_eq!(lists.packages.get("dash").unwrap().suite, "trixie-security");
        assert_eq!(lists.notices, []);
        let asked = archive.asked.borrow().join(" ");
        assert!(asked.contains("/by-hash/SHA256/"), "{asked}");

        archive.files.retain(|url, _| !url.contains("security"));
        let error = load(&archive, &[mirror(MIRROR, &key)], NOW).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "no mirror has trixie-security, and with it the fixes to this release (asked: {SECURITY})"
            )
        );
        assert!(error.hint().unwrap().contains("`allow-missing = [\"trixie-security\"]`"));
        let allowed = ["trixie-security"];
        let lists = load_allowing(&archive, &[mirror(MIRROR, &key)], &allowed, NOW).unwrap();
        let notices: Vec<_> = lists.notices.iter().map(ToString::to_string).collect();
        assert_eq!(
            notices,
            [format!(
                "no mirror has trixie-security: the image goes without its fixes (asked: {SECURITY})"
            )]
        );
    }
}

/// Name, version and suite of all packages.
fn shown(lists: &Lists) -> Vec<String> {
    let show = |name| {
        let package = lists.packages.get(name)?;
        Some(format!("{name} {} {} {}", package.version, package.suite, package.filename))
    };
    ["bash", "dash"].into_iter().filter_map(show).collect()
}

#[test]
fn a_list_that_was_read_is_not_fetched_again() {
    let key = Key::new(true);
    let mut archive = whole(&key);
    let first = load(&archive, &[mirror(MIRROR, &key)], NOW).unwrap();
    assert_eq!(archive.kept.borrow().len(), 3);
    let again = |archive: &Archive| {
        archive.asked.borrow_mut().clear();
        let lists = load(archive, &[mirror(MIRROR, &key)], NOW).unwrap();
        assert_eq!(shown(&lists), shown(&first));
        let asked = archive.asked.borrow();
        asked.iter().filter(|url| url.ends_with("/Packages")).count()
    };
    // The signature is asked for all the same.
    assert_eq!(again(&archive), 0);
    assert_eq!(archive.asked.borrow().len(), 3);
    // What is damaged is not believed.
    archive.kept.borrow_mut().values_mut().for_each(|kept| kept.truncate(kept.len() / 2));
    assert_eq!(again(&archive), 3);
    assert_eq!(again(&archive), 0);
    // Another list is another one.
    let newer = listed("bash", "5.2-1+deb13u2");
    archive.suite(MIRROR, "trixie-updates", &newer, &key, |text| text);
    let lists = load(&archive, &[mirror(MIRROR, &key)], NOW).unwrap();
    assert_eq!(lists.packages.get("bash").unwrap().version.to_string(), "5.2-1+deb13u2");
}

#[test]
fn a_full_disk_stops_no_resolution_and_is_said() {
    let key = Key::new(true);
    let archive = Archive { full: true, ..whole(&key) };
    let lists = load(&archive, &[mirror(MIRROR, &key)], NOW).unwrap();
    assert_eq!(shown(&lists).len(), 2);
    let notices: Vec<_> = lists.notices.iter().map(ToString::to_string).collect();
    assert_eq!(notices[0], "the list of trixie is not kept for another time: no space left");
    assert_eq!(notices.len(), 3);
}

#[test]
fn lists_that_nobody_waits_for_are_not_read() {
    let key = Key::new(true);
    let archive = Archive { cancelled: true, ..whole(&key) };
    let error = load(&archive, &[mirror(MIRROR, &key)], NOW).unwrap_err();
    assert!(words(&error).contains("cancelled"), "{error}");
}

#[test]
fn what_is_not_signed_by_a_trusted_key_is_refused() {
    let (key, other) = (Key::new(true), Key::new(true));
    let url = format!("{MIRROR}/dists/trixie/InRelease");
    let refused = |archive: &Archive| {
        let error = load(archive, &[mirror(MIRROR, &key)], NOW).unwrap_err();
        assert!(error.hint().is_some());
        words(&error)
    };
    let check = |archive: &Archive, expected: &str| {
        let words = refused(archive);
        assert!(words.contains(expected), "{words}");
    };

    check(&whole(&other), "none of its signatures is by a trusted key");

    let change = |from: &str, to: &str| {
        let mut archive = whole(&key);
        let text = String::from_utf8(archive.files[&url].clone()).unwrap();
        assert!(text.contains(from));
        archive.files.insert(url.clone(), text.replace(from, to).into_bytes());
        archive
    };
    check(&change("Version: 13.8", "Version: 13.9"), "doesn't match the text");
    check(&change("Origin: Debian", "Origin: Debian\nOrigin2: x"), "doesn't match the text");
    check(&change("-----BEGIN PGP SIGNED MESSAGE-----", "-----BEGIN"), "isn't a clear-signed text");
    // Text before or after the signed part must not be read.
    check(
        &change("-----END PGP SIGNATURE-----", "-----END PGP SIGNATURE-----\nOrigin: x"),
        "malformed",
    );

    let mut archive = whole(&key);
    let text = String::from_utf8(archive.files[&url].clone()).unwrap();
    let (front, _) = text.split_at(text.len() / 2);
    archive.files.insert(url.clone(), front.into());
    check(&archive, "malformed");

    let mut archive = whole(&key);
    archive.files.insert(url.clone(), b"Origin: Debian\nCodename: trixie\n".to_vec());
    check(&archive, "isn't a clear-signed text");

    let mut archive = whole(&key);
    let early = key.sign_with("Codename: trixie\n", HashAlgorithm::Sha256, NOW + 7 * 86400);
    archive.files.insert(url, early.into());
    check(&archive, "its date is still to come");
}

#[test]
fn a_release_must_be_the_one_asked_for_and_current() {
    let key = Key::new(false);
    let check = |change: &dyn Fn(String) -> String, now: u64, expected: &str| {
        let mut archive = whole(&key);
        archive.suite(MIRROR, "trixie", &listed("bash", "1"), &key, change);
        let words = words(&load(&archive, &[mirror(MIRROR, &key)], now).unwrap_err());
        assert!(words.contains(expected), "{words}");
    };
    let same = |text: String| text;
    check(&same, NOW + 6 * 86400, "expired on Sat, 28 Nov 2026 09:15:44 UTC");
    check(&same, NOW - 10 * 86400, "still to come");
    check(
        &|t| t.replace("Codename: trixie", "Codename: bookworm"),
        NOW,
        "is about `bookworm`, not about `trixie`",
    );
    check(&|t| t.replace("Origin: Debian", "Origin: Other"), NOW, "its origin is `Other`");
    check(&|t| t.replace("Date: Sat, 21 Nov", "Date: Some day"), NOW, "is not a date");
    check(
        &|t| t.replace("main/binary-amd64", "main/binary-arm64"),
        NOW,
        "doesn't list main/binary-amd64/Packages",
    );
    check(&|t| t.replace("SHA256:\n ", "SHA256:\n f"), NOW, "is not a digest and size");
}

#[test]
fn a_list_must_be_what_the_release_says() {
    let key = Key::new(false);
    let list = format!("{MIRROR}/dists/trixie/main/binary-amd64/Packages");
    let mut archive = whole(&key);
    archive.files.insert(list.clone(), listed("evil", "9").into_bytes());
    let error = load(&archive, &[mirror(MIRROR, &key)], NOW).unwrap_err();
    assert!(matches!(error, Error::IndexMismatch { .. }), "{error}");
    assert!(error.hint().unwrap().contains("proxy"));

    archive.files.remove(&list);
    let error = load(&archive, &[mirror(MIRROR, &key)], NOW).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}

#[test]
fn the_first_mirror_that_serves_is_taken_and_the_others_are_named() {
    let key = Key::new(false);
    let mut archive = whole(&key);
    let down = "http://down.invalid/debian/dists/trixie/InRelease";
    archive.files.insert(down.into(), b"(unreachable)".to_vec());
    let mirrors = [
        mirror("http://empty.invalid/debian", &key),
        mirror("http://down.invalid/debian", &key),
        mirror(MIRROR, &key),
    ];
    let lists = load(&archive, &mirrors, NOW).unwrap();
    assert_eq!(lists.packages.len(), 2);
    let notices: Vec<_> = lists.notices.iter().map(ToString::to_string).collect();
    assert_eq!(
        notices,
        [format!(
            "http://down.invalid/debian was passed over: {down} could not be fetched: no route to it"
        )]
    );
    let error = load(&archive, &mirrors[..2], NOW).unwrap_err();
    assert!(words(&error).ends_with("no route to it"));
    let error = load(&archive, &mirrors[..1], NOW).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}

#[test]
fn fixes_that_one_mirror_lacks_are_had_from_another() {
    const OTHER: &str = "http://o.invalid/debian";
    let key = Key::new(false);
    let mut archive = whole(&key);
    let same = |text: String| text;
    archive.suite(OTHER, "trixie", &listed("bash", "5.2-1"), &key, same);
    let mirrors = [mirror(OTHER, &key), mirror(MIRROR, &key)];
    let lists = load(&archive, &mirrors, NOW).unwrap();
    let suites: Vec<_> = lists.suites.iter().map(|suite| suite.url.as_str()).collect();
    assert_eq!(
        suites,
        [
            format!("{OTHER}/dists/trixie/InRelease"),
            format!("{MIRROR}/dists/trixie-updates/InRelease"),
            format!("{SECURITY}/dists/trixie-security/InRelease"),
        ]
    );
    archive.files.retain(|url, _| !url.contains("trixie-updates"));
    let error = load_allowing(&archive, &mirrors, &["trixie-security"], NOW).unwrap_err();
    assert!(
        matches!(&error, Error::MissingSuite { suite, asked } if suite == "trixie-updates" && asked.len() == 2),
        "{error}"
    );
}

#[test]
fn a_broken_hash_is_refused_though_the_key_is_trusted() {
    let key = Key::rsa();
    let url = format!("{MIRROR}/dists/trixie/InRelease");
    let mut archive = whole(&key);
    assert!(load(&archive, &[mirror(MIRROR, &key)], NOW).is_ok());
    let text = "Origin: Debian\nCodename: trixie\nDate: Sat, 21 Nov 2026 09:15:44 UTC\n";
    let weak = key.sign_with(text, HashAlgorithm::Sha1, NOW);
    archive.files.insert(url, weak.into());
    let words = words(&load(&archive, &[mirror(MIRROR, &key)], NOW).unwrap_err());
    assert!(words.contains("rests on SHA1, which is too weak"), "{words}");
}
