//! Who asks.

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use meshlake_config::Tenant;

use super::failure::Failure;
use crate::api::tenant;
use crate::problem::{Kind, Problem};

/// The tenant of a request, as [`crate::api::ForTenant`] reads it, or of the path `/api/traces/v1/{tenant}/tempo`, which the gateway of
/// Tempo's operator has. Both may be there if they say the same: a proxy that sets the header must not be got around by a path (P8).
pub(super) struct Caller(pub(super) Tenant);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let of_header = tenant(&parts.headers)?;
        let invalid = |detail: String| Problem::new(Kind::InvalidTenant, detail);
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|error| invalid(error.body_text()))?;
        let named = params.iter().find(|(name, _)| *name == "tenant").map(|(_, value)| Tenant::parse(value));
        let of_path = named.transpose().map_err(|error| invalid(format!("the tenant in the path: {error}")))?;
        match (of_header, of_path) {
            (Some(header), Some(path)) if header != path => {
                Err(invalid(format!("the path is of tenant {path}, the header X-Scope-OrgID of tenant {header}")).into())
            }
            (header, path) => Ok(Caller(path.or(header).unwrap_or_default())),
        }
    }
}
