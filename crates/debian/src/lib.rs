//! Debian archives: signed indexes, version order, resolution, and a root file system without maintainer scripts.
