//! The tokenizer's process.
fn main() {}
