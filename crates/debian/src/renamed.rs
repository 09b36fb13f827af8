//! Packages that instructions of other years name, and what has their files now. Debian keeps a name
//! that is provided by another package; these it dropped.

/// The old name, the new one, and where Debian says so.
const RENAMED: [(&str, &str, &str); 6] = [
    // What most instructions for OpenCV's libGL.so.1 say.
    (
        "libgl1-mesa-glx",
        "libgl1",
        "packages.debian.org/bookworm/libgl1-mesa-glx: a transitional package",
    ),
    (
        "libegl1-mesa",
        "libegl1",
        "packages.debian.org/bullseye/libegl1-mesa: a transitional package",
    ),
    (
        "libssl1.1",
        "libssl3t64",
        "wiki.debian.org/OpenSSL-3.0, wiki.debian.org/ReleaseGoals/64bit-time",
    ),
    ("libpng12-0", "libpng16-16t64", "tracker.debian.org/pkg/libpng1.6"),
    ("libreadline7", "libreadline8t64", "tracker.debian.org/pkg/readline"),
    ("libreadline6", "libreadline8t64", "tracker.debian.org/pkg/readline"),
];

/// The name that a package has now.
pub(crate) fn renamed(name: &str) -> Option<&'static str> {
    RENAMED.iter().find(|(old, ..)| *old == name).map(|(_, new, _)| *new)
}
