//! An ONNX file as a session on a device.

use std::{
    num::NonZero,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use easel_package::Package;
use ort::{
    ep::{self, ExecutionProvider},
    operator::OperatorDomain,
    session::{
        Session, SessionInputValue,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
    value::{DynValue, PrimitiveTensorElementType},
};

use crate::{
    Device, Error, Options, Runtime,
    contract::{self, Port},
};

/// How long a thread without work stays awake.
const SPIN_US: &str = "50";

/// Held while a session with operators of our own is made: ONNX Runtime looks whether it knows their domain and then adds it, to one table of the process
/// without a lock, so that of two sessions that are made at the same time the second may fail.
pub(crate) fn making_with_operators() -> MutexGuard<'static, ()> {
    static MAKING: Mutex<()> = Mutex::new(());
    MAKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A loaded graph with one output.
#[derive(Debug)]
pub(crate) struct Graph {
    file: String,
    device: &'static str,
    session: Session,
    output: &'static str,
}

/// Gives a graph to a session's builder.
pub(crate) type Commit<'a> = dyn Fn(&mut SessionBuilder) -> ort::Result<Session> + 'a;

/// What a graph must look like.
pub(crate) struct Contract<const N: usize> {
    pub(crate) inputs: [Port; N],
    pub(crate) output: Port,
}

impl Graph {
    /// Loads `file` of the package and holds it against the contract.
    pub(crate) fn load<const N: usize>(
        runtime: &Runtime,
        package: &Package,
        file: &str,
        options: &Options,
        operators: Option<Arc<OperatorDomain>>,
        contract: &Contract<N>,
    ) -> Result<Self, Error> {
        let loader = Loader { runtime, file, options, operators, lean: false };
        let (session, device) = loader.load(package)?;
        contract::check(file, "input", session.inputs(), &contract.inputs)?;
        contract::check(file, "output", session.outputs(), std::slice::from_ref(&contract.output))?;
        Ok(Self { file: file.into(), device, session, output: contract.output.name() })
    }

    /// `cpu` or `cuda`.
    pub(crate) fn device(&self) -> &'static str {
        self.device
    }

    /// Whether the graph has an input that the contract makes optional.
    pub(crate) fn has_input(&self, name: &str) -> bool {
        self.session.inputs().iter().any(|input| input.name() == name)
    }

    /// Runs the graph; `inputs` are by name.
    pub(crate) fn run(&mut self, inputs: Vec<(&str, SessionInputValue<'_>)>) -> Result<DynValue, Error> {
        let failed = |error: ort::Error| Error::Graph { file: self.file.clone(), reason: error.to_string() };
        let mut outputs = self.session.run(inputs).map_err(failed)?;
        Ok(outputs.remove(self.output).expect("the contract was checked"))
    }

    /// Runs the graph and copies its output, which must have this many numbers.
    pub(crate) fn run_flat<T: PrimitiveTensorElementType + Copy>(
        &mut self,
        inputs: Vec<(&str, SessionInputValue<'_>)>,
        numbers: usize,
    ) -> Result<Vec<T>, Error> {
        let output = self.run(inputs)?;
        let (_, found) = output.try_extract_tensor::<T>().map_err(|error| self.error(error))?;
        if found.len() != numbers {
            let item = self.output;
            return Err(self.error(format_args!("output {item}: expected {numbers} numbers, found {}", found.len())));
        }
        Ok(found.to_vec())
    }

    /// A failure of this graph.
    pub(crate) fn error(&self, reason: impl ToString) -> Error {
        Error::Graph { file: self.file.clone(), reason: reason.to_string() }
    }
}

/// Makes sessions.
pub(crate) struct Loader<'a> {
    pub(crate) runtime: &'a Runtime,
    /// What messages call the graph.
    pub(crate) file: &'a str,
    pub(crate) options: &'a Options,
    pub(crate) operators: Option<Arc<OperatorDomain>>,
    /// Takes no more of the GPU's memory than it is asked for, and, with [`Options::cuda_graphs`], can capture.
    pub(crate) lean: bool,
}

/// Why ONNX Runtime refuses a graph, and what to do where it has an operator that is not known.
fn advised(reason: String) -> String {
    match reason.contains("is not a registered function/op") {
        true => format!("{reason}; the package is of another version of Easel: import its checkpoint again"),
        false => reason,
    }
}

impl Loader<'_> {
    /// A session of the package's file, and where it runs: `cpu` or `cuda`.
    pub(crate) fn load(&self, package: &Package) -> Result<(Session, &'static str), Error> {
        self.options.check_threads()?;
        let path = package.file(self.file)?;
        // Weights too large for the file lie beside it, where ONNX Runtime finds them by itself.
        let weights = format!("{}.data", self.file);
        if package.manifest().files.contains_key(&weights) {
            package.file(&weights)?;
        }
        let what = format_args!("the weights of {}", self.file);
        self.options.check_memory(what, weight_bytes(package, self.file))?;
        let (session, device) = self.session(&|builder| builder.commit_from_file(&path))?;
        tracing::info!(graph = self.file, device, threads = threads(self.options), "graph loaded");
        Ok((session, device))
    }

    /// A session of what `commit` gives to the builder.
    pub(crate) fn session(&self, commit: &Commit<'_>) -> Result<(Session, &'static str), Error> {
        let _making = self.operators.is_some().then(making_with_operators);
        let cuda = || self.cuda(commit).map(|session| (session, "cuda"));
        let cpu = || self.cpu(commit).map(|session| (session, "cpu"));
        match self.options.device {
            Device::Cpu => cpu(),
            Device::Cuda => cuda(),
            Device::Auto if !has_cuda() => cpu(),
            Device::Auto => cuda().or_else(|error| {
                tracing::info!(graph = self.file, %error, "cuda cannot be used, the cpu is");
                cpu()
            }),
        }
    }

    fn cpu(&self, commit: &Commit<'_>) -> Result<Session, Error> {
        self.builder()
            .and_then(|mut builder| commit(&mut builder))
            .map_err(|error| Error::Graph { file: self.file.into(), reason: advised(error.to_string()) })
    }

    fn cuda(&self, commit: &Commit<'_>) -> Result<Session, Error> {
        let failed = |reason: String| Error::Device { device: Device::Cuda, file: self.file.into(), reason };
        if !has_cuda() {
            return Err(failed(
                "this ONNX Runtime library has no CUDA provider: unpack the one of onnxruntime-gpu and set ORT_DYLIB_PATH to it".into(),
            ));
        }
        let mut provider = ep::CUDA::default();
        if let Some(mib) = self.options.memory_limit_mib {
            provider = provider.with_memory_limit(usize::try_from(mib.saturating_mul(1 << 20)).unwrap_or(usize::MAX));
        }
        if self.lean {
            provider = provider.with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested);
            provider = provider.with_cuda_graph(self.options.cuda_graphs);
        }
        let session = self.builder().and_then(|mut builder| {
            provider.register(&mut builder)?;
            commit(&mut builder)
        });
        session.map_err(|error| failed(error.to_string()))
    }

    fn builder(&self) -> ort::Result<SessionBuilder> {
        let mut builder = Session::builder(self.runtime.environment())?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(threads(self.options))?
            // Between two operators threads stay awake, since waking one takes longer than most operators; between two calls they sleep, or they would starve
            // whatever else runs on the cores.
            .with_intra_op_spinning(true)?
            .with_config_entry("session.intra_op.spin_duration_us", SPIN_US)?
            // Shapes change from call to call; a pattern learned from one does not fit the next.
            .with_memory_pattern(false)?;
        if let Some(operators) = &self.operators {
            builder = builder.with_operators(operators.clone())?;
        }
        Ok(builder)
    }
}

/// Bytes of a graph and of the weights beside it.
pub(crate) fn weight_bytes(package: &Package, file: &str) -> u64 {
    let files = &package.manifest().files;
    let bytes = |name: &str| files.get(name).map_or(0, |entry| entry.bytes);
    bytes(file) + bytes(&format!("{file}.data"))
}

/// Whether the library was built with CUDA; whether it works, a session tells.
fn has_cuda() -> bool {
    ep::CUDA::is_available().unwrap_or(false)
}

fn threads(options: &Options) -> usize {
    match options.threads {
        0 => thread::available_parallelism().map_or(1, NonZero::get),
        threads => threads,
    }
}
