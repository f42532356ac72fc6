//! The service graph: the hops of a range as nodes and edges.
//!
//! Every hop is of one edge, whatever the level, so the sums are those of the table `hops` (P3). What is asked is in `question`, what is answered in
//! `answer`; between them `builder` adds up the sums of hops (see [`crate::rollups`]), and `selection` leaves out what was not asked for (`reach`: the ways from a node).

mod answer;
mod builder;
mod built;
mod diff;
mod identity;
mod question;
mod reach;
mod selection;
#[cfg(test)]
mod tests;
mod totals;

use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use meshlake_hops::rollup::Measures;

use crate::rollups::{Kept, Piece, PieceId, kept_sums, pieces};
use crate::view::View;
use builder::{Builder, Shape};
use built::{Built, BuiltOf};

pub use answer::{EdgeSide, Exemplar, Graph, GraphEdge, GraphNode, MutualTls, Quantiles};
pub(crate) use diff::diff;
pub use diff::{
    Change, ChangeCounts, EdgeDiff, ErrorChange, GraphDiff, GraphDiffQuery, LatencyChange, NodeDiff, QuantileChange, RateChange,
    Test, Traffic,
};
pub(crate) use identity::Identity;
pub use question::{GraphDirection, GraphQuery, Level, Proxies};

/// Graphs that are kept.
pub(crate) type KeptGraphs = Kept<BuiltOf, Built>;

/// The graph of the hops in the range.
pub(crate) async fn graph(view: &View, query: &GraphQuery) -> Result<Graph> {
    query.range.check()?;
    let memory = MemoryConsumer::new("graph").register(&view.lookups.runtime.memory_pool);
    let pieces = pieces(view, query.range).await?;
    let (lasting, passing): (Vec<&Piece>, Vec<&Piece>) = pieces.iter().partition(|piece| piece.lasts());
    let ids: Vec<PieceId> = lasting.iter().map(|piece| piece.id()).collect();
    let of = (ids, Shape::of(query), query.range.end - query.range.start);
    let built = match view.graphs.find(&of) {
        Some(built) => built,
        None => {
            let builder = sum(view, query, &lasting, &memory).await?;
            let built = Built::of(builder, (query.range.end - query.range.start) as f64 / 1e6);
            let bytes = built.bytes();
            view.graphs.keep(of, built, bytes)
        }
    };
    let passing = sum(view, query, &passing, &memory).await?;
    Ok(selection::select(&built, passing, query))
}

/// All nodes and edges of the range, whatever else is asked for, and the memory that they take.
async fn build(view: &View, query: &GraphQuery) -> Result<(Builder, MemoryReservation)> {
    query.range.check()?;
    let memory = MemoryConsumer::new("graph").register(&view.lookups.runtime.memory_pool);
    let pieces = pieces(view, query.range).await?;
    let mut builder = sum(view, query, &pieces.iter().collect::<Vec<_>>(), &memory).await?;
    builder.edges.retain(|_, totals| totals.requests() > 0);
    Ok((builder, memory))
}

/// The sum of pieces: those that are whole and last may be kept.
async fn sum(view: &View, query: &GraphQuery, pieces: &[&Piece], memory: &MemoryReservation) -> Result<Builder> {
    let (kept, others): (Vec<&Piece>, Vec<&Piece>) = pieces.iter().partition(|piece| piece.lasts() && piece.is_whole());
    let (mut builder, mut scratch) = (Builder::new(Shape::of(query)), Measures::default());
    if !kept.is_empty() {
        let sums = kept_sums(&view.summed, &kept, |bytes| memory.try_resize(bytes)).await?;
        let mut rows = builder.rows(&sums.total.keys);
        sums.total.read(&mut scratch, |key, measures| rows.add(key, measures));
        rows.finish();
        builder.counts.leave_out(sums.left_out);
    }
    for piece in others {
        let open = piece.totals(&view.summed).await?;
        let mut rows = builder.rows(&open.keys);
        open.sums(&mut scratch, |key, measures| rows.add(key, measures))?;
        rows.finish();
        builder.counts.leave_out(piece.left_out());
        memory.try_resize(builder.bytes())?;
        tokio::task::yield_now().await;
    }
    memory.try_resize(builder.bytes())?;
    Ok(builder)
}
