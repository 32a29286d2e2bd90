/// Why the gateway could not start, or stopped other than by its shutdown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was given as a stage's address is none.
    #[error("\"{given}\" is not the address of a stage: {reason}")]
    Address {
        /// As given.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An option cannot work, or the server failed.
    #[error(transparent)]
    Server(#[from] easel_server::Error),
}
