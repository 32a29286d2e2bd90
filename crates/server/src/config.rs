//! Options that every service has: flag, environment variable, default and meaning in one place.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::Error;

const LOG: &str = "info";
const DRAIN_GRACE_SECONDS: u64 = 30;
const MAX_MESSAGE_MIB: usize = 64;
const TRACE_SAMPLE_RATIO: f64 = 1.0;

/// How log lines are written to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, with `trace_id` and `span_id` inside a traced call.
    Json,
}

/// What every service can be told about its operation. Flatten it into the service's own options.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(next_help_heading = "Operation")]
#[group(skip)]
pub struct Config {
    /// Address where Prometheus finds /metrics, as HOST_IP:PORT; none: not served
    #[arg(long, env = "EASEL_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,

    /// OTLP/gRPC collector for traces, metrics and logs, for example http://localhost:4317; none: nothing is exported
    #[arg(long, env = "EASEL_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// Form of the log lines on standard error
    #[arg(long, env = "EASEL_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// What is logged: a level, or directives such as info,easel_sampler=debug
    #[arg(long, env = "EASEL_LOG", value_name = "FILTER", default_value = LOG)]
    pub log: String,

    /// Share of the traces begun here that are recorded, 0 to 1; a caller's own decision is followed
    #[arg(long, env = "EASEL_TRACE_SAMPLE_RATIO", value_name = "RATIO", default_value_t = TRACE_SAMPLE_RATIO)]
    pub trace_sample_ratio: f64,

    /// Time that running calls have to finish after the signal to stop; then they are cut
    #[arg(long, env = "EASEL_DRAIN_GRACE_SECONDS", value_name = "SECONDS", default_value_t = DRAIN_GRACE_SECONDS)]
    pub drain_grace_seconds: u64,

    /// Largest message accepted or sent, in MiB
    #[arg(long, env = "EASEL_MAX_MESSAGE_MIB", value_name = "MIB", default_value_t = MAX_MESSAGE_MIB)]
    pub max_message_mib: usize,
}

impl Default for Config {
    /// What the command line gives when neither a flag nor a variable is set.
    fn default() -> Self {
        Self {
            metrics_listen: None,
            otlp_endpoint: None,
            log_format: LogFormat::default(),
            log: LOG.to_owned(),
            trace_sample_ratio: TRACE_SAMPLE_RATIO,
            drain_grace_seconds: DRAIN_GRACE_SECONDS,
            max_message_mib: MAX_MESSAGE_MIB,
        }
    }
}

impl Config {
    /// Says whether every option can work. Call it before a port is bound.
    ///
    /// # Errors
    /// [`Error::Config`] names the first option that cannot.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |option, reason: String| Err(Error::Config { option, reason });
        if let Some(endpoint) = &self.otlp_endpoint {
            match endpoint.parse::<http::Uri>() {
                Ok(uri) if uri.scheme_str() == Some("http") && uri.host().is_some() => {}
                Ok(_) => return refuse("otlp-endpoint", format!("{endpoint} is not an http:// URL")),
                Err(error) => return refuse("otlp-endpoint", error.to_string()),
            }
        }
        if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&self.log) {
            return refuse("log", error.to_string());
        }
        if !(0.0..=1.0).contains(&self.trace_sample_ratio) {
            let reason = format!("{} is not between 0 and 1", self.trace_sample_ratio);
            return refuse("trace-sample-ratio", reason);
        }
        // A frame's length field has 32 bits.
        if !(1..4096).contains(&self.max_message_mib) {
            let reason = format!("{} is not between 1 and 4095", self.max_message_mib);
            return refuse("max-message-mib", reason);
        }
        Ok(())
    }

    /// [`max_message_mib`](Self::max_message_mib) in bytes: for `max_decoding_message_size` and
    /// `max_encoding_message_size` of every generated server and client.
    pub fn max_message_bytes(&self) -> usize {
        self.max_message_mib << 20
    }

    /// [`drain_grace_seconds`](Self::drain_grace_seconds) as a duration.
    pub fn drain_grace(&self) -> Duration {
        Duration::from_secs(self.drain_grace_seconds)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn the_default_is_what_the_command_line_gives() {
        let Only { config } = Only::parse_from(["test"]);
        assert_eq!(config, Config::default());
        assert!(config.validate().is_ok());
    }

    #[test]
    fn flags_are_read() {
        let flags =
            "test --metrics-listen 127.0.0.1:9090 --log-format json --max-message-mib 8 --drain-grace-seconds 2";
        let Only { config } = Only::parse_from(flags.split(' '));
        assert_eq!(config.log_format, LogFormat::Json);
        assert_eq!(config.max_message_bytes(), 8 << 20);
        assert_eq!(config.drain_grace(), Duration::from_secs(2));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let good = Config::default;
        let bad = [
            ("otlp-endpoint", Config { otlp_endpoint: Some("collector:4317".to_owned()), ..good() }),
            ("log", Config { log: "sampler=loud".to_owned(), ..good() }),
            ("trace-sample-ratio", Config { trace_sample_ratio: f64::NAN, ..good() }),
            ("max-message-mib", Config { max_message_mib: 0, ..good() }),
        ];
        for (flag, config) in bad {
            let refused = config.validate();
            assert!(matches!(refused, Err(Error::Config { option, .. }) if option == flag), "{refused:?}");
        }
    }
}
