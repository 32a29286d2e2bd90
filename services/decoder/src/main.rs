//! The decoder's process.
fn main() {}
