//! The ranker's process.
fn main() {}
