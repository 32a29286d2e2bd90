//! The operator `easel.Attention`, version 1: attention over keys and values that live in a pool outside of the graph.
//!
//! Inputs `query`, `key`, `value` f32 \[n, heads · head_width\], `slots`, `positions` i64 \[n\]; output `context` f32 \[n, heads · head_width\].
//! Attributes: `layer`, `heads`, `text_length`, `rows`, `columns` (integers), `mask` (`full`, `row`, `column`, `conv`), `kernel` (an integer, for
//! `conv`), `scale` (a float). Every row's key and value are stored at (slot, layer, position); then a text row reads the text so far, and an image
//! row all the text and the image positions of the mask.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, PoisonError},
};

use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

use crate::{
    Error,
    attend::{Scratch, Seen, attend},
    mask::{Mask, Runs},
    pool::{Geometry, Pool},
};

/// Multiplications of a call below which waking the other threads costs more than it saves.
const PARALLEL_FROM: usize = 1 << 17;

/// The pool as the operator and the engine share it. Only one of them holds it at a time, since a session runs with its engine borrowed mutably.
pub(crate) type SharedPool = Arc<Mutex<Pool>>;

/// What the operator and the engine share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) pool: SharedPool,
    /// For every layer, the nodes made for it.
    nodes: Arc<Mutex<Vec<u32>>>,
}

impl Shared {
    pub(crate) fn new(pool: Pool) -> Self {
        let nodes = Arc::new(Mutex::new(vec![0; pool.geometry().layers]));
        Self { pool: Arc::new(Mutex::new(pool)), nodes }
    }

    pub(crate) fn domain(&self) -> ort::Result<OperatorDomain> {
        OperatorDomain::new("easel")?.add(Attention(self.clone()))
    }

    /// Fails unless the graph that was loaded has one node for each layer.
    pub(crate) fn check_layers(&self, file: &str) -> Result<(), Error> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        match nodes.iter().position(|&nodes| nodes != 1) {
            Some(layer) => Err(Error::Contract {
                file: file.into(),
                item: format!("attention of layer {layer}"),
                expected: "one node".into(),
                found: nodes[layer].to_string(),
            }),
            None => Ok(()),
        }
    }
}

struct Attention(Shared);

impl Operator for Attention {
    type Kernel<'a> = Layer;

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

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<Layer> {
        let geometry = self.0.pool.lock().unwrap_or_else(PoisonError::into_inner).geometry();
        let layer = Layer::of(context, geometry, &self.0.pool).map_err(ort::Error::new)?;
        self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner)[layer.layer] += 1;
        Ok(layer)
    }
}

/// One node.
struct Layer {
    pool: SharedPool,
    geometry: Geometry,
    layer: usize,
    mask: Mask,
    scale: f32,
}

impl Layer {
    /// Reads the attributes and holds them against the manifest's geometry.
    fn of(context: &KernelContext<'_>, geometry: Geometry, pool: &SharedPool) -> Result<Self, String> {
        let number = |name: &str| context.get::<i64>(name).ok_or(format!("attention has no attribute {name}"));
        let equal = |name: &str, expected: usize| match number(name)? {
            found if usize::try_from(found) == Ok(expected) => Ok(()),
            found => Err(format!("attention's {name}: expected {expected}, found {found}")),
        };
        equal("heads", geometry.heads)?;
        equal("text_length", geometry.text_length)?;
        equal("rows", geometry.rows)?;
        equal("columns", geometry.columns)?;
        let layer = number("layer")?;
        let layer = usize::try_from(layer)
            .ok()
            .filter(|&layer| layer < geometry.layers)
            .ok_or_else(|| format!("attention's layer: expected 0 … {}, found {layer}", geometry.layers - 1))?;
        let mask = context.get::<String>("mask").ok_or("attention has no attribute mask")?;
        let mask = Mask::parse(&mask, context.get("kernel")).map_err(|reason| format!("attention's {reason}"))?;
        let scale = context.get::<f32>("scale").ok_or("attention has no attribute scale")?;
        Ok(Self { pool: pool.clone(), geometry, layer, mask, scale })
    }

    /// What the token at `position` reads.
    fn seen(&self, position: usize) -> Seen {
        let Geometry { text_length, columns, .. } = self.geometry;
        match position.checked_sub(text_length) {
            None => Seen { text: position + 1, image_start: text_length, image: Runs::NONE },
            Some(q) => Seen { text: text_length, image_start: text_length, image: self.mask.runs(columns, q) },
        }
    }

    /// Attends with every head of every row, on all threads where that pays.
    fn attend(
        &self,
        context: &ComputeContext,
        pool: &Pool,
        query: &[f32],
        tokens: &Tokens<'_>,
        out: &mut [f32],
    ) -> ort::Result<()> {
        let Geometry { heads, head_width, .. } = self.geometry;
        let contexts = Chunks { start: out.as_mut_ptr(), width: head_width };
        let task = |i: usize| {
            let (row, head) = (i / heads, i % heads);
            let (slot, position) = tokens.at(row);
            // SAFETY: i < n · heads, and each i is run once.
            let out = unsafe { contexts.chunk(i) };
            let head = pool.head(slot, self.layer, head);
            let query = &query[i * head_width..][..head_width];
            SCRATCH.with_borrow_mut(|scratch| attend(query, self.scale, self.seen(position), &head, scratch, out));
        };
        let tasks = tokens.len() * heads;
        let reads: usize = (0..tokens.len()).map(|row| self.seen(tokens.at(row).1).positions()).sum();
        if reads * heads * head_width * 2 < PARALLEL_FROM {
            (0..tasks).for_each(task);
            return Ok(());
        }
        context.par_for(tasks, 0, task)
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Kernel for Layer {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let input = |i: usize| context.input(i)?.ok_or_else(|| ort::Error::new(format!("attention has no input {i}")));
        let (query, key, value, slots, positions) = (input(0)?, input(1)?, input(2)?, input(3)?, input(4)?);
        let (_, query) = query.try_extract_tensor::<f32>()?;
        let (_, key) = key.try_extract_tensor::<f32>()?;
        let (_, value) = value.try_extract_tensor::<f32>()?;
        let tokens = Tokens { slots: slots.try_extract_tensor()?.1, positions: positions.try_extract_tensor()?.1 };

        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let width = self.geometry.heads * self.geometry.head_width;
        tokens.check(&pool)?;
        for (name, numbers) in [("query", query), ("key", key), ("value", value)] {
            if numbers.len() != tokens.len() * width {
                let shape = format!("{} numbers for {} rows", numbers.len(), tokens.len());
                return Err(ort::Error::new(format!("attention's {name}: expected width {width}, found {shape}")));
            }
        }
        for (row, (key, value)) in key.chunks_exact(width).zip(value.chunks_exact(width)).enumerate() {
            let (slot, position) = tokens.at(row);
            pool.write(slot, self.layer, position, key, value);
        }
        let mut output =
            context.output(0, [tokens.len(), width])?.ok_or_else(|| ort::Error::new("attention has no output"))?;
        let (_, out) = output.try_extract_tensor_mut::<f32>()?;
        self.attend(context, &pool, query, &tokens, out)
    }
}

/// Which token every row is.
struct Tokens<'a> {
    slots: &'a [i64],
    positions: &'a [i64],
}

impl Tokens<'_> {
    fn len(&self) -> usize {
        self.slots.len()
    }

    /// Slot and position.
    fn at(&self, row: usize) -> (usize, usize) {
        (self.slots[row] as usize, self.positions[row] as usize)
    }

    /// The engine gives good ones, but the graph lies between.
    fn check(&self, pool: &Pool) -> ort::Result<()> {
        let good = |(&slot, &position): (&i64, &i64)| pool.holds(slot, position);
        if self.slots.len() == self.positions.len() && self.slots.iter().zip(self.positions).all(good) {
            return Ok(());
        }
        Err(ort::Error::new("attention's slots and positions are not those of the pool"))
    }
}

/// A buffer that tasks on several threads fill chunk by chunk.
struct Chunks {
    start: *mut f32,
    width: usize,
}

// SAFETY: it gives out chunks of a buffer of plain numbers, each to one task.
unsafe impl Sync for Chunks {}
// SAFETY: as above.
unsafe impl Send for Chunks {}

impl Chunks {
    /// # Safety
    /// The buffer has chunk `i`, and nobody else holds it.
    #[allow(clippy::mut_from_ref)]
    unsafe fn chunk(&self, i: usize) -> &mut [f32] {
        // SAFETY: the caller's promise; chunks do not overlap.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(i * self.width), self.width) }
    }
}

#[cfg(test)]
mod tests;
