//! The gateway that a command talks to: one at an address, or a suite in this process.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};
use easel_client::Client;
use easel_server::{serve, telemetry};
use easel_standalone::{Config, Engine, Suite};
use tracing::Instrument;

use crate::Error;

/// Which gateway, and what to run where there is none.
#[derive(Args, Clone)]
#[command(next_help_heading = "Gateway")]
pub(crate) struct Target {
    /// Gateway to ask; left out, all five services are started in this process
    #[arg(long, env = "EASEL_GATEWAY", value_name = "URL")]
    pub(crate) gateway: Option<String>,

    /// Package to use, by its name; without --gateway also the folder of one. Left out: the default, or the embedded one
    #[arg(long, value_name = "NAME|DIR")]
    pub(crate) package: Option<String>,

    #[command(flatten)]
    engine: Engine,
}

/// A gateway that runs already.
#[derive(Args)]
pub(crate) struct Running {
    /// Gateway to ask
    #[arg(long, env = "EASEL_GATEWAY", value_name = "URL", default_value = "http://127.0.0.1:50050")]
    gateway: String,
}

impl Running {
    pub(crate) async fn connect(&self) -> Result<Client, Error> {
        Ok(Client::connect(with_scheme(self.gateway.trim())).await?)
    }
}

/// A gateway at hand.
pub(crate) struct Gateway {
    pub(crate) client: Client,
    suite: Option<Suite>,
}

impl Target {
    /// The address that was given, with its scheme.
    pub(crate) fn url(&self) -> Option<String> {
        self.gateway.as_deref().map(str::trim).filter(|url| !url.is_empty()).map(with_scheme)
    }

    /// The package by its name; empty for the default, and for one that is given as a folder.
    pub(crate) fn name(&self) -> &str {
        let name = self.package.as_deref().unwrap_or_default();
        if self.folder().is_some() { "" } else { name }
    }

    /// The package as a folder, where the suite is to be started with it.
    fn folder(&self) -> Option<PathBuf> {
        let folder = PathBuf::from(self.package.as_ref()?);
        (self.url().is_none() && folder.join("manifest.json").is_file()).then_some(folder)
    }

    /// Connects, or starts a suite.
    pub(crate) async fn open(&self) -> Result<Gateway, Error> {
        let Some(url) = self.url() else { return self.start().await };
        Ok(Gateway { client: Client::connect(url).await?.with_package(self.name()), suite: None })
    }

    async fn start(&self) -> Result<Gateway, Error> {
        let mut config = Config { engine: self.engine.clone(), ..Environment::get()?.config };
        config.listen = ([127, 0, 0, 1], 0).into();
        if let Some(folder) = self.folder() {
            config.package = vec![folder];
        }
        eprintln!("starting tokenizer, sampler, decoder, ranker and gateway in this process …");
        let suite = Suite::start(config).await?;
        let client = Client::connect(suite.url()).await?.with_package(self.name());
        Ok(Gateway { client, suite: Some(suite) })
    }
}

impl Gateway {
    /// Stops what was started.
    pub(crate) async fn close(self) -> Result<(), Error> {
        match self.suite {
            Some(suite) => Ok(suite.shutdown().await?),
            None => Ok(()),
        }
    }
}

fn with_scheme(url: &str) -> String {
    if url.contains("://") { url.to_owned() } else { format!("http://{url}") }
}

/// The options that a command takes from the environment alone.
#[derive(Parser)]
struct Environment {
    #[command(flatten)]
    config: Config,
}

impl Environment {
    fn get() -> Result<Self, Error> {
        let mut environment =
            Self::try_parse_from(["easel"]).map_err(|error| Error::Usage(error.to_string().trim_end().to_owned()))?;
        let server = &mut environment.config.server;
        if std::env::var_os("EASEL_LOG").is_none() {
            // Progress is the command's to tell.
            server.log = "warn".to_owned();
        }
        server.metrics_listen = None;
        Ok(environment)
    }
}

/// Runs a command that uses a gateway: inside a trace of its own, until it ends or is interrupted. Whatever it had begun is cancelled then.
pub(crate) async fn session(name: &'static str, command: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let stop = serve::shutdown_signal()?;
    let telemetry = telemetry::init("cli", &Environment::get()?.config.server)?;
    let result = tokio::select! {
        result = command.instrument(tracing::info_span!("easel.command", command = name)) => result,
        () = stop => Err(Error::Interrupted),
    };
    telemetry.shutdown();
    result
}

/// Seconds as they were typed, as a duration.
pub(crate) fn timeout(seconds: f64) -> Result<Duration, Error> {
    let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero());
    time.ok_or_else(|| Error::Usage(format!("--timeout-seconds: expected more than 0, found {seconds}")))
}
