//! `GET services` and `GET services/{service}/operations`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use http::Uri;
use serde::Serialize;

use crate::api::{Api, ForTenant};
use crate::params::Params;
use crate::problem::Problem;

/// What both take.
pub(crate) const PARAMETERS: &[&str] = &["start", "end"];

#[derive(Serialize)]
pub(crate) struct Services {
    services: Vec<Service>,
}

#[derive(Serialize)]
struct Service {
    service: String,
    namespace: Option<String>,
    cluster: Option<String>,
    spans: u64,
    errors: u64,
}

/// The services with spans that start in the range.
pub(crate) async fn services(State(api): State<Api>, ForTenant(tenant): ForTenant, uri: Uri) -> Result<Json<Services>, Problem> {
    let range = Params::parse(&uri, PARAMETERS)?.range()?;
    let found = api.engine()?.services(&tenant, range).await?;
    let services = found.into_iter().map(|service| Service {
        service: service.service,
        namespace: service.namespace,
        cluster: service.cluster,
        spans: service.spans,
        errors: service.errors,
    });
    Ok(Json(Services { services: services.collect() }))
}

#[derive(Serialize)]
pub(crate) struct Operations {
    operations: Vec<Operation>,
}

#[derive(Serialize)]
struct Operation {
    operation: String,
    kind: String,
    spans: u64,
    errors: u64,
}

/// The operations of a service in the range; none for a service that is not known.
pub(crate) async fn operations(
    State(api): State<Api>,
    ForTenant(tenant): ForTenant,
    service: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<Operations>, Problem> {
    let range = Params::parse(&uri, PARAMETERS)?.range()?;
    let Path(service) = service.map_err(|error| Problem::parameter("service", error.body_text()))?;
    let found = api.engine()?.operations(&tenant, &service, range).await?;
    let operations = found.into_iter().map(|operation| Operation {
        operation: operation.operation,
        kind: operation.kind,
        spans: operation.spans,
        errors: operation.errors,
    });
    Ok(Json(Operations { operations: operations.collect() }))
}
