//! `config.json` of the `dalle` layout: every size is bounded before anything is allocated by it.

use std::{fmt::Display, ops::RangeInclusive, path::Path};

use serde::Deserialize;

use crate::{Error, Mask, autoencoder::Reach, layers::Activation};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(rename = "family")]
    _family: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: String,
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) examples: Vec<String>,
    pub(crate) transformer: Transformer,
    pub(crate) dvae: Dvae,
    pub(crate) clip: Clip,
    pub(crate) sampling: easel_package::Sampling,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Transformer {
    pub(crate) width: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) text_length: usize,
    pub(crate) text_vocab: usize,
    /// Rows, columns.
    pub(crate) grid: [usize; 2],
    pub(crate) codebook: usize,
    pub(crate) masks: Vec<Mask>,
    pub(crate) conv_kernel: usize,
    pub(crate) mlp_width: usize,
    pub(crate) activation: Activation,
    pub(crate) norm_epsilon: f32,
    pub(crate) qk_norm: bool,
    pub(crate) qk_scale: f32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dvae {
    pub(crate) image_size: usize,
    pub(crate) quantizer: Quantizer,
    pub(crate) encoder: Encoder,
    pub(crate) decoder: Decoder,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Quantizer {
    Fsq { levels: Vec<u32> },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Encoder {
    pub(crate) patch: usize,
    pub(crate) width: usize,
    pub(crate) blocks: usize,
    pub(crate) kernel: usize,
    #[serde(default = "input_kernel")]
    pub(crate) input_kernel: usize,
    #[serde(default)]
    pub(crate) norm: Reach,
}

fn input_kernel() -> usize {
    3
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decoder {
    pub(crate) stages: Vec<Stage>,
    pub(crate) kernel: usize,
    pub(crate) output_shuffle: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stage {
    pub(crate) width: usize,
    pub(crate) blocks: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Clip {
    pub(crate) image_size: usize,
    pub(crate) mean: [f32; 3],
    pub(crate) std: [f32; 3],
    pub(crate) context_length: usize,
    pub(crate) vision_heads: usize,
    pub(crate) text_heads: usize,
    pub(crate) activation: Activation,
    pub(crate) norm_epsilon: f32,
    pub(crate) pad: u32,
}

const WIDTH: RangeInclusive<usize> = 1..=16384;
const KERNEL: RangeInclusive<usize> = 1..=1023;
const EPSILON: RangeInclusive<f32> = 0.0..=0.1;
/// Numbers in the table of positions, which the import makes itself.
const POSITION_NUMBERS: RangeInclusive<usize> = 1..=1 << 28;

impl Config {
    /// Parses and checks the text of the file at `path`.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let config: Self = serde_json::from_str(text).map_err(|source| Error::Json { path: path.into(), source })?;
        let check = Check { path };
        check.head(&config)?;
        check.transformer(&config.transformer)?;
        check.dvae(&config.dvae, &config.transformer)?;
        check.clip(&config.clip)?;
        Ok(config)
    }
}

struct Check<'a> {
    path: &'a Path,
}

impl Check<'_> {
    fn fail(&self, field: &str, expected: impl Display, found: impl Display) -> Result<(), Error> {
        let (expected, found) = (expected.to_string(), found.to_string());
        Err(Error::Field { path: self.path.into(), field: field.into(), expected, found })
    }

    fn equal(&self, field: &str, found: usize, expected: usize) -> Result<(), Error> {
        if found == expected { Ok(()) } else { self.fail(field, expected, found) }
    }

    fn within<T: PartialOrd + Display>(&self, field: &str, found: T, bounds: RangeInclusive<T>) -> Result<(), Error> {
        if bounds.contains(&found) {
            return Ok(());
        }
        self.fail(field, format_args!("{} … {}", bounds.start(), bounds.end()), found)
    }

    fn odd(&self, field: &str, found: usize) -> Result<(), Error> {
        self.within(field, found, KERNEL)?;
        if found % 2 == 1 { Ok(()) } else { self.fail(field, "an odd number", found) }
    }

    fn divides(&self, field: &str, found: usize, whole: usize) -> Result<(), Error> {
        if whole.is_multiple_of(found) { Ok(()) } else { self.fail(field, format_args!("a divisor of {whole}"), found) }
    }

    fn head(&self, c: &Config) -> Result<(), Error> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        if !(1..=64).contains(&c.name.len()) || !c.name.bytes().all(fits) {
            return self.fail("name", "1 … 64 of a-z, 0-9, '.', '_', '-'", format_args!("{:?}", c.name));
        }
        self.within("sampling.temperature", c.sampling.temperature, 0.0..=100.0)?;
        self.within("sampling.top_p", c.sampling.top_p, f32::MIN_POSITIVE..=1.0)?;
        self.within("sampling.guidance_scale", c.sampling.guidance_scale, 0.0..=100.0)
    }

    fn transformer(&self, t: &Transformer) -> Result<(), Error> {
        self.within("transformer.width", t.width, WIDTH)?;
        self.within("transformer.layers", t.layers, 1..=1024)?;
        self.within("transformer.heads", t.heads, 1..=1024)?;
        self.divides("transformer.heads", t.heads, t.width)?;
        self.within("transformer.width / heads", t.width / t.heads, 1..=1024)?;
        self.within("transformer.text_length", t.text_length, 1..=4096)?;
        self.within("transformer.text_vocab", t.text_vocab, 1..=1 << 23)?;
        self.within("transformer.grid[0]", t.grid[0], 1..=1024)?;
        self.within("transformer.grid[1]", t.grid[1], 1..=1024)?;
        let positions = t.text_length + t.grid[0] * t.grid[1];
        self.within("transformer: (text_length + grid cells) · width", positions * t.width, POSITION_NUMBERS)?;
        self.within("transformer.codebook", t.codebook, 2..=1 << 20)?;
        self.equal("transformer.masks (one per layer)", t.masks.len(), t.layers)?;
        self.odd("transformer.conv_kernel", t.conv_kernel)?;
        self.within("transformer.mlp_width", t.mlp_width, 1..=65536)?;
        self.within("transformer.norm_epsilon", t.norm_epsilon, EPSILON)?;
        self.within("transformer.qk_scale", t.qk_scale, f32::MIN_POSITIVE..=1000.0)
    }

    fn dvae(&self, d: &Dvae, t: &Transformer) -> Result<(), Error> {
        self.within("dvae.image_size", d.image_size, 1..=8192)?;
        let Quantizer::Fsq { levels } = &d.quantizer;
        self.within("dvae.quantizer.levels (how many)", levels.len(), 1..=20)?;
        levels.iter().try_for_each(|l| self.within("dvae.quantizer.levels", *l, 2..=256))?;
        let codes = levels.iter().try_fold(1_usize, |product, l| product.checked_mul(*l as usize));
        self.equal("dvae.quantizer.levels (their product)", codes.unwrap_or(usize::MAX), t.codebook)?;
        self.within("dvae.encoder.patch", d.encoder.patch, 1..=d.image_size)?;
        self.within("dvae.encoder.width", d.encoder.width, WIDTH)?;
        self.within("dvae.encoder.blocks", d.encoder.blocks, 0..=1024)?;
        self.odd("dvae.encoder.kernel", d.encoder.kernel)?;
        self.odd("dvae.encoder.input_kernel", d.encoder.input_kernel)?;
        self.within("dvae.decoder.stages (how many)", d.decoder.stages.len(), 1..=13)?;
        for (i, stage) in d.decoder.stages.iter().enumerate() {
            self.within(&format!("dvae.decoder.stages[{i}].width"), stage.width, WIDTH)?;
            self.within(&format!("dvae.decoder.stages[{i}].blocks"), stage.blocks, 0..=1024)?;
        }
        self.odd("dvae.decoder.kernel", d.decoder.kernel)?;
        self.within("dvae.decoder.output_shuffle", d.decoder.output_shuffle, 1..=64)?;
        let factor = (1 << (d.decoder.stages.len() - 1)) * d.decoder.output_shuffle;
        for cells in t.grid {
            self.equal("transformer.grid · dvae.encoder.patch", cells * d.encoder.patch, d.image_size)?;
            self.equal("transformer.grid · 2^(stages − 1) · output_shuffle", cells * factor, d.image_size)?;
        }
        Ok(())
    }

    fn clip(&self, c: &Clip) -> Result<(), Error> {
        self.within("clip.image_size", c.image_size, 1..=4096)?;
        for i in 0..3 {
            self.within(&format!("clip.mean[{i}]"), c.mean[i], -10.0..=10.0)?;
            self.within(&format!("clip.std[{i}]"), c.std[i], 1e-3..=10.0)?;
        }
        self.within("clip.context_length", c.context_length, 2..=1024)?;
        self.within("clip.vision_heads", c.vision_heads, 1..=1024)?;
        self.within("clip.text_heads", c.text_heads, 1..=1024)?;
        self.within("clip.norm_epsilon", c.norm_epsilon, EPSILON)
    }
}
