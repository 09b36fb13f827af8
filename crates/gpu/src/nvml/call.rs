//! Each call of NVML goes through here: what it costs is counted, and that a GPU is lost is kept, whichever call it was that said so.

use std::cell::Cell;
use std::ffi::{CStr, c_int};

use super::times;

/// `NVML_ERROR_GPU_IS_LOST` and `NVML_ERROR_RESET_REQUIRED` (nvml.h), with which any call may be answered.
const LOST: [c_int; 2] = [15, 16];

thread_local! {
    /// What a call of this thread was answered with last that no GPU at work answers.
    static SAID: Cell<Option<i32>> = const { Cell::new(None) };
}

/// Makes a call, which answers with an `nvmlReturn_t`.
pub(super) fn call(name: &CStr, work: impl FnOnce() -> c_int) -> c_int {
    let code = times::measure(name.to_str().unwrap_or("?"), work);
    if LOST.contains(&code) {
        SAID.set(Some(code));
    }
    code
}

/// With what a call of this thread was answered since this was asked last that no GPU at work answers.
pub(super) fn lost() -> Option<i32> {
    SAID.take()
}
