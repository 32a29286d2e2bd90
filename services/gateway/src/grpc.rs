//! `easel.v1.GatewayService` over [`Gateway`].

use std::sync::Arc;

use easel_proto::v1::gateway_service_server::GatewayService;
use easel_proto::v1::{
    GatewayServiceClassifyRequest, GatewayServiceClassifyResponse, GatewayServiceEmbedRequest,
    GatewayServiceEmbedResponse, GenerateRequest, GenerateResponse, GetPackageRequest, GetPackageResponse,
    ListPackagesRequest, ListPackagesResponse, ListStagesRequest, ListStagesResponse,
};
use easel_server::{Deadline, status};
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use crate::gateway::Gateway;
use crate::generation;
use crate::guard::Place;
use crate::times::Times;

/// The service.
#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<Gateway>);

/// The deadline that the guard has seen to.
fn deadline<T>(request: &Request<T>) -> Deadline {
    Deadline::of(request).expect("the guard gives every call a deadline")
}

#[tonic::async_trait]
impl GatewayService for Service {
    type GenerateStream = BoxStream<'static, Result<GenerateResponse, Status>>;

    async fn generate(&self, mut request: Request<GenerateRequest>) -> Result<Response<Self::GenerateStream>, Status> {
        let times = Times::new();
        let place = request.extensions_mut().remove::<Place>();
        let deadline = deadline(&request);
        let plan = self.0.plan(request.into_inner(), deadline).await?;
        let events = generation::start(self.0.clone(), plan, times, deadline, place);
        Ok(Response::new(events.boxed()))
    }

    async fn list_packages(
        &self,
        request: Request<ListPackagesRequest>,
    ) -> Result<Response<ListPackagesResponse>, Status> {
        let packages = self.0.packages.all(&self.0.stages, deadline(&request)).await?;
        Ok(Response::new(ListPackagesResponse { packages: packages.to_vec() }))
    }

    async fn get_package(&self, request: Request<GetPackageRequest>) -> Result<Response<GetPackageResponse>, Status> {
        let name = &request.get_ref().name;
        let package = self.0.packages.find(name, &self.0.stages, deadline(&request)).await?;
        match package {
            Some(_) => Ok(Response::new(GetPackageResponse { package })),
            None => Err(status::not_found("package", name)),
        }
    }

    async fn classify(
        &self,
        request: Request<GatewayServiceClassifyRequest>,
    ) -> Result<Response<GatewayServiceClassifyResponse>, Status> {
        let deadline = deadline(&request);
        self.0.classify(request.into_inner(), deadline).await.map(Response::new)
    }

    async fn embed(
        &self,
        request: Request<GatewayServiceEmbedRequest>,
    ) -> Result<Response<GatewayServiceEmbedResponse>, Status> {
        let deadline = deadline(&request);
        self.0.embed(request.into_inner(), deadline).await.map(Response::new)
    }

    async fn list_stages(&self, _: Request<ListStagesRequest>) -> Result<Response<ListStagesResponse>, Status> {
        Ok(Response::new(ListStagesResponse { stages: self.0.stages.list().await }))
    }
}
