//! A package's manifest for tests: 4 text positions, 20 text ids, a 4 × 4 grid, 32 codes.

use std::collections::BTreeMap;

use easel_package::{
    AttentionGeometry, Decoder, Grid, Guidance, Manifest, Padding, Sampler, Sampling, Size, Text, Ties,
};

pub(crate) fn manifest(name: &str, rows: u32, columns: u32) -> Manifest {
    Manifest {
        schema: 1,
        name: name.to_owned(),
        version: "1".to_owned(),
        license: "Apache-2.0".to_owned(),
        description: String::new(),
        family: "fake".to_owned(),
        examples: Vec::new(),
        provenance: BTreeMap::new(),
        image: Size { width: 8 * columns, height: 8 * rows },
        grid: Grid { rows, columns },
        codebook: 32,
        text: Text {
            tokenizer: Some("tokenizer.json".to_owned()),
            length: 4,
            vocabulary: 20,
            padding: Padding::PerPosition { first_id: 16 },
            prefix: Vec::new(),
            suffix: Vec::new(),
            template: None,
            words: None,
        },
        sampler: Sampler {
            graph: "sampler.onnx".to_owned(),
            contract: "easel.sampler/1".to_owned(),
            attention: AttentionGeometry { layers: 1, heads: 1, head_width: 1 },
            row_end: Vec::new(),
            shift: None,
            text_encoder: None,
        },
        guidance: Some(Guidance::Tokens { ids: Vec::new() }),
        sampling: Sampling {
            temperature: 1.0,
            top_k: 8,
            top_p: 0.9,
            guidance_scale: 1.0,
            top_k_ties: Ties::Cut,
            guided_tokens: None,
        },
        decoder: Decoder { graph: "decoder.onnx".to_owned() },
        encoder: None,
        ranker: None,
        files: BTreeMap::new(),
    }
}
