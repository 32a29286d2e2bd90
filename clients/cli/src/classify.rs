use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use easel_client::Label;
use serde::Serialize;

use crate::gateway::Target;
use crate::{Error, output};

/// Say which of the labels fits a picture best
#[derive(Args)]
#[command(after_help = "Example: easel classify photo.jpg 'a red circle' 'a blue square'")]
pub(crate) struct Classify {
    /// PNG, JPEG or WebP
    image: PathBuf,

    /// Labels, each in quotes when it has several words
    #[arg(value_name = "LABEL", required = true)]
    labels: Vec<String>,

    /// Write JSON instead of a table
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Serialize)]
struct Entry<'a> {
    label: &'a str,
    probability: f32,
    clip_score: f32,
    unknown_words: &'a [String],
    nearest_words: &'a [String],
}

impl<'a> From<&'a Label> for Entry<'a> {
    fn from(label: &'a Label) -> Self {
        Self {
            label: &label.label,
            probability: label.probability,
            clip_score: label.clip_score,
            unknown_words: &label.unknown_words,
            nearest_words: &label.nearest_words,
        }
    }
}

impl Classify {
    pub(crate) async fn run(self) -> Result<(), Error> {
        let image = std::fs::read(&self.image).map_err(|source| Error::Read { path: self.image.clone(), source })?;
        let gateway = self.target.open().await?;
        let labels = gateway.client.classify(image, self.labels).await?;
        warn(&labels);
        if self.json {
            output::print_json(&labels.iter().map(Entry::from).collect::<Vec<_>>())?;
        } else {
            let row = |l: &Label| {
                vec![format!("{:5.1} %", l.probability * 100.0), format!("{:6.3}", l.clip_score), l.label.clone()]
            };
            output::print(&output::table(&labels.iter().map(row).collect::<Vec<_>>()))?;
        }
        gateway.close().await
    }
}

/// Tells which words were not taught, each once.
fn warn(labels: &[Label]) {
    let words = |l: &Label| l.unknown_words.iter().cloned().zip(l.nearest_words.iter().cloned()).collect::<Vec<_>>();
    let found: BTreeMap<String, String> = labels.iter().flat_map(words).collect();
    let (words, nearest): (Vec<String>, Vec<String>) = found.into_iter().unzip();
    if !words.is_empty() {
        eprintln!("{}", output::visible(&output::untaught(&words, &nearest)));
    }
}
