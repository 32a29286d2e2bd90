use std::net::SocketAddr;

/// Why a service could not start, or stopped other than by its shutdown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option has a value that cannot work. Found before a port is bound.
    #[error("--{option}: {reason}")]
    Config {
        /// The option's flag, without the dashes.
        option: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// The address for metrics could not be bound.
    #[error("cannot listen on {address} for metrics")]
    MetricsListen {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Telemetry could not be set up: `what` names the part.
    #[error("cannot set up telemetry: {what}")]
    Telemetry {
        /// The part that failed.
        what: &'static str,
        /// Its reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The handlers of SIGTERM and SIGINT could not be installed.
    #[error("cannot install signal handlers")]
    Signal(#[source] std::io::Error),
    /// The descriptor set handed over is not one.
    #[error("the descriptor set cannot be read")]
    Descriptors(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The transport failed: the listener is unusable.
    #[error("the server failed")]
    Transport(#[from] tonic::transport::Error),
    /// The address of another service is not a URI.
    #[error("\"{uri}\" is not the address of a service")]
    Uri {
        /// The address as given.
        uri: String,
        /// Why it is none.
        source: tonic::transport::Error,
    },
}
