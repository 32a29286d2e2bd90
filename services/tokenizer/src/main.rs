//! The tokenizer's process.

use anyhow::Context;
use clap::Parser;
use easel_proto::stage;
use easel_server::{exit, serve, telemetry};
use easel_tokenizer::Config;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() {
    exit::with_result(run().await)
}

async fn run() -> anyhow::Result<()> {
    let config = Config::parse();
    let stop = serve::shutdown_signal()?;
    let telemetry = telemetry::init(stage::TOKENIZER, &config.server)?;
    let listener = TcpListener::bind(config.listen).await.with_context(|| format!("--listen {}", config.listen))?;
    let served = easel_tokenizer::serve(listener, config, stop).await;
    telemetry.shutdown();
    Ok(served?)
}
