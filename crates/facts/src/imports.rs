//! What an import that failed wanted, where that says nothing of the package.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::table;

#[derive(Deserialize)]
struct Table {
    want: Vec<Want>,
    pair: Vec<Pair>,
}

#[derive(Deserialize)]
struct Want {
    words: String,
    wants: String,
}

/// Two packages that do not fit each other, by the error that an import ends with.
#[derive(Debug, Deserialize)]
pub struct Pair {
    words: String,
    /// The package that does not fit the one that was imported.
    pub with: String,
    /// What to ask for.
    pub fix: String,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| table::read(table::IMPORTS));

/// What an import wanted that a container without GPU and network does not have, by the error that it ended
/// with: "a GPU". `None` where the error is the package's own.
pub fn import_wants(error: &str) -> Option<&'static str> {
    let error = error.to_lowercase();
    let found = TABLE.want.iter().find(|row| error.contains(&row.words.to_lowercase()));
    found.map(|row| row.wants.as_str())
}

/// The package that another one does not fit, by the error that its import ended with.
pub fn import_pair(error: &str) -> Option<&'static Pair> {
    TABLE.pair.iter().find(|row| error.contains(&row.words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_of_a_pair() {
        let error = "ImportError: numpy.core.multiarray failed to import";
        assert_eq!(import_pair(error).map(|pair| pair.with.as_str()), Some("numpy"));
        assert!(import_pair("ImportError: libGL.so.1").is_none());
    }

    #[test]
    fn what_an_import_wants() {
        for (error, wants) in [
            (
                "ImportError: libcuda.so.1: cannot open shared object file",
                Some("the NVIDIA driver"),
            ),
            (
                "RuntimeError: Failed to load NVENC library: libnvidia-encode.so.1: cannot open shared object file",
                Some("the NVIDIA driver"),
            ),
            ("OSError: libnvcuvid.so.1: cannot open shared object file", Some("the NVIDIA driver")),
            ("RuntimeError: No CUDA GPUs are available", Some("a GPU")),
            ("gaierror: [Errno -3] Temporary failure in name resolution", Some("the network")),
            ("OSError: libcudart.so.12: cannot open shared object file", None),
            ("OSError: libGL.so.1: cannot open shared object file", None),
            ("ImportError: x.so: undefined symbol: _ZN3c104cuda", None),
            ("", None),
        ] {
            assert_eq!(import_wants(error), wants, "{error}");
        }
    }
}
