//! The ranker's process.

use anyhow::Context;
use clap::Parser;
use easel_proto::stage;
use easel_ranker::Config;
use easel_server::{exit, serve, telemetry};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() {
    exit::with_result(run().await)
}

async fn run() -> anyhow::Result<()> {
    let config = Config::parse();
    let stop = serve::shutdown_signal()?;
    let telemetry = telemetry::init(stage::RANKER, &config.server)?;
    let listener = TcpListener::bind(config.listen).await.with_context(|| format!("--listen {}", config.listen))?;
    let served = easel_ranker::serve(listener, config, stop).await;
    telemetry.shutdown();
    Ok(served?)
}
