//! Easel's own operators, version 1: they read and write a pool outside of the graph. In all of them `slots` and `positions` are i64 \[n\].
//!
//! `easel.Attention`: inputs `query` f32 \[n, query_heads · head_width\], `key`, `value` f32 \[n, heads · head_width\], `slots`, `positions`; output `context`,
//! shaped as `query`. Attributes: `layer`, `heads`, `query_heads` (as many as `heads` where it is missing; neighbours share a key), `text_length`, `rows`,
//! `columns` (integers), `mask` (`full`, `row`, `column`, `conv`, `axial_row`, `corner`, `torus`), `kernel` (an integer, for the last three and `conv`), `text` (`seen` or
//! `hidden`; seen where it is missing), `mask_text_length` (an integer, as `text_length` where it is missing: with less, the mask counts the last text
//! positions as image), `scale` (a float). Every row's key and value are stored at (slot, layer, position); then a text row reads the text so far, and an
//! image row all the text, unless it is hidden, and the image positions of the mask.
//!
//! `easel.CrossAttention`: inputs `query`, `slots`, `positions`; output `context`; attributes `layer`, `heads`, `query_heads`, `text_length`, `mask_text_length`,
//! `scale`. Reads the keys and values of all the text as the mask counts it, which the text encoder has put there.
//!
//! `easel.Shift`: see [`shift`]. `easel.MatMulPanels`, which needs no pool: see [`crate::linear`].

mod plan;
mod rows;
mod shift;

use std::{
    cell::RefCell,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

pub(crate) use self::rows::input;
use self::{
    plan::Plan,
    rows::{Chunks, Tokens, output},
};
use crate::{
    Error, Precision,
    attend::{Reader, Scratch, TOGETHER, attend},
    linear::Linear,
    mask::{Mask, Runs},
    pool::{Geometry, Pool},
    store::Stored,
};

/// Multiplications of a call below which waking the other threads costs more than it saves.
const PARALLEL_FROM: usize = 1 << 17;

/// The pool as the operator and the engine share it. Only one of them holds it at a time, since a session runs with its engine borrowed mutably.
pub(crate) type SharedPool = Arc<Mutex<Pool>>;

/// What the operators and the engine share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) pool: SharedPool,
    nodes: Arc<Mutex<Nodes>>,
}

/// The nodes made for every layer and shift.
#[derive(Debug)]
struct Nodes {
    attention: Vec<u32>,
    cross_attention: Vec<u32>,
    shift: Vec<u32>,
}

impl Shared {
    pub(crate) fn new(pool: Pool) -> Self {
        let Geometry { layers, shifts, .. } = pool.geometry();
        let nodes = Nodes { attention: vec![0; layers], cross_attention: vec![0; layers], shift: vec![0; shifts] };
        Self { pool: Arc::new(Mutex::new(pool)), nodes: Arc::new(Mutex::new(nodes)) }
    }

    pub(crate) fn domain(&self) -> ort::Result<OperatorDomain> {
        let domain = OperatorDomain::new("easel")?.add(Attention(self.clone()))?;
        domain.add(CrossAttention(self.clone()))?.add(shift::Shift(self.clone()))?.add(Linear::new())
    }

    fn geometry(&self) -> Geometry {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).geometry()
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails unless the graph that was loaded has one node for each layer and shift, and, beside a text encoder, one more across for each layer.
    pub(crate) fn check_nodes(&self, file: &str, text_encoder: bool) -> Result<(), Error> {
        let nodes = self.nodes();
        let across = u32::from(text_encoder);
        let kinds = [
            ("attention of layer", &nodes.attention, 1),
            ("cross-attention of layer", &nodes.cross_attention, across),
            ("shift", &nodes.shift, 1),
        ];
        for (kind, nodes, expected) in kinds {
            if let Some(i) = nodes.iter().position(|&nodes| nodes != expected) {
                let expected = if expected == 1 { "one node" } else { "no node" };
                let (item, found) = (format!("{kind} {i}"), nodes[i].to_string());
                return Err(Error::Contract { file: file.into(), item, expected: expected.into(), found });
            }
        }
        Ok(())
    }
}

struct Attention(Shared);

impl Operator for Attention {
    type Kernel<'a> = SelfLayer;

    fn name(&self) -> &str {
        "Attention"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let (float, int) = (TensorElementType::Float32, TensorElementType::Int64);
        [float, float, float, int, int].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<SelfLayer> {
        let node = SelfLayer::of(context, &self.0).map_err(ort::Error::new)?;
        self.0.nodes().attention[node.layer.index] += 1;
        node.layer.pool().keep(node.layer.index, node.mask);
        Ok(node)
    }
}

struct CrossAttention(Shared);

impl Operator for CrossAttention {
    type Kernel<'a> = CrossLayer;

    fn name(&self) -> &str {
        "CrossAttention"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let (float, int) = (TensorElementType::Float32, TensorElementType::Int64);
        [float, int, int].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<CrossLayer> {
        let layer = Layer::of(context, &self.0).map_err(ort::Error::new)?;
        self.0.nodes().cross_attention[layer.index] += 1;
        Ok(CrossLayer { layer, plan: Plan::default() })
    }
}

/// What both kinds of nodes have.
struct Layer {
    pool: SharedPool,
    geometry: Geometry,
    index: usize,
    query_heads: usize,
    /// Text positions, as the node counts them.
    text_length: usize,
    scale: f32,
}

fn number(context: &KernelContext<'_>, name: &str) -> Result<usize, String> {
    let number = context.get::<i64>(name).ok_or(format!("attention has no attribute {name}"))?;
    usize::try_from(number).map_err(|_| format!("attention's {name}: expected 0 or more, found {number}"))
}

fn equal(context: &KernelContext<'_>, name: &str, expected: usize) -> Result<(), String> {
    match number(context, name)? {
        found if found == expected => Ok(()),
        found => Err(format!("attention's {name}: expected {expected}, found {found}")),
    }
}

impl Layer {
    /// Reads the attributes and holds them against the manifest's geometry.
    fn of(context: &KernelContext<'_>, shared: &Shared) -> Result<Self, String> {
        let geometry = shared.geometry();
        equal(context, "heads", geometry.heads)?;
        let index = number(context, "layer")?;
        if index >= geometry.layers {
            return Err(format!("attention's layer: expected 0 … {}, found {index}", geometry.layers - 1));
        }
        equal(context, "text_length", geometry.text_length)?;
        let optional = |name: &str, otherwise: usize| match context.get::<i64>(name) {
            Some(_) => number(context, name),
            None => Ok(otherwise),
        };
        let text_length = optional("mask_text_length", geometry.text_length)?;
        if text_length > geometry.text_length {
            let expected = format_args!("at most {}", geometry.text_length);
            return Err(format!("attention's mask_text_length: expected {expected}, found {text_length}"));
        }
        let query_heads = optional("query_heads", geometry.heads)?;
        if query_heads == 0 || !query_heads.is_multiple_of(geometry.heads) || query_heads > 1 << 16 {
            let expected = format_args!("a multiple of {}", geometry.heads);
            return Err(format!("attention's query_heads: expected {expected}, found {query_heads}"));
        }
        let scale = context.get::<f32>("scale").ok_or("attention has no attribute scale")?;
        Ok(Self { pool: shared.pool.clone(), geometry, index, query_heads, text_length, scale })
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every head of every row of a wave reads what was planned, on all threads where that pays.
    fn attend<E: Stored>(
        &self,
        context: &ComputeContext,
        pool: &Pool,
        plan: &Plan,
        query: &[f32],
        contexts: &Chunks,
    ) -> ort::Result<()> {
        let (heads, width) = (self.geometry.heads, self.geometry.head_width);
        let shared = self.query_heads / heads;
        let task = |i: usize| {
            // A head's blocks follow one another, so that a thread finds what one has read for the next in its cache.
            let (head, block) = (i / plan.blocks().len(), plan.blocks()[i % plan.blocks().len()].clone());
            let mut readers = [Reader::<E>::NONE; TOGETHER];
            let mut outputs: [&mut [f32]; TOGETHER] = Default::default();
            for ((pair, reader), output) in block.clone().zip(&mut readers).zip(&mut outputs) {
                let (row, spans) = plan.row(pair / shared);
                let chunk = row.index * self.query_heads + head * shared + pair % shared;
                let planes = pool.head(row.slot, self.index, head);
                let query = &query[chunk * width..][..width];
                *reader = Reader { query, spans, text: planes.text, image: planes.image };
                // SAFETY: the buffer has a chunk for each query head of each row, and each of them is in one block of one head.
                *output = unsafe { contexts.chunk(chunk) };
            }
            let (readers, outputs) = (&readers[..block.len()], &mut outputs[..block.len()]);
            SCRATCH.with_borrow_mut(|scratch| attend(pool.path, readers, self.scale, scratch, outputs));
        };
        let tasks = heads * plan.blocks().len();
        if plan.reads() * heads * width * 2 < PARALLEL_FROM {
            (0..tasks).for_each(task);
            return Ok(());
        }
        context.par_for(tasks, 0, task)
    }

    /// [`Self::attend`] for what the pool's numbers are stored in.
    fn attend_stored(
        &self,
        context: &ComputeContext,
        pool: &Pool,
        plan: &Plan,
        query: &[f32],
        contexts: &Chunks,
    ) -> ort::Result<()> {
        match pool.layout().precision() {
            Precision::F32 => self.attend::<f32>(context, pool, plan, query, contexts),
            Precision::Bf16 => self.attend::<u16>(context, pool, plan, query, contexts),
        }
    }

    /// Text positions `first` … `text` − 1, then image runs, counted from where the node's image begins.
    fn positions(&self, first: usize, text: usize, image: Runs) -> impl Iterator<Item = Range<usize>> + use<> {
        let start = self.text_length;
        let image = image.ranges().map(move |run| run.start + start..run.end + start);
        Some(first..text).filter(|text| !text.is_empty()).into_iter().chain(image)
    }
}

/// A node of `easel.Attention`.
struct SelfLayer {
    layer: Layer,
    mask: Mask,
    text_seen: bool,
    plan: Plan,
}

impl SelfLayer {
    fn of(context: &KernelContext<'_>, shared: &Shared) -> Result<Self, String> {
        let layer = Layer::of(context, shared)?;
        equal(context, "rows", layer.geometry.rows)?;
        equal(context, "columns", layer.geometry.columns)?;
        let mask = context.get::<String>("mask").ok_or("attention has no attribute mask")?;
        let mask = Mask::parse(&mask, context.get("kernel")).map_err(|reason| format!("attention's {reason}"))?;
        let text_seen = match context.get::<String>("text").as_deref() {
            None | Some("seen") => true,
            Some("hidden") => false,
            Some(found) => return Err(format!("attention's text: expected seen or hidden, found {found:?}")),
        };
        Ok(Self { layer, mask, text_seen, plan: Plan::default() })
    }

    /// What the token at `position` of a sequence that begins at `first` reads.
    fn seen(&self, first: usize, position: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let text = self.layer.text_length;
        let Some(q) = position.checked_sub(text) else {
            return self.layer.positions(first, position + 1, Runs::NONE);
        };
        let first = if self.text_seen { first.min(text) } else { text };
        let Geometry { rows, columns, .. } = self.layer.geometry;
        self.layer.positions(first, text, self.mask.runs([rows, columns], q))
    }
}

/// A node of `easel.CrossAttention`.
struct CrossLayer {
    layer: Layer,
    plan: Plan,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Kernel for SelfLayer {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (query, key, value) = (input(context, 0)?, input(context, 1)?, input(context, 2)?);
        let (slots, positions) = (input(context, 3)?, input(context, 4)?);
        let tokens = Tokens { slots: slots.try_extract_tensor()?.1, positions: positions.try_extract_tensor()?.1 };
        let mut plan = std::mem::take(&mut self.plan);
        let layer = &self.layer;
        let mut pool = layer.pool();
        tokens.check(&pool)?;
        let Geometry { heads, head_width, .. } = layer.geometry;
        let width = heads * head_width;
        let query = tokens.numbers("query", query.try_extract_tensor()?.1, layer.query_heads * head_width)?;
        let key = tokens.numbers("key", key.try_extract_tensor()?.1, width)?;
        let value = tokens.numbers("value", value.try_extract_tensor()?.1, width)?;
        let mut output = output(context, [tokens.len(), layer.query_heads * head_width])?;
        let contexts = Chunks { start: output.try_extract_tensor_mut::<f32>()?.1.as_mut_ptr(), width: head_width };
        let mut next = 0;
        while next < tokens.len() {
            let wave = plan.wave(&pool, layer.index, &tokens, next);
            next = wave.end;
            for row in wave.clone() {
                let (slot, position) = tokens.at(row);
                let of = |numbers| &<[f32]>::as_ref(numbers)[row * width..][..width];
                pool.write(slot, layer.index, position, of(key), of(value));
            }
            let seen = |slot, position| self.seen(pool.first(slot), position);
            plan.make(&pool, layer.index, (&tokens, wave), layer.query_heads / heads, seen);
            layer.attend_stored(context, &pool, &plan, query, &contexts)?;
        }
        drop(pool);
        self.plan = plan;
        Ok(())
    }
}

impl Kernel for CrossLayer {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let Self { layer, plan } = self;
        let (query, slots, positions) = (input(context, 0)?, input(context, 1)?, input(context, 2)?);
        let tokens = Tokens { slots: slots.try_extract_tensor()?.1, positions: positions.try_extract_tensor()?.1 };
        let pool = layer.pool();
        tokens.check(&pool)?;
        let Geometry { heads, head_width, .. } = layer.geometry;
        let width = layer.query_heads * head_width;
        let query = tokens.numbers("query", query.try_extract_tensor()?.1, width)?;
        let mut output = output(context, [tokens.len(), width])?;
        let contexts = Chunks { start: output.try_extract_tensor_mut::<f32>()?.1.as_mut_ptr(), width: head_width };
        let seen = |slot, _| layer.positions(pool.first(slot), layer.text_length, Runs::NONE);
        plan.make(&pool, layer.index, (&tokens, 0..tokens.len()), layer.query_heads / heads, seen);
        layer.attend_stored(context, &pool, plan, query, &contexts)
    }
}

#[cfg(test)]
mod tests;
