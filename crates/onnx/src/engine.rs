use std::ops::Range;

use easel_package::{self as package, Package};

use crate::{
    Device, Error, Options, Prefix, Row, Runtime, device::Engine, graph::weight_bytes, store::WAVE,
    transformer::Transformer as Pooled,
};

/// The sampler's graph with the keys and values of a number of sequences: a package for the CPU through Easel's own attention, one for CUDA on the device.
#[derive(Debug)]
pub struct Transformer(Kind);

#[derive(Debug)]
enum Kind {
    Pooled(Box<Pooled>),
    Device(Box<Engine>),
}

impl Transformer {
    /// Loads the graph, makes room for `sequences` slots, and makes a first step. A slot's memory is taken when it is first used.
    ///
    /// # Errors
    /// The package is made for another device, the graph is damaged or not what the manifest says, the device cannot be had, or the memory limit is too
    /// small.
    pub fn load(runtime: &Runtime, package: &Package, options: &Options, sequences: usize) -> Result<Self, Error> {
        Self::load_with(runtime, package, options, sequences, sequences)
    }

    /// As [`Transformer::load`], but with as many slots as the memory limit leaves room for: at least one, at most `sequences`.
    ///
    /// # Errors
    /// As [`Transformer::load`].
    pub fn load_within(
        runtime: &Runtime,
        package: &Package,
        options: &Options,
        sequences: usize,
    ) -> Result<Self, Error> {
        Self::load_with(runtime, package, options, sequences, 1)
    }

    /// Loads a package for CUDA on the CPU, slow as it is: for tests of such packages, and of the engine, where there is no GPU.
    ///
    /// # Errors
    /// As [`Transformer::load`].
    pub fn rehearse(runtime: &Runtime, package: &Package, threads: usize, sequences: usize) -> Result<Self, Error> {
        let options = Options { device: Device::Cpu, threads, ..Options::default() };
        Self::on_device(runtime, package, &options, sequences, sequences)
    }

    fn load_with(
        runtime: &Runtime,
        package: &Package,
        options: &Options,
        sequences: usize,
        least: usize,
    ) -> Result<Self, Error> {
        let manifest = package.manifest();
        let other = |asked| Error::MadeFor { package: manifest.name.clone(), made_for: manifest.device(), asked };
        match (manifest.device(), options.device) {
            (package::Device::Cpu, Device::Cuda) | (package::Device::Cuda, Device::Cpu) => Err(other(options.device)),
            (package::Device::Cpu, _) => {
                let options = Options { device: Device::Cpu, ..options.clone() };
                let load = if least == sequences { Pooled::load } else { Pooled::load_within };
                Ok(Self(Kind::Pooled(Box::new(load(runtime, package, &options, sequences)?))))
            }
            (package::Device::Cuda, _) => {
                let options = Options { device: Device::Cuda, ..options.clone() };
                Self::on_device(runtime, package, &options, sequences, least)
            }
        }
    }

    fn on_device(
        runtime: &Runtime,
        package: &Package,
        options: &Options,
        sequences: usize,
        least: usize,
    ) -> Result<Self, Error> {
        if sequences == 0 {
            return Err(Error::input("sequences", "at least 1", 0));
        }
        let mut engine = Engine::open(runtime, package, options)?;
        let manifest = package.manifest();
        let weights = weight_bytes(package, &manifest.sampler.graph);
        let each = engine.place_bytes().iter().sum::<usize>() as u64;
        // A text more than there are slots: that of rows that fill up a run.
        let limit = options.memory_limit_mib.map(|mib| mib.saturating_mul(1 << 20));
        let fit = limit.map_or(sequences, |limit| {
            let fit = (limit.saturating_sub(weights) / each.max(1)).saturating_sub(1);
            sequences.min(usize::try_from(fit).unwrap_or(usize::MAX)).max(least)
        });
        let what = format_args!("the weights and the keys and values of {fit} sequences on {}", engine.device());
        options.check_memory(what, each.saturating_mul(fit as u64 + 1).saturating_add(weights))?;
        engine.resize(fit);
        let mut transformer = Self(Kind::Device(Box::new(engine)));
        transformer.try_out(manifest)?;
        Ok(transformer)
    }

    /// A step whose result nobody sees: a graph that cannot run fails here.
    fn try_out(&mut self, manifest: &package::Manifest) -> Result<(), Error> {
        let last = manifest.text.length - 1;
        let first = if manifest.text.padding == package::Padding::None { last } else { 0 };
        self.begin(0, None)?;
        let rows = (first..=last).map(|position| Row { slot: 0, token: 0, position, logits: position == last });
        self.step(&rows.collect::<Vec<_>>())?;
        self.step(&[Row { slot: 0, token: 0, position: last + 1, logits: true }])?;
        self.begin(0, None)
    }

    /// Starts a new sequence in `slot`, forgetting what it held. With a prefix, positions 0 … length − 1 are those of the prefix's slot, and the
    /// slot's own rows begin at `length`.
    ///
    /// # Errors
    /// A slot out of range, a prefix that has not been computed, one that the engine cannot share (see [`Prefix`]), or no memory.
    pub fn begin(&mut self, slot: usize, prefix: Option<Prefix>) -> Result<(), Error> {
        match &mut self.0 {
            Kind::Pooled(pooled) => pooled.begin(slot, prefix),
            Kind::Device(engine) => engine.begin(slot, prefix),
        }
    }

    /// Computes `rows` and gives the logits, f32 \[rows with `logits` set, codebook\], in the order of the rows.
    ///
    /// Several rows of one slot are a prefill; rows of several slots mix freely. On the CPU no bit of a row's result depends on the other rows of the call; on
    /// CUDA, where libraries choose kernels by sizes, that has not been measured.
    ///
    /// # Errors
    /// A slot, token or position out of range, or a position that does not follow the slot's last one: then nothing was computed. A failure of ONNX
    /// Runtime: then the slots of these rows must be begun anew.
    pub fn step(&mut self, rows: &[Row]) -> Result<&[f32], Error> {
        match &mut self.0 {
            Kind::Pooled(pooled) => pooled.step(rows),
            Kind::Device(engine) => engine.step(rows),
        }
    }

    /// How many image positions can be taken back; 0: none.
    pub fn rewinds(&self) -> usize {
        match self.0 {
            Kind::Pooled(_) => WAVE,
            Kind::Device(_) => 0,
        }
    }

    /// Takes the last image positions of a slot back, those from `length` on: the slot's next row is there. What is computed then is what would have been computed
    /// without them.
    ///
    /// # Errors
    /// More than [`Transformer::rewinds`] positions, a text's, or ones that the slot does not hold.
    pub fn rewind(&mut self, slot: usize, length: u32) -> Result<(), Error> {
        match &mut self.0 {
            Kind::Pooled(pooled) => pooled.rewind(slot, length),
            Kind::Device(_) => Err(Error::input("rewind", "a package for the CPU", "one for CUDA")),
        }
    }

    /// Stores keys and values of no meaning at `positions` of a slot that was begun, as if they had been computed. For measurements: to be far into a
    /// sequence without the time that it takes.
    ///
    /// # Errors
    /// As [`Transformer::step`] when the positions do not follow the slot's last one.
    pub fn fill(&mut self, slot: usize, positions: Range<u32>) -> Result<(), Error> {
        match &mut self.0 {
            Kind::Pooled(pooled) => pooled.fill(slot, positions),
            Kind::Device(engine) => engine.fill(slot, positions),
        }
    }

    /// The slots.
    pub fn sequences(&self) -> usize {
        match &self.0 {
            Kind::Pooled(pooled) => pooled.sequences(),
            Kind::Device(engine) => engine.sequences(),
        }
    }

    /// Where the graph runs: `cpu` or `cuda`.
    pub fn device(&self) -> &str {
        match &self.0 {
            Kind::Pooled(pooled) => pooled.device(),
            Kind::Device(engine) => engine.device(),
        }
    }

    /// Memory of a whole sequence's keys and values, and of what is shifted: of each layer only what its mask can see.
    pub fn kv_bytes_per_sequence(&self) -> usize {
        match &self.0 {
            Kind::Pooled(pooled) => pooled.kv_bytes_per_sequence(),
            Kind::Device(engine) => engine.place_bytes().iter().sum(),
        }
    }

    /// Of that, the memory of a sequence that reads all of its text from another slot.
    pub fn kv_bytes_per_candidate(&self) -> usize {
        match &self.0 {
            Kind::Pooled(pooled) => pooled.kv_bytes_per_candidate(),
            Kind::Device(engine) => engine.place_bytes()[1],
        }
    }
}
