//! The rows of a range that a query may match.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use futures::StreamExt;
use meshlake_storage::{Promoted, Scope, Snapshot, SpanFile};
use meshlake_traceql::{Attribute, Named, Predicate, Scope as Asked};

use super::columns::{Columns, PLAIN, of_named};
use super::filter::Filter;
use crate::file_attributes::{FileAttributes, Stand};
use crate::partitions::Partitions;
use crate::plain_texts::PlainTexts;
use crate::types::TimeRange;
use crate::view::{View, starts_in};

/// Lake files that are asked where their attributes stand, the newest; and how many of them at once.
const FILES_MAX: usize = 256;
const FILES_AT_ONCE: usize = 16;
/// Scans of files with attributes in different places.
const PARTS_MAX: usize = 8;
const ALWAYS: TimeRange = TimeRange { start: i64::MIN, end: i64::MAX };

/// How much rows are filtered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Filtered {
    /// By comparisons of columns: what passes is evaluated anyway.
    Coarsely,
    /// By all that the predicate asks of a span.
    Finely,
}

/// The rows of a range that may pass a predicate, file by file as their attributes stand there.
pub(super) struct Matching(Vec<Part>);

/// Some of them.
struct Part {
    rows: DataFrame,
    /// Columns that need not be read: in them nothing stands that anybody asks for by its name.
    empty: Columns,
}

impl Matching {
    /// `attributes` are those of the query, by slot.
    pub(super) async fn new(
        view: &View,
        attributes: &[Named],
        predicate: &Predicate,
        range: TimeRange,
        filtered: Filtered,
    ) -> Result<Matching> {
        Matching::in_snapshot(view, &view.snapshot, attributes, predicate, (Some(range), filtered)).await
    }

    /// The same of a part of the snapshot, whenever rows start: that is not even read. Finely filtered.
    pub(super) async fn of_part(view: &View, part: &Snapshot, attributes: &[Named], predicate: &Predicate) -> Result<Matching> {
        Matching::in_snapshot(view, part, attributes, predicate, (None, Filtered::Finely)).await
    }

    async fn in_snapshot(
        view: &View,
        snapshot: &Snapshot,
        attributes: &[Named],
        predicate: &Predicate,
        (range, filtered): (Option<TimeRange>, Filtered),
    ) -> Result<Matching> {
        let parts = parts(view, snapshot, predicate, range.unwrap_or(ALWAYS)).await.into_iter();
        let parts = parts.map(|(stands, part)| (stands, part, Columns::new())).collect();
        Matching::of(parts, view, (attributes, predicate), (range, filtered), PlainTexts::default())
    }

    /// The same for who reads all attributes: of columns in which no lake file has any, of those that tell, only those of `attributes`
    /// are read there. Those that are [`PLAIN`] are plain texts, unless they are of `attributes`.
    pub(super) async fn sparing(
        view: &View,
        attributes: &[Named],
        predicate: &Predicate,
        range: TimeRange,
        filtered: Filtered,
    ) -> Result<Matching> {
        let (mut all, mut asked) = (Vec::new(), Columns::new());
        attributes.iter().for_each(|named| of_named(named, &mut asked));
        let plain = PlainTexts::new(PLAIN.into_iter().filter(|column| !asked.contains(column)).collect());
        for (stands, part) in parts(view, &view.snapshot, predicate, range).await {
            let parts = by_emptiness(view, part, range).await.into_iter();
            all.extend(parts.map(|(part, empty)| (stands.clone(), part, &empty - &asked)));
        }
        Matching::of(all, view, (attributes, predicate), (Some(range), filtered), plain)
    }

    fn of(
        parts: Vec<(Stands, Snapshot, Columns)>,
        view: &View,
        (attributes, predicate): (&[Named], &Predicate),
        (range, filtered): (Option<TimeRange>, Filtered),
        plain: PlainTexts,
    ) -> Result<Matching> {
        let promoted: Vec<&Promoted> = view.snapshot.promotions.of(view.tenant.as_str()).collect();
        let part = |(stands, part, empty): (Stands, Snapshot, Columns)| {
            let filter = Filter { attributes, promoted: &promoted, stands: &stands };
            let passes = match filtered {
                Filtered::Coarsely => filter.coarse(predicate),
                Filtered::Finely => filter.fine(predicate),
            };
            let passes = range.map(starts_in).into_iter().chain(passes).reduce(Expr::and);
            let rows = passes.into_iter().try_fold(view.plain_spans_of(part, plain.clone())?, DataFrame::filter)?;
            Ok(Part { rows, empty })
        };
        Ok(Matching(parts.into_iter().map(part).collect::<Result<_>>()?))
    }

    /// The rows with these columns; only those of which `also` holds.
    pub(super) fn rows(&self, columns: impl IntoIterator<Item = &'static str>, also: Option<&Expr>) -> Result<DataFrame> {
        let columns: Vec<&'static str> = columns.into_iter().collect();
        let mut parts = self.0.iter().map(|part| part.rows(&columns, also));
        let first = parts.next().unwrap_or_else(|| datafusion::common::internal_err!("a snapshot has no part"))?;
        parts.try_fold(first, |all, part| all.union(part?))
    }

    /// The same as partitions, of which some may have fewer columns: not those that need not be read.
    pub(super) async fn partitions(&self, columns: &Columns, also: Option<&Expr>) -> Result<Partitions> {
        let rows = |part: &Part| part.rows(&columns.difference(&part.empty).copied().collect::<Vec<_>>(), also);
        Partitions::of(self.0.iter().map(rows).collect::<Result<_>>()?).await
    }
}

impl Part {
    fn rows(&self, columns: &[&str], also: Option<&Expr>) -> Result<DataFrame> {
        also.cloned().into_iter().try_fold(self.rows.clone(), DataFrame::filter)?.select_columns(columns)
    }
}

/// Where attributes stand in a file, or in those of a part.
pub(super) type Stands = BTreeMap<(Scope, String), Stand>;

/// Parts of a snapshot: files in which the attributes that a predicate asks for stand alike, and all else.
async fn parts(view: &View, snapshot: &Snapshot, predicate: &Predicate, range: TimeRange) -> Vec<(Stands, Snapshot)> {
    let mut asked = Stands::new();
    note(predicate, &mut asked);
    if asked.is_empty() {
        return vec![(asked, snapshot.clone())];
    }
    let (told, others) = stands(view, snapshot, &asked, range).await;
    let mut known = BTreeMap::<Stands, Vec<Arc<SpanFile>>>::new();
    known.insert(asked.clone(), others);
    for (stands, file) in told {
        let place = if known.len() < PARTS_MAX || known.contains_key(&stands) { stands } else { asked.clone() };
        known.entry(place).or_default().push(file);
    }
    let part = |(stands, files): (Stands, Vec<Arc<SpanFile>>)| {
        // What is not in a lake file may stand anywhere.
        let live = if stands == asked { snapshot.live.clone() } else { Vec::new() };
        (stands, Snapshot { live, files: Arc::new(files.into_iter().collect()), ..snapshot.clone() })
    };
    known.into_iter().map(part).collect()
}

/// The files of a part with spans in a range that tell of their attributes, with the columns that are empty in all of them; and
/// all else.
async fn by_emptiness(view: &View, part: Snapshot, range: TimeRange) -> Vec<(Snapshot, Columns)> {
    let (files, mut others) = newest(&part, range);
    let told = futures::stream::iter(files).map(|file| async move { (empty_columns(view, &file).await, file) });
    let (mut telling, mut empty) = (Vec::new(), None::<Columns>);
    for (columns, file) in told.buffered(FILES_AT_ONCE).collect::<Vec<_>>().await {
        match columns {
            Some(columns) => {
                empty = Some(empty.map_or_else(|| columns.clone(), |empty| &empty & &columns));
                telling.push(file);
            }
            None => others.push(file),
        }
    }
    let Some(empty) = empty.filter(|empty| !empty.is_empty()) else { return vec![(part, Columns::new())] };
    let of = |files: Vec<Arc<SpanFile>>, live| Snapshot { live, files: Arc::new(files.into_iter().collect()), ..part.clone() };
    vec![(of(telling, Vec::new()), empty), (of(others, part.live.clone()), Columns::new())]
}

/// The newest files with spans in a range; and the others of them.
fn newest(snapshot: &Snapshot, range: TimeRange) -> (Vec<Arc<SpanFile>>, Vec<Arc<SpanFile>>) {
    let mut files: Vec<Arc<SpanFile>> = snapshot.files.between(range.start, range.end).cloned().collect();
    files.sort_by_key(|file| std::cmp::Reverse(file.start_max));
    let others = files.split_off(files.len().min(FILES_MAX));
    (files, others)
}

/// Where attributes stand in each of the newest files of a snapshot with spans in a range; and the other files.
pub(super) async fn stands(
    view: &View,
    snapshot: &Snapshot,
    asked: &Stands,
    range: TimeRange,
) -> (Vec<(Stands, Arc<SpanFile>)>, Vec<Arc<SpanFile>>) {
    let (files, others) = newest(snapshot, range);
    let told = futures::stream::iter(files).map(|file| async move { (stands_in(view, &file, asked).await, file) });
    (told.buffered(FILES_AT_ONCE).collect().await, others)
}

/// The attributes that a predicate asks for and that may have columns, as not known where.
fn note(predicate: &Predicate, asked: &mut Stands) {
    match predicate {
        Predicate::All(parts) | Predicate::Any(parts) => parts.iter().for_each(|part| note(part, asked)),
        Predicate::Test(Attribute::Intrinsic(_), _) => {}
        Predicate::Test(Attribute::Named(named), _) => {
            let scopes: &[Scope] = match named.scope {
                Asked::Any => &[Scope::Span, Scope::Resource],
                Asked::Span => &[Scope::Span],
                Asked::Resource => &[Scope::Resource],
                Asked::Instrumentation => &[Scope::Instrumentation],
                Asked::Event | Asked::Link => &[],
            };
            asked.extend(scopes.iter().map(|scope| ((*scope, named.name.clone()), Stand::Anywhere)));
        }
    }
}

/// The attributes of a file, if it tells: lake files of the tenant do.
async fn attributes_of(view: &View, file: &SpanFile) -> Option<Arc<FileAttributes>> {
    let tells = file.is_in_lake() && file.tenants == [view.tenant.as_str()];
    if tells { view.file_attributes.get(file).await } else { None }
}

/// The columns of a file in which no attribute stands, nor anything else that is listed, if it tells.
async fn empty_columns(view: &View, file: &SpanFile) -> Option<Columns> {
    let empty = attributes_of(view, file).await?.empty_columns()?;
    let items = view.file_items.get(file).await;
    Some(items.iter().flat_map(|items| items.empty()).chain(empty).collect())
}

/// Where attributes stand in a file, if it tells.
async fn stands_in(view: &View, file: &SpanFile, asked: &Stands) -> Stands {
    let Some(attributes) = attributes_of(view, file).await else { return asked.clone() };
    let stand = |(scope, key): &(Scope, String)| attributes.stand(file, &view.snapshot.promotions, *scope, key);
    asked.keys().map(|key| (key.clone(), stand(key))).collect()
}
