use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use easel_onnx::Device;
use easel_proto::stage;
use easel_server::batcher;

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 50054);
const MAX_BATCH: usize = 32;
const BATCH_WINDOW_MS: u64 = 2;
const MAX_REQUESTS: usize = 256;

/// 0 … 1024: more than any machine has for one model.
fn threads() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(0..=1024)
}

/// 1 … `most`.
fn counts(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}

/// Scores pictures against captions.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(name = "easel-ranker", version)]
pub struct Config {
    /// Address to serve on, as HOST_IP:PORT
    #[arg(long, env = "EASEL_LISTEN", value_name = "ADDRESS", default_value_t = LISTEN)]
    pub listen: SocketAddr,

    /// Folder of a package; may be given several times, the first is the default. The variable takes a list with commas
    #[arg(long = "package", env = "EASEL_PACKAGES", value_name = "DIR", value_delimiter = ',', required = true)]
    pub packages: Vec<PathBuf>,

    /// Where the model runs: auto, cpu or cuda
    #[arg(long, env = "EASEL_DEVICE", value_name = "DEVICE", default_value_t)]
    pub device: Device,

    /// CPU threads of the model; 0: as many as there are cores
    #[arg(long, env = "EASEL_THREADS", value_name = "COUNT", default_value_t = 0, value_parser = threads())]
    pub threads: usize,

    /// What a package's models may take of memory, in MiB, on the CPU and on the GPU each; none: no limit
    #[arg(long, env = "EASEL_MEMORY_LIMIT_MIB", value_name = "MIB")]
    pub memory_limit_mib: Option<u64>,

    /// Pictures or texts in a run of the model
    #[arg(long, env = "EASEL_RANKER_MAX_BATCH", value_name = "ROWS", default_value_t = MAX_BATCH, value_parser = counts(1024))]
    pub max_batch: usize,

    /// How long a picture or text waits for others to share its run, in milliseconds
    #[arg(long, env = "EASEL_RANKER_BATCH_WINDOW_MS", value_name = "MS", default_value_t = BATCH_WINDOW_MS)]
    pub batch_window_ms: u64,

    /// Calls in work at once, for each package; more are refused
    #[arg(long, env = "EASEL_RANKER_MAX_REQUESTS", value_name = "CALLS", default_value_t = MAX_REQUESTS, value_parser = counts(65_536))]
    pub max_requests: usize,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub server: easel_server::Config,
}

impl Config {
    /// What the command line gives for these packages when nothing else is said.
    pub fn new(packages: Vec<PathBuf>) -> Self {
        Self {
            listen: LISTEN,
            packages,
            device: Device::default(),
            threads: 0,
            memory_limit_mib: None,
            max_batch: MAX_BATCH,
            batch_window_ms: BATCH_WINDOW_MS,
            max_requests: MAX_REQUESTS,
            server: easel_server::Config::default(),
        }
    }

    /// How the engines run.
    pub(crate) fn engine(&self) -> easel_onnx::Options {
        let Self { device, threads, memory_limit_mib, .. } = *self;
        easel_onnx::Options { device, threads, memory_limit_mib, ..Default::default() }
    }

    /// How their rows come together.
    pub(crate) fn batching(&self) -> batcher::Options {
        batcher::Options {
            stage: stage::RANKER,
            max_batch: self.max_batch,
            capacity: self.max_requests,
            window: Duration::from_millis(self.batch_window_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_cannot_work_are_refused() {
        let parse =
            |options: [&str; 2]| Config::try_parse_from(["easel-ranker", "--package", "p"].iter().chain(&options));
        assert!(parse(["--max-batch", "8"]).is_ok_and(|config| config.max_batch == 8));
        for options in [["--max-batch", "0"], ["--max-batch", "1025"], ["--max-requests", "0"]] {
            assert!(parse(options).is_err_and(|error| error.to_string().contains(options[0])));
        }
    }
}
