//! The packages that the service has loaded, each with its engine.

use easel_onnx::Runtime;
use easel_package::{Manifest, Package};
use easel_proto::v1::SampleRequest;
use easel_server::{
    StatusReporter,
    packages::{Loaded, Packages},
    status,
};
use tonic::Status;

use crate::{
    Config, Error,
    engine::{Engine, Request},
    model::{Model, Transformer},
    slots::Pool,
    validate,
};

/// A package and its engine.
#[derive(Debug)]
pub struct Stage {
    /// The package's manifest.
    pub manifest: Manifest,
    /// Draws with the package's transformer.
    pub engine: Engine,
}

impl Stage {
    /// Starts the engine of the package with `manifest` and its `digest`, whose `model` is loaded; `died` as in [`Engine::start`].
    ///
    /// # Errors
    /// The model does not work, or there are too few rows for a candidate with guidance.
    pub fn start<M: Model>(
        manifest: Manifest,
        digest: String,
        model: M,
        config: &Config,
        died: impl FnOnce(&str) + Send + 'static,
    ) -> Result<Loaded<Self>, Error> {
        let package = manifest.name.clone();
        let mut options = config.engine();
        options.rows = options.rows.min(model.sequences() / Pool::sequences(1));
        let needed = 1 + usize::from(manifest.guidance.is_some());
        if options.rows < needed {
            return Err(Error::Slots { package, needed, reason: "--slots and the model leave", found: options.rows });
        }
        let caption = manifest.text.pad(&[]);
        let caption = unconditional(&manifest, &caption).unwrap_or(caption);
        let engine = Engine::start(model, options, caption, died);
        let engine = engine.map_err(|source| Error::Start { package, source })?;
        Ok(Loaded { name: manifest.name.clone(), digest, stage: Self { manifest, engine } })
    }

    /// What the engine draws for a request of the contract, checked, with the package's defaults filled in. The message's package is not looked at.
    ///
    /// # Errors
    /// INVALID_ARGUMENT that names the first field that cannot be used.
    // A status is what a refused call is answered with; it is large, and rare.
    #[allow(clippy::result_large_err)]
    pub fn request(&self, message: SampleRequest, max_candidates: usize) -> Result<Request, Status> {
        validate::request(message, &self.manifest, max_candidates)
            .map_err(|invalid| status::invalid(invalid.field, invalid.description))
    }
}

/// Guidance's unconditional row for a caption that is `padded`; none: the package has no guidance.
pub(crate) fn unconditional(manifest: &Manifest, padded: &[u32]) -> Option<Vec<u32>> {
    manifest.guidance.as_ref().map(|guidance| guidance.unconditional(&manifest.text, padded))
}

/// Says how busy the engines are.
#[derive(Debug)]
pub(crate) struct Reporter(pub(crate) Packages<Stage>);

impl StatusReporter for Reporter {
    fn load(&self) -> easel_server::Load {
        let mut load = easel_server::Load { packages: self.0.names(), ..Default::default() };
        for package in self.0.all() {
            let engine = package.stage.engine.load();
            load.queue_depth += engine.queued as u32;
            load.queue_capacity += engine.queue_capacity as u32;
            load.slots_in_use += engine.rows_used as u32;
            load.slots_total += engine.rows_total as u32;
            load.device = package.stage.engine.device().to_owned();
        }
        let names: Vec<&str> = load.packages.iter().map(|(name, _)| name.as_str()).collect();
        load.detail = format!("{} on {}", names.join(", "), load.device);
        load
    }
}

/// Loads and starts all packages of the configuration.
///
/// # Errors
/// For the first package that cannot be used.
pub fn load(config: &Config, died: impl Fn(&str) + Clone + Send + 'static) -> Result<Vec<Loaded<Stage>>, Error> {
    let runtime = Runtime::load()?;
    let mut stages: Vec<Loaded<Stage>> = Vec::new();
    for path in &config.package {
        let package = Package::open(path)?;
        let name = &package.manifest().name;
        if stages.iter().any(|stage| stage.name == *name) {
            return Err(Error::Duplicate { path: path.clone(), name: name.clone() });
        }
        let transformer = transformer(&runtime, &package, config)?;
        let rows = transformer.sequences() / Pool::sequences(1);
        let (manifest, digest) = (package.manifest().clone(), package.digest().to_owned());
        tracing::info!(package = *name, digest, slots = rows, device = transformer.device(), "loaded");
        let model = Transformer::new(transformer, &manifest);
        let died = died.clone();
        stages.push(Stage::start(manifest, digest, model, config, move |reason| died(reason))?);
    }
    Ok(stages)
}

/// The package's transformer, with as many rows as the memory limit leaves.
fn transformer(runtime: &Runtime, package: &Package, config: &Config) -> Result<easel_onnx::Transformer, Error> {
    let manifest = package.manifest();
    let options = easel_onnx::Options {
        device: config.device,
        threads: config.threads,
        memory_limit_mib: config.memory_limit_mib,
        kv: config.kv,
        ..Default::default()
    };
    let wanted = Pool::sequences(config.slots);
    let (rows, loaded) = match easel_onnx::Transformer::load_within(runtime, package, &options, wanted) {
        Ok(transformer) => (transformer.sequences() / Pool::sequences(1), Some(transformer)),
        Err(error @ easel_onnx::Error::Memory { .. }) => {
            tracing::error!(package = manifest.name, error = &error as &dyn std::error::Error, "it does not fit");
            (0, None)
        }
        Err(error) => return Err(error.into()),
    };
    let needed = 1 + usize::from(manifest.guidance.is_some());
    let Some(transformer) = loaded.filter(|_| rows >= needed.min(config.slots)) else {
        let (package, reason) = (manifest.name.clone(), "--memory-limit-mib leaves");
        return Err(Error::Slots { package, needed, reason, found: rows });
    };
    if rows < config.slots {
        let asked = config.slots;
        tracing::warn!(package = manifest.name, slots = rows, asked, "the memory limit lowers the slots");
    }
    Ok(transformer)
}
