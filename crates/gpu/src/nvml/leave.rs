//! How a process ends that has called NVML.
//!
//! `exit` runs the destructors of loaded libraries while other threads go on: one that is inside NVML then, in a call
//! that takes long or never comes back, reads what is gone already. So the process ends before them, with its exit code.

use std::ffi::{c_int, c_void};
use std::sync::Once;

static ONCE: Once = Once::new();

unsafe extern "C" {
    /// glibc's on_exit(3): as atexit(3), and the handler is told the exit code.
    fn on_exit(handler: extern "C" fn(c_int, *mut c_void), with: *mut c_void) -> c_int;
}

extern "C" fn end(code: c_int, _: *mut c_void) {
    // SAFETY: it does not return. Rust has flushed its standard output before `exit` is called.
    unsafe { libc::_exit(code) }
}

/// Called once NVML is initialised: what is registered last runs first, before the library's own.
pub(super) fn without_destructors() {
    ONCE.call_once(|| {
        // SAFETY: the handler is a function of this program, which is never unloaded, and takes nothing.
        let _ = unsafe { on_exit(end, std::ptr::null_mut()) };
    });
}
