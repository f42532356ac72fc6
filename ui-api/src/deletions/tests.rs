//! Deletions over the API; what they do to files is tested where the files are.

use axum::body::Body;
use http::Method;
use meshlake_config::Config;
use serde_json::json;

use crate::fixture::{TRACE, api, send};
use crate::router;

const JSON: (&str, &str) = ("content-type", "application/json");
const PATH: &str = "/api/mesh/v1/deletions";

/// Scenario: a trace and a condition are deleted by one tenant, and both tenants look. Guarantee: each deletion is accepted
/// with a receipt that says what was asked, is found again by its location, and is the tenant's own.
#[tokio::test]
async fn a_deletion_has_a_receipt() {
    let router = router(api(&Config::default()));
    let trace = send(&router, Method::DELETE, &format!("/api/mesh/v1/traces/{}", &TRACE[30..]), &[], Body::empty()).await;
    assert_eq!((trace.status.as_u16(), trace.json()["trace_id"].as_str()), (202, Some(TRACE)));
    let asked = json!({"where": "service = 'reviews'", "start": "2026-08-01T11:00:00Z"}).to_string();
    let condition = send(&router, Method::POST, PATH, &[JSON], asked).await;
    let receipt = condition.json();
    assert_eq!((condition.status.as_u16(), receipt["where"].as_str()), (202, Some("service = 'reviews'")));
    assert_eq!((receipt["start"].as_str(), receipt["state"].as_str()), (Some("2026-08-01T11:00:00.000000Z"), Some("accepted")));
    let again = send(&router, Method::GET, condition.header("location"), &[], Body::empty()).await;
    assert_eq!(again.json(), receipt);
    let all = send(&router, Method::GET, PATH, &[], Body::empty()).await.json();
    assert_eq!(all["deletions"], json!([receipt, trace.json()]));
    let other = [("x-scope-orgid", "other")];
    assert_eq!(send(&router, Method::GET, PATH, &other, Body::empty()).await.json()["deletions"], json!([]));
    send(&router, Method::GET, condition.header("location"), &other, Body::empty()).await.problem(404);
}

/// Scenario: bodies that are no deletion. Guarantee: each is refused with the reason, and nothing is deleted.
#[tokio::test]
async fn what_is_no_deletion_is_refused() {
    let router = router(api(&Config::default()));
    let refused = [
        (json!({}), "where"),
        (json!({"where": "servce = 'a'"}), "servce"),
        (json!({"where": "start_time < now()"}), "now()"),
        (json!({"where": "true", "start": "yesterday"}), "`start`"),
        (json!({"where": "true", "start": "now-1h", "end": "now-2h"}), "before"),
        (json!({"where": "true", "limit": 1}), "limit"),
    ];
    for (body, why) in refused {
        let detail = send(&router, Method::POST, PATH, &[JSON], body.to_string()).await.problem(400);
        assert!(detail.contains(why), "{body}: {detail}");
    }
    send(&router, Method::POST, PATH, &[], "{}").await.problem(415);
    assert_eq!(send(&router, Method::GET, PATH, &[], Body::empty()).await.json()["deletions"], json!([]));
}
