//! The contract's side of the service.

use std::pin::Pin;

use easel_proto::v1::decoder_service_server::DecoderService;
use easel_proto::v1::{self, DecodeRequest, DecodeResponse, EncodeRequest, EncodeResponse};
use easel_server::batcher::{Job, Priority};
use easel_server::packages::Packages;
use easel_server::telemetry::names::metric;
use easel_server::{Deadline, picture, status, telemetry};
use opentelemetry::metrics::Counter;
use tokio::task::spawn_blocking;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Span;

use crate::model::Row;
use crate::stream::Call;
use crate::{Error, Stage};

/// The service.
pub(crate) struct Decoder {
    packages: Packages<Stage>,
    pictures: Counter<u64>,
}

impl Decoder {
    pub(crate) fn new(packages: Packages<Stage>) -> Self {
        Self { packages, pictures: telemetry::counter(&metric::PICTURES) }
    }
}

#[tonic::async_trait]
impl DecoderService for Decoder {
    type DecodeStream = Pin<Box<dyn Stream<Item = Result<DecodeResponse, Status>> + Send>>;

    async fn decode(&self, request: Request<Streaming<DecodeRequest>>) -> Result<Response<Self::DecodeStream>, Status> {
        let deadline = Deadline::of(&request);
        let (packages, pictures) = (self.packages.clone(), self.pictures.clone());
        let call = Call { packages, deadline, span: Span::current(), pictures };
        Ok(Response::new(Box::pin(call.run(request.into_inner()))))
    }

    async fn encode(&self, request: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        let deadline = Deadline::of(&request);
        let request = request.into_inner();
        let package = self.packages.find(request.package.as_ref())?;
        let shape = package.stage.shape;
        let preprocess = shape.encoder.ok_or_else(|| Error::NoEncoder { package: package.name.clone() })?;
        let picture = picture::check("picture", request.picture)?;
        let admission = package.stage.batcher.admit()?;
        let prepare = move || preprocess.apply(picture.width, picture.height, &picture.rgb8);
        let seen = spawn_blocking(prepare).await.map_err(|error| status::internal(&error))?.map_err(Error::from)?;
        let (priority, span) = (Priority::Normal, Span::current());
        let both = admission.submit(Job { input: Row::Pixels(seen), priority, deadline, span }).await?;
        let easel_package::Size { width, height } = preprocess.size;
        Ok(Response::new(EncodeResponse {
            grid: Some(v1::Grid { rows: shape.grid.rows, columns: shape.grid.columns }),
            tokens: both.tokens,
            seen: Some(v1::Picture { width, height, rgb8: both.pixels.into() }),
        }))
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid { field, reason } => status::invalid(field, reason),
            Error::NoEncoder { ref package } => status::precondition("encoder", package, error.to_string()),
            Error::Batch(error) => error.into(),
            Error::NoPackage
            | Error::Twice { .. }
            | Error::Package(_)
            | Error::Onnx(_)
            | Error::Server(_)
            | Error::Io(_) => status::internal(&error),
        }
    }
}
