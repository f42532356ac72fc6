//! What the handlers share.

use std::sync::{Arc, OnceLock};

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use meshlake_config::{Config, Tenant};
use meshlake_query::{Compaction, Engine};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::budget::Budget;
use crate::metrics::HttpMetrics;
use crate::problem::{Kind, Problem};

const TENANT_HEADER: &str = "x-scope-orgid";

/// How the process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether the journal is replayed: before that, answers would lack spans that were acknowledged.
    pub ready: bool,
    /// Whether it works; if not, only a restart helps.
    pub alive: bool,
    /// What is wrong, for the operator; may be filled while all is well.
    pub problems: Vec<String>,
}

/// Asks the rest of the process how it is.
pub type HealthProbe = Arc<dyn Fn() -> Health + Send + Sync>;

/// The API of one process. Cheap to clone: all clones are the same API.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

struct Shared {
    started: OnceLock<Started>,
    health: HealthProbe,
    registry: Registry,
    metrics: HttpMetrics,
    answers: Arc<Budget>,
    max_body_size: usize,
}

/// What there is from the start on.
struct Started {
    engine: Engine,
    compaction: Arc<Compaction>,
}

impl Api {
    /// An API that serves health and metrics, and refuses queries with 503 until [`Api::start`] was called and `health` is ready.
    /// `registry` has the metrics of the rest of the process; those of the API are added to it.
    pub fn new(config: &Config, health: HealthProbe, mut registry: Registry) -> Api {
        let metrics = HttpMetrics::new(&mut registry);
        let shared = Shared {
            started: OnceLock::new(),
            health,
            registry,
            metrics,
            answers: Arc::new(Budget::new(config.query.memory_limit.as_u64())),
            max_body_size: config.api.max_body_size.as_usize(),
        };
        Api { shared: Arc::new(shared) }
    }

    /// Gives what answers queries. A second call changes nothing.
    pub fn start(&self, engine: Engine, compaction: Arc<Compaction>) {
        let _ = self.shared.started.set(Started { engine, compaction });
    }

    fn started(&self) -> Result<&Started, Problem> {
        let started = self.shared.started.get().filter(|_| (self.shared.health)().ready);
        started
            .ok_or_else(|| Problem::new(Kind::Starting, "starting: replaying the journal; /readyz tells when queries are answered"))
    }

    /// # Errors
    /// 503 until the process is ready.
    pub(crate) fn engine(&self) -> Result<&Engine, Problem> {
        Ok(&self.started()?.engine)
    }

    /// # Errors
    /// 503 until the process is ready.
    pub(crate) fn compaction(&self) -> Result<&Compaction, Problem> {
        Ok(&self.started()?.compaction)
    }

    /// How the process is: not ready before [`Api::start`], then what the probe says.
    pub(crate) fn health(&self) -> Health {
        let mut health = (self.shared.health)();
        if self.shared.started.get().is_none() {
            health.ready = false;
            if health.problems.is_empty() {
                health.problems.push("replaying the journal".to_owned());
            }
        }
        health
    }

    /// All metrics of the process, in the OpenMetrics text format.
    pub(crate) fn metrics_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.shared.registry);
        text
    }

    pub(crate) fn metrics(&self) -> &HttpMetrics {
        &self.shared.metrics
    }

    /// The memory for answers that are being collected and sent.
    pub(crate) fn answers(&self) -> &Arc<Budget> {
        &self.shared.answers
    }

    pub(crate) fn max_body_size(&self) -> usize {
        self.shared.max_body_size
    }
}

/// The tenant of a request: the header `X-Scope-OrgID`, the default tenant without it (P8).
pub(crate) struct ForTenant(pub(crate) Tenant);

impl<S: Sync> FromRequestParts<S> for ForTenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(ForTenant(tenant(&parts.headers)?.unwrap_or_default()))
    }
}

/// The tenant that the header `X-Scope-OrgID` names, if there is one. It may say the same twice: Grafana's data source of Tempo does over
/// gRPC.
///
/// # Errors
/// 400 for one that is no tenant's name, and for several.
pub(crate) fn tenant(headers: &HeaderMap) -> Result<Option<Tenant>, Problem> {
    let mut values = headers.get_all(TENANT_HEADER).iter();
    let invalid = |detail: String| Problem::new(Kind::InvalidTenant, format!("header X-Scope-OrgID: {detail}"));
    let Some(value) = values.next() else { return Ok(None) };
    if values.any(|other| other != value) {
        return Err(invalid("given more than once".to_owned()));
    }
    let text = value.to_str().map_err(|_| invalid("not text".to_owned()))?;
    Tenant::parse(text).map(Some).map_err(|error| invalid(error.to_string()))
}
