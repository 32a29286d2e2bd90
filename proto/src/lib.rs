//! Easel's gRPC contract: the package `easel.v1` as Rust types, clients and servers.
//!
//! The bindings are committed (`src/gen`), so that building needs neither protoc nor a build script; `tests/bindings.rs` regenerates them with
//! protox and fails when they differ from `easel/v1/*.proto`. After an edit of the contract: `EASEL_BLESS=1 cargo test -p easel-proto`.

/// The contract, version 1.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v1 {
    include!("gen/easel.v1.rs");
}

/// The contract as a serialized `google.protobuf.FileDescriptorSet`, comments left out: what reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor.bin");

/// Names of the stages, as they stand in telemetry, errors and `StageTime`.
pub mod stage {
    /// The tokenizer.
    pub const TOKENIZER: &str = "tokenizer";
    /// The sampler.
    pub const SAMPLER: &str = "sampler";
    /// The decoder.
    pub const DECODER: &str = "decoder";
    /// The ranker.
    pub const RANKER: &str = "ranker";
    /// The gateway.
    pub const GATEWAY: &str = "gateway";
}
