use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, ValueEnum};

/// 0 … 1024: more than any machine has for one model.
fn threads() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(0..=1024)
}

/// Where the gateway listens by default.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 50050);

/// The standalone's options. The services' own options keep their defaults and their environment variables.
#[derive(Parser, Clone, Debug, PartialEq)]
#[command(name = "easel-standalone", version, about = "Runs all five services of Easel in one process")]
#[group(skip)]
pub struct Config {
    /// Folder of a model package, the default first; none: the embedded package models/scenes/package
    #[arg(long, env = "EASEL_PACKAGES", value_name = "DIR", value_delimiter = ',')]
    pub package: Vec<PathBuf>,

    /// Address of the gateway, as HOST_IP:PORT; the stages take free ports on the loopback
    #[arg(long, env = "EASEL_LISTEN", value_name = "ADDRESS", default_value_t = LISTEN)]
    pub listen: SocketAddr,

    /// What the models run on.
    #[command(flatten)]
    pub engine: Engine,

    /// What every service has.
    #[command(flatten)]
    pub server: easel_server::Config,
}

impl Default for Config {
    /// What the command line gives when neither a flag nor a variable is set.
    fn default() -> Self {
        Self { package: Vec::new(), listen: LISTEN, engine: Engine::default(), server: easel_server::Config::default() }
    }
}

/// What the models of all stages run on.
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Engine")]
pub struct Engine {
    /// Where the models run; auto takes CUDA where it can be had
    #[arg(long, env = "EASEL_DEVICE", value_enum, default_value_t)]
    pub device: Device,

    /// CPU threads of each model; 0: as many as there are cores
    #[arg(long, env = "EASEL_THREADS", value_name = "N", default_value_t = 0, value_parser = threads())]
    pub threads: usize,

    /// Memory that each model may take, in MiB; none: no limit
    #[arg(long, env = "EASEL_MEMORY_LIMIT_MIB", value_name = "MIB")]
    pub memory_limit_mib: Option<u64>,

    /// Rows of the sampler's batch: pictures drawn at once, two rows each with guidance; none: the sampler's default
    #[arg(long, env = "EASEL_SLOTS", value_name = "N")]
    pub slots: Option<usize>,

    /// What the sampler's keys and values are stored in: f32, or bf16, which takes half the memory and rounds, so that seeds
    /// draw other pictures; none: the sampler's default
    #[arg(long, env = "EASEL_KV", value_name = "PRECISION")]
    pub kv: Option<String>,
}

/// Where models run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// CUDA where it can be had, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA; an error where it cannot be had.
    Cuda,
}

impl Device {
    /// Its name, as the services spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}
