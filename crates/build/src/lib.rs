//! A lock to an image: layers planned, made in parallel, sealed.
