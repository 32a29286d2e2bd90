//! Draws a caption at a running gateway and saves the pictures, best first.
//!
//! ```text
//! easel serve &
//! cargo run -p easel-client --example generate -- http://127.0.0.1:50050 out "an armchair in the shape of an avocado"
//! ```

use std::path::PathBuf;

use anyhow::Context;
use easel_client::{Client, Event, Generate};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("usage: generate URL FOLDER PROMPT…")?;
    let folder = PathBuf::from(arguments.next().context("usage: generate URL FOLDER PROMPT…")?);
    let prompt = arguments.collect::<Vec<_>>().join(" ");

    let client = Client::connect(url).await?;
    let mut generation = client.generate(Generate::prompt(prompt).candidates(4).seed(42)).await?;
    while let Some(event) = generation.event().await? {
        match event {
            Event::Started(started) => {
                println!("{} draws with seeds {:?}", started.package.name, started.seeds);
                if !started.unknown_words.is_empty() {
                    println!("the model was not taught: {}", started.unknown_words.join(", "));
                }
            }
            Event::Progress(progress) => {
                println!(
                    "candidate {}: {} of {} tokens",
                    progress.candidate, progress.tokens_done, progress.tokens_total
                );
            }
            Event::Preview(preview) => {
                println!("candidate {}: a preview of {} bytes", preview.candidate, preview.image.data.len())
            }
            _ => {}
        }
    }

    let outcome = generation.finish().await?;
    std::fs::create_dir_all(&folder)?;
    for (rank, picture) in outcome.pictures.iter().enumerate() {
        let path = folder.join(format!("{:02}-seed{}.{}", rank + 1, picture.seed, picture.image.extension()));
        picture.image.save(&path)?;
        println!("{}: clip_score {:?}", path.display(), picture.clip_score);
    }
    println!("{:.1} tokens per second", outcome.finished.tokens_per_second);
    Ok(())
}
