//! The sampler's process.
fn main() {}
