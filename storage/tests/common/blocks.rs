//! Requests made of numbers, so that each of their spans can be told from all others and no two blocks share one.
//!
//! A *block* is a request; its number decides its tenant and its spans, and a span's number decides every column of its row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::error::ArrowError;
use async_trait::async_trait;
use bytes::Bytes;
use meshlake_config::Tenant;
use meshlake_storage::{
    Accepted, Answer, AttributeValues, CLOCK_FLAG, Condition, Conditions, Content, Decode, Encoding, FileRollup, Frame, Link,
    MapColumn, Promoted, Refused, RollupError, Rollups, Row, Snapshot, SpanBuilder, SpanFile, Store, StoredRollup, Value, demote,
    spans_schema,
};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::Rng;

const TENANTS: [&str; 3] = ["team-b", "default", "team-a"];
const SPANS_PER_BLOCK: u64 = 64;
/// The request can't be decoded, which shows after some rows.
pub const INVALID: u64 = u64::MAX;
/// The decoder panics, in the middle of a row.
pub const PANIC: u64 = u64::MAX - 1;
const HOUR_NS: u64 = 3_600_000_000_000;
pub const BASE_NS: u64 = 1_790_000_000_000_000_000;
/// Blocks from here on have spans in windows of their own.
pub const SPREAD: u64 = 1 << 32;

pub fn tenant(block: u64) -> &'static str {
    TENANTS[(block % 3) as usize]
}

/// The numbers of a block's spans.
pub fn spans(block: u64) -> Vec<u64> {
    (0..1 + block * 7 % 23).map(|index| block * SPANS_PER_BLOCK + index).collect()
}

/// A request of a tenant with these spans.
pub fn request_of(tenant: &str, spans: &[u64]) -> Frame {
    let body: Vec<u8> = spans.iter().flat_map(|span| span.to_le_bytes()).collect();
    Frame {
        tenant: Tenant::parse(tenant).unwrap(),
        content: Content::Protobuf,
        encoding: Encoding::Identity,
        received: super::now(),
        body: Bytes::from(body),
    }
}

pub fn request(block: u64) -> Frame {
    request_of(tenant(block), &spans(block))
}

/// Decodes requests made of numbers.
#[derive(Debug)]
pub struct Blocks;

/// A condition is the number of a block.
impl Conditions for Blocks {
    fn parse(&self, text: &str) -> Result<Arc<dyn Condition>, String> {
        let block = text.parse().map_err(|_| format!("`{text}` is not the number of a block"))?;
        Ok(Arc::new(OfBlock(block)))
    }
}

struct OfBlock(u64);

impl Condition for OfBlock {
    fn holds(&self, rows: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        Ok(numbers(rows).into_iter().map(|number| Some(number / SPANS_PER_BLOCK == self.0)).collect())
    }
}

impl Rollups for Blocks {
    fn begin(&self, _: &Arc<Vec<Promoted>>) -> Box<dyn FileRollup> {
        Box::new(Rows(0))
    }
}

/// A rollup that is the number of rows.
struct Rows(u64);

#[async_trait]
impl FileRollup for Rows {
    fn add(&mut self, rows: &RecordBatch) -> Result<(), RollupError> {
        self.0 += rows.num_rows() as u64;
        Ok(())
    }

    async fn finish(self: Box<Self>, file: &Arc<SpanFile>, _: Vec<Arc<SpanFile>>) -> Result<StoredRollup, RollupError> {
        assert_eq!(self.0, file.rows);
        let sections = vec![self.0.to_le_bytes().to_vec()];
        Ok(StoredRollup { traces: sections.clone(), sections, bounds: [1, self.0] })
    }
}

impl Decode for Blocks {
    fn decode(&self, frame: &Frame, rows: &mut SpanBuilder) -> Answer {
        let mut accepted = Accepted::default();
        for number in frame.body.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())) {
            if number >= PANIC {
                fill(rows, 1);
                assert_ne!(number, PANIC, "as the test wants it");
                return Err(Refused::Invalid("span number out of range".to_owned()));
            }
            push(rows, frame.tenant.as_str(), number);
            accepted.spans += 1;
        }
        Ok(accepted)
    }
}

fn start(number: u64) -> u64 {
    let block = number / SPANS_PER_BLOCK;
    let hour = if block >= SPREAD { block - SPREAD } else { block % 3 };
    BASE_NS + hour * HOUR_NS + Rng(number).below(HOUR_NS / 2)
}

/// A trace has five spans of a block; the first span of a block is of one that it shares with others of its tenant and hour.
fn trace(number: u64) -> u64 {
    let block = number / SPANS_PER_BLOCK;
    if number.is_multiple_of(SPANS_PER_BLOCK) { 1 << 60 | (block / 30 * 3 + block % 3) } else { number / 5 }
}

/// Adds the row of a span.
pub fn push(rows: &mut SpanBuilder, tenant: &str, number: u64) {
    fill(rows, number);
    let trace = trace(number);
    let mut trace_id = [0; 16];
    trace_id[..8].copy_from_slice(&Rng(trace).next().to_be_bytes());
    trace_id[8..].copy_from_slice(&(trace + 1).to_be_bytes());
    let start = start(number);
    rows.end_row(&Row {
        tenant,
        trace_id,
        span_id: (number + 1).to_be_bytes(),
        parent_span_id: (!number.is_multiple_of(5)).then(|| number.to_be_bytes()),
        start,
        end: if number.is_multiple_of(31) { start - 5 } else { start + number % 1_000_000 * 1_001 },
        name: format!("GET /{}", number % 17).as_bytes(),
        kind: ["server", "client", "internal"][(number % 3) as usize],
        status: if number.is_multiple_of(11) { "error" } else { "unset" },
        error: number.is_multiple_of(11),
        origins: (number % 2) as i64,
    });
}

/// Sets what is optional of the row of a span.
fn fill(rows: &mut SpanBuilder, number: u64) {
    let row = rows.rows();
    let attributes = |map: &mut MapColumn, row| match number % 6 {
        0 => map.push(row, b"text", Value::Text(format!("value {number}").as_bytes())),
        1 => map.push(row, b"int", Value::Int(number as i64)),
        2 => map.push(row, b"double", Value::Double(number as f64 / 3.0)),
        3 => map.push(row, b"bool", Value::Bool(number.is_multiple_of(2))),
        4 => map.push(row, b"other", Value::Other(&number.to_be_bytes())),
        _ => {}
    };
    attributes(&mut rows.span_attributes, row);
    let mut resource = MapColumn::default();
    resource.push(0, b"host", Value::Text(b"a"));
    attributes(&mut resource, 0);
    if number.is_multiple_of(4) {
        rows.push_resource_attributes(&resource);
        rows.push_scope_attributes(&resource);
        rows.push_resource_entities(b"entities");
    }
    let has = |divisor: u64| number.is_multiple_of(divisor);
    if has(97) {
        rows.flagged.push(row, CLOCK_FLAG.as_bytes());
    }
    if has(3) {
        rows.status_message.push(row, format!("message {}", number % 50).as_bytes());
        rows.flags.push(row, 257);
        rows.peer_port.push(row, (number % 65_536) as i32);
        rows.dropped_events_count.push(row, number as i64);
    }
    for column in (0..8).filter(|column| (number >> column) % 2 == 1) {
        match &mut rows.attributes[column as usize] {
            AttributeValues::Text(text) => {
                text.push(row, (number % 13).to_string().as_bytes());
            }
            AttributeValues::Int(int) => int.push(row, (number % 600) as i64),
        }
    }
    for event in 0..if has(4) { number % 3 } else { 0 } {
        let (map, event_row) = rows.events.attributes();
        attributes(map, event_row);
        rows.events.push(row, start(number) + event, b"event", event as u32);
    }
    if has(7) {
        let (map, link_row) = rows.links.attributes();
        attributes(map, link_row);
        rows.links.push(row, &Link { trace_id: &[1; 16], span_id: &number.to_be_bytes(), ..Link::default() });
    }
}

/// The span numbers of the rows of a batch.
pub fn numbers(batch: &RecordBatch) -> Vec<u64> {
    let ids = batch["span_id"].as_fixed_size_binary();
    (0..batch.num_rows()).map(|row| u64::from_be_bytes(ids.value(row).try_into().unwrap()) - 1).collect()
}

/// The rows of some spans as they went in: (tenant, number).
pub fn expected<'a>(spans: impl IntoIterator<Item = (&'a str, u64)>) -> RecordBatch {
    let mut rows = SpanBuilder::default();
    spans.into_iter().for_each(|(tenant, number)| push(&mut rows, tenant, number));
    rows.finish().unwrap().map_or_else(|| RecordBatch::new_empty(spans_schema()), |live| live.batch)
}

/// Compares two batches, dictionaries by their values.
pub fn assert_same(found: &RecordBatch, expected: &RecordBatch) {
    assert_eq!(found.num_rows(), expected.num_rows());
    assert_eq!(found.schema().fields(), expected.schema().fields());
    for (index, field) in expected.schema().fields().iter().enumerate() {
        assert_eq!(found.column(index), expected.column(index), "column {}", field.name());
    }
}

/// All rows of a Parquet file.
pub async fn read_file(objects: &dyn ObjectStore, path: &str) -> (Bytes, RecordBatch) {
    let bytes = objects.get(&path.into()).await.unwrap().bytes().await.unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    (bytes, concat_batches(&schema, &batches).unwrap())
}

/// All rows that a snapshot holds, in the order of their numbers.
async fn rows_of(snapshot: &Snapshot, objects: &dyn ObjectStore) -> RecordBatch {
    let mut batches: Vec<RecordBatch> = snapshot.live.iter().map(|live| live.batch.clone()).collect();
    for file in snapshot.files.iter() {
        let (bytes, batch) = read_file(objects, &file.path).await;
        assert_eq!((bytes.len() as u64, batch.num_rows() as u64), (file.size, file.rows), "{}", file.path);
        batches.push(demote(&batch, &snapshot.promotions.list[..file.promoted.count]).unwrap());
    }
    let all = concat_batches(&spans_schema(), &batches).unwrap();
    let numbers = numbers(&all);
    let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
    order.sort_by_key(|&row| numbers[row as usize]);
    take_record_batch(&all, &UInt32Array::from(order)).unwrap()
}

/// The blocks that a snapshot holds, in order. Each must be whole, there once, and have the rows that it was sent with (P2).
pub async fn blocks_of(snapshot: &Snapshot, objects: &dyn ObjectStore) -> Vec<u64> {
    whole(&rows_of(snapshot, objects).await)
}

/// The same without the blocks that are being deleted, and those of them of which there is something; none of it twice.
pub async fn stored_beside(store: &Store, doomed: &BTreeSet<u64>) -> (Vec<u64>, BTreeSet<u64>) {
    let all = rows_of(&store.snapshot().unwrap(), store.object_store().as_ref()).await;
    let is_doomed = |number: &u64| doomed.contains(&(number / SPANS_PER_BLOCK));
    let numbers = numbers(&all);
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "spans are there twice");
    let stays: BooleanArray = numbers.iter().map(|number| Some(!is_doomed(number))).collect();
    let left = numbers.iter().filter(|number| is_doomed(number)).map(|number| number / SPANS_PER_BLOCK).collect();
    (whole(&filter_record_batch(&all, &stays).unwrap()), left)
}

fn whole(all: &RecordBatch) -> Vec<u64> {
    let mut blocks = BTreeMap::<u64, Vec<u64>>::new();
    for number in numbers(all) {
        blocks.entry(number / SPANS_PER_BLOCK).or_default().push(number);
    }
    for (&block, found) in &blocks {
        assert_eq!(*found, spans(block), "block {block}");
    }
    let rows = blocks.iter().flat_map(|(&block, numbers)| numbers.iter().map(move |&number| (tenant(block), number)));
    assert_same(all, &expected(rows));
    blocks.into_keys().collect()
}

/// The rows of spans of one tenant that a store holds must be those that went in.
pub async fn assert_stored(store: &Store, tenant: &str, spans: &[u64]) {
    let found = rows_of(&store.snapshot().unwrap(), store.object_store().as_ref()).await;
    assert_same(&found, &expected(spans.iter().map(|&number| (tenant, number))));
}

/// The numbers of all spans that a store holds now, as often as it holds them.
pub async fn stored_numbers(store: &Store) -> Vec<u64> {
    numbers(&rows_of(&store.snapshot().unwrap(), store.object_store().as_ref()).await)
}

/// The blocks that a store holds now.
pub async fn stored(store: &Store) -> Vec<u64> {
    blocks_of(&store.snapshot().unwrap(), store.object_store().as_ref()).await
}
