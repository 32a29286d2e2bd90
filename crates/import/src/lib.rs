//! Turns a checkpoint in its own format into a [model package](easel_package): ONNX graphs written by hand, without Python.
//!
//! A checkpoint is a folder whose `config.json` names its family; `docs/checkpoint.md` describes the first one, `dalle`. The graphs come from one builder
//! each of transformers, autoencoders and CLIP; a family maps its keys to them, reading one layer at a time. The same checkpoint and options give the
//! same bytes.
//!
//! ```no_run
//! use easel_import::{ImportOptions, import};
//!
//! let options = ImportOptions::default();
//! let package = import("checkpoint".as_ref(), "models/scenes/package".as_ref(), &options, &mut |progress| {
//!     println!("{} of {} bytes", progress.read_bytes, progress.total_bytes);
//! })?;
//! println!("{}", package.digest());
//! # Ok::<(), easel_import::Error>(())
//! ```

mod autoencoder;
mod blocks;
mod chameleon;
mod checkpoint;
mod clip;
mod dalle;
mod dalle_pytorch;
mod emu3;
mod error;
mod family;
mod graph;
mod image_gpt;
mod janus;
mod layers;
mod llama;
mod llamagen;
mod mask;
mod matmul;
mod min_dalle;
mod mindall_e;
mod one_vocabulary;
mod onnx;
mod options;
pub mod parts;
mod picture;
mod ranker;
mod reads;
mod rudalle;
mod staging;
mod storage;
pub mod synthetic;
mod t5;
mod tensor;
pub mod tokenizer;
mod transformer;
mod vocabulary;

use std::{fs, path::Path};

use easel_package::{MANIFEST_FILE, Manifest, Package};

pub use easel_package::Device;
pub use error::Error;
pub use family::Family;
pub use mask::Mask;
pub use options::{ImportOptions, Progress, Weights};
pub use reads::Reads;

use checkpoint::Checkpoint;
use staging::Staging;

const CONFIG_BYTES: u64 = 1 << 20;

/// Reads the checkpoint at `checkpoint`, a folder or a file of weights, and writes a package to the folder `out`, which appears when it is whole.
///
/// `progress` is told after every tensor, now and then between them, and once more at the end. Where it panics, nothing is left behind.
///
/// # Errors
/// [`ImportOptions::name`] is none, a file is missing or damaged, a size makes no sense, a tensor is missing, has another shape than the configuration says or is one too many; or there is
/// something at `out` already that [`ImportOptions::overwrite`] does not cover. Nothing is left behind.
pub fn import(
    checkpoint: &Path,
    out: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Package, Error> {
    if let Some(name) = &options.name {
        easel_package::check_name(&out.join(MANIFEST_FILE), name)?;
    }
    options.check()?;
    let given = Checkpoint::open(checkpoint)?;
    let family = options.family.map_or_else(|| Family::of(&given), Ok)?;
    outside(checkpoint, out)?;
    if let Some(path) = options.text_encoder.as_ref().filter(|_| family != Family::LlamaGen) {
        let expected =
            format!("no text encoder of another project, as families other than {} read none", Family::LlamaGen);
        return Err(Error::File { path: path.clone(), expected, found: format!("one for {family}") });
    }
    let clip = options.ranker.as_deref().map(ranker::Source::open).transpose()?;
    let staging = Staging::new(out, options.overwrite)?;
    let (clip_bytes, mut family_bytes) = (clip.as_ref().map_or(0, ranker::Source::bytes), 0);
    let report = progress;
    let progress = &mut |progress: Progress| {
        family_bytes = progress.total_bytes;
        report(Progress { total_bytes: family_bytes + clip_bytes, ..progress });
    };
    let told = |error| mistaken(error, family, &given, options);
    let manifest = convert(family, (checkpoint, &given), staging.dir(), options, progress).map_err(told)?;
    let manifest = options.for_device(manifest)?;
    let total_bytes = family_bytes + clip_bytes;
    report(Progress { read_bytes: family_bytes, total_bytes });
    let mut ranked = |bytes| report(Progress { read_bytes: family_bytes + bytes, total_bytes });
    let manifest = match clip {
        Some(clip) => clip.attach(manifest, staging.dir(), options, &mut ranked)?,
        None => manifest,
    };
    if checkpoint.is_dir() {
        copy_licences(checkpoint, staging.dir())?;
    }
    let package = Package::seal(staging.dir(), options.told(manifest))?;
    tracing::info!(name = package.manifest().name, digest = package.digest(), "imported");
    staging.publish()?;
    Ok(Package::open(out)?)
}

/// Writes the graphs and vocabularies of a checkpoint into `out`, and says in a manifest what they are.
fn convert(
    family: Family,
    (path, checkpoint): (&Path, &Checkpoint),
    out: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, Error> {
    match family {
        Family::Dalle => {
            let config = path.join("config.json");
            let text = checkpoint::text(&config, CONFIG_BYTES)?;
            let (mut read_bytes, total_bytes) = (0, dalle::bytes(path)?);
            let mut read = |bytes| {
                read_bytes += bytes;
                progress(Progress { read_bytes, total_bytes });
            };
            dalle::import((&config, &text), path, out, options, &mut read)
        }
        Family::DallePytorch => dalle_pytorch::import(checkpoint, out, options, progress),
        Family::Janus => janus::import(checkpoint, out, options, progress),
        Family::MinDalle => min_dalle::import(checkpoint, out, options, progress),
        Family::RuDalle => rudalle::import(checkpoint, out, options, progress),
        Family::ImageGpt => image_gpt::import(checkpoint, out, options, progress),
        Family::MinDallE => mindall_e::import(checkpoint, out, options, progress),
        Family::LlamaGen => llamagen::import(checkpoint, out, options, progress),
        Family::Emu3 => emu3::import(checkpoint, out, options, progress),
        Family::Chameleon => chameleon::import(checkpoint, out, options, progress),
        Family::OpenAiDvae | Family::Clip => {
            let known = Family::IMPORTED;
            let expected = format!("a checkpoint of one of the families {}", known.map(|f| f.to_string()).join(", "));
            Err(Error::File {
                path: path.into(),
                expected,
                found: format!(
                    "one of {family}, which is given beside a model's{}",
                    if family == Family::Clip { " (--ranker)" } else { "" }
                ),
            })
        }
    }
}

/// `error`, and where the family was told, which one the checkpoint is known of, if it is another.
fn mistaken(error: Error, told: Family, checkpoint: &Checkpoint, options: &ImportOptions) -> Error {
    match options.family.and_then(|_| Family::of(checkpoint).ok()).filter(|known| *known != told) {
        Some(known) => Error::Family { reason: Box::new(error), told, known },
        None => error,
    }
}

/// Refuses to replace a folder that the checkpoint lies in.
fn outside(checkpoint: &Path, out: &Path) -> Result<(), Error> {
    let (Ok(from), Ok(to)) = (checkpoint.canonicalize(), out.canonicalize()) else { return Ok(()) };
    if !from.starts_with(&to) {
        return Ok(());
    }
    Err(Error::File {
        path: out.into(),
        expected: "a folder that the checkpoint does not lie in".into(),
        found: checkpoint.display().to_string(),
    })
}

/// Copies LICENSE and NOTICE, and files whose names begin so.
fn copy_licences(from: &Path, to: &Path) -> Result<(), Error> {
    let io = |source| Error::Io { path: from.into(), source };
    for entry in fs::read_dir(from).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        let licence = name.to_str().is_some_and(|n| n.starts_with("LICENSE") || n.starts_with("NOTICE"));
        if licence && entry.path().is_file() {
            fs::copy(entry.path(), to.join(&name)).map_err(|source| Error::Io { path: entry.path(), source })?;
        }
    }
    Ok(())
}
