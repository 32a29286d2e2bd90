//! The gateway's process.

use anyhow::Context;
use clap::Parser;
use easel_gateway::Config;
use easel_server::{exit, serve, telemetry};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() {
    exit::with_result(run().await)
}

async fn run() -> anyhow::Result<()> {
    let config = Config::parse();
    config.validate()?;
    let stop = serve::shutdown_signal()?;
    let telemetry = telemetry::init(easel_proto::stage::GATEWAY, &config.server)?;
    let listener = TcpListener::bind(config.listen).await.with_context(|| format!("--listen {}", config.listen))?;
    let result = easel_gateway::serve(listener, config, stop).await;
    telemetry.shutdown();
    Ok(result?)
}
