//! Deletion on demand: which spans, how far it is, and the receipt.
//!
//! A deletion covers what was acknowledged before it was asked for: every generation up to [`Receipt::generations`], and every
//! lake file of the version in which it began (`Compactor::begin_deletions`). Merges leave its spans out of what they read of
//! those, so that each file without them takes the place of one with them in one commit. The receipt is `deletions/<id>.json`,
//! and is written before the answer to who asked and before each commit: a crash at any point leaves a deletion that goes on.
//! Several processes may carry one out; each adds to the receipt what it did.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{and, filter_record_batch, not, prep_null_mask_filter};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use futures::TryStreamExt;
use meshlake_config::Tenant;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::error;

use crate::ingest::now;
use crate::schema::column_index;
use crate::snapshot::SpanFile;

const FOLDER: &str = "deletions";
const VERSION: u32 = 1;

/// What holds for some rows.
pub trait Condition: Send + Sync {
    /// For each row whether it holds; null: it does not.
    ///
    /// # Errors
    /// If it can't be computed for these rows.
    fn holds(&self, rows: &RecordBatch) -> Result<BooleanArray, ArrowError>;
}

/// The language in which conditions are written: the query layer's.
pub trait Conditions: fmt::Debug + Send + Sync {
    /// Reads a condition.
    ///
    /// # Errors
    /// What is wrong with the text, for who wrote it.
    fn parse(&self, text: &str) -> Result<Arc<dyn Condition>, String>;
}

/// Which spans to delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// All spans of a trace: 32 hex digits.
    Trace(String),
    /// Spans for which a condition holds, by the time of their start.
    Where {
        /// The condition.
        condition: String,
        /// They start at this moment or later; microseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start: Option<i64>,
        /// They start before this moment; microseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end: Option<i64>,
    },
}

/// A file that held spans to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewritten {
    /// Where it is, or was, in the object store.
    pub file: String,
    /// Spans that were left out.
    pub spans: u64,
    /// When no query read it any more; microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<i64>,
    /// When it was deleted; microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<i64>,
}

/// What was asked to be deleted, and how far that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Of this format.
    pub version: u32,
    /// Names the deletion.
    pub id: String,
    /// Whose spans.
    pub tenant: String,
    /// When it was asked for; microseconds.
    pub requested: i64,
    /// Which spans.
    pub selection: Selection,
    /// The last generation of each writer that it covers.
    pub generations: BTreeMap<String, u64>,
    /// The files that held such spans.
    pub files: Vec<Rewritten>,
    /// Since when no query sees the spans; microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<i64>,
    /// When the last file with such spans was deleted; microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<i64>,
}

/// Why a deletion was not taken, or its receipt not read.
#[derive(Debug, Error)]
pub enum DeletionError {
    /// The condition is not one.
    #[error("{0}")]
    Condition(String),
    /// The object store failed. Whether the deletion was taken is not known.
    #[error("object store: {0}")]
    Store(#[from] object_store::Error),
    /// A receipt is not one that this program understands.
    #[error("{path}: {reason}")]
    Unreadable {
        /// Where it is in the object store.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Receipt {
    /// Spans deleted so far.
    pub fn spans(&self) -> u64 {
        self.files.iter().map(|file| file.spans).sum()
    }

    /// Adds what another process has noted of the same deletion.
    fn add(&mut self, noted: Receipt) {
        for file in noted.files {
            match self.files.iter_mut().find(|known| known.file == file.file) {
                Some(known) => {
                    known.replaced = earlier(known.replaced, file.replaced);
                    known.deleted = earlier(known.deleted, file.deleted);
                }
                None => self.files.push(file),
            }
        }
        self.hidden = earlier(self.hidden, noted.hidden);
        self.finished = earlier(self.finished, noted.finished);
    }

    async fn put(&self, store: &dyn ObjectStore) -> Result<(), DeletionError> {
        let path = receipt_path(&self.id);
        let bytes = serde_json::to_vec(self).map_err(|error| unreadable(&path, &error))?;
        store.put_opts(&path, bytes.into(), PutMode::Overwrite.into()).await?;
        Ok(())
    }

    async fn get(store: &dyn ObjectStore, path: &Path) -> Result<Receipt, DeletionError> {
        let bytes = store.get(path).await?.bytes().await?;
        let receipt: Receipt = serde_json::from_slice(&bytes).map_err(|error| unreadable(path, &error))?;
        match receipt.version {
            VERSION => Ok(receipt),
            other => Err(unreadable(path, &format!("version {other}: this program reads version {VERSION}"))),
        }
    }
}

fn receipt_path(id: &str) -> Path {
    Path::from(format!("{FOLDER}/{id}.json"))
}

fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

fn unreadable(path: &Path, reason: &dyn fmt::Display) -> DeletionError {
    DeletionError::Unreadable { path: path.to_string(), reason: reason.to_string() }
}

/// The spans of one deletion.
#[derive(Clone)]
pub(crate) struct Doomed {
    pub id: String,
    tenant: String,
    pub generations: BTreeMap<String, u64>,
    start: i64,
    end: i64,
    trace: Option<[u8; 16]>,
    condition: Option<Arc<dyn Condition>>,
}

impl fmt::Debug for Doomed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Doomed({})", self.id)
    }
}

impl Doomed {
    fn new(receipt: &Receipt, conditions: &dyn Conditions) -> Result<Doomed, DeletionError> {
        let (trace, condition, start, end) = match &receipt.selection {
            Selection::Trace(id) => (Some(trace_id(id)?), None, None, None),
            Selection::Where { condition, start, end } => {
                (None, Some(conditions.parse(condition).map_err(DeletionError::Condition)?), *start, *end)
            }
        };
        Ok(Doomed {
            id: receipt.id.clone(),
            tenant: receipt.tenant.clone(),
            generations: receipt.generations.clone(),
            start: start.unwrap_or(i64::MIN),
            end: end.unwrap_or(i64::MAX),
            trace,
            condition,
        })
    }

    /// Whether some of the spans may be in the file.
    pub(crate) fn may_be_in(&self, file: &SpanFile) -> bool {
        file.tenants.contains(&self.tenant)
            && file.start_min < self.end
            && file.start_max >= self.start
            && self.trace.is_none_or(|trace| file.traces.as_ref().is_none_or(|traces| traces.may_hold(&trace)))
    }

    /// Whether the deletion covers a fresh file and some of its spans may be there.
    pub(crate) fn covers_fresh(&self, writer: &str, generation: u64, file: &SpanFile) -> bool {
        self.generations.get(writer).is_some_and(|last| generation <= *last) && self.may_be_in(file)
    }

    /// The rows that stay.
    pub(crate) fn keep(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let mask = self.mask(rows)?;
        if mask.true_count() == 0 {
            return Ok(rows.clone());
        }
        filter_record_batch(rows, &not(&mask)?)
    }

    fn mask(&self, rows: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let column = |name: &'static str| {
            let index = column_index(name).ok_or_else(|| ArrowError::SchemaError(name.to_owned()))?;
            Ok::<_, ArrowError>(rows.column(index))
        };
        let wrong = || ArrowError::SchemaError("columns of spans".to_owned());
        let tenants = column("tenant")?.as_dictionary_opt::<Int32Type>().ok_or_else(wrong)?;
        let names = tenants.values().as_string_opt::<i32>().ok_or_else(wrong)?;
        let own: Vec<bool> = names.iter().map(|name| name == Some(self.tenant.as_str())).collect();
        let starts = column("start_time")?.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong)?;
        let traces = column("trace_id")?.as_fixed_size_binary_opt().ok_or_else(wrong)?;
        let placed = |row: usize| {
            tenants.key(row).is_some_and(|key| own[key])
                && (self.start..self.end).contains(&starts.value(row))
                && self.trace.is_none_or(|trace| traces.value(row) == trace)
        };
        let mask: BooleanArray = (0..rows.num_rows()).map(|row| Some(placed(row))).collect();
        match &self.condition {
            Some(condition) if mask.true_count() > 0 => and(&mask, &known(&condition.holds(rows)?)),
            _ => Ok(mask),
        }
    }
}

/// What is unknown does not hold.
fn known(mask: &BooleanArray) -> BooleanArray {
    if mask.null_count() == 0 { mask.clone() } else { prep_null_mask_filter(mask) }
}

fn trace_id(hex: &str) -> Result<[u8; 16], DeletionError> {
    let id = (hex.len() == 32).then(|| u128::from_str_radix(hex, 16).ok()).flatten();
    id.map(u128::to_be_bytes).ok_or_else(|| DeletionError::Condition(format!("`{hex}` is not a trace id of 32 hex digits")))
}

/// What a deletion is to cover: the last generation of each writer.
type Generations = dyn Fn() -> BTreeMap<String, u64> + Send + Sync;

/// The deletions of an object store.
pub struct Deletions {
    objects: Arc<dyn ObjectStore>,
    conditions: Arc<dyn Conditions>,
    generations: Box<Generations>,
    open: Mutex<Vec<Open>>,
    /// The ids of all that were looked at.
    known: Mutex<HashSet<String>>,
}

#[derive(Clone)]
struct Open {
    receipt: Receipt,
    doomed: Arc<Doomed>,
}

impl fmt::Debug for Deletions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Deletions({} open)", self.open.lock().len())
    }
}

impl Deletions {
    /// No deletions yet; `generations` says what one that is asked for now must cover.
    pub fn new(
        objects: Arc<dyn ObjectStore>,
        conditions: Arc<dyn Conditions>,
        generations: impl Fn() -> BTreeMap<String, u64> + Send + Sync + 'static,
    ) -> Deletions {
        Deletions { objects, conditions, generations: Box::new(generations), open: Mutex::default(), known: Mutex::default() }
    }

    /// Goes on with what was not finished, and takes up what other processes were asked for since the last time.
    pub(crate) async fn load(&self) -> Result<(), DeletionError> {
        for (id, path) in self.list().await? {
            if self.known.lock().contains(&id) {
                continue;
            }
            let receipt = Receipt::get(self.objects.as_ref(), &path).await?;
            let mut open = self.open.lock();
            if !self.known.lock().insert(id) || receipt.finished.is_some() {
                continue;
            }
            match Doomed::new(&receipt, self.conditions.as_ref()) {
                Ok(doomed) => open.push(Open { receipt, doomed: Arc::new(doomed) }),
                // It was read once: another version of this program took it.
                Err(why) => error!(deletion = receipt.id, %why, "can't go on with a deletion"),
            }
        }
        Ok(())
    }

    /// The receipts that there are, by id.
    async fn list(&self) -> Result<Vec<(String, Path)>, DeletionError> {
        let found = self.objects.list(Some(&Path::from(FOLDER))).map_ok(|object| object.location);
        let found: Vec<Path> = found.try_collect().await?;
        let id = |path: &Path| Some(path.filename()?.strip_suffix(".json")?.to_owned());
        Ok(found.into_iter().filter_map(|path| Some((id(&path)?, path))).collect())
    }

    /// Takes a deletion. When this returns, it is durable; the receipt tells how far it is.
    ///
    /// # Errors
    /// If the selection is wrong, or the object store fails.
    pub async fn request(&self, tenant: &Tenant, selection: Selection) -> Result<Receipt, DeletionError> {
        let receipt = {
            let mut open = self.open.lock();
            let requested = now().max(open.last().map_or(0, |last| last.receipt.requested + 1));
            let receipt = Receipt {
                version: VERSION,
                id: format!("{requested:x}-{:08x}", super::log::random() as u32),
                tenant: tenant.as_str().to_owned(),
                requested,
                selection,
                generations: (self.generations)(),
                files: Vec::new(),
                hidden: None,
                finished: None,
            };
            let doomed = Arc::new(Doomed::new(&receipt, self.conditions.as_ref())?);
            self.known.lock().insert(receipt.id.clone());
            open.push(Open { receipt: receipt.clone(), doomed });
            receipt
        };
        if let Err(error) = receipt.put(self.objects.as_ref()).await {
            // Should it be there all the same, it is found like one that another process was asked for.
            self.open.lock().retain(|open| open.receipt.id != receipt.id);
            self.known.lock().remove(&receipt.id);
            return Err(error);
        }
        Ok(receipt)
    }

    /// A tenant's receipt.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn receipt(&self, tenant: &Tenant, id: &str) -> Result<Option<Receipt>, DeletionError> {
        let known = id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if !known {
            return Ok(None);
        }
        match Receipt::get(self.objects.as_ref(), &receipt_path(id)).await {
            Ok(receipt) => Ok((receipt.tenant == tenant.as_str()).then_some(receipt)),
            Err(DeletionError::Store(object_store::Error::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A tenant's receipts, the newest first.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn receipts(&self, tenant: &Tenant) -> Result<Vec<Receipt>, DeletionError> {
        let mut all = self.all().await?;
        all.retain(|receipt| receipt.tenant == tenant.as_str());
        all.sort_by_key(|receipt| std::cmp::Reverse(receipt.requested));
        Ok(all)
    }

    async fn all(&self) -> Result<Vec<Receipt>, DeletionError> {
        let mut receipts = Vec::new();
        for (_, path) in self.list().await? {
            receipts.push(Receipt::get(self.objects.as_ref(), &path).await?);
        }
        Ok(receipts)
    }

    /// What merges leave out.
    pub(crate) fn doomed(&self) -> Vec<Arc<Doomed>> {
        let open = self.open.lock();
        open.iter().filter(|open| open.receipt.hidden.is_none()).map(|open| open.doomed.clone()).collect()
    }

    /// Deletions whose spans no query sees, with files that are still there.
    pub(crate) fn hidden(&self) -> Vec<Receipt> {
        let open = self.open.lock();
        open.iter().filter(|open| open.receipt.hidden.is_some()).map(|open| open.receipt.clone()).collect()
    }

    /// Changes a receipt, durably. One that is finished is no longer open.
    pub(crate) async fn update(&self, id: &str, change: impl FnOnce(&mut Receipt)) -> Result<(), DeletionError> {
        let noted = match Receipt::get(self.objects.as_ref(), &receipt_path(id)).await {
            Ok(noted) => Some(noted),
            Err(DeletionError::Store(object_store::Error::NotFound { .. })) => None,
            Err(error) => return Err(error),
        };
        let receipt = {
            let mut open = self.open.lock();
            let Some(open) = open.iter_mut().find(|open| open.receipt.id == id) else { return Ok(()) };
            noted.into_iter().for_each(|noted| open.receipt.add(noted));
            change(&mut open.receipt);
            open.receipt.clone()
        };
        receipt.put(self.objects.as_ref()).await?;
        if receipt.finished.is_some() {
            self.open.lock().retain(|open| open.receipt.id != id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        let file = |file: &str| Rewritten { file: file.into(), spans: 2, replaced: Some(20), deleted: Some(30) };
        Receipt {
            version: VERSION,
            id: "5-0000002a".into(),
            tenant: "default".into(),
            requested: 5,
            selection: Selection::Where { condition: "error".into(), start: Some(1), end: None },
            generations: BTreeMap::from([("w".to_owned(), 7)]),
            files: vec![file("fresh/w/1-a.parquet"), file("lake/data/b.parquet")],
            hidden: Some(20),
            finished: Some(30),
        }
    }

    /// Scenario: a receipt as this version writes it. Guarantee: it stays readable by later versions.
    #[test]
    fn golden_receipt() {
        let golden = include_str!("../../tests/golden/deletion-v1.json").trim();
        assert_eq!(serde_json::to_string(&receipt()).unwrap(), golden);
        assert_eq!(serde_json::from_str::<Receipt>(golden).unwrap(), receipt());
    }

    /// Scenario: two processes note what they did. Guarantee: the receipt has all of it, each file once, with the earliest times.
    #[test]
    fn what_others_noted_is_added() {
        let file = |file: &str, replaced, deleted| Rewritten { file: file.into(), spans: 2, replaced, deleted };
        let noted = |files, hidden| Receipt { files, hidden, finished: None, ..receipt() };
        let mut one = noted(vec![file("a", Some(9), None), file("b", Some(5), None)], None);
        one.add(noted(vec![file("a", Some(8), Some(20)), file("c", None, None)], Some(10)));
        let all = vec![file("a", Some(8), Some(20)), file("b", Some(5), None), file("c", None, None)];
        assert_eq!(one, noted(all, Some(10)));
    }
}
