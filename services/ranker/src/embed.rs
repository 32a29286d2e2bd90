//! One call's way to the model.

use easel_proto::stage;
use easel_proto::v1::Picture;
use easel_server::batcher::{Admission, Job, Priority};
use easel_server::telemetry::names::label;
use easel_server::{Deadline, status};
use futures::stream::{self, StreamExt, TryStreamExt};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use tokio::task::spawn_blocking;
use tonic::Status;
use tracing::Span;

use crate::model::{Row, Rows, Shape};
use crate::{Clip, Error};

/// Rows of a call that are in work at once.
pub(crate) const WINDOW: usize = 32;

/// What came with a call.
pub(crate) struct Call {
    pub(crate) deadline: Option<Deadline>,
    pub(crate) span: Span,
    pub(crate) pictures: Counter<u64>,
}

/// A call that was admitted.
pub(crate) struct Embedder {
    admission: Admission<Rows>,
    shape: Shape,
    call: Call,
}

impl Embedder {
    /// Admits `call` to the model of `clip`.
    pub(crate) fn new(clip: &Clip, call: Call) -> Result<Self, Error> {
        Ok(Self { admission: clip.batcher.admit()?, shape: clip.shape, call })
    }

    /// The embedding of a picture that was checked. It is resized and cropped on a thread that may block.
    pub(crate) async fn picture(&self, picture: Picture) -> Result<Vec<f32>, Status> {
        let preprocess = self.shape.preprocess;
        let prepare = move || preprocess.apply(picture.width, picture.height, &picture.rgb8);
        let seen = spawn_blocking(prepare).await.map_err(|error| status::internal(&error))?.map_err(Error::from)?;
        let embedding = self.row(Row::Image(seen)).await?;
        self.call.pictures.add(1, &[KeyValue::new(label::STAGE, stage::RANKER)]);
        Ok(embedding)
    }

    /// The embedding of a padded text.
    pub(crate) async fn text(&self, ids: Vec<u32>) -> Result<Vec<f32>, Status> {
        self.row(Row::Text(ids)).await
    }

    /// The embeddings of many, in order.
    pub(crate) async fn pictures(&self, pictures: Vec<Picture>) -> Result<Vec<Vec<f32>>, Status> {
        stream::iter(pictures).map(|picture| self.picture(picture)).buffered(WINDOW).try_collect().await
    }

    /// The embeddings of many, in order.
    pub(crate) async fn texts(&self, texts: Vec<Vec<u32>>) -> Result<Vec<Vec<f32>>, Status> {
        stream::iter(texts).map(|ids| self.text(ids)).buffered(WINDOW).try_collect().await
    }

    async fn row(&self, input: Row) -> Result<Vec<f32>, Status> {
        let Call { deadline, ref span, .. } = self.call;
        let job = Job { input, priority: Priority::Normal, deadline, span: span.clone() };
        Ok(self.admission.submit(job).await?)
    }
}
