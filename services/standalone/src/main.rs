//! The standalone's process.

use clap::Parser;
use easel_server::{exit, serve, telemetry};
use easel_standalone::Config;

#[tokio::main]
async fn main() {
    exit::with_result(run().await)
}

async fn run() -> anyhow::Result<()> {
    let config = Config::parse();
    let stop = serve::shutdown_signal()?;
    let telemetry = telemetry::init("standalone", &config.server)?;
    let result = easel_standalone::run(config, stop).await;
    telemetry.shutdown();
    Ok(result?)
}
