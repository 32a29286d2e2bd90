//! The sampler's process.

use clap::Parser;
use easel_sampler::Config;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    config.validate()?;
    let stop = easel_server::serve::shutdown_signal()?;
    let telemetry = easel_server::telemetry::init("sampler", &config.server)?;
    let listener = TcpListener::bind(config.listen).await?;
    let served = easel_sampler::serve(listener, config, stop).await;
    telemetry.shutdown();
    Ok(served?)
}
