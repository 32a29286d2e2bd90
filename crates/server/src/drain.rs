//! The end of a service: calls in flight are counted, new ones refused, late ones cut.
