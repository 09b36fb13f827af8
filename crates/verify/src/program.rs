//! The Python program, as files to be put into a folder of the container.

/// Each file by its path below the folder, with its text. The folder itself is what Python runs.
pub const PROGRAM: &[(&str, &str)] = &[
    ("__main__.py", include_str!("../python/__main__.py")),
    ("sconce_checks/__init__.py", include_str!("../python/sconce_checks/__init__.py")),
    ("sconce_checks/collective.py", include_str!("../python/sconce_checks/collective.py")),
    ("sconce_checks/compiler.py", include_str!("../python/sconce_checks/compiler.py")),
    ("sconce_checks/devices.py", include_str!("../python/sconce_checks/devices.py")),
    ("sconce_checks/events.py", include_str!("../python/sconce_checks/events.py")),
    ("sconce_checks/feeding.py", include_str!("../python/sconce_checks/feeding.py")),
    ("sconce_checks/matmul.py", include_str!("../python/sconce_checks/matmul.py")),
    ("sconce_checks/mixed.py", include_str!("../python/sconce_checks/mixed.py")),
    ("sconce_checks/outcome.py", include_str!("../python/sconce_checks/outcome.py")),
];
