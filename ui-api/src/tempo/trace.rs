//! A trace by its id.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;
use meshlake_config::Tenant;
use meshlake_query::TraceId;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, TracesData};
use prost::Message;
use serde::{Deserialize, Serialize, Serializer};

use super::caller::Caller;
use super::failure::Failure;
use super::proto::TraceByIdResponse;
use super::reply::{json, protobuf, wants_protobuf};
use crate::api::Api;
use crate::otlp_json::ProtobufSpans;
use crate::problem::{Kind, Problem};

/// The service of spans that name none, as OpenTelemetry calls it.
const UNKNOWN_SERVICE: &str = "unknown_service";

/// The part of the path.
#[derive(Deserialize)]
pub(super) struct ById {
    id: String,
}

type Id = Result<Path<ById>, PathRejection>;

/// With a message around the trace. A trace that is not known is 404, whereupon Grafana asks [`v1`], and says that it was not found.
pub(super) async fn v2(State(api): State<Api>, Caller(tenant): Caller, id: Id, headers: HeaderMap) -> Result<Response, Failure> {
    #[derive(Serialize)]
    struct Document<'a> {
        trace: Spans<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Spans<'a> {
        #[serde(serialize_with = "spans")]
        resource_spans: &'a [ResourceSpans],
    }
    let trace = find(&api, &tenant, id).await?;
    if wants_protobuf(&headers) {
        return protobuf(&api, &TraceByIdResponse { trace });
    }
    json(&api, &Document { trace: Spans { resource_spans: &trace.resource_spans } }, trace.encoded_len())
}

/// The bare trace, as Grafana until 2024 asks for it, and Kiali, who wants the list by its old name.
pub(super) async fn v1(State(api): State<Api>, Caller(tenant): Caller, id: Id, headers: HeaderMap) -> Result<Response, Failure> {
    #[derive(Serialize)]
    struct Document<'a> {
        #[serde(serialize_with = "spans")]
        batches: &'a [ResourceSpans],
    }
    let trace = find(&api, &tenant, id).await?;
    if wants_protobuf(&headers) {
        return protobuf(&api, &trace);
    }
    json(&api, &Document { batches: &trace.resource_spans }, trace.encoded_len())
}

fn spans<S: Serializer>(spans: &&[ResourceSpans], serializer: S) -> Result<S::Ok, S::Error> {
    ProtobufSpans(spans).serialize(serializer)
}

async fn find(api: &Api, tenant: &Tenant, id: Id) -> Result<TracesData, Failure> {
    let Path(ById { id }) = id.map_err(|error| Failure::invalid(error.body_text()))?;
    let id: TraceId = id.parse().map_err(|error| Failure::invalid(format!("invalid trace id: {error}")))?;
    let found = api.engine()?.trace(tenant, id).await?;
    let trace = found.ok_or_else(|| Problem::new(Kind::NotFound, format!("trace not found: no span of {id} is known")))?;
    Ok(TracesData { resource_spans: trace.resource_spans.into_iter().flat_map(by_scope).collect() })
}

/// The spans of a resource as clients can take them. Each scope gets a resource of its own: Kiali reads the first scope of a resource
/// only. Grafana drops spans whose resource has no attribute, and breaks where scope or status are missing.
fn by_scope(mut spans: ResourceSpans) -> impl Iterator<Item = ResourceSpans> {
    let resource = spans.resource.get_or_insert_default();
    if resource.attributes.is_empty() {
        let value = AnyValue { value: Some(Value::StringValue(UNKNOWN_SERVICE.to_owned())) };
        resource.attributes.push(KeyValue { key: "service.name".to_owned(), value: Some(value), key_strindex: 0 });
    }
    let (resource, schema_url) = (spans.resource, spans.schema_url);
    spans.scope_spans.into_iter().map(move |mut of_scope| {
        of_scope.scope.get_or_insert_default();
        of_scope.spans.iter_mut().for_each(|span| {
            span.status.get_or_insert_default();
        });
        ResourceSpans { resource: resource.clone(), scope_spans: vec![of_scope], schema_url: schema_url.clone() }
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
    use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};

    use super::*;

    /// Scenario: two scopes of a resource that says nothing, one without a scope, spans without a status. Guarantee: each is a resource of
    /// its own with an attribute, and with scope and statuses.
    #[test]
    fn each_scope_stands_alone_and_nothing_is_missing() {
        let scope = InstrumentationScope { name: "http".into(), ..Default::default() };
        let spans = ResourceSpans {
            resource: None,
            scope_spans: vec![
                ScopeSpans { scope: Some(scope.clone()), spans: vec![Span::default(), Span::default()], schema_url: String::new() },
                ScopeSpans { scope: None, spans: vec![Span::default()], schema_url: "s".into() },
            ],
            schema_url: "r".into(),
        };
        let parts: Vec<ResourceSpans> = by_scope(spans).collect();
        assert_eq!(parts.iter().map(|part| part.scope_spans[0].spans.len()).collect::<Vec<_>>(), [2, 1]);
        for part in &parts {
            let resource = part.resource.as_ref().unwrap();
            assert_eq!(
                (part.scope_spans.len(), part.schema_url.as_str(), resource.attributes[0].key.as_str()),
                (1, "r", "service.name")
            );
            assert!(part.scope_spans[0].scope.is_some());
            assert!(part.scope_spans[0].spans.iter().all(|span| span.status.is_some()));
        }
        assert_eq!(parts[0].scope_spans[0].scope, Some(scope));
        assert_eq!(parts[1].scope_spans[0].schema_url, "s");
    }
}
