//! Two graphs against each other: which edges and nodes are new, gone or changed, how much, and whether by more than chance.
//!
//! ```text
//! baseline ──> graph ─┐              ┌─ rate: Poisson ratio ────────┐
//!                     ├─> edge by ───┼─ errors: score test ─────────┼─> Benjamini-Hochberg ─> new, gone, changed
//! range ─────> graph ─┘   edge       └─ quantiles: Mood's test ─────┘   over all tests
//! ```
//!
//! The graphs are those of [`super::graph`], so the numbers are, too (P3). Tests are in [`meshlake_hops`].

mod answer;
mod compare;
mod question;
#[cfg(test)]
mod tests;
mod union;

use std::cmp::Reverse;
use std::collections::HashSet;

use datafusion::error::Result;

use super::reach::{Ways, asks_for_some, reached};
use super::{GraphQuery, build};
use crate::view::View;
use compare::{Compared, ComparedNode, is_change, settle};
use union::Union;

pub use answer::{
    Change, ChangeCounts, EdgeDiff, ErrorChange, GraphDiff, LatencyChange, NodeDiff, QuantileChange, RateChange, Test, Traffic,
};
pub use question::GraphDiffQuery;

/// Comparisons between which others have their turn (P7).
const COMPARED_AT_ONCE: usize = 512;

/// What the range has that the baseline has not, and the other way round.
pub(crate) async fn diff(view: &View, query: &GraphDiffQuery) -> Result<GraphDiff> {
    query.check()?;
    let baseline = GraphQuery { range: query.baseline, ..query.graph.clone() };
    let (before, _memory) = build(view, &baseline).await?;
    let (after, _more_memory) = build(view, &query.graph).await?;
    let counts = (before.counts.finish(), after.counts.finish());
    let Union { nodes, mut node_totals, mut edges } = Union::of(before, after);
    if asks_for_some(&query.graph) {
        let chosen: Vec<bool> = nodes.iter().map(|node| node.is_chosen(&query.graph)).collect();
        let reached = reached(&chosen, &[&Ways::of(edges.keys().copied(), nodes.len())], |_| true, &query.graph);
        edges.retain(|edge, _| reached.contains(edge));
    }
    edges.retain(|_, [before, after]| before.requests() + after.requests() >= query.graph.min_requests);

    let seconds = [query.baseline, query.graph.range].map(|range| (range.end - range.start) as f64 / 1e6);
    let mut compared = Vec::with_capacity(edges.len());
    for (at, (edge, totals)) in edges.into_iter().enumerate() {
        if at % COMPARED_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
        compared.push(Compared::new(edge, totals, seconds));
    }
    settle(compared.iter_mut().flat_map(Compared::tests_mut).collect(), query.q);

    let ends: HashSet<usize> = compared.iter().flat_map(|edge| [edge.edge.0, edge.edge.1]).collect();
    let of_ends = node_totals.drain(..).enumerate().filter(|(number, _)| ends.contains(number));
    let mut compared_nodes: Vec<ComparedNode> =
        of_ends.map(|(number, totals)| ComparedNode::new(number, totals, seconds)).collect();
    settle(compared_nodes.iter_mut().flat_map(ComparedNode::tests_mut).collect(), query.q);

    let id = |number: usize| nodes[number].node.id.as_str();
    let mut diff = GraphDiff { before: counts.0, after: counts.1, ..GraphDiff::default() };
    compared.iter().for_each(|edge| diff.edge_counts.add(edge.change()));
    compared.retain(|edge| is_change(edge.change()));
    compared.sort_by(|a, b| {
        let by = a.least().total_cmp(&b.least()).then(Reverse(a.requests()).cmp(&Reverse(b.requests())));
        by.then_with(|| (id(a.edge.0), id(a.edge.1)).cmp(&(id(b.edge.0), id(b.edge.1))))
    });
    diff.truncated = compared.len() > query.graph.limit;
    compared.truncate(query.graph.limit);
    let answered: HashSet<usize> = compared.iter().flat_map(|edge| [edge.edge.0, edge.edge.1]).collect();
    diff.edges = compared.iter().map(|edge| edge.diff(id(edge.edge.0), id(edge.edge.1), seconds)).collect();

    compared_nodes.iter().for_each(|node| diff.node_counts.add(node.change()));
    compared_nodes.sort_by(|a, b| a.least().total_cmp(&b.least()).then_with(|| id(a.number).cmp(id(b.number))));
    // Those that edges lead to, and beside them those that changed although none of their edges did.
    let changed = compared_nodes.iter().filter(|node| is_change(node.change()) && !answered.contains(&node.number));
    let changed: HashSet<usize> = changed.take(query.graph.limit).map(|node| node.number).collect();
    compared_nodes.retain(|node| answered.contains(&node.number) || changed.contains(&node.number));
    diff.nodes = compared_nodes.iter().map(|node| node.diff(&nodes[node.number].answer(query.graph.level), seconds)).collect();
    diff.nodes.sort_by(|a, b| a.node.id.cmp(&b.node.id));
    Ok(diff)
}
