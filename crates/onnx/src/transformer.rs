use easel_package::Package;

use crate::{Error, Options, Runtime};

/// One token for [`Transformer::step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The sequence's place in the pool.
    pub slot: usize,
    /// A text id at positions below the text length, an image id from there on.
    pub token: u32,
    /// Where in the sequence; the positions of a slot follow one another without a gap.
    pub position: u32,
    /// Whether the logits of the token after this one are wanted.
    pub logits: bool,
}

/// The first positions of a sequence, read from another slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The slot that computed them; it must keep them while they are read.
    pub slot: usize,
    /// How many.
    pub length: u32,
}

/// The sampler's graph (contract `easel.sampler/1`) with the keys and values of a number of sequences.
#[derive(Debug)]
pub struct Transformer {}

impl Transformer {
    /// Loads the graph and makes room for `sequences` slots; a slot's memory is taken when it is first used.
    ///
    /// # Errors
    /// The graph is damaged or not what the manifest says, the device cannot be had, or the memory limit is too small.
    pub fn load(_runtime: &Runtime, package: &Package, _options: &Options, _sequences: usize) -> Result<Self, Error> {
        Err(Error::Absent { package: package.manifest().name.clone(), part: "sampler" })
    }

    /// Starts a new sequence in `slot`, forgetting what it held. With a prefix, positions 0 … length − 1 are read from the prefix's slot, and the
    /// slot's own rows begin at `length`.
    ///
    /// # Errors
    /// A slot out of range, or a prefix that has not been computed, or that is itself read from a third slot.
    pub fn begin(&mut self, _slot: usize, _prefix: Option<Prefix>) -> Result<(), Error> {
        Ok(())
    }

    /// Computes `rows` and gives the logits, f32 \[rows with `logits` set, codebook\], in the order of the rows.
    ///
    /// Several rows of one slot are a prefill; rows of several slots mix freely. No bit of a row's result depends on the other rows of the call.
    ///
    /// # Errors
    /// A slot, token or position out of range, or a position that does not follow the slot's last one: then nothing was computed. A failure of ONNX
    /// Runtime: then the slots of these rows must be begun anew.
    pub fn step(&mut self, _rows: &[Row]) -> Result<&[f32], Error> {
        Ok(&[])
    }

    /// The slots.
    pub fn sequences(&self) -> usize {
        0
    }

    /// Where the graph runs: `cpu` or `cuda`.
    pub fn device(&self) -> &str {
        "cpu"
    }

    /// Memory of a slot's keys and values.
    pub fn kv_bytes_per_sequence(&self) -> usize {
        0
    }
}
