//! What a process of an environment finds.

use std::sync::Arc;

use crate::forge::Library;
use crate::{Options, Tree, inspect};

/// A module of a conda environment may rely on the RPATH of its Python.
#[test]
fn the_programs_rpath_comes_last() {
    let said = |rpath: &str| {
        let mut tree = Tree::new();
        let mut put = |path: &str, library: Library| {
            tree.add_file(path, Arc::new(library.build()));
        };
        let python = Library::new("").interpreter("/lib64/ld-linux-x86-64.so.2");
        put("bin/python3.12", python.rpath(rpath));
        put("share/lib/libcudart.so.12", Library::new("libcudart.so.12"));
        let module = Library::new("").needs(&["libcudart.so.12"]);
        put("lib/python3.12/site-packages/x/_c.cpython-312-x86_64-linux-gnu.so", module);
        tree.add_link("bin/python", "python3.12");
        let report = inspect("env", &tree, &Options::default(), &|_, _| {});
        report.findings.into_iter().map(|finding| finding.message).collect::<Vec<_>>()
    };
    assert_eq!(said("$ORIGIN/../share/lib"), [] as [String; 0]);
    assert_eq!(
        said("$ORIGIN/../nowhere"),
        [
            "lib/python3.12/site-packages/x/_c.cpython-312-x86_64-linux-gnu.so needs libcudart.so.12, which is not where the loader looks"
        ]
    );
}
