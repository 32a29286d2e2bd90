use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is not a URL of the form `http://host:port`.
    #[error("{url:?} is not the address of a gateway, such as http://127.0.0.1:50050")]
    Url {
        /// The address as given.
        url: String,
    },
    /// Nobody answers at the address.
    #[error("cannot reach {url}")]
    Connect {
        /// The address.
        url: String,
        /// The transport's reason.
        source: tonic::transport::Error,
    },
    /// The gateway refused the call or gave it up.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// The gateway's answer ended too early or lacks what the contract promises.
    #[error("the gateway's answer lacks {what}")]
    Incomplete {
        /// What should have been there.
        what: &'static str,
    },
    /// A picture could not be written.
    #[error("cannot write {path}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Error {
    /// The gRPC code, where the gateway (or the way to it) gave one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            Self::Connect { .. } => Some(Code::Unavailable),
            _ => None,
        }
    }

    /// The fields that are wrong, for INVALID_ARGUMENT.
    pub fn violations(&self) -> &[Violation] {
        if let Self::Refused(refusal) = self { &refusal.violations } else { &[] }
    }

    /// When to try again, where the gateway said so.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::Refused(refusal) = self { refusal.retry_after } else { None }
    }

    pub(crate) fn deadline() -> Self {
        Status::deadline_exceeded("the deadline passed").into()
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(Refusal::from(status)))
    }
}

/// A field of a request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, dotted: "parameters.top_p".
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// A call that ended with another code than OK.
#[derive(Debug)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The gateway's message, or the transport's.
    pub message: String,
    /// The fields that are wrong, for INVALID_ARGUMENT.
    pub violations: Vec<Violation>,
    /// When to try again, where the gateway said so.
    pub retry_after: Option<Duration>,
    /// What the transport ran into, where no gateway answered.
    cause: Option<Status>,
}

impl Refusal {
    /// Whether something answered that is no gateway: another gRPC service, or a server of another protocol.
    pub fn is_foreign(&self) -> bool {
        let causes = std::iter::successors(self.source(), |&cause| cause.source());
        // What an answer in HTTP/1 looks like when it is read as HTTP/2.
        let garbled = causes.map(ToString::to_string).any(|cause| cause.contains("frame with invalid size"));
        self.code == Code::Unimplemented || self.message.starts_with("grpc-status header missing") || garbled
    }

    /// Whether the call never reached a gateway: nobody listens there, or the connection broke.
    pub fn is_transport(&self) -> bool {
        self.cause.is_some()
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let violations = details.bad_request().into_iter().flat_map(|request| &request.field_violations);
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            violations: violations
                .map(|v| Violation { field: v.field.clone(), description: v.description.clone() })
                .collect(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            cause: status.source().is_some().then_some(status),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() { f.write_str(self.code.description()) } else { f.write_str(&self.message) }
    }
}

impl StdError for Refusal {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_ref().and_then(StdError::source)
    }
}
