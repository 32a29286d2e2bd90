/// How busy a service is, and what it runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that wait.
    pub queue_depth: u32,
    /// Requests that may wait before more are refused.
    pub queue_capacity: u32,
    /// Rows of the batch in use, or requests in work.
    pub slots_in_use: u32,
    /// Rows of the batch, or requests that may be in work at once.
    pub slots_total: u32,
    /// Name and digest of each package that is loaded.
    pub packages: Vec<(String, String)>,
    /// "cpu" or "cuda"; empty where there is no model.
    pub device: String,
    /// What it runs on, for people.
    pub detail: String,
}

/// What a service says of itself, for `easel.v1.StatusService` and the gauges of load.
pub trait StatusReporter: Send + Sync + 'static {
    /// The load now. Called often: it must neither block nor wait for the model.
    fn load(&self) -> Load;
}
