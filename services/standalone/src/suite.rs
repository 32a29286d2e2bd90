use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::stages::Options;
use crate::{Config, Error, embedded, ready};

const TOKENIZER: &str = "tokenizer";
const SAMPLER: &str = "sampler";
const DECODER: &str = "decoder";
const RANKER: &str = "ranker";
const GATEWAY: &str = "gateway";

/// How long a service that does not answer any more may take to say why.
const FAILURE_TIME: Duration = Duration::from_secs(2);

/// A service that ended: which, and how.
type End = (&'static str, Result<(), Error>);

/// Five services that run in this process. Dropping it cuts them off; [`Suite::shutdown`] lets them finish their work.
#[derive(Debug)]
pub struct Suite {
    addresses: Vec<(&'static str, SocketAddr)>,
    gateway: Group,
    stages: Group,
}

/// Services that are stopped together.
#[derive(Debug, Default)]
struct Group {
    tasks: JoinSet<End>,
    stop: CancellationToken,
}

impl Suite {
    /// Starts the services and returns when all of them are ready. Telemetry is the caller's business.
    ///
    /// # Errors
    /// The first service that fails, for example because its package cannot be loaded; an address that is taken; no package.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let mut suite = Self { addresses: Vec::new(), gateway: Group::default(), stages: Group::default() };
        suite.spawn(config).await?;
        let ready = try_join_all(suite.addresses.clone().into_iter().map(|(stage, at)| ready::serving(stage, at)));
        tokio::select! {
            error = suite.failed() => Err(error),
            ready = ready => match ready {
                Ok(_) => Ok(suite),
                // That a service does not answer is the consequence of its failure; the cause is about to be told.
                Err(silence) => Err(tokio::time::timeout(FAILURE_TIME, suite.failed()).await.unwrap_or(silence)),
            },
        }
    }

    /// Where the gateway answers: "http://127.0.0.1:50050".
    pub fn url(&self) -> String {
        let (_, address) = self.addresses.last().expect("the gateway was bound last");
        format!("http://{}", reachable(*address))
    }

    /// Where each service answers, by name; the gateway is the last.
    pub fn addresses(&self) -> &[(&'static str, SocketAddr)] {
        &self.addresses
    }

    /// Returns when a service ends that nobody asked to end.
    pub async fn failed(&mut self) -> Error {
        let end = tokio::select! {
            Some(end) = self.gateway.tasks.join_next() => end,
            Some(end) = self.stages.tasks.join_next() => end,
            else => std::future::pending().await,
        };
        match end {
            Ok((stage, Ok(()))) => Error::Ended { stage },
            Ok((_, Err(error))) => error,
            Err(panic) => Error::Panicked(panic),
        }
    }

    /// Drains the gateway (running requests finish within the grace), then the stages.
    ///
    /// # Errors
    /// The first service that failed meanwhile; the others are drained all the same.
    pub async fn shutdown(self) -> Result<(), Error> {
        let gateway = self.gateway.shutdown().await;
        let stages = self.stages.shutdown().await;
        gateway.and(stages)
    }

    async fn spawn(&mut self, config: Config) -> Result<(), Error> {
        let packages = if config.package.is_empty() { vec![embedded::find()?] } else { config.package.clone() };
        // The gateway first: an address that is taken is found before anything is loaded.
        let gateway = bind(config.listen).await?;
        for package in &packages {
            easel_package::Package::open(package).map_err(|error| Error::Package(Box::new(error)))?;
        }

        let (listener, tokenizer) = self.listen(TOKENIZER).await?;
        let mut options: easel_tokenizer::Config = Options::new(TOKENIZER).packages(&packages).parse()?;
        (options.packages, options.server) = (packages.clone(), config.server.clone());
        let damaged = |error: &_| matches!(error, easel_tokenizer::Error::Package(_));
        self.stages.spawn(TOKENIZER, |stop| easel_tokenizer::serve(listener, options, stop), damaged);

        let (listener, sampler) = self.listen(SAMPLER).await?;
        let options = Options::new(SAMPLER).packages(&packages).engine(&config).sampler(&config);
        let mut options: easel_sampler::Config = options.parse()?;
        (options.package, options.server) = (packages.clone(), config.server.clone());
        let damaged = |error: &_| {
            use easel_sampler::Error::{Onnx, Package};
            matches!(error, Package(_) | Onnx(easel_onnx::Error::Package(_)))
        };
        self.stages.spawn(SAMPLER, |stop| easel_sampler::serve(listener, options, stop), damaged);

        let (listener, decoder) = self.listen(DECODER).await?;
        let mut options: easel_decoder::Config = Options::new(DECODER).packages(&packages).engine(&config).parse()?;
        (options.packages, options.server) = (packages.clone(), config.server.clone());
        let damaged = |error: &_| {
            use easel_decoder::Error::{Onnx, Package};
            matches!(error, Package(_) | Onnx(easel_onnx::Error::Package(_)))
        };
        self.stages.spawn(DECODER, |stop| easel_decoder::serve(listener, options, stop), damaged);

        let (listener, ranker) = self.listen(RANKER).await?;
        let mut options: easel_ranker::Config = Options::new(RANKER).packages(&packages).engine(&config).parse()?;
        (options.packages, options.server) = (packages.clone(), config.server.clone());
        let damaged = |error: &_| {
            use easel_ranker::Error::{Onnx, Package};
            matches!(error, Package(_) | Onnx(easel_onnx::Error::Package(_)))
        };
        self.stages.spawn(RANKER, |stop| easel_ranker::serve(listener, options, stop), damaged);

        self.addresses.push((GATEWAY, address(&gateway, config.listen)?));
        let options = Options::new(GATEWAY).stage("--tokenizer", tokenizer).stage("--sampler", sampler);
        let mut options: easel_gateway::Config =
            options.stage("--decoder", decoder).stage("--ranker", ranker).parse()?;
        options.server = config.server;
        self.gateway.spawn(GATEWAY, |stop| easel_gateway::serve(gateway, options, stop), |_| false);
        Ok(())
    }

    async fn listen(&mut self, stage: &'static str) -> Result<(TcpListener, SocketAddr), Error> {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = bind(free).await?;
        let address = address(&listener, free)?;
        self.addresses.push((stage, address));
        Ok((listener, address))
    }
}

impl Group {
    /// Starts a service; `damaged` tells which of its errors are the package's fault.
    fn spawn<F, E>(&mut self, stage: &'static str, serve: impl FnOnce(Stop) -> F, damaged: fn(&E) -> bool)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let service = serve(Box::pin(self.stop.clone().cancelled_owned()));
        self.tasks.spawn(async move {
            let end = service.await.map_err(|error| match damaged(&error) {
                true => Error::Package(Box::new(error)),
                false => Error::Service { stage, source: Box::new(error) },
            });
            (stage, end)
        });
    }

    async fn shutdown(mut self) -> Result<(), Error> {
        self.stop.cancel();
        let mut first = Ok(());
        while let Some(end) = self.tasks.join_next().await {
            first = first.and(outcome(end));
        }
        first
    }
}

type Stop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn outcome(end: Result<End, JoinError>) -> Result<(), Error> {
    end.map_err(Error::Panicked)?.1
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

fn address(listener: &TcpListener, asked: SocketAddr) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|source| Error::Listen { address: asked, source })
}

/// An address that a client in this machine can connect to: the loopback where the service listens on all.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port())),
        _ => address,
    }
}

/// Runs a suite until `stop`, then drains it.
///
/// # Errors
/// As [`Suite::start`]; or the first service that ends before `stop`, after the others were drained.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let mut stop = pin!(stop);
    let mut suite = tokio::select! {
        suite = Suite::start(config) => suite?,
        () = &mut stop => return Ok(()),
    };
    tracing::info!(url = suite.url(), "the suite is ready");
    let failure = tokio::select! {
        () = &mut stop => Ok(()),
        error = suite.failed() => Err(error),
    };
    let drained = suite.shutdown().await;
    failure.and(drained)
}
