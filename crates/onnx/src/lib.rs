//! ONNX Runtime for Easel: sessions, providers, the attention operator and its key/value pool.
