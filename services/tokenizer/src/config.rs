use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 50051);

/// Turns captions into text tokens and back.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(name = "easel-tokenizer", version)]
pub struct Config {
    /// Address to serve on, as HOST_IP:PORT
    #[arg(long, env = "EASEL_LISTEN", value_name = "ADDRESS", default_value_t = LISTEN)]
    pub listen: SocketAddr,

    /// Folder of a package; may be given several times, the first is the default. The variable takes a list with commas
    #[arg(long = "package", env = "EASEL_PACKAGES", value_name = "DIR", value_delimiter = ',', required = true)]
    pub packages: Vec<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub server: easel_server::Config,
}

impl Config {
    /// What the command line gives for these packages when nothing else is said.
    pub fn new(packages: Vec<PathBuf>) -> Self {
        Self { listen: LISTEN, packages, server: easel_server::Config::default() }
    }
}
