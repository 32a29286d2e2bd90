//! What was measured, beside what the machine's memory allows.

use easel_import::Reads;
use easel_package::Package;
use easel_standalone::measure;
use serde::Serialize;

use crate::output;

/// Everything that is known of a run.
#[derive(Serialize)]
pub(super) struct Report {
    engine: &'static str,
    version: &'static str,
    package: String,
    digest: String,
    width: u32,
    layers: u32,
    /// Of the weights that every step reads.
    weight_bytes: u64,
    own_captions: bool,
    /// What keys and values are stored in.
    kv: String,
    #[serde(flatten)]
    measured: measure::Report,
    roofline: Vec<Roofline>,
}

/// What a step must read, over what the memory gives.
#[derive(Serialize)]
struct Roofline {
    batch: usize,
    position: u32,
    bytes: u64,
    /// The time of reading them, over the step's.
    share: f64,
}

impl Report {
    pub(super) fn new(
        package: &Package,
        measured: measure::Report,
        reads: &Reads,
        own_captions: bool,
        kv: String,
    ) -> Self {
        let manifest = package.manifest();
        let attention = manifest.sampler.attention;
        let roofline = measured.steps.iter().map(|step| {
            let bytes = reads.step_bytes(step.position, step.batch, if own_captions { step.batch } else { 1 });
            let share = bytes as f64 / measured.read_bandwidth / (step.ms / 1e3);
            Roofline { batch: step.batch, position: step.position, bytes, share }
        });
        Self {
            engine: "easel",
            version: env!("CARGO_PKG_VERSION"),
            package: manifest.name.clone(),
            digest: package.digest().to_owned(),
            width: attention.heads * attention.head_width,
            layers: attention.layers,
            weight_bytes: reads.weight_bytes(),
            own_captions,
            kv,
            roofline: roofline.collect(),
            measured,
        }
    }

    pub(super) fn to_text(&self) -> String {
        let m = &self.measured;
        let mut text = format!("{}\nms a step (share of the memory's speed)\n", output::table(&self.facts()));
        text += &output::table(&self.steps());
        text += &format!("\nwhole pictures, from the steps above\n{}", output::table(&self.whole()));
        if !m.pictures.is_empty() {
            text += &format!("\nwhole pictures, drawn through the engine's loop\n{}", output::table(&self.pictures()));
        }
        if let Some(arrivals) = &m.arrivals {
            text +=
                &format!("\nrequests at random, through the engine's loop\n{}", output::table(&continuous(arrivals)));
        }
        text
    }

    fn facts(&self) -> Vec<Vec<String>> {
        let m = &self.measured;
        let bytes = output::bytes;
        let resident = m.kv_resident_bytes.map(|n| format!(", {} resident a candidate", bytes(n)));
        [
            ("package", format!("{}, {} layers, {} wide", self.package, self.layers, self.width)),
            ("device", format!("{}, {}", m.device, output::count(m.threads, "thread"))),
            ("memory reads", format!("{:.1} GB/s", m.read_bandwidth / 1e9)),
            ("weights of a step", bytes(self.weight_bytes)),
            ("load", format!("{:.0} ms, {}", m.load_ms, bytes(m.loaded_bytes))),
            ("keys and values", format!("{} a slot{}", bytes(m.kv_bytes), resident.unwrap_or_default())),
            ("prefill", format!("{:.1} ms for {} tokens", m.prefill_ms, m.prefill_tokens)),
            ("draw", format!("{:.1} µs a row", m.draw_ms * 1e3)),
        ]
        .map(|(name, value)| vec![name.to_owned(), value])
        .into()
    }

    fn steps(&self) -> Vec<Vec<String>> {
        let mut positions: Vec<u32> = self.measured.steps.iter().map(|step| step.position).collect();
        positions.sort_unstable();
        positions.dedup();
        let head = std::iter::once("batch".to_owned()).chain(positions.iter().map(|p| format!("at {p}")));
        let mut rows = vec![head.collect::<Vec<_>>()];
        for (step, roof) in self.measured.steps.iter().zip(&self.roofline) {
            if rows.last().is_none_or(|row| row[0] != step.batch.to_string()) {
                rows.push(vec![step.batch.to_string()]);
            }
            if let Some(row) = rows.last_mut() {
                row.push(format!("{:.2} ({:.2})", step.ms, roof.share));
            }
        }
        rows
    }

    fn whole(&self) -> Vec<Vec<String>> {
        let head = ["pictures", "s", "tokens/s"].map(str::to_owned).to_vec();
        let row = |w: &measure::Whole| {
            vec![w.batch.to_string(), format!("{:.2}", w.ms / 1e3), format!("{:.1}", w.tokens_per_second)]
        };
        std::iter::once(head).chain(self.measured.whole.iter().map(row)).collect()
    }

    /// Of several, also the share of the time that they would take one after another, where one was drawn alone.
    fn pictures(&self) -> Vec<Vec<String>> {
        let pictures = &self.measured.pictures;
        let head =
            ["candidates", "s", "tokens/s", "first token, ms", "steps", "of as many alone"].map(str::to_owned).to_vec();
        let alone = pictures.iter().find(|p| p.candidates == 1).map(|p| p.ms);
        let row = |p: &measure::Drawn| {
            let numbers = [p.ms / 1e3, p.tokens_per_second, p.first_token_ms, p.steps].map(|n| format!("{n:.2}"));
            let share = alone.map(|alone| format!("{:.3}", p.ms / (alone * p.candidates as f64)));
            std::iter::once(p.candidates.to_string()).chain(numbers).chain(share).collect()
        };
        std::iter::once(head).chain(pictures.iter().map(row)).collect()
    }
}

fn continuous(c: &measure::Continuous) -> Vec<Vec<String>> {
    let a = c.arrivals;
    let came = format!("{} of {}", output::count(a.requests, "request"), output::count(a.candidates, "candidate"));
    let (rows, share) = (output::count(a.rows, "row"), c.share());
    [
        ("came", format!("{came}, for {rows}")),
        ("a full batch", format!("{:.1} tokens/s, {:.2} ms a step", c.full_tokens_per_second, c.step_ms)),
        (
            "a crowd",
            format!("{:.1} tokens/s, {share:.3} of a full batch", c.crowd_tokens_per_second)
                + &format!("; by the time computed {:.3}", c.computing_share),
        ),
        ("first token alone", format!("{:.1} ms; with two steps {:.1} ms", c.alone_ms, c.bound_ms())),
        (
            "first token where slots were free",
            format!("p50 {:.1} ms, p95 {:.1} ms, of {}", c.first_token_p50_ms, c.first_token_p95_ms, c.found_free),
        ),
    ]
    .map(|(name, value)| vec![name.to_owned(), value])
    .into()
}
