//! The recorded stream of a real Envoy mesh gives exactly the counts that were computed independently of this project
//! (`tests/data/README.md`), in whatever order and batching its requests come.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use common::{Client, Server};
use hyper::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::json;

fn recorded() -> Vec<ExportTraceServiceRequest> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/envoy-bookinfo.traces.bin.gz");
    let mut stream = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut stream).unwrap();
    let mut rest = &*stream;
    let mut requests = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (message, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
        requests.push(ExportTraceServiceRequest::decode(message).unwrap());
        rest = tail;
    }
    requests
}

/// The same spans in requests of `size` resource groups, in an order that `step` decides.
fn rebatched(requests: &[ExportTraceServiceRequest], step: usize, size: usize) -> Vec<Bytes> {
    let mut spans = Vec::new();
    for group in requests.iter().flat_map(|request| &request.resource_spans) {
        for scoped in &group.scope_spans {
            for span in &scoped.spans {
                let mut group = group.clone();
                group.scope_spans = vec![scoped.clone()];
                group.scope_spans[0].spans = vec![span.clone()];
                spans.push(group);
            }
        }
    }
    let count = spans.len();
    let order: Vec<_> = (0..count).map(|index| spans[index * step % count].clone()).collect();
    order.chunks(size).map(|groups| ExportTraceServiceRequest { resource_spans: groups.to_vec() }.encode_to_vec().into()).collect()
}

/// The caller of a hop is the proxy that wrote the client span, the callee the one that wrote the server span below it.
const HOPS: &str = "select c.service caller, s.service callee, count(*) hops, count(*) filter (where s.error) failed \
    from spans s join spans c on s.parent_span_id = c.span_id and s.trace_id = c.trace_id \
    where s.kind = 'server' and c.kind = 'client' group by 1, 2 order by 1, 2";

async fn check(bodies: Vec<Bytes>) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[("MESHLAKE_LIVE__FLUSH_SIZE", "1MiB")]).await;
    let mut client = Client::connect(server.otlp_http).await.unwrap();
    for body in bodies {
        let (status, _) = client.post("/v1/traces", "application/x-protobuf", body).await.unwrap();
        assert_eq!(status, StatusCode::OK);
    }
    let counts = "select count(*), count(distinct trace_id), count(*) filter (where parent_span_id is null) from spans";
    assert_eq!(server.sql(counts).await, [json!([5868, 800, 800])]);
    let codes = "select http_status_code, count(*) from spans group by 1 order by 1";
    assert_eq!(server.sql(codes).await, [json!([200, 5772]), json!([500, 48]), json!([502, 48])]);
    let hops = [
        json!(["istio-ingressgateway", "productpage", 800, 0]),
        json!(["productpage", "details", 800, 0]),
        json!(["productpage", "reviews", 800, 24]),
        json!(["reviews", "ratings", 534, 24]),
    ];
    assert_eq!(server.sql(HOPS).await, hops);
    let versions = "select version, count(*), count(*) filter (where error) from spans \
        where service = 'reviews' and kind = 'server' group by 1 order by 1";
    assert_eq!(server.sql(versions).await, [json!(["v1", 266, 0]), json!(["v2", 267, 13]), json!(["v3", 267, 11])]);
    let orphans = "select count(*) from spans s left anti join spans p on s.parent_span_id = p.span_id and s.trace_id = p.trace_id \
        where s.parent_span_id is not null";
    assert_eq!(server.sql(orphans).await, [json!([0])]);
    assert!(server.terminate().success());
}

/// Scenario: the stream as it was recorded. Guarantee: the true counts.
#[tokio::test]
async fn as_recorded() {
    check(recorded().iter().map(|request| request.encode_to_vec().into()).collect()).await;
}

/// Scenario: the spans in another order and other requests. Guarantee: the true counts (P4).
#[tokio::test]
async fn shuffled_and_rebatched() {
    check(rebatched(&recorded(), 2_501, 3)).await;
    check(rebatched(&recorded(), 4_999, 700)).await;
}
