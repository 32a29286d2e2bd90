//! The model package: manifest, digests, shapes.
