//! The replicas of one stage: found by name, picked by load, tried again elsewhere when one is lost.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use easel_server::{Deadline, channel};
use tokio::time::{Instant, timeout};
use tonic::Status;
use tonic::transport::Channel;

use super::Stage;
use crate::{Address, fault, seeds};

/// How long a connection may take. Stages are near; a caller wants to know soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a name may take to resolve.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Lookups that callers cause are at least this far apart.
const LOOKUP_PAUSE: Duration = Duration::from_millis(250);
/// Replicas that one call may try.
const MAX_TRIES: usize = 3;
/// How long a call goes on trying replicas that it has tried already.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longest first pause between two tries; the next one may be twice as long.
const BACKOFF: Duration = Duration::from_millis(50);

/// Bytes that a stage may send on one stream before they are read.
const STREAM_WINDOW: u32 = 256 << 10;
/// HTTP/2's largest window.
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// Bytes that a stage may send on one connection before they are read: enough for all streams of `requests` requests,
/// so that one whose caller does not read takes nothing from the others.
fn connection_window(requests: u32) -> u32 {
    requests.saturating_add(16).saturating_mul(STREAM_WINDOW).min(MAX_WINDOW)
}

/// A replica's health was not checked yet.
const UNKNOWN: u8 = 0;
/// A replica served when its health was last checked.
const SERVES: u8 = 1;
/// A replica did not.
const LOST: u8 = 2;

/// One replica.
#[derive(Debug)]
pub(crate) struct Replica {
    /// Where it is.
    pub(crate) at: SocketAddr,
    // Which of the configured addresses stands for it.
    address: usize,
    channel: Channel,
    calls: AtomicUsize,
    suspect: AtomicBool,
    // What the last check of its health found: UNKNOWN, SERVES or LOST.
    last: AtomicU8,
}

impl Replica {
    fn new(at: SocketAddr, index: usize, address: &Address, requests: u32) -> Result<Self, easel_server::Error> {
        let mut endpoint = channel::endpoint(format!("http://{at}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(connection_window(requests));
        if let Ok(origin) = address.to_string().parse() {
            endpoint = endpoint.origin(origin);
        }
        let channel = endpoint.connect_lazy();
        let (suspect, last) = (AtomicBool::new(false), AtomicU8::new(UNKNOWN));
        Ok(Self { at, address: index, channel, calls: AtomicUsize::new(0), suspect, last })
    }

    /// How to call it.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Whether it answered last time, or not: one that did not is tried last.
    pub(crate) fn answered(&self, well: bool) {
        self.suspect.store(!well, Ordering::Relaxed);
    }

    /// What a check of its health found, remembered for when one is picked; a change is logged.
    pub(crate) fn checked(&self, stage: Stage, health: &Result<(), String>) {
        self.answered(health.is_ok());
        let now = if health.is_ok() { SERVES } else { LOST };
        match (self.last.swap(now, Ordering::Relaxed), health) {
            (SERVES, Err(reason)) => tracing::warn!(%stage, address = %self.at, reason, "a replica is lost"),
            (UNKNOWN, Err(reason)) => {
                tracing::info!(%stage, address = %self.at, reason, "a replica does not serve yet")
            }
            (LOST, Ok(())) => tracing::info!(%stage, address = %self.at, "a replica serves again"),
            _ => {}
        }
    }
}

/// A call in flight: counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Replica>);

impl Lease {
    fn new(replica: &Arc<Replica>) -> Self {
        replica.calls.fetch_add(1, Ordering::Relaxed);
        Self(replica.clone())
    }

    /// The replica that is called.
    pub(crate) fn replica(&self) -> &Replica {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The replicas of one stage.
pub(crate) struct Pool {
    /// Which stage.
    pub(crate) stage: Stage,
    addresses: Vec<Address>,
    requests: u32,
    replicas: RwLock<Vec<Arc<Replica>>>,
    turn: AtomicUsize,
    looked_up: tokio::sync::Mutex<Option<Instant>>,
}

impl Pool {
    /// The replicas behind `addresses`, to be looked up; at most `requests` requests will use them at once.
    pub(crate) fn new(stage: Stage, addresses: Vec<Address>, requests: u32) -> Self {
        let looked_up = tokio::sync::Mutex::new(None);
        Self { stage, addresses, requests, replicas: RwLock::default(), turn: AtomicUsize::new(0), looked_up }
    }

    /// The addresses as configured.
    pub(crate) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The replicas that are known.
    pub(crate) fn replicas(&self) -> Vec<Arc<Replica>> {
        self.replicas.read().expect("no one panics with it").clone()
    }

    /// The replicas that stand behind the configured address number `index`.
    pub(crate) fn replicas_of(&self, index: usize) -> Vec<Arc<Replica>> {
        self.replicas().into_iter().filter(|replica| replica.address == index).collect()
    }

    /// Looks the host names up. Replicas that are still there keep their connections; a name that does not resolve
    /// for now keeps those it had.
    pub(crate) async fn resolve(&self) {
        let mut looked_up = self.looked_up.lock().await;
        let known = self.replicas();
        if !known.is_empty() && !self.addresses.iter().any(Address::is_name) {
            return;
        }
        let mut found: Vec<Arc<Replica>> = Vec::new();
        for (index, address) in self.addresses.iter().enumerate() {
            let old = known.iter().filter(|replica| replica.address == index);
            let replicas = match self.look_up(address).await {
                Some(all) => all.into_iter().filter_map(|at| self.replica(at, index, &known)).collect(),
                None => old.cloned().collect::<Vec<_>>(),
            };
            for replica in replicas {
                if found.iter().all(|other| other.at != replica.at) {
                    found.push(replica);
                }
            }
        }
        *self.replicas.write().expect("no one panics with it") = found;
        *looked_up = Some(Instant::now());
    }

    async fn look_up(&self, address: &Address) -> Option<Vec<SocketAddr>> {
        let lookup = tokio::net::lookup_host((address.host(), address.port()));
        match timeout(LOOKUP_TIMEOUT, lookup).await {
            Ok(Ok(found)) => Some(found.collect()),
            Ok(Err(error)) => {
                tracing::warn!(stage = %self.stage, %address, %error, "a name does not resolve");
                None
            }
            Err(_) => {
                tracing::warn!(stage = %self.stage, %address, "a name takes too long to resolve");
                None
            }
        }
    }

    fn replica(&self, at: SocketAddr, index: usize, known: &[Arc<Replica>]) -> Option<Arc<Replica>> {
        if let Some(replica) = known.iter().find(|replica| replica.at == at) {
            return Some(replica.clone());
        }
        match Replica::new(at, index, &self.addresses[index], self.requests) {
            Ok(replica) => Some(Arc::new(replica)),
            Err(error) => {
                tracing::error!(stage = %self.stage, %at, error = &error as &dyn std::error::Error, "an address is unusable");
                None
            }
        }
    }

    /// The replica to call: not tried yet, not suspect, with the fewest calls in flight, in turns.
    fn pick(&self, tried: &[SocketAddr]) -> Option<Lease> {
        let replicas = self.replicas.read().expect("no one panics with it");
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = replicas.len();
        let in_turn = (0..count).map(|i| &replicas[turn.wrapping_add(i) % count]);
        let cost = |replica: &&Arc<Replica>| {
            let suspect = replica.suspect.load(Ordering::Relaxed);
            (tried.contains(&replica.at), suspect, replica.calls.load(Ordering::Relaxed))
        };
        in_turn.min_by_key(cost).map(Lease::new)
    }

    async fn lease(&self, tried: &[SocketAddr]) -> Result<Lease, Status> {
        if let Some(lease) = self.pick(tried) {
            return Ok(lease);
        }
        let last = *self.looked_up.lock().await;
        if last.is_none_or(|last| last.elapsed() > LOOKUP_PAUSE) {
            self.resolve().await;
        }
        self.pick(tried).ok_or_else(|| fault::unresolved(self.stage))
    }

    /// Calls a replica, and others while those called cannot be reached. `call` gives an answer or fails; it is given
    /// up at `deadline`. Whoever calls must not have seen any output of a `call` that fails.
    pub(crate) async fn call<T, C, F>(&self, deadline: Deadline, call: C) -> Result<(T, Lease), Status>
    where
        C: Fn(Channel) -> F,
        F: Future<Output = Result<T, Status>>,
    {
        let began = Instant::now();
        let mut tried = Vec::new();
        loop {
            let lease = self.lease(&tried).await?;
            let answer = tokio::time::timeout_at(deadline.0, call(lease.replica().channel())).await;
            let Ok(answer) = answer else {
                return Err(fault::late(self.stage));
            };
            let failure = match answer {
                Ok(answer) => {
                    lease.replica().answered(true);
                    return Ok((answer, lease));
                }
                Err(failure) => failure,
            };
            let lost = fault::is_unavailable(&failure);
            lease.replica().answered(!lost);
            tried.push(lease.replica().at);
            drop(lease);
            if !lost || !self.may_try_again(&tried, began, deadline) {
                return Err(fault::told(self.stage, failure, deadline));
            }
            tracing::debug!(stage = %self.stage, error = %failure, "trying another replica");
            tokio::time::sleep(pause(tried.len())).await;
        }
    }

    fn may_try_again(&self, tried: &[SocketAddr], began: Instant, deadline: Deadline) -> bool {
        let fresh = self.replicas().iter().any(|replica| !tried.contains(&replica.at));
        tried.len() < MAX_TRIES && !deadline.is_past() && (fresh || began.elapsed() < PATIENCE)
    }
}

/// The pause after try number `tries`: between half of its bound and all of it.
fn pause(tries: usize) -> Duration {
    let bound = BACKOFF * (1 << tries.min(MAX_TRIES)) / 2;
    let share = (seeds::random() % 1024) as u32;
    bound / 2 + bound / 2 * share / 1024
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    async fn pool(addresses: &[&str]) -> Pool {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let pool = Pool::new(Stage::Sampler, addresses, 1);
        pool.resolve().await;
        pool
    }

    fn ports(leases: &[Lease]) -> Vec<u16> {
        let mut ports: Vec<u16> = leases.iter().map(|lease| lease.replica().at.port()).collect();
        ports.sort_unstable();
        ports
    }

    #[tokio::test]
    async fn the_idlest_replica_is_picked_and_ties_go_in_turns() {
        let pool = pool(&["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"]).await;
        let leases: Vec<Lease> = (0..3).map(|_| pool.pick(&[]).unwrap()).collect();
        assert_eq!(ports(&leases), [1, 2, 3]);
        drop(leases);
        let taken: Vec<u16> = (0..3).map(|_| pool.pick(&[]).unwrap().replica().at.port()).collect();
        assert_ne!(taken[0], taken[1]);
    }

    #[tokio::test]
    async fn a_suspect_is_picked_last_and_one_tried_already_after_it() {
        let pool = pool(&["http://127.0.0.1:1", "http://127.0.0.1:2"]).await;
        let first = pool.pick(&[]).unwrap();
        first.replica().answered(false);
        let busy: Vec<Lease> = (0..5).map(|_| pool.pick(&[]).unwrap()).collect();
        assert!(busy.iter().all(|lease| lease.replica().at != first.replica().at));
        let other = busy[0].replica().at;
        assert_eq!(pool.pick(&[other]).unwrap().replica().at, first.replica().at);
    }

    #[tokio::test]
    async fn a_name_stands_for_its_addresses() {
        let pool = pool(&["http://localhost:7"]).await;
        let before = pool.replicas();
        assert!(!before.is_empty());
        pool.resolve().await;
        assert!(Arc::ptr_eq(&before[0], &pool.replicas()[0]), "connections outlive a lookup");
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_unavailable() {
        let pool = pool(&["http://nowhere.invalid:7"]).await;
        let error = pool.lease(&[]).await.unwrap_err();
        assert!(error.message().starts_with("sampler is unavailable"), "{error}");
    }

    #[test]
    fn pauses_grow_and_stay_short() {
        assert!(pause(1) <= BACKOFF);
        assert!(pause(2) >= BACKOFF / 2 && pause(2) <= BACKOFF * 2);
    }
}
