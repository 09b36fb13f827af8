//! Reports as people read them, of snapshots in `tests/snapshots/cases`.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::path::Path;

use expect_test::Expect;
use sconce_doctor::{Snapshot, examine};

/// `tests/snapshots/cases/<name>.json`.
pub fn case(name: &str) -> Snapshot {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/cases");
    Snapshot::load(&folder.join(format!("{name}.json"))).unwrap()
}

/// The report of a case.
pub fn check(name: &str, says: Expect) {
    check_of(&case(name), says);
}

/// The report of a snapshot.
pub fn check_of(snapshot: &Snapshot, says: Expect) {
    says.assert_eq(&examine(snapshot, None).text());
}
