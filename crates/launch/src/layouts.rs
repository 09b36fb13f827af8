//! Where CPython keeps its threads and frames, a row for each release: what a reader from outside must know.
//!
//! Offsets in bytes on 64-bit Linux, by `offsetof` over the release's own headers (`Include/internal` of CPython 3.10.13, 3.11.7,
//! 3.12.1 and 3.13.0; `_PyRuntimeState`, `PyInterpreterState`, `PyThreadState`, `_PyInterpreterFrame`, `PyFrameObject`, `PyCodeObject`,
//! `PyASCIIObject`), November 2026. Builds without the GIL have others, and are refused. Other patch releases are taken to have the same.

/// One release.
#[derive(Debug)]
pub(crate) struct Layout {
    /// 11 of Python 3.11.
    pub(crate) minor: u8,
    /// Of the runtime: its first interpreter.
    pub(crate) interpreters: u64,
    /// Of an interpreter: the next one, and its newest thread.
    pub(crate) next_interpreter: u64,
    pub(crate) threads: u64,
    /// Of a thread: the next one (an older one), and the kernel's number of it.
    pub(crate) next_thread: u64,
    pub(crate) thread_id: u64,
    pub(crate) native_id: Option<u64>,
    /// Pointers to follow from a thread to its innermost frame.
    pub(crate) to_frame: &'static [u64],
    /// Of a frame.
    pub(crate) back: u64,
    pub(crate) code: u64,
    pub(crate) instruction: u64,
    pub(crate) owner: Option<u64>,
    /// Of a code object.
    pub(crate) filename: u64,
    pub(crate) name: u64,
    pub(crate) first_line: u64,
    pub(crate) line_table: u64,
    /// Where its instructions begin; without it a frame has the number of its instruction.
    pub(crate) bytecode: Option<u64>,
    /// Sizes of what comes before the characters of a string: of an ASCII one, and of others.
    pub(crate) ascii: u64,
    pub(crate) compact: u64,
}

/// Frames of this owner, and of later ones, are the interpreter's own (`FRAME_OWNED_BY_CSTACK`, from 3.12 on).
pub(crate) const NOT_PYTHONS: u8 = 3;

const LAYOUTS: [Layout; 4] = [
    Layout {
        minor: 10,
        interpreters: 32,
        next_interpreter: 0,
        threads: 8,
        next_thread: 8,
        thread_id: 176,
        native_id: None,
        to_frame: &[24],
        back: 24,
        code: 32,
        instruction: 96,
        owner: None,
        filename: 104,
        name: 112,
        first_line: 40,
        line_table: 120,
        bytecode: None,
        ascii: 48,
        compact: 72,
    },
    Layout {
        minor: 11,
        interpreters: 40,
        next_interpreter: 0,
        threads: 16,
        next_thread: 8,
        thread_id: 152,
        native_id: Some(160),
        to_frame: &[56, 8],
        back: 48,
        code: 32,
        instruction: 56,
        owner: None,
        filename: 112,
        name: 120,
        first_line: 72,
        line_table: 136,
        bytecode: Some(184),
        ascii: 48,
        compact: 72,
    },
    Layout {
        minor: 12,
        interpreters: 40,
        next_interpreter: 0,
        threads: 72,
        next_thread: 8,
        thread_id: 136,
        native_id: Some(144),
        to_frame: &[56, 0],
        back: 8,
        code: 0,
        instruction: 56,
        owner: Some(70),
        filename: 112,
        name: 120,
        first_line: 68,
        line_table: 136,
        bytecode: Some(192),
        ascii: 40,
        compact: 56,
    },
    Layout {
        minor: 13,
        interpreters: 632,
        next_interpreter: 7264,
        threads: 7344,
        next_thread: 8,
        thread_id: 152,
        native_id: Some(160),
        to_frame: &[72],
        back: 8,
        code: 0,
        instruction: 56,
        owner: Some(70),
        filename: 112,
        name: 120,
        first_line: 68,
        line_table: 136,
        bytecode: Some(200),
        ascii: 40,
        compact: 56,
    },
];

/// The row of Python 3.`minor`.
pub(crate) fn of(minor: u8) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|layout| layout.minor == minor)
}
