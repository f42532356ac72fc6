//! Checks over SQL that what was acknowledged is there: by counts, or span by span.

use std::{
    collections::{HashMap, HashSet},
    fmt, fs,
    path::Path,
    time::Duration,
};

use anyhow::{Context, ensure};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use serde::Serialize;
use serde_json::Value;

use crate::{requests::Requests, spans::attribute, sql::Sql};

/// Rows fetched with one query, about; the server's limit is 100,000.
const ROWS: u64 = 80_000;

/// Rows whose ids are counted as distinct with one query, about: the server's memory for queries has a limit.
const DISTINCT: u64 = 1_000_000;

/// Requests that may have been sent after the last that was acknowledged.
const IN_FLIGHT_MAX: u64 = 100_000;

/// Wrong rows that are told of.
const EXAMPLES: usize = 5;

/// What SQL counts for the tenant of a run, beside what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// `count(*)`.
    pub rows: u64,
    /// `count(distinct span_id)`.
    pub distinct: u64,
    /// Least: acknowledged.
    pub least: u64,
    /// Most: acknowledged or of unknown outcome.
    pub most: u64,
}

impl Counts {
    /// Whether every acknowledged span is there once, as far as counts tell.
    pub fn is_right(&self) -> bool {
        self.rows == self.distinct && (self.least..=self.most).contains(&self.rows)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_right() { "right" } else { "WRONG" };
        let Self { rows, distinct, least, most } = self;
        write!(out, "{verdict}: {rows} rows, {distinct} distinct span ids, {least} to {most} expected")
    }
}

/// Counts the spans of the tenant; waits up to ten seconds for those that were acknowledged last.
///
/// # Errors
/// A query fails.
pub async fn counts(sql: &Sql, least: u64, most: u64) -> anyhow::Result<Counts> {
    let mut rows = count(sql, "SELECT count(*) FROM spans").await?;
    for _ in 0..100 {
        if rows >= least {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        rows = count(sql, "SELECT count(*) FROM spans").await?;
    }
    let mut distinct = 0;
    for part in parts(rows, DISTINCT) {
        distinct += count(sql, &format!("SELECT count(DISTINCT span_id) FROM spans WHERE {part}")).await?;
    }
    Ok(Counts { rows, distinct, least, most })
}

async fn count(sql: &Sql, query: &str) -> anyhow::Result<u64> {
    let rows = sql.rows(query).await?;
    rows.first().and_then(|row| row.first()).and_then(Value::as_u64).with_context(|| format!("no count from: {query}"))
}

/// Conditions that part the spans by ranges of their ids, each with about `most` of `rows` at most: ids are random.
fn parts(rows: u64, most: u64) -> Vec<String> {
    let count = rows.div_ceil(most).max(1);
    let bound = |part: u64| (u128::from(part) << 64) / u128::from(count);
    let condition = |part: u64| match part + 1 {
        1 if count == 1 => "true".to_owned(),
        next if next == count => format!("span_id >= X'{:016x}'", bound(part)),
        next => format!("span_id >= X'{:016x}' AND span_id < X'{:016x}'", bound(part), bound(next)),
    };
    (0..count).map(condition).collect()
}

/// Reads an acked file. A last number that was cut off by a crash of the load generator is left out.
///
/// # Errors
/// The file cannot be read.
pub fn read_acked(path: &Path) -> anyhow::Result<Vec<u64>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read the acked file {}", path.display()))?;
    Ok(bytes.as_chunks().0.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect())
}

/// What a check span by span found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Acknowledged requests.
    pub requests_acknowledged: u64,
    /// Spans of acknowledged requests.
    pub spans_acknowledged: u64,
    /// Rows of the tenant.
    pub rows: u64,
    /// Spans of acknowledged requests that are not there.
    pub lost: u64,
    /// Rows that repeat a span.
    pub duplicated: u64,
    /// Requests of unknown outcome that are there in part.
    pub torn: u64,
    /// Rows that differ from what was sent.
    pub wrong: u64,
    /// Rows that were never sent.
    pub foreign: u64,
    /// Requests that are there whole though they were not acknowledged; nothing wrong with that.
    pub unacknowledged: u64,
    /// Some of the rows that are wrong or foreign.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Whether every acknowledged span is there exactly once and none is torn.
    pub fn is_right(&self) -> bool {
        self.lost + self.duplicated + self.torn + self.wrong + self.foreign == 0
    }

    fn example(&mut self, what: String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(what);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}: {} spans of {} requests acknowledged, {} rows; lost {}, duplicated {}, torn requests {}, wrong {}, \
             foreign {}; {} requests there that were not acknowledged",
            if self.is_right() { "right" } else { "WRONG" },
            self.spans_acknowledged,
            self.requests_acknowledged,
            self.rows,
            self.lost,
            self.duplicated,
            self.torn,
            self.wrong,
            self.foreign,
            self.unacknowledged
        )?;
        self.examples.iter().try_for_each(|example| write!(out, "\n  {example}"))
    }
}

const COLUMNS: &str = "span_id, trace_id, parent_span_id, duration, request_id, name, kind, node_id, http_url, \
                       http_status_code, upstream_cluster, response_flags, service";

/// Fetches every span of the tenant and compares it with what was sent. `acked` are the numbers of the acknowledged requests.
///
/// # Errors
/// A query fails, or nothing was acknowledged.
pub async fn verify(sql: &Sql, requests: &Requests, acked: &[u64]) -> anyhow::Result<Verdict> {
    let last = acked.iter().max().context("nothing was acknowledged, so there is nothing to check")?;
    let mut check = Check::new(requests, last + IN_FLIGHT_MAX)?;
    let rows = count(sql, "SELECT count(*) FROM spans").await?;
    for part in parts(rows, ROWS) {
        for row in sql.rows(&format!("SELECT {COLUMNS} FROM spans WHERE {part}")).await? {
            check.row(&row)?;
        }
    }
    ensure!(check.verdict.rows == rows, "{rows} rows were counted and {} fetched; is somebody writing?", check.verdict.rows);
    Ok(check.finish(acked))
}

struct Check<'a> {
    requests: &'a Requests,
    /// The last request that may have been sent.
    last: u64,
    /// The spans of a round, for what is the same in every round.
    spans: Vec<Span>,
    seen: HashSet<[u8; 8]>,
    /// Distinct spans seen of each request.
    by_request: HashMap<u64, usize>,
    verdict: Verdict,
}

impl<'a> Check<'a> {
    fn new(requests: &'a Requests, last: u64) -> anyhow::Result<Self> {
        let spans = requests.decoded()?;
        Ok(Self { requests, last, spans, seen: HashSet::new(), by_request: HashMap::new(), verdict: Verdict::default() })
    }

    fn row(&mut self, row: &[Value]) -> anyhow::Result<()> {
        self.verdict.rows += 1;
        let id = row.first().and_then(Value::as_str).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let id = id.context("a row has no span id in hex")?.to_be_bytes();
        let Some((index, in_round)) = self.requests.find(id, self.last) else {
            self.verdict.foreign += 1;
            self.verdict.example(format!("never sent: {row:?}"));
            return Ok(());
        };
        if !self.seen.insert(id) {
            self.verdict.duplicated += 1;
            return Ok(());
        }
        *self.by_request.entry(index).or_default() += 1;
        let expected = self.expected(index, in_round, id)?;
        if row != expected {
            self.verdict.wrong += 1;
            self.verdict.example(format!("request {index}: found {row:?}, sent {expected:?}"));
        }
        Ok(())
    }

    /// The row of a span as [`COLUMNS`] must show it.
    fn expected(&self, index: u64, in_round: usize, id: [u8; 8]) -> anyhow::Result<Vec<Value>> {
        let sent = self.requests.expected(index, in_round);
        let span = &self.spans[in_round];
        let text = |key: &str| attribute(span, key).map_or(Value::Null, Value::from);
        let kind = match span.kind() {
            SpanKind::Client => "client",
            SpanKind::Server => "server",
            _ => "internal",
        };
        let status: Option<i64> = attribute(span, "http.status_code").map(str::parse).transpose()?;
        Ok(vec![
            hex(&id).into(),
            hex(&sent.trace_id).into(),
            sent.parent_id.map_or(Value::Null, |id| hex(&id).into()),
            sent.duration.into(),
            std::str::from_utf8(&sent.request_id)?.into(),
            span.name.as_str().into(),
            kind.into(),
            text("node_id"),
            text("http.url"),
            status.into(),
            text("upstream_cluster"),
            text("response_flags"),
            text("istio.canonical_service"),
        ])
    }

    fn finish(self, acked: &[u64]) -> Verdict {
        let mut verdict = self.verdict;
        let acked: HashSet<u64> = acked.iter().copied().collect();
        verdict.requests_acknowledged = acked.len() as u64;
        for index in &acked {
            let sent = self.requests.spans_in(*index);
            verdict.spans_acknowledged += sent as u64;
            verdict.lost += (sent - self.by_request.get(index).copied().unwrap_or(0)) as u64;
        }
        for (index, seen) in self.by_request.iter().filter(|(index, _)| !acked.contains(index)) {
            let whole = *seen == self.requests.spans_in(*index);
            if whole { verdict.unacknowledged += 1 } else { verdict.torn += 1 }
        }
        verdict
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message;

    use super::*;
    use crate::{mesh::Shape, requests::FRAME_HEADER, spans::REQUEST_ID};

    fn requests() -> Requests {
        let traffic = Shape { services: 7, depth: 3, fan_out: 2 }.traffic(5, 1).unwrap();
        Requests::new(traffic, 5, 3).unwrap()
    }

    /// The rows that a server shows for a request, made from its bytes.
    fn rows(requests: &Requests, index: u64) -> Vec<Vec<Value>> {
        let mut bytes = BytesMut::new();
        requests.write(index, 1_800_000_000_000_000_000, &mut bytes);
        let request = ExportTraceServiceRequest::decode(&bytes[FRAME_HEADER..]).unwrap();
        let spans = request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
        spans
            .map(|span| {
                let text = |key| Value::from(attribute(&span, key));
                let parent = if span.parent_span_id.is_empty() { None } else { Some(hex(&span.parent_span_id)) };
                vec![
                    hex(&span.span_id).into(),
                    hex(&span.trace_id).into(),
                    parent.into(),
                    (span.end_time_unix_nano - span.start_time_unix_nano).into(),
                    text(REQUEST_ID),
                    span.name.clone().into(),
                    if span.kind == 3 { "client" } else { "server" }.into(),
                    text("node_id"),
                    text("http.url"),
                    attribute(&span, "http.status_code").unwrap().parse::<i64>().unwrap().into(),
                    text("upstream_cluster"),
                    text("response_flags"),
                    text("istio.canonical_service"),
                ]
            })
            .collect()
    }

    fn check(requests: &Requests, rows: &[Vec<Value>], acked: &[u64]) -> Verdict {
        let mut check = Check::new(requests, 1_000_000).unwrap();
        rows.iter().for_each(|row| check.row(row).unwrap());
        check.finish(acked)
    }

    /// Scenario: all acknowledged requests are there, and one more. Guarantee: right.
    #[test]
    fn what_was_sent_is_right() {
        let requests = requests();
        let acked: Vec<u64> = (0..requests.per_round() as u64 + 7).collect();
        let there: Vec<_> = acked.iter().chain(&[5_000]).flat_map(|index| rows(&requests, *index)).collect();
        let verdict = check(&requests, &there, &acked);
        assert!(verdict.is_right(), "{verdict}");
        assert_eq!((verdict.rows, verdict.unacknowledged), (there.len() as u64, 1));
        assert_eq!(verdict.spans_acknowledged + requests.spans_in(5_000) as u64, verdict.rows);
    }

    /// Scenario: a span missing, doubled, changed, made up, and a request there in part. Guarantee: each is found.
    #[test]
    fn every_kind_of_damage_is_found() {
        let requests = requests();
        let whole: Vec<_> = (0..10).flat_map(|index| rows(&requests, index)).collect();
        let acked: Vec<u64> = (0..10).collect();
        assert_eq!(check(&requests, &whole[1..], &acked).lost, 1);
        let doubled = [whole.clone(), vec![whole[3].clone()]].concat();
        assert_eq!(check(&requests, &doubled, &acked).duplicated, 1);
        let mut changed = whole.clone();
        changed[7][8] = "http://elsewhere/".into();
        assert_eq!(check(&requests, &changed, &acked).wrong, 1);
        changed[7][0] = "00000000000000ff".into();
        let verdict = check(&requests, &changed, &acked);
        assert_eq!((verdict.foreign, verdict.lost), (1, 1));
        assert_eq!(check(&requests, &whole[1..], &acked[1..]).torn, 1);
    }

    /// Scenario: few rows, many rows. Guarantee: as many parts as keep each below the limit, together everything.
    #[test]
    fn parts_cover_all_ids() {
        assert_eq!(parts(0, 10), ["true"]);
        assert_eq!(parts(10, 10), ["true"]);
        let expected = [
            "span_id >= X'0000000000000000' AND span_id < X'5555555555555555'",
            "span_id >= X'5555555555555555' AND span_id < X'aaaaaaaaaaaaaaaa'",
            "span_id >= X'aaaaaaaaaaaaaaaa'",
        ];
        assert_eq!(parts(30, 10), expected);
    }

    /// Scenario: counts below, within and above what is expected. Guarantee: only the middle one is right.
    #[test]
    fn counts_are_judged() {
        let counts = |rows, distinct| Counts { rows, distinct, least: 10, most: 12 };
        assert!(counts(10, 10).is_right() && counts(12, 12).is_right());
        assert!(!counts(9, 9).is_right() && !counts(13, 13).is_right() && !counts(11, 10).is_right());
    }
}
