//! Asks a store that was built for graphs and latencies, as they are built for an answer and before they are written as one.

use std::{cell::Cell, fmt::Display, path::PathBuf};

use anyhow::{Context, bail, ensure};
use meshlake_benches::LocalStore;
use meshlake_config::{ByteSize, Tenant};
use meshlake_query::{Engine, Graph, GraphQuery, Latency, LatencyQuery, LatencySide, TimeRange, TraceId};

use crate::{build::in_lake, config, files, timings::Timings};

/// More edges than any mesh here has.
const EDGES_MAX: usize = 1_000_000;
const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;

#[derive(Debug, clap::Args)]
pub(crate) struct Measure {
    /// Data folder of a store that was built
    data_dir: PathBuf,

    /// Questions
    #[arg(long, value_enum, value_delimiter = ',', default_value = "last-hour,neighbourhood,whole-time,latency")]
    questions: Vec<Question>,

    /// How often each is asked; not after a minute
    #[arg(long, default_value_t = 100)]
    repetitions: usize,

    /// End every range at a full minute, instead of at the newest span
    #[arg(long)]
    align: bool,

    /// Length of a step of the latency series, seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(i64).range(1..=86_400))]
    step_seconds: i64,

    /// Memory of queries, if not the default
    #[arg(long)]
    query_memory: Option<ByteSize>,

    /// Memory for sums of hops, if not the default
    #[arg(long)]
    rollup_cache: Option<ByteSize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Question {
    /// The whole graph, last hour
    LastHour,
    /// The whole graph of an hour that ends a minute earlier each time, so that no graph that was kept is the answer
    MovingHour,
    /// What is two edges around one service, last hour: one with a median number of spans, and one that 1 % exceed
    Neighbourhood,
    /// The whole graph, whole time
    WholeTime,
    /// The latency series, last 24 hours, of the operation with most spans in the last of them
    Latency,
    /// A trace that nobody has: what it takes to plan a lookup, which is to tell what files may hold its trace
    Planning,
}

pub(crate) async fn measure(args: &Measure) -> anyhow::Result<()> {
    let mut config = config(&args.data_dir);
    let store = args.data_dir.join("store");
    ensure!(store.is_dir(), "cannot measure {}: there is no store; build one first", args.data_dir.display());
    config.query.memory_limit = args.query_memory.unwrap_or(config.query.memory_limit);
    config.query.rollup_cache = args.rollup_cache.unwrap_or(config.query.rollup_cache);
    let opened = LocalStore::open(&config).await?;
    let snapshot = opened.store.snapshot()?;
    let (spans, spans_bytes) = in_lake(&snapshot);
    ensure!(spans > 0 && opened.is_in_lake()?, "cannot measure {}: it must hold spans, all in the lake", args.data_dir.display());
    files::print(&store, spans, spans_bytes)?;
    let oldest = snapshot.files.iter().map(|file| file.start_min).min().unwrap_or_default();
    let newest = snapshot.files.iter().map(|file| file.start_max).max().unwrap_or_default();
    let end = if args.align { newest / MINUTE * MINUTE } else { newest };
    let questions =
        Questions { args, engine: Engine::new(opened.store.clone(), &config.query)?, tenant: Tenant::default(), oldest, end };
    for question in &args.questions {
        // Others may be answered.
        if let Err(error) = questions.ask(*question).await {
            println!("{question:?}: not asked: {error:#}");
        }
    }
    drop(questions);
    opened.close().await
}

struct Questions<'a> {
    args: &'a Measure,
    engine: Engine,
    tenant: Tenant,
    /// Start of the oldest span, microseconds.
    oldest: i64,
    /// End of all ranges.
    end: i64,
}

impl Questions<'_> {
    async fn ask(&self, question: Question) -> anyhow::Result<()> {
        let last_hour = self.last(HOUR);
        match question {
            Question::LastHour => self.graph("whole graph, last hour", whole(last_hour)).await,
            Question::MovingHour => self.moving_hour(last_hour).await,
            Question::Neighbourhood => {
                let services = self.services(last_hour).await?;
                for (which, place) in [("median", services.len() / 2), ("99th percentile", services.len() * 99 / 100)] {
                    let service = services.get(place).context("no service has spans in the last hour")?;
                    let query = GraphQuery { service: Some(service.clone()), depth: 2, ..whole(last_hour) };
                    self.graph(&format!("two edges around {service} ({which}), last hour"), query).await;
                }
            }
            Question::WholeTime => {
                let range = TimeRange { start: self.oldest - 1, end: self.end };
                self.graph(&format!("whole graph, {:.1} hours", (range.end - range.start) as f64 / HOUR as f64), whole(range))
                    .await;
            }
            Question::Latency => self.latency().await?,
            Question::Planning => self.planning().await,
        }
        Ok(())
    }

    fn last(&self, length: i64) -> TimeRange {
        TimeRange { start: self.end - length, end: self.end }
    }

    /// The services of a range, those with most spans last.
    async fn services(&self, range: TimeRange) -> anyhow::Result<Vec<String>> {
        let mut services = self.engine.services(&self.tenant, range).await?;
        services.sort_by_key(|service| service.spans);
        Ok(services.into_iter().map(|service| service.service).collect())
    }

    async fn graph(&self, name: &str, query: GraphQuery) {
        let taken = Timings::take(self.args.repetitions, async || self.engine.graph(&self.tenant, &query).await).await;
        let told = |graph: &Graph| {
            let (nodes, edges, counts) = (graph.nodes.len(), graph.edges.len(), &graph.counts);
            format!("{nodes} nodes, {edges} edges, {} requests, {} unresolved", counts.requests, counts.unresolved)
        };
        print(name, taken, told);
    }

    async fn moving_hour(&self, last: TimeRange) {
        let asked = Cell::new(0);
        let ask = async || {
            let earlier = asked.get() * MINUTE;
            asked.set(asked.get() + 1);
            self.engine.graph(&self.tenant, &whole(TimeRange { start: last.start - earlier, end: last.end - earlier })).await
        };
        let taken = Timings::take(self.args.repetitions, ask).await;
        print("whole graph, an hour a minute earlier each time", taken, |graph: &Graph| format!("{} edges", graph.edges.len()));
    }

    async fn planning(&self) {
        // Multiples of the golden ratio: ids as evenly spread as random ones, which no generator makes.
        let asked = Cell::new(0_u128);
        let look_up = async || {
            asked.set(asked.get() + 1);
            let id = asked.get().wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            self.engine.trace(&self.tenant, TraceId(id.to_be_bytes())).await
        };
        let taken = Timings::take(self.args.repetitions, look_up).await;
        print("plan of a lookup by trace id", taken, |found| if found.is_some() { "found" } else { "not found" });
    }

    /// The service with most spans among those that receive requests, and the operation by which it receives most.
    async fn busiest_operation(&self, range: TimeRange) -> anyhow::Result<(String, String)> {
        // A gateway has only spans of its own calls.
        for service in self.services(range).await?.into_iter().rev() {
            let operations = self.engine.operations(&self.tenant, &service, range).await?;
            let received = operations.into_iter().filter(|operation| operation.kind == "server");
            if let Some(most) = received.max_by_key(|operation| operation.spans) {
                return Ok((service, most.operation));
            }
        }
        bail!("no service receives requests in the last hour")
    }

    async fn latency(&self) -> anyhow::Result<()> {
        let (service, operation) = self.busiest_operation(self.last(HOUR)).await?;
        let range = self.last(24 * HOUR);
        let query = LatencyQuery {
            range,
            step: self.args.step_seconds * 1_000_000,
            service: Some(service),
            operation: Some(operation.clone()),
            workload: None,
            namespace: None,
            cluster: None,
            side: LatencySide::Callee,
            group_by: None,
            quantiles: ["0.5", "0.9", "0.95", "0.99"].iter().map(|share| share.parse()).collect::<Result<_, _>>()?,
        };
        let taken = Timings::take(self.args.repetitions, async || self.engine.latency(&self.tenant, &query).await).await;
        let told = |latency: &Latency| {
            let points: usize = latency.series.iter().map(|series| series.points.len()).sum();
            format!("{} series of {points} points, {} requests", latency.series.len(), latency.counts.requests)
        };
        print(&format!("latency of {operation}, last 24 hours"), taken, told);
        Ok(())
    }
}

/// All edges of a range.
fn whole(range: TimeRange) -> GraphQuery {
    GraphQuery::whole(range, EDGES_MAX)
}

/// Prints how long a question took and what the answer was; or why there was none, for other questions may have one.
fn print<T, D: Display>(name: &str, taken: anyhow::Result<(T, Timings)>, told: impl FnOnce(&T) -> D) {
    match taken {
        Ok((answer, timings)) => println!("{name}: {timings}; {}", told(&answer)),
        Err(error) => println!("{name}: no answer: {error:#}"),
    }
}
