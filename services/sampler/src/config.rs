use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::builder::RangedU64ValueParser;
use easel_onnx::{Device, Precision};

use crate::{Error, engine::Options};

/// A day. Longer than any caller waits, and no clock overflows by it.
const MAX_STALL_TIMEOUT_SECONDS: usize = 86_400;

/// 0 … 1024: more than any machine has for one model.
fn threads() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(0..=1024)
}

/// What the sampler can be told. Every option is a flag and an environment variable.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "easel-sampler", version, about)]
#[group(id = "sampler")]
pub struct Config {
    /// Address to serve gRPC on, as HOST_IP:PORT
    #[arg(long, env = "EASEL_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:50052")]
    pub listen: SocketAddr,

    /// Folder of a model package; repeat it for several, the first is the default
    #[arg(long, env = "EASEL_PACKAGES", value_name = "DIR", value_delimiter = ',', required = true)]
    pub package: Vec<PathBuf>,

    /// Where the transformer runs: auto, cpu or cuda
    #[arg(long, env = "EASEL_DEVICE", value_name = "DEVICE", default_value_t = Device::Auto)]
    pub device: Device,

    /// CPU threads of a package's transformer; 0: as many as there are cores
    #[arg(long, env = "EASEL_THREADS", value_name = "COUNT", default_value_t = 0, value_parser = threads())]
    pub threads: usize,

    /// Memory that a package's weights, keys and values may take, in MiB; lowers the slots where it must
    #[arg(long, env = "EASEL_MEMORY_LIMIT_MIB", value_name = "MIB")]
    pub memory_limit_mib: Option<u64>,

    /// What keys and values are stored in: f32, or bf16, which takes half the memory and rounds
    #[arg(long, env = "EASEL_KV", value_name = "PRECISION", default_value_t = Precision::F32)]
    pub kv: Precision,

    /// Rows of the batch, for each package: a candidate takes one, with guidance two
    #[arg(long, env = "EASEL_SLOTS", value_name = "COUNT", default_value_t = 32)]
    pub slots: usize,

    /// Rows of a step up to which tokens are guessed and computed along, so that few candidates take fewer steps and draw the same; 0: none are (CPU only)
    #[arg(long, env = "EASEL_GUESS_ROWS", value_name = "COUNT", default_value_t = 0)]
    pub guess_rows: usize,

    /// Requests that may wait for slots, for each package, before more are refused
    #[arg(long, env = "EASEL_QUEUE", value_name = "COUNT", default_value_t = 64)]
    pub queue: usize,

    /// Candidates that a request may have
    #[arg(long, env = "EASEL_SAMPLER_MAX_CANDIDATES", value_name = "COUNT", default_value_t = 1024)]
    pub max_candidates: usize,

    /// Time that a response may stay unread before its request is cut
    #[arg(long, env = "EASEL_STALL_TIMEOUT_SECONDS", value_name = "SECONDS", default_value_t = 60)]
    pub stall_timeout_seconds: u64,

    /// What every service can be told.
    #[command(flatten)]
    pub server: easel_server::Config,
}

impl Config {
    /// Says whether every option can work. Call it before a port is bound.
    ///
    /// # Errors
    /// Names the first option that cannot.
    pub fn validate(&self) -> Result<(), Error> {
        self.server.validate()?;
        let stall_timeout = usize::try_from(self.stall_timeout_seconds).unwrap_or(usize::MAX);
        let counts = [
            ("slots", self.slots, 1, 4096),
            ("guess-rows", self.guess_rows, 0, 4096),
            ("queue", self.queue, 1, 65_536),
            ("max-candidates", self.max_candidates, 1, 65_536),
            ("stall-timeout-seconds", stall_timeout, 1, MAX_STALL_TIMEOUT_SECONDS),
            ("package", self.package.len(), 1, 64),
        ];
        for (option, found, least, most) in counts {
            if !(least..=most).contains(&found) {
                let reason = format!("expected {least} … {most}, found {found}");
                return Err(easel_server::Error::Config { option, reason }.into());
            }
        }
        Ok(())
    }

    /// How each package's engine works.
    pub(crate) fn engine(&self) -> Options {
        Options {
            rows: self.slots,
            queue: self.queue,
            guess_rows: self.guess_rows,
            stall_timeout: Duration::from_secs(self.stall_timeout_seconds),
            ..Options::default()
        }
    }
}
