//! Any bytes as what a server of gRPC sends: a message comes of it that is not larger than all of it, or words.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = sconce_monitor::answers::answer(bytes) {
        assert!(message.len() < bytes.len());
    }
});
