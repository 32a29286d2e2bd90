//! An ONNX file as a session on a device.

use std::{num::NonZero, path::Path, sync::Arc, thread};

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

/// A loaded graph with one output.
#[derive(Debug)]
pub(crate) struct Graph {
    file: String,
    device: &'static str,
    session: Session,
    output: &'static str,
}

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
        options.check_threads()?;
        let path = package.file(file)?;
        // Weights too large for the file lie beside it, where ONNX Runtime finds them by itself.
        let weights = format!("{file}.data");
        if package.manifest().files.contains_key(&weights) {
            package.file(&weights)?;
        }
        options.check_memory(format_args!("the weights of {file}"), weight_bytes(package, file))?;
        let loader = Loader { runtime, file, path: &path, options, operators };
        let (session, device) = loader.session()?;
        contract::check(file, "input", session.inputs(), &contract.inputs)?;
        contract::check(file, "output", session.outputs(), std::slice::from_ref(&contract.output))?;
        tracing::info!(graph = file, device, threads = threads(options), "graph loaded");
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

struct Loader<'a> {
    runtime: &'a Runtime,
    file: &'a str,
    path: &'a Path,
    options: &'a Options,
    operators: Option<Arc<OperatorDomain>>,
}

impl Loader<'_> {
    fn session(&self) -> Result<(Session, &'static str), Error> {
        let cuda = || self.cuda().map(|session| (session, "cuda"));
        let cpu = || self.cpu().map(|session| (session, "cpu"));
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

    fn cpu(&self) -> Result<Session, Error> {
        self.builder()
            .and_then(|mut builder| builder.commit_from_file(self.path))
            .map_err(|error| Error::Graph { file: self.file.into(), reason: error.to_string() })
    }

    fn cuda(&self) -> Result<Session, Error> {
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
        let session = self.builder().and_then(|mut builder| {
            provider.register(&mut builder)?;
            builder.commit_from_file(self.path)
        });
        let session = session.map_err(|error| failed(error.to_string()))?;
        if self.operators.is_some() {
            tracing::info!(
                graph = self.file,
                "easel's own operators run on the cpu, the rest on cuda; tensors are copied between"
            );
        }
        Ok(session)
    }

    fn builder(&self) -> ort::Result<SessionBuilder> {
        let mut builder = Session::builder(self.runtime.environment())?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(threads(self.options))?
            // Spinning threads starve whatever else runs on the cores.
            .with_intra_op_spinning(false)?
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
