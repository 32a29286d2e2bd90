//! Connections that can be closed from the server's side, whatever their clients do.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

pin_project! {
    /// A connection that breaks when a token is cancelled: tonic's connections are tasks of their own, which would
    /// outlive the server, with the handlers of calls whose clients do not read.
    pub(crate) struct Connection {
        #[pin]
        stream: TcpStream,
        broken: Pin<Box<WaitForCancellationFutureOwned>>,
        is_broken: bool,
    }
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, broken: CancellationToken) -> Self {
        Self { stream, broken: Box::pin(broken.cancelled_owned()), is_broken: false }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        // HTTP/2 always has a read under way: this is where the token wakes the connection.
        *this.is_broken = *this.is_broken || this.broken.as_mut().poll(cx).is_ready();
        if *this.is_broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        this.stream.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}
