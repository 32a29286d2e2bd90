//! The standalone's process.

use clap::Parser;
use easel_server::{exit, serve, telemetry};
use easel_standalone::Config;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let stop = serve::shutdown_signal()?;
    let telemetry = telemetry::init("standalone", &config.server)?;
    let result = easel_standalone::run(config, stop).await;
    telemetry.shutdown();
    exit::with_result(result.map_err(anyhow::Error::from))
}
