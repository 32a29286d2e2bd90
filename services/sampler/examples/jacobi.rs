//! How many calls a picture takes when a call computes a window of guessed tokens and keeps those that turn out to be drawn (speculative Jacobi decoding,
//! arXiv 2410.01699, here exact: the draw of a position has a number of its own, so that a guess is kept if and only if it is the draw).
//!
//! `cargo run --release -p easel-sampler --example jacobi [-- PICTURES [TEMPERATURE]]` on the embedded model; a table by window and guess.
#![allow(clippy::unwrap_used)]

use easel_onnx::{Options, Prefix, Row, Runtime};
use easel_package::Package;
use easel_sampler::{
    draws,
    logits::{Parameters, Picker, guide},
};

/// Captions of the embedded package's manifest, by its tokenizer.
const CAPTIONS: [&[u32]; 8] = [
    &[285, 463, 282, 262, 343, 263, 285, 512],
    &[256, 332, 418, 272, 262, 528],
    &[473, 338, 686],
    &[256, 379, 263, 256, 434],
    &[256, 324, 415, 296, 262, 314, 263, 256, 332, 514],
    &[256, 368, 374, 263, 256, 501],
    &[256, 529, 282, 262, 552],
    &[256, 426, 282, 578],
];

/// What is guessed for a position that no call has drawn yet.
#[derive(Clone, Copy, Debug)]
enum Guess {
    Left,
    Above,
    /// The last logits of the window, drawn from with the position's own number.
    Last,
}

/// How a number becomes a token.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Draw {
    /// As Easel draws: the inverse of the distribution function, by id.
    Inverse,
    /// The largest of logit + Gumbel noise of (seed, position, token): other pictures, of the same distribution.
    Gumbel,
}

struct Lab {
    transformer: easel_onnx::Transformer,
    package: Package,
    picker: Picker,
    parameters: Parameters,
    draw: Draw,
}

impl Lab {
    fn begin(&mut self, slot: usize, prefix: Option<Prefix>) {
        self.transformer.begin(slot, prefix).unwrap();
    }

    fn token(&mut self, rows: &[&[f32]], seed: u64, cell: usize) -> u32 {
        let mut mixed = Vec::new();
        match rows {
            [c, u] => guide(c, u, self.parameters.guidance_scale, &mut mixed),
            [c] => mixed.extend_from_slice(c),
            _ => unreachable!(),
        }
        if self.draw == Draw::Inverse {
            return self.picker.draw(&mixed, &self.parameters, draws::uniform(seed, cell as u32)).unwrap();
        }
        let mut sorted = mixed.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let least = sorted[(self.parameters.top_k as usize).clamp(1, sorted.len()) - 1];
        let noise = |id: usize| {
            let bits = draws::philox([cell as u32, id as u32, 1, 0], [seed as u32, (seed >> 32) as u32])[0];
            -(-((f64::from(bits) + 0.5) / 4_294_967_296.0).ln()).ln()
        };
        let kept = (0..mixed.len()).filter(|&id| mixed[id] >= least);
        let score = |&id: &usize| f64::from(mixed[id] / self.parameters.temperature) + noise(id);
        kept.max_by(|a, b| score(a).total_cmp(&score(b))).unwrap() as u32
    }

    /// One picture: its tokens and the calls after the prefill.
    fn picture(&mut self, caption: &[u32], seed: u64, window: usize, guess: Guess) -> (Vec<u32>, usize) {
        let manifest = self.package.manifest().clone();
        let (text, cells, columns) =
            (manifest.text.length as usize, manifest.grid.cells(), manifest.grid.columns as usize);
        let codebook = manifest.codebook as usize;
        let conditional = manifest.text.pad(caption);
        let guided = self.parameters.guidance_scale != 1.0;
        let texts: Vec<Vec<u32>> = if guided {
            let unconditional = manifest.guidance.as_ref().unwrap().unconditional(&manifest.text, &conditional);
            vec![conditional, unconditional]
        } else {
            vec![conditional]
        };
        let sequences = texts.len();
        let mut rows = Vec::new();
        for (slot, tokens) in texts.iter().enumerate() {
            self.begin(slot, None);
            let place = |(position, &token): (usize, &u32)| Row {
                slot,
                token,
                position: position as u32,
                logits: position + 1 == text,
            };
            rows.extend((text - tokens.len()..).zip(tokens).map(place));
        }
        let first = self.transformer.step(&rows).unwrap().to_vec();
        let mut tokens = vec![self.token(&first.chunks(codebook).collect::<Vec<_>>(), seed, 0)];
        let mut guesses: Vec<u32> = Vec::new();
        let (mut fed, mut calls) = (0, 0);
        let mut last = first;
        while tokens.len() < cells {
            let known = tokens.len();
            let wanted = (window - 1).min(cells - known - 1);
            while guesses.len() < wanted {
                let cell = known + guesses.len();
                let at = |back: usize| {
                    (cell - back < known).then(|| tokens[cell - back]).unwrap_or_else(|| guesses[cell - back - known])
                };
                let new = match guess {
                    Guess::Left => at(1),
                    Guess::Above => at(columns.min(cell)),
                    Guess::Last => {
                        let rows = last.clone();
                        self.token(&rows.chunks(codebook).collect::<Vec<_>>(), seed, cell)
                    }
                };
                guesses.push(new);
            }
            guesses.truncate(wanted);
            let row = |slot, cell: usize, token, logits| Row { slot, token, position: (text + cell) as u32, logits };
            let window_tokens: Vec<u32> = tokens[fed..].iter().chain(&guesses).copied().collect();
            let mut rows = Vec::new();
            for slot in 0..sequences {
                let fork = sequences + slot;
                self.begin(fork, Some(Prefix { slot, length: (text + fed) as u32 }));
                rows.extend((fed..).zip(&window_tokens).map(|(cell, &token)| row(fork, cell, token, true)));
            }
            let logits = self.transformer.step(&rows).unwrap().to_vec();
            calls += 1;
            let count = window_tokens.len();
            let of = |sequence: usize, i: usize| &logits[(sequence * count + i) * codebook..][..codebook];
            let drawn: Vec<u32> = (0..count)
                .map(|i| {
                    let rows: Vec<&[f32]> = (0..sequences).map(|sequence| of(sequence, i)).collect();
                    self.token(&rows, seed, fed + 1 + i)
                })
                .collect();
            last = (0..sequences).flat_map(|sequence| of(sequence, count - 1).to_vec()).collect();
            // One is certain, and one more for each guess that was drawn.
            let right = guesses.iter().zip(&drawn).take_while(|(guess, drawn)| guess == drawn).count();
            tokens.extend(&drawn[..=right]);
            let feed = fed..fed + 1 + right;
            for slot in 0..sequences {
                let rows: Vec<Row> = feed.clone().map(|cell| row(slot, cell, tokens[cell], false)).collect();
                self.transformer.step(&rows).unwrap();
            }
            fed = feed.end;
            guesses = drawn[right + 1..].to_vec();
        }
        (tokens, calls)
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let pictures: usize = words.next().map_or(64, |word| word.parse().unwrap());
    let temperature: Option<f32> = words.next().map(|word| word.parse().unwrap());
    let package = Package::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/scenes/package")).unwrap();
    let runtime = Runtime::load().unwrap();
    let options = Options { threads: 1, ..Options::default() };
    let transformer = easel_onnx::Transformer::load(&runtime, &package, &options, 4).unwrap();
    let sampling = package.manifest().sampling;
    let parameters = Parameters {
        temperature: temperature.unwrap_or(sampling.temperature),
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        guidance_scale: sampling.guidance_scale,
    };
    let mut lab = Lab { transformer, package, picker: Picker::default(), parameters, draw: Draw::Inverse };
    println!("{pictures} pictures, {parameters:?}: image tokens a call");
    println!("| draw | guidance | guess | 2 | 4 | 8 | 16 |\n|---|---|---|---|---|---|---|");
    for draw in [Draw::Inverse, Draw::Gumbel] {
        for scale in [sampling.guidance_scale, 1.0] {
            (lab.draw, lab.parameters.guidance_scale) = (draw, scale);
            let caption = |i: usize| CAPTIONS[i % CAPTIONS.len()];
            let plain: Vec<_> = (0..pictures).map(|i| lab.picture(caption(i), i as u64, 1, Guess::Left).0).collect();
            for guess in [Guess::Left, Guess::Above, Guess::Last] {
                print!("| {draw:?} | {scale} | {guess:?} |");
                for window in [2, 4, 8, 16] {
                    let mut calls = 0;
                    for (i, plain) in plain.iter().enumerate() {
                        let (tokens, took) = lab.picture(caption(i), i as u64, window, guess);
                        assert_eq!(tokens, *plain, "picture {i} with a window of {window}");
                        calls += took;
                    }
                    print!(" {:.3} |", (pictures * (plain[0].len() - 1)) as f64 / calls as f64);
                }
                println!();
            }
        }
    }
}
