use clap::Args;
use easel_client::Package;
use serde_json::{Value, json};

use crate::gateway::Target;
use crate::{Error, output};

/// List the packages that can be drawn with, the default first
#[derive(Args)]
pub(crate) struct Packages {
    /// Write JSON instead of text
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pub(crate) target: Target,
}

impl Packages {
    pub(crate) async fn run(self) -> Result<(), Error> {
        let gateway = self.target.open().await?;
        let packages = gateway.client.packages().await?;
        if self.json {
            output::print_json(&packages.iter().map(to_json).collect::<Vec<_>>())?;
        } else {
            output::print(&packages.iter().map(to_text).collect::<Vec<_>>().join("\n"))?;
        }
        gateway.close().await
    }
}

fn to_json(package: &Package) -> Value {
    let grid = package.grid.unwrap_or_default();
    let defaults = package.defaults.unwrap_or_default();
    let limits = package.limits.unwrap_or_default();
    json!({
        "name": package.name,
        "version": package.version,
        "digest": package.digest,
        "family": package.family,
        "license": package.license,
        "description": package.description,
        "grid": {"rows": grid.rows, "columns": grid.columns},
        "image": {"width": package.image_width, "height": package.image_height},
        "codebook_size": package.codebook_size,
        "text_length": package.text_length,
        "text_vocabulary_size": package.text_vocabulary_size,
        "defaults": {
            "temperature": number(defaults.temperature), "top_k": defaults.top_k,
            "top_p": number(defaults.top_p), "guidance_scale": number(defaults.guidance_scale),
        },
        "examples": package.examples,
        "guidance": package.guidance,
        "image_prompts": package.image_prompts,
        "ranking": package.ranking,
        "limits": {
            "max_candidates": limits.max_candidates, "max_prompt_bytes": limits.max_prompt_bytes,
            "max_image_bytes": limits.max_image_bytes, "max_image_pixels": limits.max_image_pixels,
            "max_labels": limits.max_labels,
        },
    })
}

/// With the digits that tell it from other 32-bit floats, and no more.
fn number(value: Option<f32>) -> Option<f64> {
    value.and_then(|value| value.to_string().parse().ok())
}

fn to_text(package: &Package) -> String {
    let grid = package.grid.unwrap_or_default();
    let defaults = package.defaults.unwrap_or_default();
    let can = [("guidance", package.guidance), ("image prompts", package.image_prompts), ("ranking", package.ranking)];
    let can = can.iter().filter(|(_, can)| *can).map(|(what, _)| *what).collect::<Vec<_>>().join(", ");
    let mut rows = vec![
        row("license", package.license.clone()),
        row("family", package.family.clone()),
        row("digest", package.digest.clone()),
        row("pictures", format!("{} × {} pixels", package.image_width, package.image_height)),
        row("tokens", format!("{} × {} of {}", grid.rows, grid.columns, package.codebook_size)),
        row("captions", format!("{} tokens of {}", package.text_length, package.text_vocabulary_size)),
        row("can", can),
        row(
            "defaults",
            format!(
                "--temperature {} --top-k {} --top-p {} --guidance {}",
                defaults.temperature.unwrap_or_default(),
                defaults.top_k.unwrap_or_default(),
                defaults.top_p.unwrap_or_default(),
                defaults.guidance_scale.unwrap_or_default()
            ),
        ),
    ];
    rows.extend(package.examples.iter().map(|example| row("example", format!("\"{example}\""))));
    format!("{} {}\n{}\n{}", package.name, package.version, package.description, output::table(&rows))
}

fn row(name: &str, value: String) -> Vec<String> {
    vec![format!("  {name}"), value]
}
