//! The values of an attribute, for completion.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, Uri};
use meshlake_config::Tenant;
use meshlake_query::meshlake_traceql::{Attribute, Intrinsic, Kind as SpanKind, Query, Status, Value};
use serde::Deserialize;

use super::caller::Caller;
use super::failure::Failure;
use super::params;
use super::proto::{MetadataMetrics, SearchTagValuesRequest, SearchTagValuesResponse, SearchTagValuesV2Response, TagValue};
use super::reply::reply;
use crate::api::Api;
use crate::params::Params;
use crate::problem::{Kind, Problem};

const VALUES_DEFAULT: u32 = 5_000;
const VALUES_MAX: u32 = 10_000;

/// What is behind `/tag/` in the path: `http.route/values`.
#[derive(Deserialize)]
pub(super) struct Behind {
    rest: String,
}

type Tag = Result<Path<Behind>, PathRejection>;

/// `GET /api/v2/search/tag/{tag}/values`
pub(super) async fn v2_over_http(
    State(api): State<Api>,
    Caller(tenant): Caller,
    tag: Tag,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    reply(&api, &headers, &v2(api.clone(), tenant, read(tag, &uri)?).await?)
}

/// `GET /api/search/tag/{tag}/values`
pub(super) async fn v1_over_http(
    State(api): State<Api>,
    Caller(tenant): Caller,
    tag: Tag,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    reply(&api, &headers, &v1(api.clone(), tenant, read(tag, &uri)?).await?)
}

fn read(tag: Tag, uri: &Uri) -> Result<SearchTagValuesRequest, Failure> {
    let Path(Behind { rest }) = tag.map_err(|error| Failure::invalid(error.body_text()))?;
    let tag = rest.strip_suffix("/values").filter(|tag| !tag.is_empty());
    let tag = tag.ok_or_else(|| Problem::new(Kind::NotFound, format!("there is nothing at {}", uri.path())))?;
    let params = &Params::any(uri)?;
    Ok(SearchTagValuesRequest {
        tag_name: tag.to_owned(),
        query: params.get("q").unwrap_or_default().to_owned(),
        start: params::seconds(params, "start")?,
        end: params::seconds(params, "end")?,
        max_tag_values: params::number(params, "limit", 0..=u32::MAX)?,
    })
}

/// The values with their types.
pub(super) async fn v2(api: Api, tenant: Tenant, request: SearchTagValuesRequest) -> Result<SearchTagValuesV2Response, Failure> {
    let tag_values = values(&api, &tenant, &request).await?.iter().filter_map(tag_value).collect();
    Ok(SearchTagValuesV2Response { tag_values, metrics: MetadataMetrics {} })
}

/// The values as texts.
pub(super) async fn v1(api: Api, tenant: Tenant, request: SearchTagValuesRequest) -> Result<SearchTagValuesResponse, Failure> {
    let tag_values = values(&api, &tenant, &request).await?.iter().filter_map(tag_value).map(|value| value.value).collect();
    Ok(SearchTagValuesResponse { tag_values, metrics: MetadataMetrics {} })
}

/// The most frequent values first; of enums all that there are, and none of what is never the same twice.
async fn values(api: &Api, tenant: &Tenant, request: &SearchTagValuesRequest) -> Result<Vec<Value<'static>>, Failure> {
    let attribute = Attribute::of_tag(&request.tag_name);
    match attribute {
        Attribute::Intrinsic(Intrinsic::Status) => return Ok(Status::NAMES.map(|(_, status)| Value::Status(status)).to_vec()),
        Attribute::Intrinsic(Intrinsic::Kind) => return Ok(SpanKind::NAMES.map(|(_, kind)| Value::Kind(kind)).to_vec()),
        Attribute::Intrinsic(Intrinsic::Entry) => return Ok([true, false].map(Value::Bool).to_vec()),
        Attribute::Intrinsic(
            Intrinsic::Name
            | Intrinsic::StatusMessage
            | Intrinsic::RootName
            | Intrinsic::RootServiceName
            | Intrinsic::EventName
            | Intrinsic::InstrumentationName
            | Intrinsic::InstrumentationVersion
            | Intrinsic::Node
            | Intrinsic::Caller
            | Intrinsic::Callee,
        )
        | Attribute::Named(_) => {}
        Attribute::Intrinsic(_) => return Ok(Vec::new()),
    }
    let range = params::range(request.start, request.end)?;
    let limit = if request.max_tag_values == 0 { VALUES_DEFAULT } else { request.max_tag_values.min(VALUES_MAX) };
    let filter = Query::lenient(&request.query);
    let found = api.engine()?.traceql_values(tenant, &attribute, filter.as_ref(), range, limit as usize).await?;
    Ok(found.into_iter().map(|(value, _)| value).collect())
}

/// How Grafana writes a value into a query depends on its type: only strings get quotes.
fn tag_value(value: &Value<'_>) -> Option<TagValue> {
    let (of_type, value) = match value {
        Value::Nil => return None,
        Value::Text(text) => ("string", text.clone().into_owned()),
        Value::Int(_) => ("int", value.to_string()),
        Value::Float(_) => ("float", value.to_string()),
        Value::Bool(_) => ("bool", value.to_string()),
        Value::Duration(_) => ("duration", value.to_string()),
        Value::Status(_) | Value::Kind(_) => ("keyword", value.to_string()),
        Value::Array(_) => return None,
    };
    Some(TagValue { r#type: of_type.to_owned(), value })
}
