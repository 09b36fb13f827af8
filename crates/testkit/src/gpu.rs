//! The libraries of a GPU that is none (`gpu/*.c`), compiled for the test: libcuda, NVRTC, cuBLASLt, cuDNN, NCCL. How fast they
//! are and what they compute wrongly, variables say; `gpu/fake.h` lists them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each file by its name, with its text.
const SOURCES: &[(&str, &str)] = &[
    ("fake.h", include_str!("gpu/fake.h")),
    ("libcuda.c", include_str!("gpu/libcuda.c")),
    ("libnvrtc.c", include_str!("gpu/libnvrtc.c")),
    ("libcublasLt.c", include_str!("gpu/libcublasLt.c")),
    ("libcudnn.c", include_str!("gpu/libcudnn.c")),
    ("libnccl.c", include_str!("gpu/libnccl.c")),
];

/// A GPU's libraries, in a folder for `LD_LIBRARY_PATH`.
pub struct FakeGpu {
    folder: PathBuf,
}

impl FakeGpu {
    /// Driver and NVRTC, in `folder`/lib.
    pub fn new(folder: &Path) -> Self {
        let fake = Self { folder: folder.to_owned() };
        fs::create_dir_all(fake.folder()).expect("a folder for the libraries");
        for (name, text) in SOURCES {
            fs::write(folder.join(name), text).expect("the sources");
        }
        // The others know it by that name, and share its clock.
        fake.compile("libcuda", "libcuda.so.1", &["-Wl,-soname,libcuda.so.1"]);
        fake.with("libnvrtc", "libnvrtc.so.13", &[])
    }

    /// One more library: `libcudnn`, as `libcudnn.so.9`.
    pub fn with(self, source: &str, name: &str, defines: &[&str]) -> Self {
        let driver = self.folder().join("libcuda.so.1");
        let driver = driver.to_str().expect("a path in UTF-8");
        self.compile(source, name, &[defines, &[driver]].concat());
        self
    }

    fn compile(&self, source: &str, name: &str, words: &[&str]) {
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O2", "-w", "-o"]).arg(self.folder().join(name));
        cc.arg(self.folder.join(format!("{source}.c"))).args(words);
        assert!(cc.status().expect("a C compiler").success(), "{name} is compiled");
    }

    /// Their folder.
    pub fn folder(&self) -> PathBuf {
        self.folder.join("lib")
    }
}
