//! `easel bench engine`: the sampler's transformer alone, without services.

use std::path::{Path, PathBuf};

use clap::Args;
use easel_import::{ImportOptions, Reads, synthetic};
use easel_package::Package;
use easel_standalone::measure::{self, Arrivals, Plan};

use crate::{Error, import, output};

mod geometry;
mod report;

use geometry::Geometry;

/// Measure the transformer of a package, or of one with random weights, in this process: ms a step by position and batch, memory, whole pictures
#[derive(Args)]
#[command(after_help = "Example: easel bench engine --geometry M --weights q4 --batches 1,8")]
pub(crate) struct Engine {
    /// Folder of a package; left out, one with random weights of --geometry is made
    #[arg(required_unless_present = "geometry", conflicts_with = "geometry")]
    package: Option<PathBuf>,

    /// S (384 wide, 8 layers), M (1024, 24), L (2048, 24) or WIDTHxLAYERS with DALL·E's masks, 256 text and 1024 image tokens of 8192; random weights
    #[arg(long, value_name = "NAME")]
    geometry: Option<Geometry>,

    /// Rows and columns of the random weights' grid: shorter pictures than 32 rows of 32
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=128))]
    grid: u32,

    /// Precision of the random weights
    #[arg(long, value_enum, default_value_t = import::Weights::Q4)]
    weights: import::Weights,

    /// Folder in which checkpoints and packages of random weights are kept from one run to the next
    #[arg(long, value_name = "DIR", env = "EASEL_BENCH_CACHE", default_value = "target/bench")]
    cache: PathBuf,

    /// Sequences of a step
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8,16,32")]
    batches: Vec<usize>,

    /// Positions of the sequence; left out, five from the first image token to the last
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    positions: Vec<u32>,

    /// Steps timed at each position and batch; a whole picture is computed from them, on straight lines between the positions
    #[arg(long, value_name = "N", default_value_t = 8)]
    steps: usize,

    /// A caption for every sequence, instead of one for all
    #[arg(long)]
    own_captions: bool,

    /// Whole pictures to draw through the engine's loop, so many candidates at once
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pictures: Vec<usize>,

    /// Rows of a step up to which --pictures are drawn with guessed tokens; 0: without
    #[arg(long, value_name = "N", default_value_t = 0)]
    guess_rows: usize,

    /// Requests that come to the engine's loop at random, more than can be served and then half as many as can, instead of whole pictures
    #[arg(long, value_name = "N", conflicts_with = "pictures")]
    arrivals: Option<usize>,

    /// Rows of the engine for --arrivals
    #[arg(long, value_name = "N", default_value_t = 16)]
    rows: usize,

    /// Candidates of a request of --arrivals
    #[arg(long, value_name = "N", default_value_t = 1)]
    candidates: usize,

    /// Where the transformer runs
    #[arg(long, env = "EASEL_DEVICE", value_enum, default_value_t)]
    device: easel_standalone::Device,

    /// CPU threads; 0: as many as there are cores
    #[arg(long, env = "EASEL_THREADS", value_name = "N", default_value_t = 0)]
    threads: usize,

    /// What keys and values are stored in: f32 or bf16
    #[arg(long, env = "EASEL_KV", value_name = "PRECISION", default_value = "f32")]
    kv: String,

    /// Write JSON instead of tables
    #[arg(long)]
    json: bool,

    /// Write the JSON to a file as well
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Engine {
    pub(crate) async fn run(self) -> Result<(), Error> {
        let measured = tokio::task::spawn_blocking(move || self.measure()).await;
        measured.unwrap_or_else(|panic| Err(Error::Failed(format!("the measurement panicked: {panic}"))))
    }

    fn measure(self) -> Result<(), Error> {
        let plan = Plan {
            options: measure::options(self.device.name(), self.threads, &self.kv).map_err(Error::Usage)?,
            positions: self.positions,
            batches: self.batches,
            steps: self.steps,
            own_captions: self.own_captions,
            pictures: self.pictures,
            guess_rows: self.guess_rows,
            arrivals: self.arrivals.map(|requests| Arrivals { rows: self.rows, candidates: self.candidates, requests }),
        };
        plan.check()?;
        let package = match (&self.package, &self.geometry) {
            (Some(folder), _) => Package::open(folder)?,
            (None, Some(geometry)) => made(geometry, self.grid, self.weights, &self.cache)?,
            (None, None) => return Err(Error::Usage("a package's folder or --geometry is needed".to_owned())),
        };
        let reads = Reads::of(&package, if self.kv == "bf16" { 2 } else { 4 })?;
        let measured = measure::measure(&package, &plan, &mut |line| eprintln!("{line} …"))?;
        let report = report::Report::new(&package, measured, &reads, plan.own_captions, self.kv);
        if let Some(path) = &self.out {
            let json = serde_json::to_string_pretty(&report)?;
            std::fs::write(path, json).map_err(|source| Error::Write { path: path.clone(), source })?;
        }
        if self.json { output::print_json(&report) } else { output::print(&report.to_text()) }
    }
}

/// The package of random weights in the cache, made where it is missing.
fn made(geometry: &Geometry, grid: u32, weights: import::Weights, cache: &Path) -> Result<Package, Error> {
    let weights = easel_import::Weights::from(weights);
    let made = geometry.checkpoint(grid);
    let folder = cache.join(format!("{}-{weights}", made.name));
    if folder.join("manifest.json").is_file() {
        return Ok(Package::open(folder)?);
    }
    let checkpoint = cache.join(&made.name);
    // Written last by the one that makes it.
    if !checkpoint.join("clip.safetensors").is_file() {
        eprintln!("random weights: {} …", checkpoint.display());
        synthetic::checkpoint(&checkpoint, &made, 1)?;
    }
    eprintln!("importing: {} …", folder.display());
    let options = ImportOptions { weights, overwrite: true, ..ImportOptions::default() };
    Ok(easel_import::import(&checkpoint, &folder, &options, &mut |_| {})?)
}
