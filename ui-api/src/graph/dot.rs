//! The graph for Graphviz.

use std::io::{self, Write};

use meshlake_query::{Graph, HopCounts};

use super::{detail, name};

/// A directed graph: what is to be known of every graph as its label, nodes with their names, edges with requests and failures.
pub(super) fn write(graph: &Graph, dot: &mut impl Write) -> io::Result<()> {
    writeln!(dot, "digraph mesh {{")?;
    let HopCounts { requests, unresolved, assumed, unnamed, left_out } = graph.counts;
    writeln!(
        dot,
        "  label=\"{requests} requests, {unresolved} unresolved, {assumed} assumed, {unnamed} unnamed calls, {left_out} spans left out\";"
    )?;
    for node in &graph.nodes {
        let label = format!("{}\n{}", name(node), detail(node));
        writeln!(dot, "  {} [label={}];", quoted(&node.id), quoted(label.trim_end()))?;
    }
    for edge in &graph.edges {
        let label = format!("{} requests, {} failed", edge.requests, edge.errors);
        writeln!(dot, "  {} -> {} [label={}];", quoted(&edge.source), quoted(&edge.target), quoted(&label))?;
    }
    writeln!(dot, "}}")
}

/// A quoted string of DOT, in which a backslash begins an escape.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a text with everything that means something in DOT. Guarantee: it stays one string.
    #[test]
    fn texts_are_quoted() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\nd""#);
    }
}
