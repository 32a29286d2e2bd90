//! What the package says of itself.

use std::collections::BTreeMap;

use easel_package::{AttentionGeometry, Guidance, Manifest, Padding, Sampler, Sampling, TextEncoder, Ties};

use super::{ENCODER, SAMPLER, Sizes, TOKENIZER, Text, WORDS};
use crate::parts::Pictures;

pub(super) fn manifest(sizes: &Sizes, text: &Text, pictures: Pictures) -> Manifest {
    let description = match text {
        Text::Classes(_) => "A checkpoint of LlamaGen that draws classes, by their numbers.",
        Text::Captions { .. } => "A checkpoint of LlamaGen that draws captions.",
    };
    Manifest {
        schema: 1,
        name: "llamagen".into(),
        version: "1".into(),
        license: "LicenseRef-unknown".into(),
        description: description.into(),
        family: "llamagen".into(),
        examples: vec![],
        provenance: BTreeMap::new(),
        image: pictures.image,
        grid: pictures.grid,
        codebook: pictures.codebook,
        text: self::text(sizes, text),
        sampler: sampler(sizes, text),
        guidance: Some(match text {
            Text::Classes(_) => Guidance::Tokens { ids: vec![] },
            Text::Captions { ids, .. } => Guidance::Blank { id: *ids, first: 0, last: 0 },
        }),
        sampling: sampling(text, pictures.codebook),
        decoder: pictures.decoder,
        encoder: pictures.encoder,
        ranker: None,
        files: BTreeMap::new(),
    }
}

fn text(sizes: &Sizes, text: &Text) -> easel_package::Text {
    let (vocabulary, padding, suffix, words) = match text {
        Text::Classes(classes) => (classes + 1, Padding::Token { id: *classes }, vec![], Some(WORDS.into())),
        // Behind T5's ids is the one that stands for no caption.
        Text::Captions { ids, end } => (ids + 1, Padding::None, vec![*end], None),
    };
    easel_package::Text {
        tokenizer: Some(TOKENIZER.into()),
        length: sizes.text_length() as u32,
        vocabulary,
        padding,
        prefix: vec![],
        suffix,
        template: None,
        words,
    }
}

fn sampler(sizes: &Sizes, text: &Text) -> Sampler {
    let text_encoder = match text {
        Text::Classes(_) => None,
        Text::Captions { .. } => Some(TextEncoder {
            graph: ENCODER.into(),
            length: sizes.text_length() as u32,
            embedding_width: Some(sizes.width as u32),
        }),
    };
    Sampler {
        graph: SAMPLER.into(),
        contract: sizes.contract().into(),
        attention: AttentionGeometry {
            layers: sizes.layers as u32,
            heads: sizes.key_heads as u32,
            head_width: sizes.head_width() as u32,
        },
        row_end: vec![],
        shift: None,
        text_encoder,
    }
}

/// The defaults of the original's own commands.
fn sampling(text: &Text, codebook: u32) -> Sampling {
    let (guidance_scale, top_k) = match text {
        Text::Classes(_) => (4.0, 2000),
        Text::Captions { .. } => (7.5, 1000),
    };
    Sampling {
        temperature: 1.0,
        top_k: codebook.min(top_k),
        top_p: 1.0,
        guidance_scale,
        top_k_ties: Ties::Kept,
        guided_tokens: None,
    }
}
