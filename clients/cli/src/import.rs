use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, ValueEnum};
use easel_import::{Family, ImportOptions, Progress};
use easel_server::serve;
use indicatif::ProgressBar;
use tokio::signal::unix::{SignalKind, signal};

use crate::{Error, output, progress};

/// Turn a checkpoint in its own format into a model package
#[derive(Args)]
#[command(
    after_help = "Example: easel import checkpoint --out models/mine && easel generate 'a red circle' --package models/mine"
)]
pub(crate) struct Import {
    /// A checkpoint: its folder (config.json, weights, tokenizer), or one file (.safetensors, .pt, .pth, .bin, .ckpt, .pkl)
    checkpoint: PathBuf,

    /// Folder of the package; it appears when it is whole
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Whose checkpoint it is, where neither its config.json nor its keys tell
    #[arg(long, value_name = "NAME")]
    family: Option<Family>,

    /// A checkpoint of CLIP that ranks the candidates, for a model that has none or in its place: a file, or a folder with config.json and tokenizer.json
    #[arg(long, value_name = "CHECKPOINT")]
    ranker: Option<PathBuf>,

    /// The text encoder of a model that reads captions with one of another project: for LlamaGen, the folder of flan-t5-xl
    #[arg(long, value_name = "DIR")]
    text_encoder: Option<PathBuf>,

    /// The package's name, by which requests ask for it, so that two packages of a family can be served together: 1 to 64 of a-z, 0-9, '.', '_', '-'
    #[arg(long)]
    name: Option<String>,

    /// The model's own version
    #[arg(long)]
    version: Option<String>,

    /// Licence of the weights
    #[arg(long, value_name = "SPDX")]
    license: Option<String>,

    /// One paragraph on the model, for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// What the sampler is made for; a package for the one is refused on the other
    #[arg(long, value_enum, default_value_t)]
    device: Device,

    /// Precision of the stored weights; for cuda f16 or f32
    #[arg(long, value_enum, default_value_t)]
    weights: Weights,

    /// Replace the package that is at DIR already
    #[arg(long)]
    overwrite: bool,
}

/// What a sampler's graph is made for.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum Device {
    /// The CPU.
    #[default]
    Cpu,
    /// NVIDIA's GPUs.
    Cuda,
}

/// Precision of the stored weights.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum Weights {
    /// 32-bit floats.
    F32,
    /// 16-bit floats: half the size.
    #[default]
    F16,
    /// The transformer's matrices in 8-bit blocks, the rest as f16.
    Q8,
    /// The transformer's matrices in 4-bit blocks, its head in 8-bit ones, the rest as f16.
    Q4,
}

impl From<Weights> for easel_import::Weights {
    fn from(weights: Weights) -> Self {
        match weights {
            Weights::F32 => Self::F32,
            Weights::F16 => Self::F16,
            Weights::Q8 => Self::Q8,
            Weights::Q4 => Self::Q4,
        }
    }
}

impl Import {
    pub(crate) async fn run(self) -> Result<(), Error> {
        let stop = serve::shutdown_signal()?;
        let mut hangup = signal(SignalKind::hangup()).map_err(Error::Runtime)?;
        let interrupted = Arc::new(AtomicBool::new(false));
        let mut import = tokio::task::spawn_blocking({
            let interrupted = interrupted.clone();
            move || self.import(&interrupted)
        });
        let stop = async {
            tokio::select! {
                () = stop => {}
                _ = hangup.recv() => {}
            }
        };
        let ended = tokio::select! {
            ended = &mut import => ended,
            () = stop => {
                interrupted.store(true, Ordering::Relaxed);
                import.await
            }
        };
        match ended {
            Ok(result) => result,
            Err(_) if interrupted.load(Ordering::Relaxed) => Err(Error::Interrupted),
            Err(panic) => Err(Error::Failed(format!("the import panicked: {panic}"))),
        }
    }

    fn import(self, interrupted: &AtomicBool) -> Result<(), Error> {
        let device = match self.device {
            Device::Cpu => easel_import::Device::Cpu,
            Device::Cuda => easel_import::Device::Cuda,
        };
        let options = ImportOptions {
            family: self.family,
            ranker: self.ranker,
            text_encoder: self.text_encoder,
            name: self.name,
            version: self.version,
            license: self.license,
            description: self.description,
            device,
            weights: self.weights.into(),
            overwrite: self.overwrite,
            ..ImportOptions::default()
        };
        let mut shown = Shown::new();
        let package = easel_import::import(&self.checkpoint, &self.out, &options, &mut |progress| {
            if interrupted.load(Ordering::Relaxed) {
                // Unwinding takes the half-written package away.
                std::panic::resume_unwind(Box::new("interrupted"));
            }
            shown.update(progress);
        });
        shown.bar.finish_and_clear();
        let package = package?;
        let size = package.manifest().files.values().map(|file| file.bytes).sum();
        let (name, out) = (&package.manifest().name, self.out.display());
        output::print(&format!("{name}: {} in {out}\n{}\n", output::bytes(size), package.digest()))
    }
}

/// How far the import is: a bar on a terminal, and a line for every tenth elsewhere.
struct Shown {
    bar: ProgressBar,
    tenths: u64,
}

impl Shown {
    fn new() -> Self {
        Self { bar: progress::bar("import", 0).with_style(progress::style("{bytes}/{total_bytes}")), tenths: 0 }
    }

    fn update(&mut self, progress: Progress) {
        self.bar.set_length(progress.total_bytes);
        self.bar.set_position(progress.read_bytes);
        let tenths = (progress.read_bytes * 10).checked_div(progress.total_bytes).unwrap_or(0).min(10);
        if self.bar.is_hidden() && tenths > self.tenths {
            let total = output::bytes(progress.total_bytes);
            eprintln!("import: {} % of {total} read", tenths * 10);
            self.tenths = tenths;
        }
    }
}
