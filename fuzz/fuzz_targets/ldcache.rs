//! Any bytes as ld.so.cache.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce_inspect::elf::Machine;
use sconce_inspect::ldcache;
use sconce_inspect::read::Named;

fuzz_target!(|bytes: &[u8]| {
    let bytes = bytes.to_vec();
    for machine in [Machine::X86_64, Machine::Aarch64] {
        if let Ok(entries) = ldcache::parse(Named::new("fuzz", &bytes), machine) {
            assert!(entries.len() <= bytes.len() / 12);
        }
    }
});
