//! Gateways at either edge of the mesh.

use meshlake_hops::{Role, Span, SpanKind};

use super::{Asked, Workload, Writer, out_of_mesh, text};

impl Writer<'_> {
    /// A request from outside, by a gateway that writes both sides of it.
    pub(super) fn ingress(&mut self, gateway: Workload, callee: Workload, at: u64) {
        let end = at + self.took();
        let server = self.proxy(Role::Gateway, gateway, SpanKind::Server, [0; 8], (at, end));
        let server = Span { name: "shop.example.com:80/*", http_url: "http://shop.example.com/x", ..server };
        let above = self.add(server);
        if self.chance.one_in(3) {
            return self.call(Role::Gateway, gateway, callee, above, at + 1_000, 0);
        }
        let attempts = self.chance.pick(&[1, 1, 1, 2, 3]);
        for attempt in 0..attempts {
            let time = (at + 1_000 + attempt * (end - at) / 4, end - 1_000);
            self.route(&server, gateway, callee, attempt, time);
        }
    }

    /// An attempt of a gateway, which has tags or not, and what becomes of it.
    fn route(&mut self, server: &Span<'static>, gateway: Workload, callee: Workload, attempt: u64, (start, end): (u64, u64)) {
        let upstream_cluster = callee.upstream();
        let router = self.bare(text(format!("router {upstream_cluster}; egress")), server, (start, end));
        let retry_count = (attempt > 0).then_some(attempt as i64);
        let mut router = Span { upstream_cluster, peer_address: "10.9.9.9:9080", retry_count, ..router };
        if self.chance.one_in(2) {
            (router.tagged, router.cluster) = (true, gateway.cluster);
            (router.version, router.zone) = (gateway.version, gateway.zone());
        }
        let above = self.add(router);
        if !self.chance.one_in(6) {
            let time = (start + 1_000, end - 1_000);
            self.serve(Asked { caller: Some(gateway), of: callee, above, around: Some(server.span_id), time, depth: 0 });
        }
    }

    /// A call out of the mesh by a gateway, which writes a client span under that of the caller.
    pub(super) fn egress(&mut self, caller: Workload, above: [u8; 8], at: u64) {
        let end = at + self.took();
        let gateway = Workload { service: "egress", version: "v1", ..caller };
        let call = self.proxy(Role::Sidecar, caller, SpanKind::Client, above, (at, end));
        let id = self.add(out_of_mesh(call, gateway.upstream()));
        let sent = self.proxy(Role::Gateway, gateway, SpanKind::Client, id, (at + 1_000, end - 1_000));
        self.add(out_of_mesh(sent, "outbound|443||api.example.com"));
    }
}
