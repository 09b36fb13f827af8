//! Worlds in a file for tests: package indexes, archives, hostile bytes; never imported outside tests.
