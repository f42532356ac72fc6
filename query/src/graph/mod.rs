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
use meshlake_hops::rollup::{LeftOut, Measures, Numbers, Sums};

use crate::rollups::{Detail, pieces};
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
    let (mut sums, mut left_out, mut scratch) = (Sums::new(), LeftOut::default(), Measures::default());
    for piece in pieces(view, query.range, Detail::Totals).await? {
        let mut numbers = Numbers::default();
        left_out.add(piece.sums(&mut scratch, |key, measures| sums.add(&piece.rollup, &mut numbers, key, measures))?, 1);
        memory.try_resize(sums.bytes())?;
        tokio::task::yield_now().await;
    }
    let mut builder = Builder::new(query);
    builder.add(&sums);
    builder.counts.leave_out(left_out);
    drop(sums);
    memory.try_resize(builder.bytes())?;
    Ok((builder, memory))
}
