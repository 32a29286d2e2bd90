//! Writes a `tokenizer.json`: `cargo run -p easel-import --example tokenizer -- clip|clip-with-ends|yttm|yttm-lower|char-bpe|min-dalle FILE…`.

use std::path::Path;

use easel_import::tokenizer;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let json = match arguments.as_slice() {
        ["clip", file] => tokenizer::clip(Path::new(file), false)?,
        ["clip-with-ends", file] => tokenizer::clip(Path::new(file), true)?,
        ["yttm", file] => tokenizer::yttm(Path::new(file), false)?,
        ["yttm-lower", file] => tokenizer::yttm(Path::new(file), true)?,
        ["char-bpe", vocab, merges] => tokenizer::char_bpe(Path::new(vocab), Path::new(merges))?,
        ["min-dalle", vocab, merges] => tokenizer::min_dalle(Path::new(vocab), Path::new(merges))?,
        _ => return Err("expected: clip|clip-with-ends|yttm|yttm-lower|char-bpe|min-dalle FILE…".into()),
    };
    println!("{json}");
    Ok(())
}
