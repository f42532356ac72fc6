//! R2 Node: whose span it is.

use crate::host;
use crate::node::{Node, NodeKind};
use crate::span::{End, Role, Span, known};

use super::answer::other_host;
use super::parent::Parent;
use super::siblings::Siblings;
use super::{NONE, Trace, fill};

/// How a span's node is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// By the `service.name` of an application, which proves little.
    #[default]
    Name,
    /// By what a proxy or Kubernetes says.
    Mesh,
    /// An application's, by the proxy span above or beside it.
    Above,
    /// An application's, by the proxy span below it.
    Below,
}

/// Whose a span is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Identity<'a> {
    pub node: Node<'a>,
    /// The pod; empty if unknown. That of a waypoint is not its destination's.
    pub pod: &'a str,
    /// The proxy span whose `node_id` has the pod's address.
    pub proxy: Option<u32>,
    /// The proxy span that tells which host was asked for.
    pub asked: Option<u32>,
    pub evidence: Evidence,
    /// Whether one of several proxies was taken.
    pub assumed: bool,
}

/// What the rule keeps between traces.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pods: Vec<u32>,
    addresses: Vec<u32>,
    /// By rank, the topmost of the spans of one application that are joined by parent links.
    tops: Vec<u32>,
    /// By rank of the topmost, the first proxy span below.
    below: Vec<u32>,
    several: Vec<bool>,
}

/// Settles the identity of each span.
pub(crate) fn settle<'a>(
    trace: &Trace<'_, 'a>,
    parents: &[Parent],
    downward: &[u32],
    siblings: &Siblings,
    scratch: &mut Scratch,
    identities: &mut Vec<Identity<'a>>,
) {
    fill(identities, trace, Identity::default());
    let mut applications = false;
    for &rank in downward {
        let span = trace.at(rank);
        if span.is_application() {
            applications = true;
        } else {
            identities[rank as usize] = of_proxy(trace, parents, identities, rank);
        }
    }
    if applications {
        scratch.by_pod(trace, identities);
        scratch.joined(trace, parents, downward, identities);
        scratch.adopt(trace, parents, downward, siblings, identities);
    }
}

/// R2a, R2b.
fn of_proxy<'a>(trace: &Trace<'_, 'a>, parents: &[Parent], identities: &[Identity<'a>], rank: u32) -> Identity<'a> {
    let span = trace.at(rank);
    if span.is_waypoint() {
        return Identity { node: destination(span), evidence: Evidence::Mesh, ..Identity::default() };
    }
    let own = Identity {
        node: own_node(span),
        pod: span.pod,
        proxy: Some(rank),
        asked: Some(rank),
        evidence: Evidence::Mesh,
        assumed: false,
    };
    if span.node_id.is_empty()
        && let Some(parent) = parents[rank as usize].rank()
        && !trace.at(parent).is_application()
        && trace.at(parent).resource == span.resource
        && (!span.tagged || identities[parent as usize].node.same(&own.node))
    {
        // It is of the same proxy, and of the same request.
        let parent = identities[parent as usize];
        return if span.requested_host().is_empty() { parent } else { Identity { asked: own.asked, ..parent } };
    }
    own
}

fn own_node<'a>(span: &Span<'a>) -> Node<'a> {
    Node {
        kind: if span.role == Role::Gateway { NodeKind::Gateway } else { NodeKind::Workload },
        cluster: span.cluster,
        namespace: span.namespace,
        workload: span.workload,
        service: span.service,
        version: span.version,
        zone: span.zone,
        port: None,
    }
}

/// The node that a waypoint or a client's tags name.
pub(crate) fn of_end<'a>(end: &End<'a>) -> Node<'a> {
    Node {
        kind: NodeKind::Workload,
        cluster: known(end.cluster),
        namespace: known(end.namespace),
        workload: known(end.workload),
        service: known(end.service),
        version: known(end.version),
        ..Node::default()
    }
}

/// Where a waypoint sends a request: by its tags, then by the host of its cluster, then by the host that was asked for.
fn destination<'a>(span: &Span<'a>) -> Node<'a> {
    let mut node = of_end(&span.destination);
    let mut named = Node::of_kind(NodeKind::Workload);
    let host = match span.destination_host() {
        "" => span.requested_host(),
        host => host,
    };
    match host::in_mesh(host) {
        Some((service, namespace)) => (named.service, named.namespace) = (service, namespace),
        None if !host.is_empty() && !span.destination.is_known() => {
            return Node { service: host, ..Node::of_kind(NodeKind::External) };
        }
        None => {}
    }
    named.cluster = span.cluster;
    node.complete(&named);
    node
}

/// Whether Kubernetes says whose an application's span is.
fn of_kubernetes(span: &Span<'_>) -> bool {
    !span.pod.is_empty() || !span.workload.is_empty()
}

impl Scratch {
    /// R2c, its first half: applications whose pod has a proxy in this trace, and those that name their pod or workload.
    fn by_pod<'a>(&mut self, trace: &Trace<'_, 'a>, identities: &mut [Identity<'a>]) {
        let with_pod = |rank: &u32| {
            let span = trace.at(*rank);
            !span.is_application() && !span.is_waypoint() && !span.node_id.is_empty() && !span.pod.is_empty()
        };
        let pod = |rank: &u32| (trace.at(*rank).pod, trace.at(*rank).namespace);
        let address = |rank: &u32| trace.at(*rank).node_address();
        self.pods.clear();
        self.pods.extend(trace.ranks().filter(with_pod));
        self.addresses.clone_from(&self.pods);
        self.pods.sort_unstable_by_key(|rank| (pod(rank), *rank));
        self.pods.dedup_by_key(|rank| pod(rank));
        self.addresses.sort_unstable_by_key(|rank| (address(rank), *rank));
        self.addresses.dedup_by_key(|rank| address(rank));
        for rank in trace.ranks() {
            let span = trace.at(rank);
            if !span.is_application() {
                continue;
            }
            identities[rank as usize] = match self.proxy_of(trace, span) {
                Some(proxy) => identities[proxy as usize],
                None => Identity {
                    node: own_node(span),
                    pod: span.pod,
                    evidence: if of_kubernetes(span) { Evidence::Mesh } else { Evidence::Name },
                    ..Identity::default()
                },
            };
        }
    }

    /// A proxy of the application's pod.
    fn proxy_of(&self, trace: &Trace<'_, '_>, span: &Span<'_>) -> Option<u32> {
        let resource = &span.resource;
        let namespace = resource.k8s_namespace_name;
        let named = [span.pod, resource.host_name, resource.service_instance_id].into_iter();
        let by_name = named.filter(|pod| !pod.is_empty()).find_map(|pod| self.find_pod(trace, pod, namespace));
        let by_instance = || {
            // `<namespace>.<pod>.<container>`.
            let (namespace, rest) = resource.service_instance_id.split_once('.')?;
            self.find_pod(trace, rest.rsplit_once('.')?.0, namespace)
        };
        by_name.or_else(by_instance).or_else(|| {
            let ip = resource.k8s_pod_ip;
            let found = self.addresses.binary_search_by(|rank| trace.at(*rank).node_address().cmp(ip)).ok();
            found.filter(|_| !ip.is_empty()).map(|index| self.addresses[index])
        })
    }

    fn find_pod(&self, trace: &Trace<'_, '_>, pod: &str, namespace: &str) -> Option<u32> {
        let first = self.pods.partition_point(|rank| (trace.at(*rank).pod, trace.at(*rank).namespace) < (pod, namespace));
        let found = self.pods.get(first).copied().filter(|rank| trace.at(*rank).pod == pod);
        found.filter(|rank| namespace.is_empty() || trace.at(*rank).namespace == namespace)
    }

    /// Joins the spans of one application that only a name tells of.
    fn joined(&mut self, trace: &Trace<'_, '_>, parents: &[Parent], downward: &[u32], identities: &[Identity<'_>]) {
        fill(&mut self.tops, trace, NONE);
        fill(&mut self.below, trace, NONE);
        fill(&mut self.several, trace, false);
        for &rank in downward {
            let span = trace.at(rank);
            if !span.is_application() || identities[rank as usize].evidence != Evidence::Name {
                continue;
            }
            let above = parents[rank as usize].rank().filter(|parent| trace.at(*parent).resource == span.resource);
            let top = above.map(|parent| self.tops[parent as usize]).filter(|top| *top != NONE);
            self.tops[rank as usize] = top.unwrap_or(rank);
        }
        for rank in trace.ranks() {
            let span = trace.at(rank);
            if !span.is_sidecar() || !span.is_client() {
                continue;
            }
            let Some(parent) = parents[rank as usize].rank() else { continue };
            let top = self.tops[parent as usize];
            if top == NONE {
                continue;
            }
            match &mut self.below[top as usize] {
                first if *first == NONE => *first = rank,
                first => {
                    let same = identities[*first as usize].node.same(&identities[rank as usize].node);
                    self.several[top as usize] |= !same;
                }
            }
        }
    }

    /// R2c, its second half: what is joined takes the node of the proxy above, beside or below it.
    fn adopt<'a>(
        &self,
        trace: &Trace<'_, 'a>,
        parents: &[Parent],
        downward: &[u32],
        siblings: &Siblings,
        identities: &mut [Identity<'a>],
    ) {
        for &rank in downward {
            let top = self.tops[rank as usize];
            if top == NONE {
                continue;
            }
            if top != rank {
                identities[rank as usize] = identities[top as usize];
                continue;
            }
            let adopted = |proxy: u32, evidence| Identity { evidence, ..identities[proxy as usize] };
            let below = Some(self.below[rank as usize]).filter(|proxy| *proxy != NONE);
            let above = proxy_above(trace, parents, rank).or_else(|| proxy_beside(trace, parents, siblings, rank));
            if let Some(above) = above {
                identities[rank as usize] = adopted(above, Evidence::Above);
            } else if let Some(below) = below {
                identities[rank as usize] = Identity { assumed: self.several[rank as usize], ..adopted(below, Evidence::Below) };
            }
        }
    }
}

/// The sidecar or waypoint that sent the request on to this span, unless its hosts say another.
fn proxy_above(trace: &Trace<'_, '_>, parents: &[Parent], rank: u32) -> Option<u32> {
    let parent = parents[rank as usize].rank()?;
    let proxy = trace.at(parent);
    let sends_on = proxy.is_waypoint() || (proxy.is_sidecar() && proxy.is_server());
    (sends_on && !other_host(proxy, trace.at(rank))).then_some(parent)
}

/// The same, where both are children of the one client span that asked.
fn proxy_beside(trace: &Trace<'_, '_>, parents: &[Parent], siblings: &Siblings, rank: u32) -> Option<u32> {
    let parent = parents[rank as usize].rank()?;
    if !trace.at(parent).is_client() {
        return None;
    }
    siblings.around(trace, parents, rank, |proxy| {
        let span = trace.at(proxy);
        (span.is_waypoint() || span.is_sidecar()) && !other_host(span, trace.at(rank))
    })
}
