//! Any bytes as a block of headers of HTTP/2.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sconce_monitor::answers::headers(bytes));
