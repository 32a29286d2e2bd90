//! A client library for Easel's gateway.
