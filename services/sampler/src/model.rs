//! What the engine wants of a transformer, and the one over easel-onnx.

use std::time::{Duration, Instant};

use easel_package::{Manifest, Ties};

pub use easel_onnx::{Prefix, Row};

/// The sizes that the engine must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Text positions.
    pub text_length: usize,
    /// Image tokens of a picture; they begin at position text_length.
    pub cells: usize,
    /// Logits of a row.
    pub codebook: usize,
}

impl Geometry {
    /// As the manifest says.
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            text_length: manifest.text.length as usize,
            cells: manifest.grid.cells(),
            codebook: manifest.codebook as usize,
        }
    }
}

/// What a package asks for beyond the plain case, which is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Columns of the grid.
    pub columns: usize,
    /// Image ids behind each row of the grid, which are fed to the model and not drawn.
    pub row_end: Vec<u32>,
    /// What top-k does with tokens as likely as the k-th.
    pub top_k_ties: Ties,
    /// How many image tokens are guided, from the first on; none: all.
    pub guided_tokens: Option<u32>,
}

impl Rules {
    /// As the manifest says.
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            columns: manifest.grid.columns as usize,
            row_end: manifest.sampler.row_end.clone(),
            top_k_ties: manifest.sampling.top_k_ties,
            guided_tokens: manifest.sampling.guided_tokens,
        }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model refused the rows and did nothing: their sequences are as they were.
    #[error("the model refused the rows")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The model failed; the sequences of the rows are lost.
    #[error("the model failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The model panicked; the sequences of the rows are lost.
    #[error("the model panicked: {0}")]
    Panicked(String),
    /// What it computed is of no use.
    #[error(transparent)]
    Logits(#[from] crate::logits::Error),
    /// The number of logits is not that of the rows that asked for them.
    #[error("expected {expected} logits, found {found}")]
    Shape {
        /// Rows that asked × codebook.
        expected: usize,
        /// What the model gave.
        found: usize,
    },
}

/// A transformer with the keys and values of a number of sequences. It belongs to one thread at a time.
pub trait Model: Send + 'static {
    /// Its sizes.
    fn geometry(&self) -> Geometry;

    /// What its package asks for.
    fn rules(&self) -> Rules {
        Rules::default()
    }

    /// Places for sequences.
    fn sequences(&self) -> usize;

    /// Where it runs: "cpu" or "cuda".
    fn device(&self) -> String;

    /// Starts a new sequence in `slot`; with a prefix, its first positions are read from another slot.
    ///
    /// # Errors
    /// A slot out of range, or a prefix that was not computed.
    fn begin(&mut self, slot: usize, prefix: Option<Prefix>) -> Result<(), Error>;

    /// How many of a sequence's last image positions can be taken back; 0: none, and nothing is guessed.
    fn rewinds(&self) -> usize {
        0
    }

    /// Takes the image positions of `slot` from `length` on back, as if they had never been computed.
    ///
    /// # Errors
    /// [`Error::Refused`] where there are more than [`Model::rewinds`].
    fn rewind(&mut self, slot: usize, length: usize) -> Result<(), Error> {
        Err(Error::Refused(format!("slot {slot} cannot be taken back to {length}").into()))
    }

    /// Computes `rows` and gives the logits f32 \[rows with `logits` set, codebook\] in their order. No bit of a row's result may depend on the others.
    ///
    /// # Errors
    /// [`Error::Refused`] when nothing was done, else [`Error::Failed`].
    fn step(&mut self, rows: &[Row]) -> Result<&[f32], Error>;
}

/// A package's transformer.
#[derive(Debug)]
pub struct Transformer {
    inner: easel_onnx::Transformer,
    geometry: Geometry,
    rules: Rules,
}

impl Transformer {
    /// Wraps a transformer that was loaded from the package with `manifest`.
    pub fn new(inner: easel_onnx::Transformer, manifest: &Manifest) -> Self {
        Self { inner, geometry: Geometry::of(manifest), rules: Rules::of(manifest) }
    }
}

impl Model for Transformer {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn rules(&self) -> Rules {
        self.rules.clone()
    }

    fn sequences(&self) -> usize {
        self.inner.sequences()
    }

    fn device(&self) -> String {
        self.inner.device().to_owned()
    }

    fn begin(&mut self, slot: usize, prefix: Option<Prefix>) -> Result<(), Error> {
        self.inner.begin(slot, prefix).map_err(error)
    }

    fn rewinds(&self) -> usize {
        self.inner.rewinds()
    }

    fn rewind(&mut self, slot: usize, length: usize) -> Result<(), Error> {
        self.inner.rewind(slot, length as u32).map_err(error)
    }

    fn step(&mut self, rows: &[Row]) -> Result<&[f32], Error> {
        self.inner.step(rows).map_err(error)
    }
}

fn error(error: easel_onnx::Error) -> Error {
    match error {
        easel_onnx::Error::Input { .. } | easel_onnx::Error::Exhausted { .. } => Error::Refused(Box::new(error)),
        _ => Error::Failed(Box::new(error)),
    }
}

/// Runs `caption` (padded; at most the text length) and one image token through the place `slot`: whether the model works, and the time of the one token's step.
///
/// # Errors
/// It fails, or gives logits of the wrong number or that are no numbers.
pub fn probe(model: &mut impl Model, slot: usize, caption: &[u32]) -> Result<Duration, Error> {
    let Geometry { codebook, text_length, .. } = model.geometry();
    model.begin(slot, None)?;
    let row = |position: usize, token, logits| Row { slot, token, position: position as u32, logits };
    let positions = text_length - caption.len()..text_length;
    let rows = positions.zip(caption).map(|(p, &token)| row(p, token, p + 1 == text_length));
    let token = check(model.step(&rows.collect::<Vec<_>>())?, codebook)?;
    let started = Instant::now();
    check(model.step(&[row(text_length, token, true)])?, codebook)?;
    Ok(started.elapsed())
}

/// The most likely token of one row's logits.
fn check(logits: &[f32], codebook: usize) -> Result<u32, Error> {
    if logits.len() != codebook {
        return Err(Error::Shape { expected: codebook, found: logits.len() });
    }
    let greedy = crate::logits::Parameters { temperature: 0.0, top_k: 0, top_p: 1.0, guidance_scale: 1.0 };
    Ok(crate::logits::Picker::default().draw(logits, &greedy, 0.0)?)
}
