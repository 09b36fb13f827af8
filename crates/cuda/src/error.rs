//! Why a library did not do something.

use std::path::PathBuf;

/// Why CUDA did not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The library could not be opened.
    #[error("{} can't be opened: {reason}", library.display())]
    Library {
        /// Which.
        library: PathBuf,
        /// What the linker said.
        reason: String,
    },
    /// None of the names of a library is anywhere.
    #[error("there is no {name} in the linker's folders, the toolkit's, or Python's packages")]
    Missing {
        /// The newest name.
        name: &'static str,
    },
    /// A symbol is missing.
    #[error("{} has no `{symbol}`", library.display())]
    Symbol {
        /// Which library.
        library: PathBuf,
        /// Which symbol.
        symbol: &'static str,
    },
    /// A call failed.
    #[error("{call}: {meaning} ({code})")]
    Call {
        /// Which.
        call: &'static str,
        /// The library's status.
        code: i32,
        /// What the library calls it.
        meaning: String,
    },
    /// The source was not compiled.
    #[error("the kernel was not compiled: {log}")]
    Compile {
        /// The compiler's words.
        log: String,
    },
    /// An answer that can't be.
    #[error("{call} answered {answer}")]
    Absurd {
        /// Which call.
        call: &'static str,
        /// What it said.
        answer: String,
    },
}

/// `CUDA_ERROR_OUT_OF_MEMORY`.
const OUT_OF_MEMORY: i32 = 2;

impl Refusal {
    /// The GPU's memory does not hold what was asked for.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Call { call, code: OUT_OF_MEMORY, .. } if call.starts_with("cuMem"))
    }
}

pub(crate) fn absurd(call: &'static str, answer: impl std::fmt::Display) -> Refusal {
    Refusal::Absurd { call, answer: answer.to_string() }
}
