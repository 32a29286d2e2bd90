use std::sync::Arc;

use tokio::sync::watch;

/// Whether a service can do its job now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It can.
    Ready,
    /// It cannot; the reason is for people ("loading the model").
    Unready(String),
    /// It will stop. Final.
    Draining,
}

impl State {
    /// Whether this is [`State::Ready`].
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

/// The one truth about readiness: health, status and admission all follow it. Clones share it.
#[derive(Clone, Debug)]
pub struct Readiness {
    state: Arc<watch::Sender<State>>,
}

impl Readiness {
    /// Not ready yet: "starting".
    pub fn new() -> Self {
        let state = watch::Sender::new(State::Unready("starting".to_owned()));
        Self { state: Arc::new(state) }
    }

    /// The service can do its job from now on. Does nothing once it drains.
    pub fn ready(&self) {
        self.set(State::Ready);
    }

    /// The service cannot do its job for now. Does nothing once it drains.
    pub fn unready(&self, reason: impl Into<String>) {
        self.set(State::Unready(reason.into()));
    }

    /// The service will stop: not ready, for good. [`serve`](crate::serve::serve) does this.
    pub fn drain(&self) {
        self.set(State::Draining);
    }

    /// Whether the service can do its job now.
    pub fn is_ready(&self) -> bool {
        self.state.borrow().is_ready()
    }

    /// Why it is not ready; empty when it is.
    pub fn reason(&self) -> String {
        match &*self.state.borrow() {
            State::Ready => String::new(),
            State::Unready(reason) => reason.clone(),
            State::Draining => "draining".to_owned(),
        }
    }

    /// Returns as soon as the service is ready. Never, if it drains before.
    pub async fn wait_ready(&self) {
        let mut states = self.subscribe();
        let ready = states.wait_for(State::is_ready).await;
        ready.expect("the sender lives as long as self");
    }

    /// The state and all that follow.
    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    fn set(&self, next: State) {
        self.state.send_if_modified(|state| {
            let changes = *state != State::Draining && *state != next;
            if changes {
                *state = next;
            }
            changes
        });
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_is_final() {
        let readiness = Readiness::new();
        assert_eq!((readiness.is_ready(), &*readiness.reason()), (false, "starting"));
        let other = readiness.clone();
        futures::join!(readiness.wait_ready(), async { other.ready() });
        assert_eq!((readiness.is_ready(), &*readiness.reason()), (true, ""));
        readiness.drain();
        other.ready();
        other.unready("loading");
        assert_eq!((other.is_ready(), &*other.reason()), (false, "draining"));
    }
}
