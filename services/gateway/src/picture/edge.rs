//! The codecs' work off the async threads, bounded in number and in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use easel_proto::v1::{EncodedImage, Picture};
use easel_server::status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::decode::{self, Bounds};
use super::encode::{self, Encoding};

/// Raw pixels of incoming pictures that are held at once, in KiB.
const HELD_KIB: u32 = 512 << 10;

/// When a caller whose picture found no room may come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The codecs, shared by all requests.
pub(crate) struct Edge {
    // One for each processor: the codecs never wait, so more of them would only take longer each.
    processors: Arc<Semaphore>,
    held: Arc<Semaphore>,
    bounds: Bounds,
}

/// A picture that came in: its room is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The pixels.
    pub(crate) picture: Picture,
    _room: OwnedSemaphorePermit,
}

impl Edge {
    /// Codecs that take pictures within `bounds`.
    pub(crate) fn new(bounds: Bounds) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            processors: Arc::new(Semaphore::new(processors)),
            held: Arc::new(Semaphore::new(HELD_KIB as usize)),
            bounds,
        }
    }

    /// Decodes the picture in `field`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT that names `field`; RESOURCE_EXHAUSTED when too many large pictures are in work.
    pub(crate) async fn decode(&self, bytes: Vec<u8>, field: &str) -> Result<Decoded, Status> {
        let bounds = self.bounds;
        let refuse = |refusal: decode::Refusal| status::invalid(field, refusal.to_string());
        let bytes = Bytes::from(bytes);
        let header = bytes.clone();
        let (width, height) = self.work(move || decode::inspect(&header, bounds)).await?.map_err(refuse)?;
        let kib = (u64::from(width) * u64::from(height) * 3).div_ceil(1024).min(HELD_KIB.into()) as u32;
        let room = self.held.clone().try_acquire_many_owned(kib);
        let room = room.map_err(|_| status::exhausted("too many large pictures are in work", RETRY_AFTER))?;
        let picture = self.work(move || decode::decode(&bytes, bounds)).await?.map_err(refuse)?;
        Ok(Decoded { picture, _room: room })
    }

    /// Encodes a picture that goes out.
    ///
    /// # Errors
    /// INTERNAL when the format cannot hold it.
    pub(crate) async fn encode(&self, picture: Picture, encoding: Encoding) -> Result<EncodedImage, Status> {
        self.work(move || encode::encode(&picture, encoding)).await?.map_err(|error| status::internal(&error))
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        let processor = self.processors.clone().acquire_owned().await.expect("the semaphore is never closed");
        let done = tokio::task::spawn_blocking(move || {
            let _processor = processor;
            work()
        });
        // A codec that panics on what came from outside takes its own request down, no more.
        done.await.map_err(|error| status::internal(&error))
    }
}
