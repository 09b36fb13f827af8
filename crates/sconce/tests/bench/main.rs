//! `sconce bench` as a user starts it, beside libraries of a GPU that are as fast, and compute as wrongly, as a test says.
//! One program: its tests wait for most of their time, and do so beside each other.

mod baseline;
mod driver;
mod figures;
mod lies;
mod machine;
mod torch;
mod trust;
// Others use what these tests do not.
#[allow(dead_code)]
#[path = "../world/mod.rs"]
mod world;
