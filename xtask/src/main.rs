//! Tasks of the project: documents generated from definitions. The fences are tests beside this
//! (`xtask/tests/fences.rs`).
//!
//! `cargo xtask` would need an alias; `cargo run -p xtask` is enough. There is one task so far:
//! `fences` prints the arrows that the fence test allows, for ARCHITECTURE.md.

fn main() {
    for (from, to) in xtask::ARROWS {
        println!("{from} -> {}", if to.is_empty() { "(nothing)".into() } else { to.join(", ") });
    }
}
