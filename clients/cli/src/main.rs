//! The easel command: draws, serves, measures, imports.

mod bench;
mod classify;
mod error;
mod gateway;
mod generate;
mod import;
mod output;
mod package;
mod packages;
mod progress;
mod serve;
mod status;

use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::Error;

/// How long work that was cut off may take to notice.
const ABANDON_TIME: Duration = Duration::from_secs(1);

/// Pictures from captions, with DALL·E-style models.
#[derive(Parser)]
#[command(name = "easel", version, max_term_width = 120, arg_required_else_help = true)]
struct Easel {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Generate(Box<generate::Generate>),
    Serve(Box<serve::Serve>),
    Classify(classify::Classify),
    Packages(packages::Packages),
    Status(status::Status),
    Bench(bench::Bench),
    Import(import::Import),
    Package(package::Package),
}

impl Command {
    async fn run(self) -> Result<(), Error> {
        match self {
            Self::Generate(generate) => gateway::session("generate", generate.target.address(), generate.run()).await,
            Self::Classify(classify) => gateway::session("classify", classify.target.address(), classify.run()).await,
            Self::Packages(packages) => gateway::session("packages", packages.target.address(), packages.run()).await,
            Self::Status(status) => gateway::session("status", status.gateway.url(), status.run()).await,
            Self::Bench(bench::Bench { what: Some(bench::What::Engine(engine)), .. }) => engine.run().await,
            Self::Bench(bench) => gateway::session("bench", bench.gateway.url(), bench.run()).await,
            Self::Serve(serve) => serve.run().await,
            Self::Import(import) => import.run().await,
            Self::Package(package) => package.run(),
        }
    }
}

fn main() {
    let matches = Easel::command().get_matches();
    let easel = Easel::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Some((_, command)) = matches.subcommand() {
        gateway::warn_of_unused(command);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.map_err(Error::Runtime).and_then(|runtime| {
        let result = runtime.block_on(easel.command.run());
        runtime.shutdown_timeout(ABANDON_TIME);
        result
    });
    easel_server::exit::with_code(match result {
        Ok(()) => 0,
        Err(error) => error.report(),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Easel::command().debug_assert();
    }
}
