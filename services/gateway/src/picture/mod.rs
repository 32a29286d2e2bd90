//! Pictures at the edge: encoded ones come in, raw ones go out encoded.

mod decode;
mod edge;
mod encode;
mod jpeg;

pub(crate) use self::decode::Bounds;
pub(crate) use self::edge::{Decoded, Edge};
pub(crate) use self::encode::Encoding;
