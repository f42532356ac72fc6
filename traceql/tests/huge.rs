//! Traces that tempt to look at all pairs of spans.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{evaluate, query};
use meshlake_traceql::*;

/// Scenario: a huge trace in shapes that tempt to look at all pairs, and many groups. Guarantee: an answer in time.
#[test]
fn huge_traces_are_answered() {
    struct Huge(Vec<(u32, u32)>);
    impl Huge {
        fn id(number: u32) -> [u8; 8] {
            u64::from(number).to_be_bytes()
        }
    }
    impl Trace for Huge {
        fn id(&self) -> [u8; 16] {
            [1; 16]
        }
        fn len(&self) -> usize {
            self.0.len()
        }
        fn facts(&self, span: usize) -> SpanFacts {
            let (id, parent) = self.0[span];
            let (id, parent_id) = (Huge::id(id), Huge::id(parent));
            SpanFacts { id, parent_id, start: span as u64, duration: span as i64, kind: Kind::Server, status: Status::Ok }
        }
        fn name(&self, _: usize) -> &str {
            "huge"
        }
        fn status_message(&self, _: usize) -> &str {
            ""
        }
        fn service_name(&self, _: usize) -> Option<&str> {
            None
        }
        fn instrumentation(&self, _: usize) -> (&str, &str) {
            ("", "")
        }
        fn attribute(&self, _: usize, _: Owner, _: &Named) -> Value<'_> {
            Value::Nil
        }
        fn events(&self, _: usize) -> usize {
            0
        }
        fn event(&self, _: usize, _: usize) -> Event<'_> {
            Event { name: "", since_start: 0 }
        }
        fn links(&self, _: usize) -> usize {
            0
        }
        fn link(&self, _: usize, _: usize) -> Link {
            Link { trace_id: [0; 16], span_id: [0; 8] }
        }
        fn each_attribute(&self, _: usize, _: &mut dyn FnMut(Scope, &str, Value<'_>)) {}
    }
    let shapes: [fn(u32) -> u32; 3] = [|number| number - 1, |number| u32::from(number > 1), |number| number / 2];
    for shape in shapes {
        let huge = Huge((1..=100_000).map(|number| (number, shape(number))).collect());
        for text in [
            "{} >> {}",
            "{} << {}",
            "{} &~ {}",
            "{} !> {}",
            "{} && {} || {}",
            "{} | by(duration) | { true } >> { true }",
            "{} | by(duration) | { true } && { true } | coalesce()",
        ] {
            let start = std::time::Instant::now();
            evaluate(&query(text), &huge).unwrap();
            assert!(start.elapsed().as_secs() < 60, "{text} {:?}", start.elapsed());
        }
    }
}
