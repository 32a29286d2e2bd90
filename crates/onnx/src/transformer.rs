use std::{
    ops::Range,
    sync::{MutexGuard, PoisonError},
};

use easel_package::Package;
use ort::value::{DynValue, TensorElementType, TensorRef};

use crate::{
    Error, Options, Runtime,
    contract::{
        Dimension::{Any, Is},
        Port,
    },
    graph::{Contract, Graph, weight_bytes},
    operator::Shared,
    pool::{Geometry, Pool},
    store::Part,
    text_encoder::TextEncoder,
};

/// One token for [`crate::Transformer::step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The sequence's place in the pool.
    pub slot: usize,
    /// A text id at positions below the text length, an image id from there on.
    pub token: u32,
    /// Where in the sequence; the positions of a slot follow one another without a gap. They begin at 0, or, where texts have no pads, at any text position.
    pub position: u32,
    /// Whether the logits of the token after this one are wanted.
    pub logits: bool,
}

/// The first positions of a sequence, read from another slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The slot that computed them. Its text is read where it lies; when it is begun anew, the sequences that read it are refused. Image positions, and a part of a
    /// text, are copied.
    pub slot: usize,
    /// How many: text positions, or all that the slot holds.
    pub length: u32,
}

/// The sampler's graph (contracts `easel.sampler/1` and `/2`) with the keys and values of a number of sequences.
#[derive(Debug)]
pub(crate) struct Transformer {
    graph: Graph,
    /// Reads the text up to where the graph's own tokens begin.
    text_encoder: Option<TextEncoder>,
    ordinals: bool,
    shared: Shared,
    geometry: Geometry,
    vocabulary: u32,
    codebook: u32,
    /// Image ids that the graph embeds, those that are not drawn included.
    image_ids: u32,
    inputs: Inputs,
    /// The last step's output; `step` lends it out.
    logits: Option<DynValue>,
}

/// The graph's inputs, reused from step to step.
#[derive(Debug, Default)]
struct Inputs {
    tokens: Vec<i64>,
    positions: Vec<i64>,
    slots: Vec<i64>,
    logit_rows: Vec<i64>,
    ordinals: Vec<i64>,
    embeddings: Vec<f32>,
    /// Numbers of an embedding; 0: the graph reads none.
    embedding_width: usize,
}

impl Transformer {
    /// Loads the graph, makes room for `sequences` slots, and makes a first step. A slot's memory is taken when it is first used.
    ///
    /// # Errors
    /// The graph is damaged or not what the manifest says, the device cannot be had, or the memory limit is too small.
    pub(crate) fn load(
        runtime: &Runtime,
        package: &Package,
        options: &Options,
        sequences: usize,
    ) -> Result<Self, Error> {
        Self::load_with(runtime, package, options, sequences, sequences)
    }

    /// As [`Transformer::load`], but with as many slots as the memory limit leaves room for: at least one, at most `sequences`.
    ///
    /// # Errors
    /// As [`Transformer::load`].
    pub(crate) fn load_within(
        runtime: &Runtime,
        package: &Package,
        options: &Options,
        sequences: usize,
    ) -> Result<Self, Error> {
        Self::load_with(runtime, package, options, sequences, 1)
    }

    /// What a layer keeps is known when its graph is loaded, so that only then it is known how many sequences there is room for.
    fn load_with(
        runtime: &Runtime,
        package: &Package,
        options: &Options,
        sequences: usize,
        least: usize,
    ) -> Result<Self, Error> {
        if sequences == 0 {
            return Err(Error::input("sequences", "at least 1", 0));
        }
        let (file, weights) = (&package.manifest().sampler.graph, weights(package));
        options.check_memory(format_args!("the weights of {file}"), weights)?;
        let mut transformer = Self::open(runtime, package, options)?;
        let each = transformer.kv_bytes_per_sequence() as u64;
        let fit = options.memory_limit_mib.map_or(sequences, |mib| {
            let fit = mib.saturating_mul(1 << 20).saturating_sub(weights) / each.max(1);
            sequences.min(usize::try_from(fit).unwrap_or(usize::MAX)).max(least)
        });
        let what = format_args!("the weights of {file} and the keys and values of {fit} sequences");
        options.check_memory(what, each.saturating_mul(fit as u64).saturating_add(weights))?;
        transformer.pool().resize(fit);
        if let Some(encoder) = &mut transformer.text_encoder {
            encoder.resize(fit);
        }
        transformer.try_out()?;
        Ok(transformer)
    }

    /// Loads the graphs; there is no slot yet.
    fn open(runtime: &Runtime, package: &Package, options: &Options) -> Result<Self, Error> {
        let manifest = package.manifest();
        let geometry = Geometry::of(manifest);
        let file = &manifest.sampler.graph;
        let shared = Shared::new(Pool::new(geometry, options.kv, 0));
        let failed = |error: ort::Error| Error::Graph { file: file.clone(), reason: error.to_string() };
        let operators = shared.domain().map_err(failed)?.into();
        let text_encoder = manifest.sampler.text_encoder.as_ref();
        let embedding_width = text_encoder.and_then(|encoder| encoder.embedding_width);
        let contract = contract(manifest.codebook as usize, embedding_width.unwrap_or(0) as usize);
        let graph = Graph::load(runtime, package, file, options, Some(operators), &contract)?;
        shared.check_nodes(file, text_encoder.is_some() && embedding_width.is_none())?;
        let load = |encoder| TextEncoder::load(runtime, package, options, encoder, geometry);
        Ok(Self {
            text_encoder: text_encoder.map(load).transpose()?,
            ordinals: graph.has_input("ordinals"),
            graph,
            shared,
            geometry,
            vocabulary: manifest.text.vocabulary,
            codebook: manifest.codebook,
            image_ids: manifest.codebook + manifest.sampler.row_end.len() as u32,
            inputs: Inputs { embedding_width: embedding_width.unwrap_or(0) as usize, ..Inputs::default() },
            logits: None,
        })
    }

    /// A step whose result nobody sees: a graph that cannot run fails here.
    fn try_out(&mut self) -> Result<(), Error> {
        let text = self.geometry.text_length;
        let positions = match &self.text_encoder {
            Some(encoder) => encoder.length() - 1..text,
            None if self.geometry.ragged => text - 1..text,
            None => 0..1,
        };
        let last = positions.end - 1;
        let row = |position| Row { slot: 0, token: 0, position: position as u32, logits: position == last };
        self.begin(0, None)?;
        self.step(&positions.map(row).collect::<Vec<_>>())?;
        self.begin(0, None)
    }

    /// Starts a new sequence in `slot`, forgetting what it held. With a prefix, positions 0 … length − 1 are those of the prefix's slot, and the
    /// slot's own rows begin at `length`.
    ///
    /// # Errors
    /// A slot out of range, a prefix that has not been computed or that is itself read from a third slot, or no memory.
    pub(crate) fn begin(&mut self, slot: usize, prefix: Option<Prefix>) -> Result<(), Error> {
        let encoded = self.text_encoder.as_ref().map_or(0, TextEncoder::length);
        if let Some(prefix) = prefix.filter(|prefix| (prefix.length as usize) < encoded) {
            let expected = format_args!("at least {encoded}, a text that is encoded");
            return Err(Error::input("prefix.length", expected, prefix.length));
        }
        self.pool().begin(slot, prefix)?;
        if let Some(encoder) = &mut self.text_encoder {
            encoder.begin(slot);
        }
        Ok(())
    }

    /// Takes the image positions of `slot` from `length` on back.
    ///
    /// # Errors
    /// More than [`crate::store::WAVE`] of them, or what is no image position of the slot.
    pub(crate) fn rewind(&mut self, slot: usize, length: u32) -> Result<(), Error> {
        self.pool().rewind(slot, length as usize)
    }

    /// Computes `rows` and gives the logits, f32 \[rows with `logits` set, codebook\], in the order of the rows.
    ///
    /// Several rows of one slot are a prefill; rows of several slots mix freely. No bit of a row's result depends on the other rows of the call.
    ///
    /// # Errors
    /// A slot, token or position out of range, or a position that does not follow the slot's last one: then nothing was computed. A failure of ONNX
    /// Runtime: then the slots of these rows must be begun anew.
    pub(crate) fn step(&mut self, rows: &[Row]) -> Result<&[f32], Error> {
        for (i, row) in rows.iter().enumerate() {
            self.check_token(i, row)?;
        }
        self.pool().reserve(rows)?;
        if rows.is_empty() {
            return Ok(&[]);
        }
        let outcome = self.compute(rows);
        self.pool().settle(rows, outcome.is_ok());
        self.logits = outcome?;
        self.last_logits(rows.iter().filter(|row| row.logits).count())
    }

    /// The rows of a text that is encoded wait until it is whole; the others, and the embeddings of a text, go through the graph.
    fn compute(&mut self, rows: &[Row]) -> Result<Option<DynValue>, Error> {
        let mut pool = self.shared.pool.lock().unwrap_or_else(PoisonError::into_inner);
        self.inputs.clear();
        for row in rows {
            match self.text_encoder.as_mut().filter(|encoder| encoder.reads(row)) {
                None => self.inputs.push(row, &pool),
                Some(encoder) => {
                    let embeddings = encoder.read(row, &mut pool)?.unwrap_or_default();
                    self.inputs.push_text(row, &embeddings, &pool);
                }
            }
        }
        drop(pool);
        if self.inputs.tokens.is_empty() { Ok(None) } else { self.run().map(Some) }
    }

    fn check_token(&self, i: usize, row: &Row) -> Result<(), Error> {
        let text = (row.position as usize) < self.geometry.text_length;
        let bound = if text { self.vocabulary } else { self.image_ids };
        let silent = |encoder: &TextEncoder| encoder.reads(row) && !encoder.gives_logits(row);
        if row.logits && self.text_encoder.as_ref().is_some_and(silent) {
            return Err(Error::input(format!("rows[{i}].logits"), "none of a text that is encoded", "some"));
        }
        if row.token < bound {
            return Ok(());
        }
        let kind = if text { "a text" } else { "an image" };
        Err(Error::input(format!("rows[{i}].token"), format_args!("{kind} id of 0 … {}", bound - 1), row.token))
    }

    fn run(&mut self) -> Result<DynValue, Error> {
        let tensor = |numbers| TensorRef::from_array_view(([<[i64]>::len(numbers)], numbers));
        let Inputs { tokens, positions, slots, logit_rows, ordinals, embeddings, embedding_width } = &self.inputs;
        let shape = [tokens.len(), *embedding_width];
        let embeddings = (*embedding_width > 0).then(|| TensorRef::from_array_view((shape, &**embeddings)));
        let embeddings = embeddings.map(|tensor| Ok(("embeddings", tensor?.into())));
        let inputs = [("token_ids", tokens), ("positions", positions), ("slots", slots), ("logit_rows", logit_rows)]
            .into_iter()
            .chain(self.ordinals.then_some(("ordinals", ordinals)))
            .map(|(name, numbers)| Ok((name, tensor(numbers)?.into())))
            .chain(embeddings)
            .collect::<ort::Result<_>>()
            .map_err(|error| self.graph.error(error))?;
        self.graph.run(inputs)
    }

    fn last_logits(&self, wanted: usize) -> Result<&[f32], Error> {
        let Some(logits) = self.logits.as_ref() else { return Ok(&[]) };
        let (_, logits) = logits.try_extract_tensor::<f32>().map_err(|error| self.graph.error(error))?;
        let expected = wanted * self.codebook as usize;
        logits.get(..expected).ok_or_else(|| {
            self.graph.error(format!("output logits: expected {expected} numbers, found {}", logits.len()))
        })
    }

    /// Stores keys and values of no meaning at `positions` of a slot that was begun, as if they had been computed. For measurements: to be far into a
    /// sequence without the time that it takes.
    ///
    /// # Errors
    /// As [`Transformer::step`] when the positions do not follow the slot's last one.
    pub(crate) fn fill(&mut self, slot: usize, positions: Range<u32>) -> Result<(), Error> {
        let rows: Vec<Row> = positions.map(|position| Row { slot, token: 0, position, logits: false }).collect();
        let Geometry { layers, heads, head_width, .. } = self.geometry;
        let mut pool = self.pool();
        pool.reserve(&rows)?;
        let numbers: Vec<f32> = (0..heads * head_width + rows.len()).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
        for layer in 0..layers {
            for (row, numbers) in rows.iter().zip(numbers.windows(heads * head_width)) {
                pool.write(slot, layer, row.position as usize, numbers, numbers);
            }
        }
        pool.settle(&rows, true);
        Ok(())
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.shared.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slots.
    pub(crate) fn sequences(&self) -> usize {
        self.pool().sequences()
    }

    /// Where the graph runs: `cpu` or `cuda`.
    pub(crate) fn device(&self) -> &str {
        self.graph.device()
    }

    /// Memory of a whole sequence's keys and values, and of what is shifted: of each layer only what its mask can see.
    pub(crate) fn kv_bytes_per_sequence(&self) -> usize {
        let pool = self.pool();
        pool.layout().bytes(Part::Text).saturating_add(pool.layout().bytes(Part::Image))
    }

    /// Of that, the memory of a sequence that reads all of its text from another slot.
    pub(crate) fn kv_bytes_per_candidate(&self) -> usize {
        self.pool().layout().bytes(Part::Image)
    }
}

/// Bytes of all its graphs with their weights.
fn weights(package: &Package) -> u64 {
    let sampler = &package.manifest().sampler;
    let encoder = sampler.text_encoder.as_ref().map_or(0, |encoder| weight_bytes(package, &encoder.graph));
    weight_bytes(package, &sampler.graph).saturating_add(encoder)
}

impl Inputs {
    fn clear(&mut self) {
        let Self { tokens, positions, slots, logit_rows, ordinals, embeddings, .. } = self;
        [tokens, positions, slots, logit_rows, ordinals].into_iter().for_each(Vec::clear);
        embeddings.clear();
    }

    fn push(&mut self, row: &Row, pool: &Pool) {
        self.logit_rows.extend(row.logits.then_some(self.tokens.len() as i64));
        self.tokens.push(i64::from(row.token));
        self.positions.push(i64::from(row.position));
        self.slots.push(row.slot as i64);
        self.ordinals.push(i64::from(row.position) - pool.first(row.slot) as i64);
        self.embeddings.resize(self.tokens.len() * self.embedding_width, 0.0);
    }

    /// A text's tokens by their embeddings; `last` is the last of them.
    fn push_text(&mut self, last: &Row, embeddings: &[f32], pool: &Pool) {
        let count = embeddings.len().checked_div(self.embedding_width).unwrap_or(0) as u32;
        for behind in (0..count).rev() {
            let logits = last.logits && behind == 0;
            self.push(&Row { slot: last.slot, token: 0, position: last.position - behind, logits }, pool);
        }
        let start = self.embeddings.len() - embeddings.len();
        self.embeddings[start..].copy_from_slice(embeddings);
    }
}

fn contract(codebook: usize, embedding_width: usize) -> Contract<6> {
    let (float, int) = (TensorElementType::Float32, TensorElementType::Int64);
    let embeddings = Port::new("embeddings", float, [Any("n"), Is(embedding_width)]);
    Contract {
        inputs: [
            Port::new("token_ids", int, [Any("n")]),
            Port::new("positions", int, [Any("n")]),
            Port::new("slots", int, [Any("n")]),
            Port::new("logit_rows", int, [Any("m")]),
            Port::new("ordinals", int, [Any("n")]).optional(),
            if embedding_width > 0 { embeddings } else { embeddings.optional() },
        ],
        output: Port::new("logits", float, [Any("m"), Is(codebook)]),
    }
}
