use clap::Args;
use easel_server::{serve, telemetry};

use crate::Error;

/// Run all five services in the foreground; SIGTERM and SIGINT let running requests finish
#[derive(Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    config: easel_standalone::Config,
}

impl Serve {
    pub(crate) async fn run(self) -> Result<(), Error> {
        let stop = serve::shutdown_signal()?;
        let telemetry = telemetry::init("standalone", &self.config.server)?;
        let result = easel_standalone::run(self.config, stop).await;
        telemetry.shutdown();
        Ok(result?)
    }
}
