//! Failed calls to stages, as the gateway's caller is told of them.

use std::error::Error;
use std::time::Duration;

use easel_server::{Deadline, call, status};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::stages::Stage;

/// When it is worth trying again after a stage was out of reach.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Whether the stage was not reached, or lost, or says itself that it cannot serve now: another replica may do.
pub(crate) fn is_unavailable(status: &Status) -> bool {
    // A status with a source was made on this side, from an error of the connection.
    status.source().is_some() || matches!(status.code(), Code::Unavailable | Code::Cancelled) || is_cut(status)
}

/// A stream that ended without trailers, which tonic says in these words: the stage's process went away.
fn is_cut(status: &Status) -> bool {
    status.code() == Code::Unknown && status.message().starts_with("grpc-status header missing")
}

/// The failure `status` of `stage` for our own caller: names the stage, keeps code and details.
pub(crate) fn told(stage: Stage, status: Status, deadline: Deadline) -> Status {
    let status = call::settle(status, Some(deadline));
    if status.code() == Code::DeadlineExceeded || deadline.is_past() && is_unavailable(&status) {
        return late(stage);
    }
    if is_unavailable(&status) {
        let details = status.get_error_details();
        let retry = details.retry_info().and_then(|retry| retry.retry_delay).unwrap_or(RETRY_AFTER);
        return status::unavailable(format!("{stage} is unavailable: {}", cause(&status)), retry);
    }
    let message = format!("{stage}: {}", said(&status));
    match status.code() {
        // The stages know packages and nothing else by name.
        Code::NotFound => status::invalid("package", message),
        code => Status::with_error_details(code, message, status.get_error_details()),
    }
}

/// The message, or what the code means where there is none.
fn said(status: &Status) -> &str {
    match status.message() {
        "" => status.code().description(),
        message => message,
    }
}

/// `stage` was waited for until the deadline.
pub(crate) fn late(stage: Stage) -> Status {
    Status::deadline_exceeded(format!("the deadline passed in the {stage}"))
}

/// The innermost reason: "Connection refused (os error 111)" rather than "transport error".
pub(crate) fn cause(status: &Status) -> String {
    let mut cause = status.source();
    while let Some(deeper) = cause.and_then(Error::source) {
        cause = Some(deeper);
    }
    cause.map_or_else(|| said(status).to_owned(), ToString::to_string)
}

/// No address of `stage` is known.
pub(crate) fn unresolved(stage: Stage) -> Status {
    status::unavailable(format!("{stage} is unavailable: its addresses do not resolve"), RETRY_AFTER)
}

/// `stage` ended its answer before all of it had come.
pub(crate) fn incomplete(stage: Stage) -> Status {
    status::unavailable(format!("{stage} is unavailable: its answer ended early"), RETRY_AFTER)
}

/// `stage` answered what the contract does not allow.
pub(crate) fn broken(stage: Stage, what: &str) -> Status {
    tracing::error!(%stage, what, "a stage broke the contract");
    Status::internal(format!("{stage}: {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    #[test]
    fn code_and_details_are_kept_and_the_stage_is_named() {
        let full = status::exhausted("the queue is full", Duration::from_secs(7));
        let told = told(Stage::Sampler, full, soon());
        assert_eq!(told.code(), Code::ResourceExhausted);
        assert_eq!(told.message(), "sampler: the queue is full");
        let retry = told.get_error_details().retry_info().unwrap().retry_delay.unwrap();
        assert_eq!(retry, Duration::from_secs(7));
    }

    #[test]
    fn an_unknown_package_is_the_callers_mistake() {
        let told = told(Stage::Ranker, status::not_found("package", "shapes"), soon());
        assert_eq!(told.code(), Code::InvalidArgument);
        assert_eq!(told.get_error_details().bad_request().unwrap().field_violations[0].field, "package");
    }

    #[test]
    fn a_lost_connection_names_its_reason_and_says_when_to_come_back() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let told = told(Stage::Decoder, Status::from_error(Box::new(refused)), soon());
        assert_eq!(told.code(), Code::Unavailable);
        assert_eq!(told.message(), "decoder is unavailable: connection refused");
        assert!(told.get_error_details().retry_info().is_some());
    }

    #[test]
    fn what_fails_after_the_deadline_failed_because_of_it() {
        let told = told(Stage::Sampler, Status::cancelled("Timeout expired"), Deadline::after(Duration::ZERO));
        assert_eq!(told.code(), Code::DeadlineExceeded);
        assert_eq!(told.message(), "the deadline passed in the sampler");
    }

    #[test]
    fn silence_is_put_into_words() {
        let told = told(Stage::Sampler, Status::unimplemented(""), soon());
        assert_eq!(told.message(), "sampler: Operation is not implemented or not supported");
    }
}
