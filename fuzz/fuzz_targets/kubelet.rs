//! Any bytes as the kubelet's list of pods. A device takes more bytes than its name has prefix.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(count) = sconce_monitor::answers::pods(bytes) {
        assert!(count <= bytes.len() / 6);
    }
});
