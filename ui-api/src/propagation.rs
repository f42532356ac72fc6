//! `GET propagation`: who receives traced requests and begins new traces instead of continuing them.

use axum::Json;
use axum::extract::State;
use http::Uri;
use meshlake_query::{BegunTrace, Propagation, PropagationQuery, WorkloadPropagation};
use serde::Serialize;

use crate::api::{Api, ForTenant};
use crate::critical_path::Node;
use crate::params::Params;
use crate::problem::Problem;
use crate::sample::{Sample, traces};
use crate::time::{format_micros, format_nanos};

/// What it takes.
pub(crate) const PARAMETERS: &[&str] = &["start", "end", "traces"];

#[derive(Serialize)]
pub(crate) struct Answer {
    start: String,
    end: String,
    workloads: Vec<Workload>,
    #[serde(flatten)]
    sample: Sample,
}

#[derive(Serialize)]
struct Workload {
    #[serde(flatten)]
    node: Node,
    confidence: &'static str,
    evidence: Evidence,
    examples: Vec<Example>,
}

#[derive(Serialize)]
struct Evidence {
    requests: u64,
    requests_continued: u64,
    calls_continued: u64,
    traces_started: u64,
    calls_started: u64,
    started_checked: u64,
    started_during_requests: u64,
    started_during_requests_by_chance: f64,
}

#[derive(Serialize)]
struct Example {
    trace_id: String,
    time: String,
    during_trace_id: Option<String>,
}

/// The workloads that may drop the context of requests.
pub(crate) async fn propagation(State(api): State<Api>, ForTenant(tenant): ForTenant, uri: Uri) -> Result<Json<Answer>, Problem> {
    let params = Params::parse(&uri, PARAMETERS)?;
    let query = PropagationQuery { range: params.range()?, traces: traces(&params)? };
    let found = api.engine()?.propagation(&tenant, &query).await?;
    Ok(Json(Answer {
        start: format_micros(query.range.start),
        end: format_micros(query.range.end),
        workloads: found.workloads.into_iter().map(Workload::from).collect(),
        sample: found.sample.into(),
    }))
}

impl From<WorkloadPropagation> for Workload {
    fn from(found: WorkloadPropagation) -> Workload {
        Workload {
            node: found.node.into(),
            confidence: found.confidence.as_str(),
            evidence: found.evidence.into(),
            examples: found.examples.into_iter().map(Example::from).collect(),
        }
    }
}

impl From<Propagation> for Evidence {
    fn from(seen: Propagation) -> Evidence {
        Evidence {
            requests: seen.requests,
            requests_continued: seen.continued,
            calls_continued: seen.calls_continued,
            traces_started: seen.started,
            calls_started: seen.calls_started,
            started_checked: seen.checked,
            started_during_requests: seen.overlapping,
            started_during_requests_by_chance: seen.overlapping_by_chance,
        }
    }
}

impl From<BegunTrace> for Example {
    fn from(begun: BegunTrace) -> Example {
        Example {
            trace_id: begun.trace_id.to_string(),
            // Until the year 2262, where signed nanoseconds end.
            time: format_nanos(begun.time as i64),
            during_trace_id: begun.during.map(|id| id.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use meshlake_query::{Confidence, NodeName, TraceId};
    use serde_json::json;

    use super::*;

    /// Scenario: a workload with all that there is to say of one. Guarantee: the whole answer, as it is written here.
    #[test]
    fn workloads() {
        let evidence = Propagation {
            requests: 1,
            continued: 2,
            calls_continued: 3,
            started: 4,
            calls_started: 5,
            checked: 6,
            overlapping: 7,
            overlapping_by_chance: 8.5,
        };
        let begun = BegunTrace { trace_id: TraceId([1; 16]), time: 1_785_585_600_000_000_007, during: Some(TraceId([2; 16])) };
        let examples = vec![begun, BegunTrace { during: None, ..begun }];
        let node = NodeName { kind: "workload", service: Some("cart".to_owned()), ..NodeName::default() };
        let found = WorkloadPropagation { node, confidence: Confidence::High, evidence, examples };
        let example = |during: Option<String>| json!({"trace_id": "01".repeat(16), "time": "2026-08-01T12:00:00.000000007Z", "during_trace_id": during});
        let expected = json!({
            "kind": "workload",
            "cluster": null,
            "namespace": null,
            "workload": null,
            "service": "cart",
            "confidence": "high",
            "evidence": {
                "requests": 1,
                "requests_continued": 2,
                "calls_continued": 3,
                "traces_started": 4,
                "calls_started": 5,
                "started_checked": 6,
                "started_during_requests": 7,
                "started_during_requests_by_chance": 8.5,
            },
            "examples": [example(Some("02".repeat(16))), example(None)],
        });
        assert_eq!(serde_json::to_value(Workload::from(found)).unwrap(), expected);
    }
}
