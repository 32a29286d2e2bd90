//! The gateway that a command talks to: one at an address, or a suite in this process.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Parser};
use easel_client::Client;
use easel_server::{serve, telemetry};
use easel_standalone::{Config, Engine, Suite};
use tracing::Instrument;

use crate::Error;

/// The longest time that a request may be given: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

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
    /// The address that was given, with its scheme.
    pub(crate) fn url(&self) -> String {
        with_scheme(self.gateway.trim())
    }

    pub(crate) async fn connect(&self) -> Result<Client, Error> {
        Ok(Client::connect(self.url()).await?)
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

    /// What a suite of this process is told to keep keys and values in.
    pub(crate) fn kv(&self) -> Option<String> {
        self.engine.kv.clone().filter(|_| self.url().is_none())
    }

    /// The address as errors tell it.
    pub(crate) fn address(&self) -> String {
        self.url().unwrap_or_else(|| "this process".to_owned())
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

    /// What can be said against the package before anything is started.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Some(package) = self.package.as_deref().filter(|_| self.url().is_none()) else { return Ok(()) };
        let folder = Path::new(package);
        let reason = match (folder.is_dir(), folder.exists()) {
            (true, _) if folder.join("manifest.json").is_file() => return Ok(()),
            (true, _) => "has no manifest.json",
            (false, true) => "is no folder",
            (false, false) if package.contains(std::path::is_separator) => "does not exist",
            // A name.
            (false, false) => return Ok(()),
        };
        Err(Error::Usage(format!("--package: {package} {reason}")))
    }

    /// Connects, or starts a suite.
    pub(crate) async fn open(&self) -> Result<Gateway, Error> {
        self.check()?;
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

/// Says which options do nothing because a gateway is asked that runs already.
pub(crate) fn warn_of_unused(command: &ArgMatches) {
    let asked = |id: &str| command.ids().any(|known| known == id);
    let gateway = asked("gateway").then(|| command.get_one::<String>("gateway")).flatten();
    if gateway.is_none_or(|url| url.trim().is_empty()) {
        return;
    }
    for option in ["device", "threads", "memory_limit_mib", "slots"] {
        if asked(option) && command.value_source(option) == Some(ValueSource::CommandLine) {
            eprintln!("--{} is ignored: the gateway decides", option.replace('_', "-"));
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

/// Runs a command that uses a gateway, at `url`: inside a trace of its own, until it ends or is interrupted. Whatever it had begun is cancelled then.
pub(crate) async fn session(
    name: &'static str,
    url: String,
    command: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let stop = serve::shutdown_signal()?;
    let telemetry = telemetry::init("cli", &Environment::get()?.config.server)?;
    let result = tokio::select! {
        result = command.instrument(tracing::info_span!("easel.command", command = name)) => {
            result.map_err(|error| error.at(&url))
        }
        () = stop => Err(Error::Interrupted),
    };
    telemetry.shutdown();
    result
}

/// Seconds as they were typed, as a duration.
pub(crate) fn timeout(seconds: f64) -> Result<Duration, Error> {
    let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero() && *time <= LONGEST);
    let longest = LONGEST.as_secs();
    let reason = || format!("--timeout-seconds: expected more than 0 and at most {longest}, found {seconds:?}");
    time.ok_or_else(|| Error::Usage(reason()))
}
