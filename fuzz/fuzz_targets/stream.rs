//! Any bytes as a layer that passes by, as what was kept of one, and as a file whose GPU code is
//! caught in pieces.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sconce_inspect::Tree;
use sconce_inspect::sieve::{Caught, Sieve};
use sconce_inspect::skeleton::Scraps;
use sconce_inspect::stream::Layer;

fuzz_target!(|bytes: &[u8]| {
    let scraps = Arc::new(Scraps::new().unwrap());
    if let Ok(layer) = Layer::read("fuzz", bytes, &scraps) {
        let outline = layer.to_bytes().unwrap();
        let again = Layer::from_bytes(&outline, &scraps).expect("what is written can be read");
        assert!(again.to_bytes().unwrap() == outline);
        layer.put(&mut Tree::new());
        again.put(&mut Tree::new());
    }
    let _ = Layer::from_bytes(bytes, &scraps);

    // The size that a wheel names may be a lie.
    for size in [bytes.len() as u64, u64::MAX] {
        let mut sieve = Sieve::new(size);
        for piece in bytes.chunks(97) {
            sieve.push(piece);
        }
        if let Ok(Some(caught)) = sieve.finish("fuzz.so") {
            let mut text = Vec::new();
            caught.write(&mut text);
            let mut rest = &text[..];
            assert!(Caught::read(&mut rest).is_some() && rest.is_empty());
        }
    }
    let _ = Caught::read(&mut &bytes[..]);
});
