//! What these bytes can run on: ELF, fatbins, closures, wheels and images.
