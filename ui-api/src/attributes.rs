//! `GET attributes` and `GET attributes/{name}/values`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use http::Uri;
use meshlake_query::{Scope, ValueType};
use serde::Serialize;

use crate::api::{Api, ForTenant};
use crate::params::Params;
use crate::problem::Problem;

/// What `GET attributes` takes.
pub(crate) const PARAMETERS: &[&str] = &["start", "end"];
/// What `GET attributes/{name}/values` takes.
pub(crate) const VALUES_PARAMETERS: &[&str] = &["scope", "start", "end", "limit"];

const LIMIT_DEFAULT: usize = 100;

#[derive(Serialize)]
pub(crate) struct Attributes {
    attributes: Vec<Attribute>,
    exact: bool,
}

#[derive(Serialize)]
struct Attribute {
    name: String,
    scope: Scope,
    types: Vec<Type>,
}

#[derive(Serialize)]
struct Type {
    r#type: ValueType,
    spans: u64,
}

/// The attributes of spans that start in the range.
pub(crate) async fn attributes(
    State(api): State<Api>,
    ForTenant(tenant): ForTenant,
    uri: Uri,
) -> Result<Json<Attributes>, Problem> {
    let range = Params::parse(&uri, PARAMETERS)?.range()?;
    let found = api.engine()?.attribute_names(&tenant, range).await?;
    let attributes = found.attributes.into_iter().map(|attribute| Attribute {
        name: attribute.name,
        scope: attribute.scope,
        types: attribute.types.into_iter().map(|(value_type, spans)| Type { r#type: value_type, spans }).collect(),
    });
    Ok(Json(Attributes { attributes: attributes.collect(), exact: found.exact }))
}

#[derive(Serialize)]
pub(crate) struct Values {
    values: Vec<Value>,
    exact: bool,
}

#[derive(Serialize)]
struct Value {
    value: String,
    scope: Scope,
    r#type: ValueType,
    spans: u64,
    exact: bool,
}

/// The most frequent values of an attribute in the range; none for one that is not known.
pub(crate) async fn values(
    State(api): State<Api>,
    ForTenant(tenant): ForTenant,
    name: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<Values>, Problem> {
    let params = Params::parse(&uri, VALUES_PARAMETERS)?;
    let (scope, range, limit) = (params.read("scope", str::parse)?, params.range()?, params.limit(LIMIT_DEFAULT)?);
    let Path(name) = name.map_err(|error| Problem::parameter("name", error.body_text()))?;
    let found = api.engine()?.attribute_values(&tenant, scope, &name, range, limit).await?;
    let values = found.values.into_iter().map(|one| Value {
        value: one.value,
        scope: one.scope,
        r#type: one.value_type,
        spans: one.spans,
        exact: one.exact,
    });
    Ok(Json(Values { values: values.collect(), exact: found.exact }))
}
