//! Writes a checkpoint of random weights with DALL·E's masks, 256 text and 1024 image tokens of 8192 codes:
//! `cargo run --release -p easel-import --example synthetic -- WIDTH LAYERS OUT`. Heads are 64 wide.

use std::{path::Path, process::ExitCode};

use easel_import::{Mask, synthetic};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let [width, layers, out] = arguments else { return Err("expected: WIDTH LAYERS OUT".into()) };
    let (width, layers): (u32, usize) = (width.parse()?, layers.parse()?);
    let mask = |layer: usize| match layer {
        last if last + 1 == layers => Mask::Conv,
        layer if layer % 4 == 1 => Mask::Column,
        _ => Mask::Row,
    };
    let geometry = synthetic::Geometry {
        name: format!("random-{width}x{layers}"),
        text_length: 256,
        grid: 32,
        levels: vec![8, 8, 8, 16],
        width,
        heads: width / 64,
        masks: (0..layers).map(mask).collect(),
        conv_kernel: 11,
        ..synthetic::Geometry::default()
    };
    Ok(synthetic::checkpoint(Path::new(out), &geometry, 1)?)
}
