//! Sends the requests of a run, as fast as they are answered or at a given rate.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use tokio::task::JoinSet;

use crate::{
    client::{Connection, Outcome},
    requests::Requests,
    tally::Tally,
};

/// How a run sends.
#[derive(Clone, Debug, clap::Args)]
pub struct Load {
    /// OTLP gRPC address of the server
    #[arg(long, default_value = "127.0.0.1:4317")]
    pub endpoint: SocketAddr,

    /// Connections
    #[arg(long, default_value_t = 4)]
    pub connections: usize,

    /// Requests in flight over all connections, without --rate
    #[arg(long, default_value_t = 64)]
    pub in_flight: usize,

    /// Spans a second that arrive whatever the server does; 0: as fast as requests are answered
    #[arg(long, default_value_t = 0.0)]
    pub rate: f64,

    /// Requests in flight at most with --rate; what arrives beyond is skipped and counted
    #[arg(long, default_value_t = 1024)]
    pub in_flight_max: usize,

    /// Stop after this many spans
    #[arg(long)]
    pub spans: Option<u64>,

    /// Stop after this many seconds
    #[arg(long)]
    pub seconds: Option<f64>,

    /// Spread the spans over so many hours: the first are so old, the last of --spans are of now
    #[arg(long, default_value_t = 0.0, requires = "spans")]
    pub hours: f64,

    /// Append the number of each acknowledged request (8 bytes little-endian) to this file
    #[arg(long, value_name = "FILE")]
    pub acked_file: Option<PathBuf>,
}

/// The pause after a refusal when requests follow each other: long enough not to measure refusals alone.
const PAUSE: Duration = Duration::from_millis(5);

struct Run {
    requests: Rc<Requests>,
    load: Load,
    connections: Vec<Connection>,
    start: Instant,
    /// Number of the next request.
    next: Cell<u64>,
    /// The end of the round that the next request belongs to, unix nanoseconds.
    round_end: Cell<u64>,
    in_flight: Cell<usize>,
    stopped: Cell<bool>,
    tally: RefCell<Tally>,
    acked: Option<File>,
    /// Buffers of answered requests, for the next ones.
    buffers: RefCell<Vec<BytesMut>>,
    /// With a rate: what was refused, to be offered again byte for byte before anything new, as senders do.
    refused: RefCell<VecDeque<(Next, Bytes)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Acknowledged,
    /// To be sent again.
    Refused,
    /// Refused for good, or without an answer.
    Lost,
}

/// A request that is about to be sent.
#[derive(Clone, Copy)]
struct Next {
    index: u64,
    round_end: u64,
    spans: u64,
}

/// Runs to the end that `load` sets; earlier if the server is gone. Returns what became of the requests and how long it
/// took. Must be called within a `LocalSet`.
///
/// # Errors
/// No server at the start, or the acked file cannot be written.
pub async fn run(requests: Rc<Requests>, load: Load, tenant: Option<&str>) -> anyhow::Result<(Tally, Duration)> {
    ensure!(
        load.connections > 0 && load.in_flight > 0 && load.in_flight_max > 0,
        "cannot run without a connection or a request in flight: --connections, --in-flight and --in-flight-max start at 1"
    );
    ensure!(load.spans.is_some() || load.seconds.is_some(), "cannot run without an end: give --spans or --seconds");
    let mut connections = Vec::new();
    for _ in 0..load.connections {
        connections.push(Connection::open(load.endpoint, tenant).await?);
    }
    let acked = load.acked_file.as_deref().map(append_to).transpose()?;
    let run = Rc::new(Run {
        requests,
        load,
        connections,
        start: Instant::now(),
        next: Cell::new(0),
        round_end: Cell::new(0),
        in_flight: Cell::new(0),
        stopped: Cell::new(false),
        tally: RefCell::default(),
        acked,
        buffers: RefCell::default(),
        refused: RefCell::default(),
    });
    let mut tasks = JoinSet::new();
    if run.load.rate > 0.0 {
        run.arrive(&mut tasks).await?;
    } else {
        for worker in 0..run.load.in_flight {
            tasks.spawn_local(run.clone().follow(worker));
        }
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let took = run.start.elapsed();
    Ok((run.tally.take(), took))
}

fn append_to(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("cannot write the acked file {}", path.display()))
}

impl Run {
    /// One of the requests in flight at full speed: each follows the answer of the one before.
    async fn follow(self: Rc<Self>, worker: usize) -> anyhow::Result<()> {
        while let Some((next, framed)) = self.take() {
            let sent = self.send(next, framed.clone(), worker % self.connections.len()).await?;
            self.keep(framed);
            if sent != Sent::Acknowledged {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Starts requests at the given rate, whatever becomes of those before.
    async fn arrive(self: &Rc<Self>, tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
        let mut arrived = 0;
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        while !self.is_over(arrived) {
            tick.tick().await;
            while let Some(done) = tasks.try_join_next() {
                done??;
            }
            let due = (self.load.rate * self.start.elapsed().as_secs_f64()) as u64;
            while arrived < due && !self.is_over(arrived) {
                arrived += self.arrival(tasks);
            }
        }
        Ok(())
    }

    /// Sends the next request, or skips its turn if too many are in flight. Returns its spans.
    fn arrival(self: &Rc<Self>, tasks: &mut JoinSet<anyhow::Result<()>>) -> u64 {
        if self.in_flight.get() >= self.load.in_flight_max {
            let spans = self.requests.spans_in(self.next.get()) as u64;
            self.tally.borrow_mut().skipped += spans;
            return spans;
        }
        let again = self.refused.borrow_mut().pop_front();
        let (next, framed) = again.inspect(|(next, _)| self.offer(*next)).unwrap_or_else(|| self.fresh());
        let run = self.clone();
        self.in_flight.update(|count| count + 1);
        tasks.spawn_local(async move {
            let connection = next.index as usize % run.connections.len();
            let sent = run.send(next, framed.clone(), connection).await;
            run.in_flight.update(|count| count - 1);
            match sent? {
                Sent::Refused => run.refused.borrow_mut().push_back((next, framed)),
                Sent::Acknowledged | Sent::Lost => run.keep(framed),
            }
            anyhow::Ok(())
        });
        next.spans
    }

    fn take(&self) -> Option<(Next, Bytes)> {
        let sent = self.tally.borrow().sent;
        (!self.is_over(sent)).then(|| self.fresh())
    }

    /// The next request that was never sent, encoded.
    fn fresh(&self) -> (Next, Bytes) {
        let next = self.advance();
        let mut buffer = self.buffers.borrow_mut().pop().unwrap_or_default();
        self.requests.write(next.index, next.round_end, &mut buffer);
        (next, buffer.freeze())
    }

    fn is_over(&self, spans: u64) -> bool {
        self.stopped.get()
            || self.load.spans.is_some_and(|most| spans >= most)
            || self.load.seconds.is_some_and(|most| self.start.elapsed().as_secs_f64() >= most)
    }

    fn advance(&self) -> Next {
        let index = self.next.get();
        self.next.set(index + 1);
        if index.is_multiple_of(self.requests.per_round() as u64) {
            self.round_end.set(self.round_end());
        }
        let next = Next { index, round_end: self.round_end.get(), spans: self.requests.spans_in(index) as u64 };
        self.offer(next);
        next
    }

    /// The end of the round that begins now, unix nanoseconds.
    fn round_end(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let done = self.load.spans.map_or(1.0, |all| (self.tally.borrow().sent as f64 / all as f64).min(1.0));
        now.saturating_sub(Duration::from_secs_f64(self.load.hours * 3_600.0 * (1.0 - done))).as_nanos() as u64
    }

    fn offer(&self, next: Next) {
        let mut tally = self.tally.borrow_mut();
        tally.requests += 1;
        tally.sent += next.spans;
    }

    /// Sends a request and counts what becomes of it.
    async fn send(&self, next: Next, framed: Bytes, connection: usize) -> anyhow::Result<Sent> {
        let arrived = Instant::now();
        let outcome = self.connections[connection].export(framed).await;
        match &outcome {
            Outcome::Acknowledged { rejected: 0 } => self.note(next.index)?,
            Outcome::Lost { .. } if !self.connections[connection].is_open().await => self.stopped.set(true),
            _ => {}
        }
        let sent = match &outcome {
            Outcome::Acknowledged { .. } => Sent::Acknowledged,
            Outcome::Refused { refusal, .. } if refusal.retry_info => Sent::Refused,
            Outcome::Refused { .. } | Outcome::Lost { .. } => Sent::Lost,
        };
        self.tally.borrow_mut().count(next.spans, outcome, arrived.elapsed(), self.start.elapsed());
        Ok(sent)
    }

    fn keep(&self, framed: Bytes) {
        if let Ok(buffer) = framed.try_into_mut() {
            self.buffers.borrow_mut().push(buffer);
        }
    }

    /// Writes an acknowledged request's number to the acked file, unbuffered: what is acknowledged next may be the last.
    fn note(&self, index: u64) -> anyhow::Result<()> {
        match &self.acked {
            Some(file) => (&*file).write_all(&index.to_le_bytes()).context("cannot write the acked file; check its disk"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use h2::server::{SendResponse, handshake};
    use http::{HeaderMap, Response};
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message;
    use tokio::{net::TcpListener, task::LocalSet};
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;
    use crate::{mesh::Shape, requests::FRAME_HEADER, tally::Refusal};

    /// What the server of the test does with request number `n` of those that reach it.
    #[derive(Clone, Copy, PartialEq)]
    enum Behaviour {
        Accept,
        /// Every fourth is refused, with RetryInfo.
        RefuseSome,
        /// One span of each is rejected.
        RejectOne,
        /// Every connection ends after 20 requests, and none is made again.
        Die,
        /// Never answers.
        Silent,
    }

    #[derive(Default)]
    struct Received {
        requests: usize,
        spans: usize,
        ids: HashSet<Vec<u8>>,
        tenants: HashSet<String>,
    }

    fn requests() -> Rc<Requests> {
        let traffic = Shape { services: 7, depth: 3, fan_out: 2 }.traffic(5, 1).unwrap();
        Rc::new(Requests::new(traffic, 5, 1).unwrap())
    }

    fn load(endpoint: SocketAddr) -> Load {
        Load {
            hours: 0.0,
            endpoint,
            connections: 2,
            in_flight: 8,
            rate: 0.0,
            in_flight_max: 16,
            spans: Some(10_000),
            seconds: None,
            acked_file: None,
        }
    }

    async fn server(behaviour: Behaviour, received: Rc<RefCell<Received>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let mut connections = 0;
            while connections < 2 || behaviour != Behaviour::Die {
                let (stream, _) = listener.accept().await.unwrap();
                connections += 1;
                tokio::task::spawn_local(serve(stream, behaviour, received.clone()));
            }
        });
        address
    }

    async fn serve(stream: tokio::net::TcpStream, behaviour: Behaviour, received: Rc<RefCell<Received>>) {
        let mut connection = handshake(stream).await.unwrap();
        let mut count = 0;
        while let Some(Ok((request, answer))) = connection.accept().await {
            count += 1;
            if behaviour == Behaviour::Die && count > 20 {
                return;
            }
            tokio::task::spawn_local(answer_one(request, answer, behaviour, received.clone()));
        }
    }

    async fn answer_one(
        request: http::Request<h2::RecvStream>,
        mut answer: SendResponse<Bytes>,
        behaviour: Behaviour,
        received: Rc<RefCell<Received>>,
    ) {
        let tenant = request.headers().get("x-scope-orgid").map(|tenant| tenant.to_str().unwrap().to_owned());
        let mut body = request.into_body();
        let mut framed = BytesMut::new();
        while let Some(Ok(chunk)) = body.data().await {
            body.flow_control().release_capacity(chunk.len()).unwrap();
            framed.extend_from_slice(&chunk);
        }
        let Ok(message) = ExportTraceServiceRequest::decode(framed.get(FRAME_HEADER..).unwrap_or_default()) else { return };
        let number = {
            let mut received = received.borrow_mut();
            received.requests += 1;
            received.tenants.extend(tenant);
            for span in message.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans) {
                received.spans += 1;
                received.ids.insert(span.span_id.clone());
            }
            received.requests
        };
        match behaviour {
            Behaviour::Silent => std::future::pending().await,
            Behaviour::RefuseSome if number.is_multiple_of(4) => refuse(&mut answer),
            _ => accept(&mut answer, behaviour == Behaviour::RejectOne),
        }
    }

    fn accept(answer: &mut SendResponse<Bytes>, reject_one: bool) {
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut stream = answer.send_response(head, false).unwrap();
        // ExportTraceServiceResponse { partial_success { rejected_spans: 1 } }
        let body: &[u8] = if reject_one { &[0, 0, 0, 0, 4, 0x0a, 2, 8, 1] } else { &[0; 5] };
        stream.send_data(Bytes::from_static(body), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    }

    fn refuse(answer: &mut SendResponse<Bytes>) {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
        let status = tonic::Status::with_error_details(tonic::Code::Unavailable, "try later", details);
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, status.details());
        let head = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "14")
            .header("grpc-message", "try%20later, 100% full")
            .header("grpc-status-details-bin", encoded)
            .body(())
            .unwrap();
        answer.send_response(head, true).unwrap();
    }

    async fn play(behaviour: Behaviour, change: impl FnOnce(&mut Load)) -> (Tally, Rc<RefCell<Received>>) {
        let received = Rc::<RefCell<Received>>::default();
        let mut load = load(server(behaviour, received.clone()).await);
        change(&mut load);
        let (tally, _) = run(requests(), load, Some("acme")).await.unwrap();
        (tally, received)
    }

    fn in_local<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, future)
    }

    /// Scenario: a server that takes all. Guarantee: all arrives once, whole, with the tenant, and is counted so.
    #[test]
    fn all_is_acknowledged() {
        in_local(async {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("acked");
            let (tally, received) = play(Behaviour::Accept, |load| load.acked_file = Some(file.clone())).await;
            let received = received.borrow();
            assert!(tally.sent >= 10_000 && tally.sent < 10_100);
            assert_eq!(tally.acknowledged, tally.sent);
            assert_eq!((received.spans as u64, received.ids.len() as u64), (tally.sent, tally.sent));
            assert_eq!(received.tenants, HashSet::from(["acme".to_owned()]));
            assert_eq!(tally.latencies.len() as u64, tally.requests);
            assert_eq!(tally.per_second.iter().sum::<u64>(), tally.acknowledged);
            let mut acked = crate::verify::read_acked(&file).unwrap();
            acked.sort_unstable();
            assert_eq!(acked, (0..tally.requests).collect::<Vec<_>>());
        });
    }

    /// Scenario: UNAVAILABLE with RetryInfo now and then. Guarantee: counted as refused, retryable, with its message.
    #[test]
    fn refusals_are_counted() {
        in_local(async {
            let (tally, _) = play(Behaviour::RefuseSome, |_| {}).await;
            let refusal = Refusal { code: 14, retry_info: true };
            assert!(refusal.is_retryable() && !Refusal { code: 8, retry_info: false }.is_retryable());
            assert_eq!(tally.refused.keys().collect::<Vec<_>>(), [&refusal]);
            assert_eq!(tally.messages[&refusal], "try later, 100% full");
            assert_eq!(tally.refused[&refusal] + tally.acknowledged, tally.sent);
            assert!(tally.refused[&refusal] * 5 > tally.sent);
        });
    }

    /// Scenario: partial success. Guarantee: rejected spans are not counted as acknowledged.
    #[test]
    fn rejected_spans_are_counted() {
        in_local(async {
            let (tally, _) = play(Behaviour::RejectOne, |_| {}).await;
            assert_eq!(tally.rejected, tally.requests);
            assert_eq!(tally.acknowledged + tally.rejected, tally.sent);
        });
    }

    /// Scenario: the server dies. Guarantee: the run ends, and what had no answer is of unknown outcome.
    #[test]
    fn a_dead_server_ends_the_run() {
        in_local(async {
            let (tally, _) = play(Behaviour::Die, |_| {}).await;
            assert!(tally.lost.is_some() && tally.unknown > 0 && tally.sent < 10_000);
            assert_eq!(tally.acknowledged + tally.unknown, tally.sent);
        });
    }

    /// Scenario: 20,000 spans/s for two seconds. Guarantee: about that many are sent, no faster.
    #[test]
    fn a_rate_is_kept() {
        in_local(async {
            let change = |load: &mut Load| {
                (load.rate, load.spans, load.seconds, load.in_flight_max) = (20_000.0, None, Some(2.0), 4096);
            };
            let (tally, _) = play(Behaviour::Accept, change).await;
            let arrived = tally.sent + tally.skipped;
            assert!((5_000..=40_100).contains(&arrived), "{arrived}");
        });
    }

    /// Scenario: a rate, and a server that never answers. Guarantee: no more than the limit is in flight; the rest is
    /// skipped and counted.
    #[test]
    fn requests_in_flight_are_limited() {
        in_local(async {
            let received = Rc::<RefCell<Received>>::default();
            let mut load = load(server(Behaviour::Silent, received.clone()).await);
            (load.rate, load.spans, load.seconds) = (20_000.0, None, Some(10.0));
            let all_came = async {
                while received.borrow().requests < 16 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            };
            tokio::select! {
                _ = run(requests(), load, None) => panic!("it ends while requests are in flight"),
                () = all_came => {}
            }
            assert_eq!(received.borrow().requests, 16);
        });
    }
}
