//! Errors of calls: `tonic::Status` with the details of google.rpc. Messages are terse and public.

use std::error::Error as StdError;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// INVALID_ARGUMENT with a `BadRequest` that names `field` ("parameters.top_p"); the message is "field: description".
pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Status {
    let (field, description) = (field.into(), description.into());
    let message = format!("{field}: {description}");
    let details = ErrorDetails::with_bad_request_violation(field, description);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// RESOURCE_EXHAUSTED with a `RetryInfo`: the queue is full, come back after `retry_after`.
pub fn exhausted(message: impl Into<String>, retry_after: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(retry_after));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// UNAVAILABLE with a `RetryInfo`: loading, draining, or out of reach.
pub fn unavailable(message: impl Into<String>, retry_after: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(retry_after));
    Status::with_error_details(Code::Unavailable, message, details)
}

/// NOT_FOUND with a `ResourceInfo`, for example ("package", "shapes"); the message is `no package "shapes"`.
pub fn not_found(resource_type: impl Into<String>, name: impl Into<String>) -> Status {
    let (resource_type, name) = (resource_type.into(), name.into());
    let message = format!("no {resource_type} \"{name}\"");
    let details = ErrorDetails::with_resource_info(resource_type, name, "", &*message);
    Status::with_error_details(Code::NotFound, message, details)
}

/// FAILED_PRECONDITION with a `PreconditionFailure`: `kind` of the condition ("package"), `subject` it is about (its
/// digest), and what to do about it. The message is the description.
pub fn precondition(kind: impl Into<String>, subject: impl Into<String>, description: impl Into<String>) -> Status {
    let description = description.into();
    let details = ErrorDetails::with_precondition_failure_violation(kind, subject, &*description);
    Status::with_error_details(Code::FailedPrecondition, description, details)
}

/// INTERNAL "internal error": the cause is logged with its sources and not told to the caller.
pub fn internal(cause: &(dyn StdError + 'static)) -> Status {
    tracing::error!(error = cause, "internal error");
    Status::internal("internal error")
}

/// DEADLINE_EXCEEDED: the caller's deadline passed first.
pub fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the deadline passed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_tell_what_the_message_says() {
        let status = invalid("parameters.top_p", "must be at most 1");
        assert_eq!(status.message(), "parameters.top_p: must be at most 1");
        let violations = status.get_details_bad_request().map(|request| request.field_violations);
        assert_eq!(violations.map(|all| all[0].field.clone()).as_deref(), Some("parameters.top_p"));

        let delay = Duration::from_millis(1500);
        for status in [exhausted("the queue is full", delay), unavailable("loading", delay)] {
            assert_eq!(status.get_details_retry_info().and_then(|retry| retry.retry_delay), Some(delay));
        }

        let status = not_found("package", "shapes");
        assert_eq!(status.message(), "no package \"shapes\"");
        let resource = status.get_details_resource_info().map(|info| info.resource_name);
        assert_eq!(resource.as_deref(), Some("shapes"));
    }

    #[test]
    fn a_cause_stays_inside() {
        let cause = std::io::Error::other("/secret/path");
        let status = internal(&cause);
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    }
}
