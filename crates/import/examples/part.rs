//! Imports one part of a model: `cargo run -p easel-import --example part -- pictures LAYOUT CHECKPOINT ROWS COLUMNS OUT`, or `… -- ranker CHECKPOINT OUT`.
//!
//! The graphs, with weights in full precision, lie in the folder OUT then; what a manifest would say of them is printed.

use std::{path::Path, process::ExitCode};

use easel_import::{ImportOptions, Weights, parts};
use easel_package::Grid;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(found) => {
            println!("{found}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<String, Failure> {
    let options = ImportOptions { weights: Weights::F32, ..ImportOptions::default() };
    match *arguments {
        ["pictures", layout, checkpoint, rows, columns, out] => {
            let grid = Grid { rows: rows.parse()?, columns: columns.parse()? };
            let (checkpoint, out) = (Path::new(checkpoint), Path::new(out));
            let found = parts::pictures(checkpoint, layout.parse()?, grid, out, &options, &mut |_| ())?;
            Ok(format!("{found:?}"))
        }
        ["ranker", checkpoint, out] => {
            let found = parts::ranker(Path::new(checkpoint), Path::new(out), &options, &mut |_| ())?;
            Ok(format!("{found:?}"))
        }
        _ => Err("expected: pictures LAYOUT CHECKPOINT ROWS COLUMNS OUT, or ranker CHECKPOINT OUT".into()),
    }
}
