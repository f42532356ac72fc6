//! The names of attributes, for completion.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use meshlake_config::Tenant;
use meshlake_query::meshlake_traceql::{Attribute, Intrinsic, Query, Scope};
use meshlake_query::{NestedNames, Scope as Counted, TimeRange};

use super::caller::Caller;
use super::failure::Failure;
use super::params;
use super::proto::{MetadataMetrics, SearchTagsRequest, SearchTagsResponse, SearchTagsV2Response, SearchTagsV2Scope};
use super::reply::reply;
use crate::api::Api;
use crate::params::Params;

const SPAN: &str = "span";
/// As they are listed.
const SCOPES: [(&str, Scope); 5] = [
    ("resource", Scope::Resource),
    (SPAN, Scope::Span),
    ("instrumentation", Scope::Instrumentation),
    ("event", Scope::Event),
    ("link", Scope::Link),
];
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
        query: params.get("q").unwrap_or_default().to_owned(),
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
    let of_spans: Vec<(&str, Scope)> = SCOPES.into_iter().filter(|(name, _)| asked(name)).collect();
    if of_spans.is_empty() && !asked(INTRINSIC) {
        return Err(Failure::invalid(format!("invalid scope: {}", request.scope)));
    }
    let range = params::range(request.start, request.end)?;
    let mut names = match Query::lenient(&request.query) {
        _ if of_spans.is_empty() => BTreeMap::new(),
        Some(filter) => api.engine()?.traceql_names(tenant, &filter, range).await?,
        None => counted(api, tenant, range, &of_spans).await?,
    };
    let of_spans = of_spans.into_iter().map(|(name, scope)| {
        let tags = names.remove(&scope).unwrap_or_default().into_iter().take(limit(request)).collect();
        SearchTagsV2Scope { name: name.to_owned(), tags }
    });
    let intrinsic = || SearchTagsV2Scope { name: INTRINSIC.to_owned(), tags: INTRINSICS.map(str::to_owned).to_vec() };
    Ok(of_spans.chain(asked(INTRINSIC).then(intrinsic)).collect())
}

/// The names of all spans in a range; at least those of these scopes. Files count those of spans themselves.
async fn counted(
    api: &Api,
    tenant: &Tenant,
    range: TimeRange,
    scopes: &[(&str, Scope)],
) -> Result<BTreeMap<Scope, BTreeSet<String>>, Failure> {
    let is_nested = |scope: &Scope| matches!(scope, Scope::Event | Scope::Link);
    let mut names = BTreeMap::<Scope, BTreeSet<String>>::new();
    if scopes.iter().any(|(_, scope)| !is_nested(scope)) {
        for attribute in api.engine()?.attribute_names(tenant, range).await?.attributes {
            let scope = match attribute.scope {
                Counted::Span => Scope::Span,
                Counted::Resource => Scope::Resource,
                Counted::Instrumentation => Scope::Instrumentation,
            };
            names.entry(scope).or_default().insert(attribute.name);
        }
    }
    if scopes.iter().any(|(_, scope)| is_nested(scope)) {
        let NestedNames { events, links } = api.engine()?.nested_names(tenant, range).await?;
        names.extend([(Scope::Event, events), (Scope::Link, links)]);
    }
    Ok(names)
}

/// The attributes of spans that the service graph makes.
fn of_graph() -> impl Iterator<Item = String> {
    let computed = Intrinsic::ALL.iter().filter(|intrinsic| intrinsic.is_of_graph());
    computed.map(|intrinsic| Attribute::Intrinsic(*intrinsic).key().to_owned())
}
