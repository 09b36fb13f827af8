//! Sourced knowledge as rows: GPUs, driver floors, toolkits, torch releases, architectures.
