//! `GET compaction`, `POST compaction/pause` and `POST compaction/resume`: of this process, until it ends.

use axum::Json;
use axum::extract::State;
use http::Uri;
use meshlake_query::{Compaction, CompactionState};
use serde::Serialize;

use crate::api::Api;
use crate::params::Params;
use crate::problem::{Kind, Problem};

#[derive(Serialize)]
pub(crate) struct Status {
    state: &'static str,
    merging: bool,
    backlog_files: u64,
    backlog_bytes: u64,
}

impl From<&Compaction> for Status {
    fn from(compaction: &Compaction) -> Status {
        let status = compaction.status();
        let state = match status.state {
            CompactionState::Running => "running",
            CompactionState::Paused => "paused",
            CompactionState::Off => "off",
        };
        let (backlog_files, backlog_bytes) = (status.backlog_files, status.backlog_bytes);
        Status { state, merging: status.merging, backlog_files, backlog_bytes }
    }
}

/// How it is.
pub(crate) async fn status(State(api): State<Api>, uri: Uri) -> Result<Json<Status>, Problem> {
    Params::parse(&uri, &[])?;
    Ok(Json(api.compaction()?.into()))
}

/// Stops it. A merge ends a moment later.
pub(crate) async fn pause(State(api): State<Api>, uri: Uri) -> Result<Json<Status>, Problem> {
    change(&api, &uri, Compaction::pause)
}

/// Lets it go on.
pub(crate) async fn resume(State(api): State<Api>, uri: Uri) -> Result<Json<Status>, Problem> {
    change(&api, &uri, Compaction::resume)
}

fn change(api: &Api, uri: &Uri, change: impl Fn(&Compaction) -> bool) -> Result<Json<Status>, Problem> {
    Params::parse(uri, &[])?;
    let compaction = api.compaction()?;
    if change(compaction) {
        return Ok(Json(compaction.into()));
    }
    Err(Problem::new(Kind::CompactionOff, "this process does not compact: compaction.enabled is false"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Method;
    use meshlake_config::Config;

    use crate::fixture::{api, send};
    use crate::router;

    const PATH: &str = "/api/mesh/v1/compaction";

    /// Scenario: compaction is paused twice and resumed, and where it is off. Guarantee: each answer says how it is from then on; what
    /// is off can be neither.
    #[tokio::test]
    async fn compaction_is_paused_and_resumed() {
        let mut config = Config::default();
        for (enabled, steps) in [
            (true, vec![("pause", "paused"), ("pause", "paused"), ("resume", "running")]),
            (false, vec![("pause", "off"), ("resume", "off")]),
        ] {
            config.compaction.enabled = enabled;
            let router = router(api(&config));
            for (asked, state) in steps {
                let answer = send(&router, Method::POST, &format!("{PATH}/{asked}"), &[], Body::empty()).await;
                if enabled {
                    assert_eq!(answer.json()["state"], state);
                } else {
                    assert!(answer.problem(409).contains("compaction.enabled"));
                }
                let status = send(&router, Method::GET, PATH, &[], Body::empty()).await.json();
                assert_eq!((&status["state"], &status["merging"]), (&state.into(), &false.into()));
            }
        }
    }
}
