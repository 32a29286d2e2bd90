//! The standalone's process.
fn main() {}
