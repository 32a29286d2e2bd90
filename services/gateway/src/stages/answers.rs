//! The answers of a stage that streams them.

use easel_server::Deadline;
use tonic::{Status, Streaming};
use tracing::Span;

use super::Stage;
use super::pool::Lease;
use crate::fault;

/// A stage's answers, one after the other. Dropping them cancels the call.
pub(crate) struct Answers<T> {
    stage: Stage,
    stream: Streaming<T>,
    // Read ahead, to know that there is one.
    first: Option<T>,
    lease: Lease,
    deadline: Deadline,
    // Open for as long as the call.
    _span: Span,
}

impl<T> Answers<T> {
    pub(super) fn new(
        stage: Stage,
        (stream, first): (Streaming<T>, Option<T>),
        lease: Lease,
        deadline: Deadline,
        span: Span,
    ) -> Self {
        Self { stage, stream, first, lease, deadline, _span: span }
    }

    /// The next answer; `None` when the stage has said all.
    ///
    /// # Errors
    /// The stage's failure, or that of the connection, with the stage's name.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, Status> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Ok(answer) = tokio::time::timeout_at(self.deadline.0, self.stream.message()).await else {
            return Err(fault::late(self.stage));
        };
        answer.map_err(|status| {
            self.lease.replica().answered(!fault::is_unavailable(&status));
            fault::told(self.stage, status, self.deadline)
        })
    }
}
