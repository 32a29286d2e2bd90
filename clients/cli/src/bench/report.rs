//! What was measured.

use std::collections::BTreeMap;
use std::time::Duration;

use easel_client::Code;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::{Error, error, output};

/// The longest time that is told apart, in microseconds: a day.
const LONGEST: u64 = 24 * 3600 * 1_000_000;
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)];

/// A request that went well.
pub(super) struct Sample {
    pub(super) total: Duration,
    pub(super) first_token: Option<Duration>,
    pub(super) first_preview: Option<Duration>,
    pub(super) pictures: u64,
    pub(super) tokens: u64,
}

/// A request that failed.
pub(super) struct Failure {
    /// The code's name.
    code: String,
    message: String,
}

impl Failure {
    pub(super) fn new(error: easel_client::Error) -> Self {
        let code = error::name(error.code().unwrap_or(Code::Unknown));
        let line = Error::from(error).line();
        let message = line.strip_prefix(&format!("{code}: ")).map(str::to_owned);
        Self { code, message: message.unwrap_or(line) }
    }
}

/// Failures of one code.
struct Failures {
    count: u64,
    /// Of the first.
    message: String,
}

/// All requests.
pub(super) struct Report {
    requests: u64,
    concurrency: u32,
    candidates: u32,
    elapsed: Duration,
    pictures: u64,
    tokens: u64,
    total: Times,
    first_token: Times,
    first_preview: Times,
    errors: BTreeMap<String, Failures>,
}

/// Durations of one kind.
struct Times(Histogram<u64>);

impl Times {
    fn new() -> Self {
        Self(Histogram::new_with_max(LONGEST, 3).expect("the bounds are good"))
    }

    fn add(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(LONGEST));
    }

    fn seconds(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e6
    }

    fn to_json(&self) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        let mut value = json!({"count": self.0.len(), "mean": self.0.mean() / 1e6, "max": self.0.max() as f64 / 1e6});
        for (name, quantile) in QUANTILES {
            value[name] = self.seconds(quantile).into();
        }
        value
    }

    fn to_row(&self, name: &str) -> Vec<String> {
        let times = QUANTILES.iter().map(|(_, quantile)| match self.0.is_empty() {
            true => "-".to_owned(),
            false => format!("{:.3}", self.seconds(*quantile)),
        });
        std::iter::once(name.to_owned()).chain(times).collect()
    }
}

impl Report {
    pub(super) fn new(requests: u64, concurrency: u32, candidates: u32) -> Self {
        Self {
            requests,
            concurrency,
            candidates,
            elapsed: Duration::ZERO,
            pictures: 0,
            tokens: 0,
            total: Times::new(),
            first_token: Times::new(),
            first_preview: Times::new(),
            errors: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, sample: Result<Sample, Failure>) {
        match sample {
            Ok(sample) => {
                self.pictures += sample.pictures;
                self.tokens += sample.tokens;
                self.total.add(sample.total);
                sample.first_token.into_iter().for_each(|time| self.first_token.add(time));
                sample.first_preview.into_iter().for_each(|time| self.first_preview.add(time));
            }
            Err(Failure { code, message }) => {
                self.errors.entry(code).or_insert(Failures { count: 0, message }).count += 1;
            }
        }
    }

    pub(super) fn end(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
    }

    /// An error when any request failed.
    pub(super) fn verdict(&self) -> Result<(), Error> {
        let failed: u64 = self.errors.values().map(|failures| failures.count).sum();
        match failed {
            0 => Ok(()),
            _ => Err(Error::Failed(format!("{failed} of {} failed", output::count(self.requests as usize, "request")))),
        }
    }

    fn rate(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    pub(super) fn to_json(&self) -> Value {
        let counts: BTreeMap<_, _> = self.errors.iter().map(|(code, failures)| (code, failures.count)).collect();
        let messages: BTreeMap<_, _> = self.errors.iter().map(|(code, failures)| (code, &failures.message)).collect();
        json!({
            "requests": self.requests,
            "concurrency": self.concurrency,
            "candidates": self.candidates,
            "succeeded": self.total.0.len(),
            "errors": counts,
            "error_messages": messages,
            "seconds": self.elapsed.as_secs_f64(),
            "requests_per_second": self.rate(self.total.0.len()),
            "pictures_per_second": self.rate(self.pictures),
            "tokens_per_second": self.rate(self.tokens),
            "latency_seconds": self.total.to_json(),
            "first_token_seconds": self.first_token.to_json(),
            "first_preview_seconds": self.first_preview.to_json(),
        })
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = format!(
            "{} of {} of {}, {} at once, in {:.2} s: {:.2} requests, {:.2} pictures, {:.0} tokens per second\n",
            self.total.0.len(),
            output::count(self.requests as usize, "request"),
            output::count(self.candidates as usize, "picture"),
            self.concurrency,
            self.elapsed.as_secs_f64(),
            self.rate(self.total.0.len()),
            self.rate(self.pictures),
            self.rate(self.tokens),
        );
        let head = std::iter::once("seconds to").chain(QUANTILES.iter().map(|(name, _)| *name));
        let rows = [
            head.map(str::to_owned).collect(),
            self.first_token.to_row("first token"),
            self.first_preview.to_row("first preview"),
            self.total.to_row("the end"),
        ];
        text.push_str(&output::table(&rows));
        for (code, Failures { count, message }) in &self.errors {
            text.push_str(&format!("{code}: {count}, the first: {message}\n"));
        }
        text
    }
}
