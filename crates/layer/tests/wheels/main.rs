//! Wheels to layers, through the public interface.

mod hostile;
mod layers;
mod world;
