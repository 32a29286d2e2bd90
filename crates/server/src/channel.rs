//! The client's side of the transport: the same HTTP/2 settings as the servers'.

use std::time::Duration;

use tonic::transport::Endpoint;

use crate::Error;

/// Bytes that a peer may send on one stream before it is told to go on: 1 MiB.
pub const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes that a peer may send on one connection before it is told to go on: 64 MiB.
///
/// A gateway has one connection to a stage for all its callers. This many bytes can lie unread in memory for each connection, no more; it takes 64
/// streams that nobody reads, each with its own window full, until the other streams of the connection wait.
pub const CONNECTION_WINDOW: u32 = 64 * STREAM_WINDOW;
/// Silence after which a peer is asked whether it lives.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long it has to answer.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach the service at `uri` ("http://host:port"): keep-alive, windows, connect time-out, no Nagle.
///
/// # Errors
/// [`Error::Uri`] when `uri` is none.
pub fn endpoint(uri: impl Into<String>) -> Result<Endpoint, Error> {
    let uri = uri.into();
    let endpoint = Endpoint::from_shared(uri.clone()).map_err(|source| Error::Uri { uri, source })?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_adaptive_window(false))
}
