//! What a long piece of work tells whoever watches it.

/// Told of stages, bytes and remarks. Implemented where things are drawn; called from many threads.
pub trait Progress: Sync {
    /// A stage begins: `what` in a word or two, `total` in bytes where it is known.
    fn begin(&self, what: &str, total: Option<u64>);
    /// So many more bytes of the running stage are done.
    fn advance(&self, bytes: u64);
    /// The running stage is over; `summary` says what came of it.
    fn end(&self, summary: &str);
    /// A remark that a person should see once.
    fn note(&self, text: &str);
}

/// Watches nothing.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn end(&self, _: &str) {}
    fn note(&self, _: &str) {}
}
