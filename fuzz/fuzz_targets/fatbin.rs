//! Any bytes as GPU code. Entries never weigh more than the bytes they lie in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce_inspect::fatbin::Fatbin;
use sconce_inspect::read::Named;

fuzz_target!(|bytes: &[u8]| {
    let bytes = bytes.to_vec();
    let len = bytes.len() as u64;
    let mut found = Fatbin::default();
    found.walk(Named::new("fuzz", &bytes), 0, len).unwrap();
    assert!(found.bytes() <= len.saturating_mul(2), "{} of {len}", found.bytes());
    found.settle(Named::new("fuzz", &bytes));
});
