//! The virtual environment's skeleton: what `python -m venv` would make, as data.
//!
//! One environment at a fixed path ([`PREFIX`]), first on PATH, in which `pip install` works as
//! people expect (PEP 405; Debian's own site-packages are marked EXTERNALLY-MANAGED, PEP 668).

use sconce_layer::{Content, Entry, Kind, Meta};

/// Where the environment lies in every image, without the leading `/`.
pub const PREFIX: &str = "opt/venv";

/// The environment's folder for packages, without the leading `/`.
pub fn site_packages(python: &str) -> String {
    format!("{PREFIX}/lib/python{python}/site-packages")
}

/// The entries of the skeleton for a Python such as `3.13`, whose interpreter lies in `folder`.
pub(crate) fn skeleton(python: &str, folder: &str) -> Vec<Entry> {
    let directory = |path: String| Entry { path, kind: Kind::Directory, meta: Meta::DIRECTORY };
    let link = |path: String, target: String| Entry {
        path,
        kind: Kind::Symlink { target },
        meta: Meta::SYMLINK,
    };
    // PEP 405, "Specification": `home` is the folder of the base interpreter.
    let version = python.trim_end_matches('t');
    let configuration = format!(
        "home = /{folder}\ninclude-system-site-packages = false\nversion = {version}\n\
         executable = /{folder}/python{python}\n"
    );
    vec![
        directory("opt".into()),
        directory(PREFIX.into()),
        directory(format!("{PREFIX}/bin")),
        link(format!("{PREFIX}/bin/python"), format!("/{folder}/python{python}")),
        link(format!("{PREFIX}/bin/python3"), "python".into()),
        link(format!("{PREFIX}/bin/python{python}"), "python".into()),
        directory(format!("{PREFIX}/include")),
        directory(format!("{PREFIX}/lib")),
        directory(format!("{PREFIX}/lib/python{python}")),
        directory(site_packages(python)),
        link(format!("{PREFIX}/lib64"), "lib".into()),
        Entry {
            path: format!("{PREFIX}/pyvenv.cfg"),
            kind: Kind::File(Content::bytes(configuration.into_bytes())),
            meta: Meta::FILE,
        },
    ]
}
