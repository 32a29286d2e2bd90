use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use easel_proto::v1::Limits;

use crate::{Address, Error};

/// What else a message holds beside its largest field.
const MESSAGE_SLACK: usize = 1 << 20;
/// Beyond these a number is a mistake.
const MAX_CANDIDATES: u64 = 4096;
const MAX_REQUESTS: u64 = 65_536;
const MAX_TIMEOUT_SECONDS: u64 = 30 * 24 * 3600;

/// The gateway's options.
#[derive(Parser, Clone, Debug)]
#[command(name = "easel-gateway", version, about = "Conducts Easel's stages: a caption becomes ranked pictures")]
pub struct Config {
    /// Address to serve on, as HOST_IP:PORT
    #[arg(long, env = "EASEL_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:50050")]
    pub listen: SocketAddr,

    /// Addresses of the tokenizer, each as http://host:port
    #[arg(
        long,
        env = "EASEL_TOKENIZER_ADDRESSES",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:50051"
    )]
    pub tokenizer: Vec<Address>,

    /// Addresses of the sampler
    #[arg(
        long,
        env = "EASEL_SAMPLER_ADDRESSES",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:50052"
    )]
    pub sampler: Vec<Address>,

    /// Addresses of the decoder
    #[arg(
        long,
        env = "EASEL_DECODER_ADDRESSES",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:50053"
    )]
    pub decoder: Vec<Address>,

    /// Addresses of the ranker
    #[arg(
        long,
        env = "EASEL_RANKER_ADDRESSES",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:50054"
    )]
    pub ranker: Vec<Address>,

    /// Pictures that one request may ask for
    #[arg(long, env = "EASEL_GATEWAY_MAX_CANDIDATES", value_name = "N", default_value_t = 64)]
    pub max_candidates: u32,

    /// Length of a prompt or label in bytes
    #[arg(long, env = "EASEL_MAX_PROMPT_BYTES", value_name = "BYTES", default_value_t = 16 << 10)]
    pub max_prompt_bytes: u32,

    /// Size of an encoded picture in a request, in bytes
    #[arg(long, env = "EASEL_MAX_IMAGE_BYTES", value_name = "BYTES", default_value_t = 20 << 20)]
    pub max_image_bytes: u32,

    /// Width × height of a picture in a request
    #[arg(long, env = "EASEL_MAX_IMAGE_PIXELS", value_name = "PIXELS", default_value_t = 16_000_000)]
    pub max_image_pixels: u32,

    /// Labels to classify by, or texts or pictures to embed, in one request
    #[arg(long, env = "EASEL_MAX_LABELS", value_name = "N", default_value_t = 256)]
    pub max_labels: u32,

    /// Requests that may be in work at once; more are refused with RESOURCE_EXHAUSTED
    #[arg(long, env = "EASEL_GATEWAY_MAX_REQUESTS", value_name = "N", default_value_t = 128)]
    pub max_requests: u32,

    /// Time that a request has if its caller sets no deadline
    #[arg(long, env = "EASEL_DEFAULT_TIMEOUT_SECONDS", value_name = "SECONDS", default_value_t = 600)]
    pub default_timeout_seconds: u64,

    /// What every service has.
    #[command(flatten)]
    pub server: easel_server::Config,
}

impl Config {
    /// Says whether every option can work. Call it before a port is bound.
    ///
    /// # Errors
    /// [`Error::Server`] names the first option that cannot.
    pub fn validate(&self) -> Result<(), Error> {
        self.server.validate()?;
        let bounds = [
            ("max-candidates", self.max_candidates.into(), MAX_CANDIDATES),
            ("max-prompt-bytes", self.max_prompt_bytes.into(), u64::MAX),
            ("max-image-bytes", self.max_image_bytes.into(), u64::MAX),
            ("max-image-pixels", self.max_image_pixels.into(), u64::MAX),
            ("max-labels", self.max_labels.into(), u64::MAX),
            ("max-requests", self.max_requests.into(), MAX_REQUESTS),
            ("default-timeout-seconds", self.default_timeout_seconds, MAX_TIMEOUT_SECONDS),
        ];
        for (option, value, most) in bounds {
            if !(1..=most).contains(&value) {
                return Err(refuse(option, format!("expected 1 to {most}, found {value}")));
            }
        }
        let message = self.server.max_message_bytes().saturating_sub(MESSAGE_SLACK);
        if u64::from(self.max_image_pixels) * 3 > message as u64 {
            let reason = format!("{} pixels do not fit --max-message-mib", self.max_image_pixels);
            return Err(refuse("max-image-pixels", reason));
        }
        let stages = [
            ("tokenizer", &self.tokenizer),
            ("sampler", &self.sampler),
            ("decoder", &self.decoder),
            ("ranker", &self.ranker),
        ];
        match stages.into_iter().find(|(_, addresses)| addresses.is_empty()) {
            Some((option, _)) => Err(refuse(option, "expected an address".to_owned())),
            None => Ok(()),
        }
    }

    /// The bounds on a request, as clients are told of them.
    pub fn limits(&self) -> Limits {
        Limits {
            max_candidates: self.max_candidates,
            max_prompt_bytes: self.max_prompt_bytes,
            max_image_bytes: self.max_image_bytes,
            max_image_pixels: self.max_image_pixels,
            max_labels: self.max_labels,
        }
    }

    /// [`default_timeout_seconds`](Self::default_timeout_seconds) as a duration.
    pub fn default_timeout(&self) -> Duration {
        Duration::from_secs(self.default_timeout_seconds)
    }

    /// Size of a request that is read at all, in bytes: the largest picture and what stands beside it.
    pub fn max_request_bytes(&self) -> usize {
        (self.max_image_bytes as usize).saturating_add(MESSAGE_SLACK).min(self.server.max_message_bytes())
    }
}

fn refuse(option: &'static str, reason: String) -> Error {
    easel_server::Error::Config { option, reason }.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parse(arguments: &[&str]) -> Config {
        Config::try_parse_from(["easel-gateway"].iter().chain(arguments)).unwrap()
    }

    #[test]
    fn the_defaults_work() {
        let config = parse(&[]);
        config.validate().unwrap();
        assert_eq!(config.sampler[0].to_string(), "http://127.0.0.1:50052");
    }

    #[test]
    fn a_stage_has_several_addresses() {
        let config = parse(&["--sampler", "http://a:1,http://b:2", "--sampler", "http://c:3"]);
        assert_eq!(config.sampler.len(), 3);
    }

    #[test]
    fn an_option_that_cannot_work_is_named() {
        let wrong = [
            ("--max-candidates", "0"),
            ("--max-image-pixels", "4000000000"),
            ("--default-timeout-seconds", "18446744073709551615"),
            ("--trace-sample-ratio", "2"),
        ];
        for (flag, value) in wrong {
            let error = parse(&[flag, value]).validate().unwrap_err();
            assert!(error.to_string().contains(flag.trim_start_matches('-')), "{error}");
        }
    }
}
