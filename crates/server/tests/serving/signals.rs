//! SIGTERM and SIGINT end a service.

use std::process::Command;

use easel_server::{Error, serve};

use crate::support::within;

#[tokio::test]
async fn a_signal_before_anybody_waits_is_not_lost() -> Result<(), Error> {
    for signal in ["TERM", "INT"] {
        let shutdown = serve::shutdown_signal()?;
        let this = std::process::id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &this]).status();
        assert!(sent.is_ok_and(|status| status.success()));
        within(shutdown).await;
    }
    Ok(())
}
