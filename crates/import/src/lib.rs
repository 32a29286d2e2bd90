//! Turns a checkpoint in its own format into a model package.
