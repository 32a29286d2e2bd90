//! The sampler's engine for CUDA (contract `easel.sampler.cuda/1`): keys and values stay on the device, and stock operators attend.
//!
//! A step becomes one run of the graph, or, where a slot has several image tokens, several. Runs have few different sizes ([`schedule::Shape`]), and for each
//! of them everything is bound once, at addresses that do not change: what a step tells the device is one copy of a few numbers, what it gives back, one
//! of the logits. Nothing here is CUDA's own: the same code runs on the CPU, where it is tested.

mod ledger;
mod memory;
mod schedule;

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
};

use easel_package::Package;
use ort::{
    session::{IoBinding, RunOptions, Session},
    value::{Outlet, TensorElementType, ValueType},
};

use crate::{Error, Options, Prefix, Row, Runtime, graph::Loader, pool::Geometry};
use ledger::{Ledger, Placed, Sizes, Waiting};
use memory::{Buffer, Memory, Side, Span, Way, bind};
use schedule::{Inputs, MOST_ROWS, Shape};

/// What the graph's metadata calls the number of positions of a text's place.
const TEXT_POSITIONS: &str = "easel.text_positions";
/// Numbers of a run's inputs that there is room for at first.
const INPUTS: usize = 1 << 14;

/// A graph for CUDA with the keys and values of a number of sequences.
#[derive(Debug)]
pub(crate) struct Engine {
    file: String,
    device: &'static str,
    session: Session,
    memory: Memory,
    geometry: Geometry,
    vocabulary: u32,
    codebook: usize,
    /// Image ids that the graph embeds, those that are not drawn included.
    image_ids: u32,
    ordinals: bool,
    capture: bool,
    ledger: Ledger,
    caches: Vec<Cache>,
    /// Places of texts and of images that the caches have, and may have.
    places: [usize; 2],
    most_places: [usize; 2],
    inputs: Inputs,
    told: Buffer,
    given: Buffer,
    bindings: HashMap<Shape, Bound>,
    /// Captures there were, those of bindings that were dropped included.
    captures: i32,
    /// The last step's logits; `step` lends them out.
    logits: Vec<f32>,
}

/// Keys or values of a layer.
#[derive(Debug)]
struct Cache {
    input: String,
    output: String,
    /// 0: texts; 1: images.
    kind: usize,
    element: TensorElementType,
    /// The graph's first axis counts places so many times.
    bins: usize,
    /// The other axes.
    axes: [i64; 3],
    buffer: Buffer,
}

/// A session's inputs and outputs for one size, and how it is run with them.
#[derive(Debug)]
struct Bound {
    binding: IoBinding,
    /// The CUDA graph that its first runs are captured in; none: they are not.
    capture: Option<i32>,
}

impl Cache {
    /// Keys and values by their names in the contract; none: something else.
    fn of(outlet: &Outlet, geometry: &Geometry, memory: &mut Memory) -> Option<ort::Result<Self>> {
        let (prefix, rest) = outlet.name().split_once('_')?;
        let (kind, bins) = match prefix {
            "text" => (0, 1),
            "image" => (1, 1),
            "column" => (1, geometry.columns),
            _ => return None,
        };
        if !rest.starts_with("keys.") && !rest.starts_with("values.") {
            return None;
        }
        let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else { return None };
        let axes = <[i64; 3]>::try_from(shape.get(1..)?).ok()?;
        let [heads, entries, head_width] = axes;
        let fits = heads == geometry.heads as i64 && head_width == geometry.head_width as i64 && entries > 0;
        let element = Some(*ty).filter(|ty| matches!(ty, TensorElementType::Float32 | TensorElementType::Float16))?;
        let (input, output) = (outlet.name().to_owned(), format!("{}.next", outlet.name()));
        fits.then(|| Ok(Self { input, output, kind, element, bins, axes, buffer: memory.allocate(0)? }))
    }

    /// Bytes of a place.
    fn bytes(&self) -> usize {
        let size = if self.element == TensorElementType::Float16 { 2 } else { 4 };
        self.axes.iter().product::<i64>() as usize * self.bins * size
    }

    /// Has room for so many places; what is in the first of them stays.
    fn grow(&mut self, places: usize, memory: &mut Memory) -> ort::Result<()> {
        let mut larger = memory.allocate(self.bytes() * places)?;
        let kept = self.buffer.span();
        memory.copy(kept, larger.span().part(0, kept.bytes))?;
        self.buffer = larger;
        Ok(())
    }
}

impl Engine {
    /// Loads the graph on the device of `options`. Slots are made by [`Engine::resize`].
    pub(crate) fn open(runtime: &Runtime, package: &Package, options: &Options) -> Result<Self, Error> {
        let manifest = package.manifest();
        let file = &manifest.sampler.graph;
        let loader = Loader { runtime, file, options, operators: None, lean: true };
        let (session, device) = loader.load(package)?;
        let failed = |error: ort::Error| Error::Graph { file: file.clone(), reason: error.to_string() };
        let side = if device == "cuda" { Side::Cuda } else { Side::Host };
        let plain = Options { cuda_graphs: false, ..options.clone() };
        let copier = Loader { options: &plain, file: "copies", operators: None, ..loader };
        let copier = copier.session(&|builder| builder.commit_from_memory(memory::COPY))?.0;
        let mut memory = Memory::new(side, copier);
        let geometry = Geometry::of(manifest);
        let text = text_positions(file, &session, &geometry)?;
        let caches = caches(file, &session, &geometry, &mut memory)?;
        let sizes = Sizes {
            positions: geometry.positions(),
            text,
            begins: if geometry.ragged { geometry.text_length } else { 1 },
        };
        Ok(Self {
            file: file.clone(),
            device,
            geometry,
            vocabulary: manifest.text.vocabulary,
            codebook: manifest.codebook as usize,
            image_ids: manifest.codebook + manifest.sampler.row_end.len() as u32,
            ordinals: session.inputs().iter().any(|input| input.name() == "ordinals"),
            capture: options.cuda_graphs && side == Side::Cuda,
            session,
            ledger: Ledger::new(sizes, 0),
            caches,
            places: [0; 2],
            most_places: [0; 2],
            inputs: Inputs::default(),
            told: memory.allocate(INPUTS * size_of::<i64>()).map_err(failed)?,
            given: memory.allocate(0).map_err(failed)?,
            memory,
            bindings: HashMap::new(),
            captures: 0,
            logits: Vec::new(),
        })
    }

    /// Forgets all sequences and makes so many slots. Their memory is taken when they are used.
    pub(crate) fn resize(&mut self, sequences: usize) {
        self.ledger = Ledger::new(self.ledger.sizes(), sequences);
        self.most_places = [sequences + 1, sequences];
    }

    /// See `Transformer::begin`.
    pub(crate) fn begin(&mut self, slot: usize, prefix: Option<Prefix>) -> Result<(), Error> {
        self.ledger.begin(slot, prefix)
    }

    /// See `Transformer::step`.
    pub(crate) fn step(&mut self, rows: &[Row]) -> Result<&[f32], Error> {
        for (i, row) in rows.iter().enumerate() {
            self.check_token(i, row)?;
        }
        let waiting = self.ledger.reserve(rows)?;
        self.logits.clear();
        self.logits.resize(rows.iter().filter(|row| row.logits).count() * self.codebook, 0.0);
        let outcome = self.compute(waiting);
        self.ledger.settle(rows, outcome.is_ok());
        outcome.map_err(|error| Error::Graph { file: self.file.clone(), reason: error.to_string() })?;
        Ok(&self.logits)
    }

    /// See `Transformer::fill`; of the device's memory, what the slot needs is taken.
    pub(crate) fn fill(&mut self, slot: usize, positions: Range<u32>) -> Result<(), Error> {
        let rows: Vec<Row> = positions.map(|position| Row { slot, token: 0, position, logits: false }).collect();
        let waiting = self.ledger.reserve(&rows)?;
        self.ledger.feign(&waiting);
        let outcome = self.make_room();
        self.ledger.settle(&rows, outcome.is_ok());
        outcome.map_err(|error| Error::Graph { file: self.file.clone(), reason: error.to_string() })
    }

    fn check_token(&self, i: usize, row: &Row) -> Result<(), Error> {
        let text = (row.position as usize) < self.geometry.text_length;
        let bound = if text { self.vocabulary } else { self.image_ids };
        if row.token < bound {
            return Ok(());
        }
        let kind = if text { "a text" } else { "an image" };
        Err(Error::input(format!("rows[{i}].token"), format_args!("{kind} id of 0 … {}", bound - 1), row.token))
    }

    fn compute(&mut self, mut waiting: VecDeque<Waiting>) -> ort::Result<()> {
        while !waiting.is_empty() {
            let (placed, asked): (Vec<Placed>, Vec<_>) = self.ledger.take(&mut waiting, MOST_ROWS).into_iter().unzip();
            self.make_room()?;
            let asked: Vec<(usize, usize)> =
                asked.into_iter().enumerate().filter_map(|(row, logits)| Some((row, logits?))).collect();
            let rows: Vec<usize> = asked.iter().map(|(row, _)| *row).collect();
            let shape = self.inputs.fill(&placed, &rows, self.places[1]);
            self.run(shape)?;
            self.take_logits(&asked)?;
        }
        Ok(())
    }

    /// Doubles the places of texts or of images until there are as many as the ledger has given out.
    fn make_room(&mut self) -> ort::Result<()> {
        for (kind, reach) in self.ledger.reach().into_iter().enumerate() {
            let reach = reach.max(1);
            if reach <= self.places[kind] {
                continue;
            }
            let places = reach.next_power_of_two().min(self.most_places[kind]);
            // What is bound lies where nobody will look any more.
            self.bindings.clear();
            for cache in self.caches.iter_mut().filter(|cache| cache.kind == kind) {
                cache.grow(places, &mut self.memory)?;
            }
            self.places[kind] = places;
        }
        Ok(())
    }

    /// Runs the graph with what was filled in.
    fn run(&mut self, shape: Shape) -> ort::Result<()> {
        let (told, given) =
            (self.inputs.numbers.len() * size_of::<i64>(), shape.logits * self.codebook * size_of::<f32>());
        for (buffer, bytes) in [(&mut self.told, told), (&mut self.given, given)] {
            if buffer.span().bytes < bytes {
                self.bindings.clear();
                *buffer = self.memory.allocate(bytes.next_power_of_two())?;
            }
        }
        let from = Span::of(&mut self.inputs.numbers);
        self.memory.copy(from, self.told.span().part(0, told))?;
        if !self.bindings.contains_key(&shape) {
            let bound = self.bind(shape)?;
            self.bindings.insert(shape, bound);
        }
        let bound = &self.bindings[&shape];
        match bound.capture {
            None => self.session.run_binding(&bound.binding)?,
            Some(capture) => {
                let mut options = RunOptions::new()?;
                options.set("gpu_graph_id", capture.to_string())?;
                self.session.run_binding_with_options(&bound.binding, &options)?
            }
        };
        Ok(())
    }

    /// Binds everything for runs of one size.
    fn bind(&mut self, shape: Shape) -> ort::Result<Bound> {
        let mut binding = self.session.create_binding()?;
        let mut bind = |way, name: &str, span, element, shape: &[i64]| {
            // SAFETY: the engine keeps its buffers while it keeps its bindings, and uses both in one thread at a time. A cache is an input and an output at
            // once: the graph's operator that writes it reads nothing else of it, and all others read what that one gives.
            unsafe { bind(&mut binding, (way, name), span, element, shape) }
        };
        for (name, axes, start) in shape.layout().0 {
            let bytes = axes.iter().product::<i64>() as usize * size_of::<i64>();
            let span = self.told.span().part(start * size_of::<i64>(), bytes);
            if name != "ordinals" || self.ordinals {
                bind(Way::Input, name, span, TensorElementType::Int64, &axes)?;
            }
        }
        for cache in &mut self.caches {
            let places = if cache.kind == 0 { self.places[0] } else { shape.places };
            let span = cache.buffer.span().part(0, cache.bytes() * places);
            let [heads, entries, head_width] = cache.axes;
            let axes = [(places * cache.bins) as i64, heads, entries, head_width];
            bind(Way::Input, &cache.input, span, cache.element, &axes)?;
            bind(Way::Output, &cache.output, span, cache.element, &axes)?;
        }
        let logits = self.given.span().part(0, shape.logits * self.codebook * size_of::<f32>());
        let axes = [shape.logits as i64, self.codebook as i64];
        bind(Way::Output, "logits", logits, TensorElementType::Float32, &axes)?;
        self.captures += i32::from(self.capture);
        Ok(Bound { binding, capture: self.capture.then_some(self.captures) })
    }

    /// Brings the logits of a run's rows to their places in the step's.
    fn take_logits(&mut self, asked: &[(usize, usize)]) -> ort::Result<()> {
        let (Some((_, first)), codebook) = (asked.first(), self.codebook) else { return Ok(()) };
        let given = self.given.span();
        let bytes = asked.len() * codebook * size_of::<f32>();
        if asked.iter().enumerate().all(|(i, (_, logits))| *logits == first + i) {
            let to = &mut self.logits[first * codebook..][..asked.len() * codebook];
            return self.memory.copy(given.part(0, bytes), Span::of(to));
        }
        let mut found = vec![0.0_f32; asked.len() * codebook];
        self.memory.copy(given.part(0, bytes), Span::of(&mut found))?;
        for ((_, logits), found) in asked.iter().zip(found.chunks_exact(codebook)) {
            self.logits[logits * codebook..][..codebook].copy_from_slice(found);
        }
        Ok(())
    }

    /// See `Transformer::sequences`.
    pub(crate) fn sequences(&self) -> usize {
        self.ledger.sequences()
    }

    /// `cuda`, or `cpu` where it is tried out.
    pub(crate) fn device(&self) -> &'static str {
        self.device
    }

    /// Memory of a text's place, and of an image's.
    pub(crate) fn place_bytes(&self) -> [usize; 2] {
        [0, 1].map(|kind| self.caches.iter().filter(|cache| cache.kind == kind).map(Cache::bytes).sum())
    }
}

/// Text positions, as the graph's attention counts them.
fn text_positions(file: &str, session: &Session, geometry: &Geometry) -> Result<usize, Error> {
    let found = session.metadata().ok().and_then(|metadata| metadata.custom(TEXT_POSITIONS));
    let number = found.as_deref().and_then(|text| text.parse().ok());
    number.filter(|number| (1..=geometry.text_length).contains(number)).ok_or_else(|| Error::Contract {
        file: file.into(),
        item: format!("metadata {TEXT_POSITIONS}"),
        expected: format!("1 … {}", geometry.text_length),
        found: found.unwrap_or_else(|| "none".into()),
    })
}

/// Four for each layer; all other inputs are those of the contract, and the outputs are the inputs' next and the logits.
fn caches(file: &str, session: &Session, geometry: &Geometry, memory: &mut Memory) -> Result<Vec<Cache>, Error> {
    let fail = |item: String, expected: &str, found: String| {
        Err(Error::Contract { file: file.into(), item, expected: expected.into(), found })
    };
    let mut caches = Vec::new();
    let known = plain_inputs();
    for input in session.inputs() {
        match Cache::of(input, geometry, memory) {
            Some(Ok(cache)) => caches.push(cache),
            Some(Err(error)) => return Err(Error::Graph { file: file.into(), reason: error.to_string() }),
            None if known.contains(&input.name()) => {}
            None => {
                return fail(format!("input {}", input.name()), "one of the contract", format!("{:?}", input.dtype()));
            }
        }
    }
    for name in known.iter().filter(|name| **name != "ordinals") {
        if session.inputs().iter().all(|input| input.name() != *name) {
            return fail(format!("input {name}"), "one", "none".into());
        }
    }
    let expected = 4 * geometry.layers;
    if caches.len() != expected {
        return fail("keys and values".into(), &format!("{expected} inputs"), caches.len().to_string());
    }
    let outputs = caches.iter().map(|cache| &*cache.output).chain(["logits"]);
    for name in outputs {
        if session.outputs().iter().all(|output| output.name() != name) {
            return fail(format!("output {name}"), "one", "none".into());
        }
    }
    Ok(caches)
}

/// Names of the inputs that are not keys and values.
fn plain_inputs() -> Vec<&'static str> {
    let one = Shape { rows: 1, tiles: 1, tile: 1, places: 1, logits: 1 };
    one.layout().0.into_iter().map(|(name, ..)| name).collect()
}
