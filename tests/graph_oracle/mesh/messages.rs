//! Messages of one queue: sent, and worked on one by one, as part of a batch, or in a loop that polls.

use meshlake_hops::{Link, Span, SpanKind};

use super::{MINUTE, Workload, Writer};

const HOUR: u64 = 60 * MINUTE;
/// Messages that other traces sent.
const ELSEWHERE: [Link; 2] = [Link { trace_id: [1; 16], span_id: [3; 8] }, Link { trace_id: [2; 16], span_id: [3; 8] }];

impl Writer<'_> {
    /// Sent, and worked on soon or much later.
    pub(super) fn message(&mut self, sender: Workload, above: [u8; 8], at: u64) {
        let span = self.app(sender, SpanKind::Producer, above, (at, at + 5_000_000), "mail send");
        let span = Span { messaging_system: "kafka", messaging_destination: "mail", messaging_operation: "send", ..span };
        let sent = self.add(span);
        let waited = if self.chance.one_in(2) { HOUR + self.chance.below(HOUR) } else { self.chance.below(50_000_000) };
        let (at, mailer) = (at + waited, Workload { service: "mailer", version: "v1", ..sender });
        match self.chance.below(4) {
            0 => self.batch(mailer, sent, at),
            1 => self.poll(mailer, sent, at),
            _ => {
                let above = if self.chance.one_in(3) { [0; 8] } else { sent };
                self.work(mailer, above, &[sent], at);
            }
        }
    }

    /// A span of a receiver, which mostly tells the queue.
    fn of_queue(&mut self, span: Span<'static>, operation: &'static str) -> Span<'static> {
        let messaging_destination = self.chance.pick(&["mail", "mail", "mail", ""]);
        Span { messaging_system: "kafka", messaging_destination, messaging_operation: operation, ..span }
    }

    fn links(&self, spans: &[[u8; 8]]) -> Vec<Link> {
        spans.iter().map(|span| Link { trace_id: self.trace, span_id: *span }).collect()
    }

    /// Work on a message, which asks for something itself, and then may settle it.
    fn work(&mut self, mailer: Workload, above: [u8; 8], linked: &[[u8; 8]], at: u64) -> [u8; 8] {
        let span = self.app(mailer, SpanKind::Consumer, above, (at, at + 80_000_000), "mail process");
        let worked = Span { links: self.links(linked).leak(), ..self.of_queue(span, "process") };
        let id = self.add(worked);
        self.ask(mailer, id, at + 10_000, 3);
        if self.chance.one_in(3) {
            self.handle(mailer, id, at + 70_000_000, "settle");
        }
        id
    }

    /// To wait for messages, or to settle them, which is no call.
    fn handle(&mut self, mailer: Workload, above: [u8; 8], at: u64, operation: &'static str) {
        let span = self.app(mailer, SpanKind::Client, above, (at, at + 1_000_000), "mail handle");
        let handled = self.of_queue(span, operation);
        self.add(handled);
    }

    /// Several messages are received at once; work on some of them is told of, within the receive or by a link to it.
    fn batch(&mut self, mailer: Workload, sent: [u8; 8], at: u64) {
        let kind = self.chance.pick(&[SpanKind::Consumer, SpanKind::Consumer, SpanKind::Client]);
        let above = if kind == SpanKind::Consumer && self.chance.one_in(2) { sent } else { [0; 8] };
        let span = self.app(mailer, kind, above, (at, at + 2_000_000), "mail receive");
        let links = [self.links(&[sent]), ELSEWHERE.to_vec()].concat().leak();
        let receive = Span { links, ..self.of_queue(span, "receive") };
        let receive = self.add(receive);
        for number in 0..self.chance.below(3) {
            let at = at + 3_000_000 * (number + 1);
            if self.chance.one_in(2) {
                self.work(mailer, receive, &[sent], at);
            } else {
                let above = self.chance.pick(&[[0; 8], sent]);
                self.work(mailer, above, &[sent, receive], at);
            }
        }
    }

    /// Work that nobody asked for, and in the midst of it a message, which may be told of twice.
    fn poll(&mut self, mailer: Workload, sent: [u8; 8], at: u64) {
        let span = self.app(mailer, SpanKind::Internal, [0; 8], (at, at + 200_000_000), "poll");
        let above = self.add(span);
        if self.chance.one_in(2) {
            self.handle(mailer, above, at + 1_000, "receive");
        }
        let worked = self.work(mailer, above, &[sent], at + 2_000_000);
        if self.chance.one_in(3) {
            let span = self.app(mailer, SpanKind::Consumer, worked, (at + 3_000_000, at + 60_000_000), "mail process");
            let again = self.of_queue(span, "process");
            self.add(again);
        }
    }
}
