//! Wheels, debs and plain files to deterministic layers, image configuration and manifest.
