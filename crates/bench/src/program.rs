//! The program in Python that measures through torch, as files to be put into a folder of the container.

/// Each file by its path below the folder, with its text. The folder itself is what Python runs.
pub const PROGRAM: &[(&str, &str)] = &[
    ("__main__.py", include_str!("../python/__main__.py")),
    ("sconce_figures/__init__.py", include_str!("../python/sconce_figures/__init__.py")),
    ("sconce_figures/clock.py", include_str!("../python/sconce_figures/clock.py")),
    ("sconce_figures/loader.py", include_str!("../python/sconce_figures/loader.py")),
    ("sconce_figures/operators.py", include_str!("../python/sconce_figures/operators.py")),
    ("sconce_figures/right.py", include_str!("../python/sconce_figures/right.py")),
    ("sconce_figures/small.py", include_str!("../python/sconce_figures/small.py")),
    ("sconce_figures/training.py", include_str!("../python/sconce_figures/training.py")),
];
