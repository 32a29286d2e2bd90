use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use easel_client::{Client, Event, Generate};
use futures::StreamExt;

use crate::gateway::Running;
use crate::{Error, output, progress};

mod engine;
mod report;

use report::{Failure, Report, Sample};

/// Put load on a running gateway and measure: rate, latencies, errors by code
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) what: Option<What>,

    /// Requests in all
    #[arg(long, value_name = "N", default_value_t = 16, allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,

    /// Requests at once; each one that ends is followed by the next
    #[arg(long, value_name = "N", default_value_t = 4, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=4096))]
    concurrency: u32,

    /// Pictures per request
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    candidates: u32,

    /// Caption; several are taken in turns. Left out: the examples of the package
    #[arg(long)]
    prompt: Vec<String>,

    /// Seed of the first request; the next ones go on from there
    #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
    seed: u64,

    /// Time that a request has
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0, allow_negative_numbers = true)]
    timeout_seconds: f64,

    /// Write JSON instead of a table
    #[arg(long)]
    json: bool,

    /// Package to draw with; left out, the gateway's default
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    package: String,

    #[command(flatten)]
    pub(crate) gateway: Running,
}

/// What is measured instead of a gateway.
#[derive(Subcommand)]
pub(crate) enum What {
    Engine(Box<engine::Engine>),
}

impl Bench {
    pub(crate) async fn run(self) -> Result<(), Error> {
        let timeout = crate::gateway::timeout(self.timeout_seconds)?;
        let client = self.gateway.connect().await?.with_package(&self.package).with_timeout(timeout);
        let prompts = self.prompts(&client).await?;

        let bar = progress::bar("requests", self.requests);
        let begin = Instant::now();
        let requests = (0..self.requests).map(|i| {
            let prompt = &prompts[(i % prompts.len() as u64) as usize];
            let seed = self.seed.wrapping_add(i.wrapping_mul(self.candidates.into()));
            let request = Generate::prompt(prompt).candidates(self.candidates).seed(seed);
            measure(&client, request)
        });
        let mut samples = futures::stream::iter(requests).buffer_unordered(self.concurrency as usize);
        let mut report = Report::new(self.requests, self.concurrency, self.candidates);
        while let Some(sample) = samples.next().await {
            report.add(sample);
            bar.inc(1);
        }
        drop(samples);
        report.end(begin.elapsed());
        bar.finish_and_clear();

        if self.json {
            output::print_json(&report.to_json())?
        } else {
            output::print(&report.to_text())?
        }
        report.verdict()
    }

    async fn prompts(&self, client: &Client) -> Result<Vec<String>, Error> {
        if !self.prompt.is_empty() {
            return Ok(self.prompt.clone());
        }
        let examples = client.package(&self.package).await?.examples;
        match examples.is_empty() {
            true => Err(Error::Usage("the package has no examples: name a caption with --prompt".to_owned())),
            false => Ok(examples),
        }
    }
}

/// One request, from its call to its last event.
async fn measure(client: &Client, request: Generate) -> Result<Sample, Failure> {
    let begin = Instant::now();
    let sample = async {
        let mut generation = client.generate(request).await?;
        let (mut first_token, mut first_preview) = (None::<Duration>, None::<Duration>);
        while let Some(event) = generation.event().await? {
            let first = match event {
                Event::Progress(_) => &mut first_token,
                Event::Preview(_) => &mut first_preview,
                _ => continue,
            };
            first.get_or_insert_with(|| begin.elapsed());
        }
        let outcome = generation.finish().await?;
        let (pictures, tokens) = (outcome.pictures.len() as u64, outcome.finished.tokens_drawn.into());
        Ok(Sample { total: begin.elapsed(), first_token, first_preview, pictures, tokens })
    };
    sample.await.map_err(|error: easel_client::Error| Failure::new(error))
}
