use std::path::PathBuf;

use crate::Process;

/// What a suite is started with.
#[derive(Clone, Default)]
pub struct Options {
    /// The model; the tiny one when empty.
    pub package: Option<PathBuf>,
    /// More arguments for the sampler.
    pub sampler: Vec<String>,
    /// More arguments for the gateway.
    pub gateway: Vec<String>,
    /// More arguments for all five.
    pub all: Vec<String>,
}

/// Five services, a process each.
pub struct Suite {
    /// Captions to text tokens.
    pub tokenizer: Process,
    /// Text tokens to image tokens.
    pub sampler: Process,
    /// Image tokens to pixels.
    pub decoder: Process,
    /// Pixels to scores.
    pub ranker: Process,
    /// The conductor.
    pub gateway: Process,
}

impl Suite {
    /// Starts the five and returns once the gateway says that it serves.
    pub async fn start(options: Options) -> Self {
        let package = options.package.clone().unwrap_or_else(|| crate::tiny().to_owned());
        let with = |more: &[String]| {
            let mut arguments = vec!["--package".to_owned(), package.display().to_string()];
            arguments.extend_from_slice(&options.all);
            arguments.extend_from_slice(more);
            arguments
        };
        let one_thread = ["--threads".to_owned(), "1".to_owned()];
        let tokenizer = Process::start("tokenizer", with(&[]));
        let sampler = Process::start("sampler", with(&[&options.sampler[..], &one_thread].concat()));
        let decoder = Process::start("decoder", with(&one_thread));
        let ranker = Process::start("ranker", with(&one_thread));
        let mut stages = options.all.clone();
        for process in [&tokenizer, &sampler, &decoder, &ranker] {
            stages.extend([format!("--{}", process.name()), process.url()]);
        }
        stages.extend_from_slice(&options.gateway);
        let gateway = Process::start("gateway", stages);
        let mut suite = Self { tokenizer, sampler, decoder, ranker, gateway };
        for process in suite.processes() {
            process.ready().await;
        }
        suite
    }

    /// All five, the gateway last.
    pub fn processes(&mut self) -> [&mut Process; 5] {
        [&mut self.tokenizer, &mut self.sampler, &mut self.decoder, &mut self.ranker, &mut self.gateway]
    }
}
