use std::{fmt, str::FromStr};

use crate::Error;

/// Where graphs run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// CUDA where the library has it and a session with it can be made, else the CPU; which of them is logged.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA; an error where it cannot be had.
    Cuda,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            _ => Err(format!("expected auto, cpu or cuda, found {name:?}")),
        }
    }
}

/// What keys and values are stored in. All that is computed with them is f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// The upper halves of 32-bit floats, rounded to the nearest: half the memory, 8 bits of precision.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("expected f32 or bf16, found {name:?}")),
        }
    }
}

/// More than any machine has; ONNX Runtime would make as many as it is told.
const MAX_THREADS: usize = 1024;

/// How an engine runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where.
    pub device: Device,
    /// CPU threads of the engine, the caller's own among them, at most 1024; 0: as many as there are cores.
    pub threads: usize,
    /// What the engine's weights, keys and values may take, on the CPU and on the GPU each; none: no limit.
    pub memory_limit_mib: Option<u64>,
    /// Whether the sampler's steps on CUDA are captured, one CUDA graph for each size, and replayed: fewer calls of the driver. Off by default: whether every
    /// operator of a graph may be captured depends on the version of ONNX Runtime, which refuses to load the graph where not.
    pub cuda_graphs: bool,
    /// What the transformer's keys and values are stored in.
    pub kv: Precision,
}

impl Options {
    /// Fails when there are more threads than a machine can have.
    pub(crate) fn check_threads(&self) -> Result<(), Error> {
        if self.threads <= MAX_THREADS {
            return Ok(());
        }
        Err(Error::input("threads", format_args!("0 … {MAX_THREADS}"), self.threads))
    }

    /// Fails when `what` need more than the limit.
    pub(crate) fn check_memory(&self, what: impl fmt::Display, bytes: u64) -> Result<(), Error> {
        match self.memory_limit_mib {
            Some(limit_mib) if bytes > limit_mib.saturating_mul(1 << 20) => {
                Err(Error::Memory { what: what.to_string(), needed_mib: bytes.div_ceil(1 << 20), limit_mib })
            }
            _ => Ok(()),
        }
    }
}
