//! The service graph: the hops of a range as nodes and edges.
//!
//! Every hop is of one edge, whatever the level, so the sums are those of the table `hops` (P3). What is asked is in `question`, what is answered in
//! `answer`; between them `builder` adds up the sums of hops (see [`crate::rollups`]), and `selection` leaves out what was not asked for.

mod answer;
mod builder;
mod diff;
mod identity;
mod question;
mod selection;
#[cfg(test)]
mod tests;
mod totals;

use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};

use crate::rollups::{Detail, RangeSums, pieces};
use crate::view::View;
use builder::Builder;

pub use answer::{EdgeSide, Exemplar, Graph, GraphEdge, GraphNode, MutualTls, Quantiles};
pub(crate) use diff::diff;
pub use diff::{
    Change, ChangeCounts, EdgeDiff, ErrorChange, GraphDiff, GraphDiffQuery, LatencyChange, NodeDiff, QuantileChange, RateChange,
    Test, Traffic,
};
pub use question::{GraphDirection, GraphQuery, Level, Proxies};

/// The graph of the hops in the range.
pub(crate) async fn graph(view: &View, query: &GraphQuery) -> Result<Graph> {
    let (builder, _memory) = build(view, query).await?;
    Ok(selection::select(builder, query))
}

/// All nodes and edges of the range, whatever else is asked for, and the memory that they take.
async fn build<'q>(view: &View, query: &'q GraphQuery) -> Result<(Builder<'q>, MemoryReservation)> {
    query.range.check()?;
    let memory = MemoryConsumer::new("graph").register(&view.lookups.runtime.memory_pool);
    let pieces = pieces(view, query.range, Detail::Totals).await?;
    let reserve = |bytes| memory.try_resize(bytes);
    let kept = view.summed.rollups.kept.get(&pieces, reserve).await?;
    let mut passing = RangeSums::of(pieces.iter().filter(|piece| !piece.lasts), reserve).await?;
    let taken = passing.sums.take(&kept.sums);
    let mut builder = Builder::new(query);
    builder.add(kept.sums.rows_without(&taken), kept.sums.ends());
    builder.add(passing.sums.rows(), passing.sums.ends());
    passing.left_out.add(kept.left_out, 1);
    builder.counts.leave_out(passing.left_out);
    memory.try_resize(builder.bytes())?;
    Ok((builder, memory))
}
