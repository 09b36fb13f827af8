//! Libraries that are called like modules of Python and can't be imported: their package loads them by their paths.

use super::bare;
use crate::forge::{Library, cubin, fatbin};
use crate::sieve::Sieve;

fn plain(sm: u32) -> Library {
    Library::new("").exports("_Z3foov", None).code(&[fatbin(&[cubin(sm)])])
}

#[test]
fn without_code_for_the_gpu_they_are_a_part() {
    let mut world = bare();
    world.site("q/_C_90a.abi3.so", &plain(90));
    world.site("q/_C_mx.cpython-310-x86_64-linux-gnu.so", &plain(100));
    // None of them has any: no yes.
    let said = world.report().answer("4090", None).unwrap().sentence;
    let none = said.starts_with("Can't tell: nothing has code for RTX 4090, ");
    assert!(none && said.contains("/q/_C_"), "{said}");
    world.site("q/_C.abi3.so", &plain(89));
    let said = world.report().answer("4090", None).unwrap().sentence;
    assert!(said.starts_with("Yes, in part: it runs on RTX 4090, but "), "{said}");
    // One that can be imported is what there is to run.
    world.site("q/_C_90a.abi3.so", &plain(90).exports("PyInit__C_90a", None));
    assert!(world.answer("4090", "580.65.06").starts_with("No: SITE/q/_C_90a.abi3.so has no code"));
}

/// What builds an image sees the bytes of a file once.
#[test]
fn they_are_seen_while_a_file_passes_by() {
    let module = plain(90).exports("PyInit__C", None).build();
    for (bytes, path, by_name) in [
        (plain(90).build(), "q/_C.abi3.so", true),
        (plain(90).build(), "q/_C.so", false),
        (module, "q/_C.abi3.so", false),
    ] {
        for step in [1, 7, 1000, bytes.len()] {
            let mut sieve = Sieve::new(bytes.len() as u64).called(path);
            bytes.chunks(step).for_each(|piece| sieve.push(piece));
            let caught = sieve.finish(path).unwrap().unwrap();
            assert_eq!(caught.by_name, by_name, "{path} {step}");
        }
        let read = crate::scan::library(path, &bytes).unwrap().unwrap();
        assert_eq!(read.by_name, by_name, "{path}");
    }
}
