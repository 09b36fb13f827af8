//! The rules that hold the crates apart, as rows; and the packages of a release.

pub mod dist;

/// Which crates of the workspace a crate may use. Data goes one way: nothing to the right of the
/// walk (lock, layer, image, run, check) is known to anything on its left.
pub const ARROWS: &[(&str, &[&str])] = &[
    ("blob", &[]),
    ("open", &[]),
    ("oci", &["blob"]),
    ("facts", &[]),
    ("lock", &["blob", "facts", "oci", "open"]),
    ("layer", &["blob", "oci"]),
    ("debian", &["blob", "layer"]),
    ("store", &["blob", "oci", "open"]),
    ("fetch", &["blob", "debian", "lock", "open", "store"]),
    ("registry", &["blob", "fetch", "oci", "open"]),
    ("audit", &["blob", "debian", "facts", "inspect", "lock"]),
    ("transfer", &["audit", "blob", "build", "fetch", "oci", "open", "registry", "sign", "store"]),
    ("inspect", &["blob", "facts", "oci", "open"]),
    ("cuda", &[]),
    ("gpu", &["open"]),
    ("bench", &["cuda", "facts", "gpu"]),
    ("verify", &[]),
    ("doctor", &["facts", "gpu", "open"]),
    ("run", &["blob", "facts", "open", "store"]),
    (
        "build",
        &[
            "blob", "debian", "facts", "fetch", "inspect", "layer", "lock", "oci", "open", "run",
            "store",
        ],
    ),
    ("sign", &["blob"]),
    ("listen", &["blob"]),
    ("serve", &["audit", "blob", "build", "fetch", "listen", "lock", "oci", "store"]),
    ("launch", &["facts"]),
    ("monitor", &["facts", "gpu", "listen", "open"]),
    ("inside", &["bench", "cuda", "gpu", "run", "verify"]),
    (
        "start",
        &[
            "blob", "build", "doctor", "facts", "gpu", "lock", "oci", "open", "registry", "run",
            "store", "transfer",
        ],
    ),
    (
        "sconce",
        &[
            "audit", "bench", "blob", "build", "debian", "doctor", "facts", "fetch", "gpu",
            "inside", "inspect", "launch", "layer", "listen", "lock", "monitor", "oci", "open",
            "registry", "run", "serve", "sign", "start", "store", "transfer", "verify",
        ],
    ),
];

/// Crates that only tests may use.
pub const DEV_ONLY: &[&str] = &["testkit"];

/// Outside libraries that only the named crates may use, and why.
pub const LIBRARIES: &[(&str, &[&str], &str)] = &[
    ("ureq", &["fetch"], "bytes from the network enter through one door"),
    (
        "httparse",
        &["monitor", "serve"],
        "two crates answer requests: the registry and the exporter",
    ),
    (
        "rustls",
        &["fetch", "listen"],
        "one crate takes encrypted connections, and one says why its own did not come about",
    ),
    ("blowfish", &["listen"], "one crate compares passwords"),
    ("libcontainer", &["run"], "one crate starts containers"),
    ("libcgroups", &["run"], "one crate starts containers"),
    ("clap", &["sconce"], "only commands have arguments"),
    ("indicatif", &["sconce"], "only commands draw progress"),
];

/// Crates that may hold `unsafe` code.
pub const UNSAFE: &[&str] = &["cuda", "gpu", "run"];

/// Crates that may print.
pub const PRINTING: &[&str] = &["sconce"];
