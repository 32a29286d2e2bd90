//! Python pickles as data. Nothing of them is executed: classes and functions stay names, but for those few that tensors and plain containers are made with.

mod flatten;
mod globals;
mod machine;
mod value;

pub(super) use flatten::split;
pub(super) use machine::{BYTES, load};
pub(super) use value::{Id, Node, Stored, Values};
