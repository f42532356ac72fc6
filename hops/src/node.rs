//! The ends of a hop.

/// What a node is. Their order is part of file formats: append only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeKind {
    /// A workload of the mesh; or a service of it, where no span says which workload answered.
    Workload,
    /// A gateway.
    Gateway,
    /// A host or service out of the mesh, or one that no mesh vouches for.
    External,
    /// A database.
    Database,
    /// A queue or topic.
    Queue,
    /// Who calls a gateway: the world.
    Outside,
    /// A caller that started no span.
    #[default]
    Unknown,
    /// A caller whose span is named but not there.
    Missing,
}

impl NodeKind {
    const ALL: [NodeKind; 8] = [
        NodeKind::Workload,
        NodeKind::Gateway,
        NodeKind::External,
        NodeKind::Database,
        NodeKind::Queue,
        NodeKind::Outside,
        NodeKind::Unknown,
        NodeKind::Missing,
    ];

    /// The kind with this number in the order of kinds.
    pub(crate) fn of_number(number: u8) -> Option<NodeKind> {
        NodeKind::ALL.get(usize::from(number)).copied()
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeKind::Workload => "workload",
            NodeKind::Gateway => "gateway",
            NodeKind::External => "external",
            NodeKind::Database => "database",
            NodeKind::Queue => "queue",
            NodeKind::Outside => "outside",
            NodeKind::Unknown => "unknown",
            NodeKind::Missing => "missing",
        }
    }
}

/// One end of a hop. Parts that no span says are empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node<'a> {
    /// What it is.
    pub kind: NodeKind,
    /// The cluster. Empty for a public host, and for a service that was called but tells no cluster.
    pub cluster: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The workload; empty for a service whose workload no span tells, and for what is no workload.
    pub workload: &'a str,
    /// The service; the name of what is no workload: host, database, queue.
    pub service: &'a str,
    /// The version.
    pub version: &'a str,
    /// The zone.
    pub zone: &'a str,
    /// The port of a database, for several listen at one host.
    pub port: Option<u16>,
}

impl<'a> Node<'a> {
    /// A node of which nothing but the kind is known.
    pub fn of_kind(kind: NodeKind) -> Node<'a> {
        Node { kind, ..Node::default() }
    }

    /// Whether two nodes may be one: nothing that both know differs, and they have a name in common.
    pub(crate) fn same(&self, other: &Node<'_>) -> bool {
        let alike = |a: &str, b: &str| a.is_empty() || b.is_empty() || equal(a, b);
        if !alike(self.cluster, other.cluster) || !alike(self.namespace, other.namespace) {
            return false;
        }
        match (self.workload, other.workload) {
            ("", _) | (_, "") => equal(self.service, other.service),
            (a, b) => equal(a, b),
        }
    }

    /// Takes over the parts that it does not have.
    pub(crate) fn complete(&mut self, other: &Node<'a>) {
        let parts = [
            (&mut self.cluster, other.cluster),
            (&mut self.namespace, other.namespace),
            (&mut self.workload, other.workload),
            (&mut self.service, other.service),
            (&mut self.version, other.version),
            (&mut self.zone, other.zone),
        ];
        for (part, value) in parts {
            if part.is_empty() {
                *part = value;
            }
        }
    }
}

/// Whether two texts are equal. Those of one batch of rows mostly are where they are the same memory, which is quicker to see.
pub(crate) fn equal(a: &str, b: &str) -> bool {
    std::ptr::eq(a, b) || a == b
}
