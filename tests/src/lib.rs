//! What crosses services: nobody imports this crate.
