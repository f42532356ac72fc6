//! The names of attributes, for completion.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use meshlake_config::Tenant;
use meshlake_query::meshlake_traceql::{Attribute, Intrinsic};
use meshlake_query::{AttributeName, NestedNames, Scope};

use super::caller::Caller;
use super::failure::Failure;
use super::params;
use super::proto::{MetadataMetrics, SearchTagsRequest, SearchTagsResponse, SearchTagsV2Response, SearchTagsV2Scope};
use super::reply::reply;
use crate::api::Api;
use crate::params::Params;

const SPAN: &str = "span";
const NESTED: [&str; 2] = ["event", "link"];
const INTRINSIC: &str = "intrinsic";
/// What every span has, by the names that Tempo lists.
const INTRINSICS: [&str; 25] = [
    "duration",
    "event:name",
    "event:timeSinceStart",
    "instrumentation:name",
    "instrumentation:version",
    "kind",
    "link:spanID",
    "link:traceID",
    "name",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:id",
    "span:kind",
    "span:name",
    "span:parentID",
    "span:status",
    "span:statusMessage",
    "status",
    "statusMessage",
    "trace:duration",
    "trace:id",
    "trace:rootName",
    "trace:rootService",
    "traceDuration",
];

/// `GET /api/v2/search/tags`
pub(super) async fn v2_over_http(
    State(api): State<Api>,
    Caller(tenant): Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    reply(&api, &headers, &v2(api.clone(), tenant, read(&Params::any(&uri)?)?).await?)
}

/// `GET /api/search/tags`
pub(super) async fn v1_over_http(
    State(api): State<Api>,
    Caller(tenant): Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    reply(&api, &headers, &v1(api.clone(), tenant, read(&Params::any(&uri)?)?).await?)
}

fn read(params: &Params) -> Result<SearchTagsRequest, Failure> {
    Ok(SearchTagsRequest {
        scope: params.get("scope").unwrap_or_default().to_owned(),
        start: params::seconds(params, "start")?,
        end: params::seconds(params, "end")?,
        max_tags_per_scope: params::number(params, "limit", 0..=u32::MAX)?,
    })
}

/// The names by scope. What the service graph makes of spans is theirs only with the scope, so names without a scope are not of it.
pub(super) async fn v2(api: Api, tenant: Tenant, request: SearchTagsRequest) -> Result<SearchTagsV2Response, Failure> {
    let mut scopes = scopes(&api, &tenant, &request).await?;
    for SearchTagsV2Scope { tags, .. } in scopes.iter_mut().filter(|scope| scope.name == SPAN) {
        let names: BTreeSet<String> = tags.drain(..).chain(of_graph()).collect();
        tags.extend(names.into_iter().take(limit(&request)));
    }
    Ok(SearchTagsV2Response { scopes, metrics: MetadataMetrics {} })
}

/// All names, each once.
pub(super) async fn v1(api: Api, tenant: Tenant, request: SearchTagsRequest) -> Result<SearchTagsResponse, Failure> {
    let scopes = scopes(&api, &tenant, &request).await?;
    let names: BTreeSet<String> = scopes.into_iter().flat_map(|scope| scope.tags).collect();
    Ok(SearchTagsResponse { tag_names: names.into_iter().collect(), metrics: MetadataMetrics {} })
}

fn limit(request: &SearchTagsRequest) -> usize {
    if request.max_tags_per_scope == 0 { usize::MAX } else { request.max_tags_per_scope as usize }
}

async fn scopes(api: &Api, tenant: &Tenant, request: &SearchTagsRequest) -> Result<Vec<SearchTagsV2Scope>, Failure> {
    let all = matches!(request.scope.as_str(), "" | "all" | "none");
    let asked = |name: &str| all || request.scope == name;
    let counted = [("resource", Scope::Resource), (SPAN, Scope::Span), ("instrumentation", Scope::Instrumentation)];
    if !counted.iter().map(|(name, _)| *name).chain(NESTED).chain([INTRINSIC]).any(asked) {
        return Err(Failure::invalid(format!("invalid scope: {}", request.scope)));
    }
    let range = params::range(request.start, request.end)?;
    let limit = limit(request);
    let mut scopes = Vec::new();
    if counted.iter().any(|(name, _)| asked(name)) {
        let found = api.engine()?.attribute_names(tenant, range).await?.attributes;
        let names = |scope| {
            let of_scope = found.iter().filter(move |attribute: &&AttributeName| attribute.scope == scope);
            of_scope.map(|attribute| attribute.name.clone()).take(limit).collect::<Vec<_>>()
        };
        scopes.extend(counted.map(|(name, scope)| (name, names(scope))));
    }
    if NESTED.into_iter().any(asked) {
        let NestedNames { events, links } = api.engine()?.nested_names(tenant, range).await?;
        let names = [events, links].map(|names| names.into_iter().take(limit).collect());
        scopes.extend(NESTED.into_iter().zip(names));
    }
    scopes.push((INTRINSIC, INTRINSICS.map(str::to_owned).to_vec()));
    let scopes = scopes.into_iter().filter(|(name, _)| asked(name));
    Ok(scopes.map(|(name, tags)| SearchTagsV2Scope { name: name.to_owned(), tags }).collect())
}

/// The attributes of spans that the service graph makes.
fn of_graph() -> impl Iterator<Item = String> {
    let computed = Intrinsic::ALL.iter().filter(|intrinsic| intrinsic.is_of_graph());
    computed.map(|intrinsic| Attribute::Intrinsic(*intrinsic).key().to_owned())
}
