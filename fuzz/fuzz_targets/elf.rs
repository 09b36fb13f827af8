//! Any bytes as a library of an environment: read, its closure checked, its symbols looked up.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sconce_inspect::{Options, Tree, inspect};

fuzz_target!(|bytes: &[u8]| {
    let bytes = Arc::new(bytes.to_vec());
    let mut tree = Tree::new();
    // Twice, so that it can need, find and shadow itself.
    tree.add_file("torch/_C.so", bytes.clone());
    tree.add_file("torch/lib/libtorch_cuda.so", bytes.clone());
    tree.add_file("usr/lib/libc.so.6", bytes);
    let options = Options { threads: 1, ..Options::default() };
    let report = inspect("fuzz", &tree, &options, &|_, _| {});
    let _ = report.answer("h100", None);
    let _ = report.page(false);
    report.to_json().unwrap();
});
