//! Whose something is, in answers.

use meshlake_hops::Node;

/// A node by the parts of its identity that tell it from others. What no span tells is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeName {
    /// `workload`, `gateway`, `external`, `database`, `queue`, `outside`, `unknown`, `missing`.
    pub kind: &'static str,
    /// Its cluster.
    pub cluster: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its workload.
    pub workload: Option<String>,
    /// Its service; the name of what is no workload.
    pub service: Option<String>,
}

impl NodeName {
    pub(crate) fn of(node: &Node<'_>) -> NodeName {
        NodeName {
            kind: node.kind.as_str(),
            cluster: text(node.cluster),
            namespace: text(node.namespace),
            workload: text(node.workload),
            service: text(node.service),
        }
    }
}

/// A text that may be missing.
pub(crate) fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
