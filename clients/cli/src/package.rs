use std::path::PathBuf;

use clap::{Args, Subcommand};
use easel_package::{CUDA_CONTRACT, Manifest};
use serde_json::json;

use crate::{Error, output};

/// Look into the folder of a model package
#[derive(Args)]
pub(crate) struct Package {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Hold every file against the manifest
    Check {
        /// Folder of the package
        dir: PathBuf,
    },
    /// Tell what the manifest says
    Show {
        /// Folder of the package
        dir: PathBuf,

        /// Write the manifest and its digest as JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

impl Package {
    pub(crate) fn run(self) -> Result<(), Error> {
        match self.command {
            Command::Check { dir } => {
                let package = easel_package::Package::open(dir)?;
                package.verify()?;
                let (manifest, digest) = (package.manifest(), package.digest());
                let files = output::count(manifest.files.len(), "file");
                output::print(&format!(
                    "{} {}: {files} as the manifest says\n{digest}\n",
                    manifest.name, manifest.version
                ))
            }
            Command::Show { dir, json } => {
                let package = easel_package::Package::open(dir)?;
                if json {
                    return output::print_json(&json!({"digest": package.digest(), "manifest": package.manifest()}));
                }
                output::print(&text(package.manifest(), package.digest()))
            }
        }
    }
}

fn text(m: &Manifest, digest: &str) -> String {
    let (grid, attention, sampling) = (m.grid, m.sampler.attention, m.sampling);
    let mut rows: Vec<Vec<String>> = [
        ("license", m.license.clone()),
        ("family", m.family.clone()),
        ("digest", digest.to_owned()),
        ("pictures", format!("{} × {} pixels", m.image.width, m.image.height)),
        ("tokens", format!("{} × {} of {}", grid.rows, grid.columns, m.codebook)),
        ("captions", format!("{} tokens of {}", m.text.length, m.text.vocabulary)),
        ("attention", format!("{} layers, {} heads of {}", attention.layers, attention.heads, attention.head_width)),
        ("device", if m.sampler.contract == CUDA_CONTRACT { "CUDA" } else { "CPU" }.to_owned()),
        ("guidance", if m.guidance.is_some() { "yes" } else { "no" }.to_owned()),
        ("encoder", if m.encoder.is_some() { "yes" } else { "no" }.to_owned()),
        ("ranker", m.ranker.as_ref().map_or("no".to_owned(), |r| format!("CLIP, {} wide", r.embedding_width))),
        (
            "defaults",
            format!(
                "--temperature {} --top-k {} --top-p {} --guidance {}",
                sampling.temperature, sampling.top_k, sampling.top_p, sampling.guidance_scale
            ),
        ),
    ]
    .map(|(name, value)| vec![format!("  {name}"), value])
    .to_vec();
    rows.extend(m.provenance.iter().map(|(key, value)| vec![format!("  {key}"), value.clone()]));
    rows.extend(m.examples.iter().map(|example| vec!["  example".to_owned(), format!("\"{example}\"")]));
    rows.extend(m.files.iter().map(|(name, file)| vec![format!("  {name}"), output::bytes(file.bytes)]));
    format!("{} {}\n{}\n{}", m.name, m.version, m.description, output::table(&rows))
}
