//! The content-addressed store: blobs, virtual layers, extracted trees, images, OCI layouts.
