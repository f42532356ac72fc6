//! The service graph: the hops of a range as nodes and edges.
//!
//! Every hop is of one edge, whatever the level, so the sums are those of the table `hops` (P3). What is asked is in `question`, what is answered in
//! `answer`; between them `builder` adds up the sums of hops (see [`crate::rollups`]), and `selection` leaves out what was not asked for.

mod answer;
mod builder;
mod identity;
mod question;
mod selection;
#[cfg(test)]
mod tests;
mod totals;

use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryConsumer;
use meshlake_hops::rollup::{LeftOut, Measures, Numbers, Sums};

use crate::rollups::{Detail, pieces};
use crate::view::View;
use builder::Builder;

pub use answer::{EdgeSide, Exemplar, Graph, GraphEdge, GraphNode, Quantiles};
pub use question::{GraphDirection, GraphQuery, Level, Proxies};

/// The graph of the hops in the range.
pub(crate) async fn graph(view: &View, query: &GraphQuery) -> Result<Graph> {
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
    memory.try_resize(sums.bytes() + builder.bytes())?;
    Ok(selection::select(builder, query))
}
