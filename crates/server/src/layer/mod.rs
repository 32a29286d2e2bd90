//! What happens around every call: trace, deadline, metrics, drain, panics.

/// The tower layer that [`serve`](crate::serve::serve) puts around every call.
#[derive(Clone, Debug)]
pub struct RequestLayer;
