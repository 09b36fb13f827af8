//! Downloads: indexes, wheels and debs, with resume, retries and verification.
