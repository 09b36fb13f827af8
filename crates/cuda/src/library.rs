//! A library and the table of its functions.

use std::ffi::{CStr, c_char, c_int};
use std::path::{Path, PathBuf};

use libloading::Library;

use crate::Refusal;

/// An opened library. It is never unloaded: CUDA holds threads of its own.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    library: &'static Library,
    pub(crate) path: PathBuf,
}

impl Opened {
    pub(crate) fn open(path: &Path) -> Result<Self, Refusal> {
        let opened = {
            // SAFETY: loading runs the library's initialisers. It is a CUDA library, found where any
            // CUDA program on this machine finds it.
            unsafe { Library::new(path) }
        };
        let library = opened.map_err(|error| Refusal::Library {
            library: path.to_owned(),
            reason: in_full(&error),
        })?;
        Ok(Self { library: Box::leak(Box::new(library)), path: path.to_owned() })
    }

    /// The function of this name, if there is one. `F` must be its C signature.
    pub(crate) fn symbol<F: Copy>(&self, name: &CStr) -> Option<F> {
        // SAFETY: each caller names the type that NVIDIA's header declares for the symbol; the library
        // is never unloaded, so the pointer stays valid.
        unsafe { self.library.get::<F>(name.to_bytes_with_nul()) }.ok().map(|symbol| *symbol)
    }

    /// What a function of the shape `const char *name(status)` says of a status.
    pub(crate) fn words(&self, name: &CStr, code: c_int) -> Option<String> {
        type Words = unsafe extern "C" fn(c_int) -> *const c_char;
        let words = self.symbol::<Words>(name)?;
        // SAFETY: it takes any number.
        let text = unsafe { words(code) };
        // SAFETY: a constant of the library, ended by NUL.
        (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    }
}

/// An error with its causes.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The functions that are used of a library: a row each, with the C signature. All return a status, of which 0
/// is success; `$words` says what another one means.
macro_rules! table {
    ($(#[$about:meta])* $name:ident, $words:path, $($symbol:ident($($argument:ident: $type:ty),* $(,)?);)+) => {
        $(#[$about])*
        #[allow(non_snake_case)]
        #[derive(Clone, Debug)]
        pub(crate) struct $name {
            pub(crate) library: $crate::library::Opened,
            $($symbol: Option<unsafe extern "C" fn($($type),*) -> std::ffi::c_int>,)+
        }

        #[allow(non_snake_case, clippy::too_many_arguments)]
        impl $name {
            /// Looks all functions up.
            pub(crate) fn of(library: $crate::library::Opened) -> Self {
                Self {
                    $($symbol: {
                        // SAFETY of the bytes: concat! ends them with the only NUL.
                        let name = std::ffi::CStr::from_bytes_with_nul(
                            concat!(stringify!($symbol), "\0").as_bytes(),
                        );
                        name.ok().and_then(|name| library.symbol(name))
                    },)+
                    library,
                }
            }

            $(
                /// The C function of this name.
                ///
                /// # Safety
                /// As the header asks: pointers lead to what the function reads or writes.
                pub(crate) unsafe fn $symbol(
                    &self, $($argument: $type),*
                ) -> Result<(), $crate::Refusal> {
                    let symbol = stringify!($symbol);
                    let function = self.$symbol.ok_or_else(|| $crate::Refusal::Symbol {
                        library: self.library.path.clone(),
                        symbol,
                    })?;
                    // SAFETY: the caller's.
                    match unsafe { function($($argument),*) } {
                        0 => Ok(()),
                        code => Err($crate::Refusal::Call {
                            call: symbol,
                            code,
                            meaning: $words(&self.library, code).unwrap_or_else(|| "error".to_owned()),
                        }),
                    }
                }
            )+
        }
    };
}
pub(crate) use table;
