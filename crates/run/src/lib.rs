//! An image to a running container: overlay, mounts, namespaces, cgroups, terminal.
