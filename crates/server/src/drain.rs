//! The end of a service: calls in flight are counted, new ones refused, late ones cut.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long cut calls may take to let go, where their clients do not read.
const CUT_TIME: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    running: usize,
    draining: bool,
}

/// Counts the calls of one server and ends them. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    // One lock for both facts: no call slips in between "draining" and "none runs".
    calls: watch::Sender<Calls>,
    cut: CancellationToken,
}

impl Drain {
    /// No call, not draining.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a call until its ticket is dropped. None once the drain has begun.
    pub fn admit(&self) -> Option<Ticket> {
        let admitted = self.calls.send_if_modified(|calls| {
            calls.running += usize::from(!calls.draining);
            !calls.draining
        });
        admitted.then(|| Ticket { calls: self.calls.clone() })
    }

    /// Calls that run.
    pub fn running(&self) -> usize {
        self.calls.borrow().running
    }

    /// Admits no call from now on.
    pub fn begin(&self) {
        self.calls.send_modify(|calls| calls.draining = true);
    }

    /// Returns when no call runs: at the end of the last one, or soon after `grace`, when the rest is cut.
    pub async fn finish(&self, grace: Duration) {
        if tokio::time::timeout(grace, self.idle()).await.is_ok() {
            return;
        }
        tracing::warn!(calls = self.running(), "the grace is over: calls are cut");
        self.cut();
        // A call whose client does not read is not polled, and so cannot be cut: not waited for.
        let _ = tokio::time::timeout(CUT_TIME, self.idle()).await;
    }

    /// Cuts every call that runs: it ends with UNAVAILABLE.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Resolves when calls are cut.
    pub(crate) fn cutting(&self) -> WaitForCancellationFutureOwned {
        self.cut.clone().cancelled_owned()
    }

    async fn idle(&self) {
        let mut calls = self.calls.subscribe();
        let idle = calls.wait_for(|calls| calls.running == 0).await;
        idle.expect("the sender lives as long as self");
    }
}

/// A call that is counted until this is dropped.
#[derive(Debug)]
pub struct Ticket {
    calls: watch::Sender<Calls>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.calls.send_modify(|calls| calls.running -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_the_last_call() {
        let drain = Drain::new();
        let ticket = drain.admit().expect("not draining");
        drain.begin();
        assert!(drain.admit().is_none());
        let (waiting, ()) = futures::join!(drain.finish(Duration::MAX), async { drop(ticket) });
        assert_eq!(waiting, ());
        assert!(!drain.cut.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn cuts_when_the_grace_is_over() {
        let drain = Drain::new();
        let ticket = drain.admit();
        drain.begin();
        let begun = tokio::time::Instant::now();
        futures::join!(drain.finish(Duration::from_secs(3)), async {
            drain.cutting().await;
            drop(ticket);
        });
        assert_eq!(begun.elapsed().as_secs(), 3);
    }
}
