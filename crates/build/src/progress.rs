//! What a long piece of work tells whoever watches it.

/// Told of what is under way. Implemented where things are drawn; called from many threads.
pub trait Progress: Sync {
    /// Something begins: `what` in a word or two, `total` in bytes where it is known. Several may be under way
    /// at a time, each a line of its own.
    fn begin(&self, what: &str, total: Option<u64>) -> Box<dyn Stage>;
    /// A remark that a person should see once.
    fn note(&self, text: &str);
    /// What has taken a while is looking for this by now.
    fn looking_for(&self, what: &str) {
        let _ = what;
    }
}

/// One piece of work under way. Dropped, it failed or was given up: its line goes without a word.
pub trait Stage: Send + Sync {
    /// So many more bytes of it are done.
    fn advance(&self, bytes: u64);
    /// It is done; `summary` says what came of it.
    fn end(self: Box<Self>, summary: &str);
}

/// Watches nothing.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: Option<u64>) -> Box<dyn Stage> {
        Box::new(Self)
    }
    fn note(&self, _: &str) {}
}

impl Stage for Silent {
    fn advance(&self, _: u64) {}
    fn end(self: Box<Self>, _: &str) {}
}
