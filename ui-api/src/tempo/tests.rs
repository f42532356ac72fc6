//! Requests byte for byte as Grafana and Kiali send them, and answers by the rules of these clients' own parsers.

mod calls;
mod errors;
mod grafana;
mod kiali;
mod metrics;
mod strict;
mod wire;

use crate::fixture::{Answer, get};

/// The range around the spans of the fixture, as clients write it.
const RANGE: &str = "start=1785582000&end=1785589200";

/// What Grafana's backend sends, which parses answers of 200 as strictly as [`strict`].
async fn grafana(path: &str) -> Answer {
    get(&format!("/tempo{path}"), &[("accept", "application/json"), ("user-agent", "Grafana/12.3.0")]).await
}

/// A query in a URL, with everything escaped that Go's `url.QueryEscape` escapes.
fn escaped(query: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    query
        .bytes()
        .map(|byte| match byte {
            b' ' => "+".to_owned(),
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
