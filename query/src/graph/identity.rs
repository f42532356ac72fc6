//! Which hops' ends are one node at a level.

use std::fmt::Write;

use meshlake_hops::{Node, NodeKind, Via};

use super::answer::GraphNode;
use super::question::Level;

/// The parts by which a node differs from others. Those that the level does not have, or that no span tells, are empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    kind: &'static str,
    cluster: &'a str,
    namespace: &'a str,
    service: &'a str,
    workload: &'a str,
    version: &'a str,
    port: Option<u16>,
}

impl<'a> Identity<'a> {
    pub(crate) fn of(node: &Node<'a>, level: Level) -> Identity<'a> {
        let Node { kind, cluster, namespace, workload, service, version, port, .. } = *node;
        let of_mesh = matches!(kind, NodeKind::Workload | NodeKind::Gateway);
        Identity { kind: kind.as_str(), cluster, namespace, service, workload, version, port }.at(level, of_mesh)
    }

    pub(crate) fn of_waypoint(via: &Via<'a>, level: Level) -> Identity<'a> {
        let Via { cluster, namespace, workload } = *via;
        Identity { kind: "waypoint", cluster, namespace, service: "", workload, version: "", port: None }.at(level, true)
    }

    /// The id of a node at the level of services.
    pub(crate) fn service_id(node: &Node<'_>) -> String {
        let mut id = String::new();
        Identity::of(node, Level::Service).write_id(&mut id);
        id
    }

    fn at(self, level: Level, of_mesh: bool) -> Identity<'a> {
        let named = Identity { service: "", workload: "", version: "", port: None, ..self };
        match level {
            // A name is enough: what is behind it may be told by some spans only.
            Level::Service if !self.service.is_empty() => Identity { workload: "", version: "", ..self },
            Level::Version if !self.service.is_empty() => Identity { workload: "", ..self },
            Level::Workload if !self.workload.is_empty() => Identity { service: "", version: "", ..self },
            Level::Version => self,
            Level::Service | Level::Workload => Identity { version: "", ..self },
            Level::Namespace => Identity { kind: if of_mesh { "namespace" } else { self.kind }, ..named },
            Level::Cluster => Identity { kind: if of_mesh { "cluster" } else { self.kind }, namespace: "", ..named },
        }
    }

    /// Writes its id: kind, cluster, namespace, service and port, workload, version, with slashes between them and none at the end.
    pub(crate) fn write_id(&self, id: &mut String) {
        id.clear();
        id.push_str(self.kind);
        for part in [self.cluster, self.namespace, self.service] {
            push(id, part);
        }
        if let Some(port) = self.port {
            // Writing to a string cannot fail.
            let _ = write!(id, ":{port}");
        }
        push(id, self.workload);
        push(id, self.version);
        id.truncate(id.trim_end_matches('/').len());
    }

    pub(crate) fn node(&self, id: &str) -> GraphNode {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        GraphNode {
            id: id.to_owned(),
            kind: self.kind,
            cluster: text(self.cluster),
            namespace: text(self.namespace),
            workload: text(self.workload),
            service: text(self.service),
            version: text(self.version),
            port: self.port,
            ..GraphNode::default()
        }
    }
}

/// Appends a part, in which the letters that have a meaning in ids are escaped as in URLs.
fn push(id: &mut String, part: &str) {
    id.push('/');
    for letter in part.chars() {
        match letter {
            '%' => id.push_str("%25"),
            '/' => id.push_str("%2F"),
            ':' => id.push_str("%3A"),
            letter => id.push(letter),
        }
    }
}
