use std::net::SocketAddr;

/// Why the suite could not start, or stopped other than by its shutdown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No package was named, and the embedded one is not there.
    #[error(
        "no model package: {} lies neither beside the program nor in the current folder; name one with --package DIR or EASEL_PACKAGES",
        crate::embedded::PACKAGE
    )]
    NoPackage,
    /// An address could not be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An option is not what a service can work with.
    #[error("the {stage}'s options: {reason}")]
    Options {
        /// The service.
        stage: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A package's folder, manifest or files are not what they should be.
    #[error("the package cannot be used")]
    Package(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A service failed.
    #[error("the {stage} failed")]
    Service {
        /// The service.
        stage: &'static str,
        /// Its reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A service ended although nobody asked it to.
    #[error("the {stage} ended")]
    Ended {
        /// The service.
        stage: &'static str,
    },
    /// A service panicked.
    #[error("a service panicked")]
    Panicked(#[source] tokio::task::JoinError),
}
