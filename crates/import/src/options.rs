use std::{fmt, path::PathBuf, str::FromStr};

use easel_package::{CUDA_CONTRACT, Device, Manifest};

use crate::{Error, Family, blocks::Bits};

/// How a package is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportOptions {
    /// Whose checkpoint it is; none: its configuration or its keys tell.
    pub family: Option<Family>,
    /// A checkpoint of CLIP that becomes the package's ranker, in the place of the one that the model may have: a file, or a folder of them.
    pub ranker: Option<PathBuf>,
    /// The text encoder of a model that reads captions with one of another project (LlamaGen: T5), a folder in Hugging Face's layout; none: it has none.
    pub text_encoder: Option<PathBuf>,
    /// The package's name, by which callers ask for it: lower-case letters, digits, `.`, `_`, `-`; at most 64. None: that of the checkpoint or its family.
    pub name: Option<String>,
    /// The model's own version; none: that of the checkpoint, or 1.
    pub version: Option<String>,
    /// The weights' licence, an SPDX expression; none: what the checkpoint or its family says.
    pub license: Option<String>,
    /// One paragraph for people; none: what the checkpoint or its family says.
    pub description: Option<String>,
    /// What the sampler's graph is made for. For CUDA, weights are [`Weights::F16`] or [`Weights::F32`], and computed with as such.
    pub device: Device,
    /// Precision of the stored weights.
    pub weights: Weights,
    /// Whether a package that is at the place already is replaced. Nothing but a package ever is.
    pub overwrite: bool,
    /// A graph whose checkpoint file is larger has its weights in a file beside it (protobuf ends at 2 GiB). Bytes; 1.5 GiB by default.
    pub inline_limit_bytes: u64,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            family: None,
            ranker: None,
            text_encoder: None,
            name: None,
            version: None,
            license: None,
            description: None,
            device: Device::Cpu,
            weights: Weights::F16,
            overwrite: false,
            inline_limit_bytes: 3 << 29,
        }
    }
}

impl ImportOptions {
    /// `manifest` with what is told here in the place of what the checkpoint says.
    pub(crate) fn told(&self, mut manifest: Manifest) -> Manifest {
        let Manifest { name, version, license, description, .. } = &mut manifest;
        let told =
            [(name, &self.name), (version, &self.version), (license, &self.license), (description, &self.description)];
        for (field, told) in told {
            if let Some(told) = told {
                field.clone_from(told);
            }
        }
        manifest
    }
}

impl ImportOptions {
    /// Refuses precisions that the device's graph cannot have.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.device == Device::Cpu || matches!(self.weights, Weights::F16 | Weights::F32) {
            return Ok(());
        }
        Err(Error::Device {
            device: self.device,
            what: "weights",
            expected: "f16 or f32",
            found: self.weights.to_string(),
        })
    }

    /// `manifest` with the contract of the device; refused where the model has what that does not.
    pub(crate) fn for_device(&self, mut manifest: Manifest) -> Result<Manifest, Error> {
        if self.device == Device::Cpu {
            return Ok(manifest);
        }
        let sampler = &mut manifest.sampler;
        let parts = [("a text encoder", sampler.text_encoder.is_some()), ("token shifts", sampler.shift.is_some())];
        if let Some((part, _)) = parts.into_iter().find(|(_, has)| *has) {
            let expected = "one that reads its text itself, without token shifts";
            return Err(Error::Device { device: self.device, what: "the model", expected, found: part.into() });
        }
        sampler.contract = CUDA_CONTRACT.into();
        Ok(manifest)
    }
}

/// Precision of the stored weights. Of 16 and 32 bits, graphs compute in 32 either way. Biases and norms are always stored in 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// 32-bit floats.
    F32,
    /// 16-bit floats: half the size.
    F16,
    /// The transformer's maps in blocks of 8-bit integers, multiplied as such; all else as [`Weights::F16`].
    Q8,
    /// The transformer's maps in blocks of 4-bit integers, its head in 8, multiplied in 8; all else as [`Weights::F16`].
    Q4,
}

impl Weights {
    /// What maps are stored in, where it is blocks.
    pub(crate) fn bits(self) -> Option<Bits> {
        match self {
            Self::F32 | Self::F16 => None,
            Self::Q8 => Some(Bits::Eight),
            Self::Q4 => Some(Bits::Four),
        }
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        })
    }
}

impl FromStr for Weights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "q8" => Ok(Self::Q8),
            "q4" => Ok(Self::Q4),
            _ => Err(format!("expected f32, f16, q8 or q4, found {text:?}")),
        }
    }
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of tensors that were read.
    pub read_bytes: u64,
    /// Bytes of the files they are in.
    pub total_bytes: u64,
}
