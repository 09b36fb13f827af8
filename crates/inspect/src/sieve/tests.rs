//! What is kept of a stream of files.

use super::*;
use crate::forge::{cubin, fatbin, ptx};
use crate::scan::{gpu_code, library};

fn catch(bytes: &[u8], step: usize) -> Option<Caught> {
    let mut sieve = Sieve::new(bytes.len() as u64);
    bytes.chunks(step).for_each(|piece| sieve.push(piece));
    sieve.finish("lib").unwrap()
}

fn sample() -> Vec<u8> {
    let first = fatbin(&[cubin(75), cubin(90), ptx(120, (9, 2))]);
    let padding = vec![0; first.len().next_multiple_of(8) - first.len() + 4096];
    crate::forge::Library::new("lib")
        .data(&[7; 9000])
        .code(&[first, padding, fatbin(&[cubin(75)])])
        .build()
}

#[test]
fn the_same_code_is_found_as_in_the_file() {
    let bytes = sample();
    let whole = library("lib", &bytes).unwrap().unwrap();
    assert_eq!(whole.gpu.containers, 2);
    for step in [1, 3, 8, 64, 100_000] {
        let caught = catch(&bytes, step).unwrap();
        let code = gpu_code("lib", &caught.skeleton()).unwrap().unwrap();
        assert_eq!((&code.gpu.codes, &code.gpu.sets), (&whole.gpu.codes, &whole.gpu.sets));
        let mut memo = Vec::new();
        caught.write(&mut memo);
        let mut rest = memo.as_slice();
        assert_eq!(Caught::read(&mut rest), Some(caught));
        assert!(rest.is_empty());
        for len in 0..memo.len() {
            assert_eq!(Caught::read(&mut &memo[..len]), None, "{len}");
        }
    }
    assert!(catch(b"print('hello')", 5).is_none());
    assert!(catch(b"", 5).is_none());
}

#[test]
fn any_byte_changed() {
    let good = sample();
    for at in (0..good.len()).filter(|at| *at < 200 || !(1_000..5_000).contains(at)) {
        for value in [0, 1, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            for step in [61, 100_000] {
                let Some(caught) = catch(&bad, step) else { continue };
                let _ = gpu_code("lib", &caught.skeleton());
            }
        }
    }
}
