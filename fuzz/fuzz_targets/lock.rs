//! Text as sconce.lock, sconce.toml and a pylock.toml: understood, or refused with words. What is
//! understood as a lock is written back as the same text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce_lock::{Lock, Pylock, Spec};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(lock) = Lock::parse(text) {
        let again = Lock::parse(&lock.to_text()).expect("what is written can be read");
        assert!(again == lock);
    }
    let _ = Spec::parse(text);
    let _ = Pylock::parse(text);
});
