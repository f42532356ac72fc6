//! Who receives traced requests and begins new traces instead of continuing them.
//!
//! What is looked at are the pieces of work of the traces (see [`meshlake_hops::Work`]): of each workload the requests that came to
//! it in traces of others, and the traces that it began by calling somebody. [`meshlake_hops::Propagation`] judges what they say;
//! here they are counted, and compared in time, pod by pod.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryConsumer;
use meshlake_hops::{Asked, Confidence, NodeKind, Propagation, Span, TraceHops, Work};

use crate::node::NodeName;
use crate::sample::{self, TraceSample};
use crate::trace_id::TraceId;
use crate::types::TimeRange;
use crate::view::View;

/// What a workload takes, with a few pods and texts; and a request or a trace that was begun.
const WORKLOAD_BYTES: usize = 2_048;
const TIME_BYTES: usize = 48;
/// Traces that show it.
const EXAMPLES_MAX: usize = 3;

/// A question for who drops the context of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropagationQuery {
    /// When requests and traces begin; right-closed, as for hops: `start < t <= end`.
    pub range: TimeRange,
    /// The most traces that are read.
    pub traces: usize,
}

/// Those that may drop it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Propagations {
    /// The surest first, then those that begin most traces.
    pub workloads: Vec<WorkloadPropagation>,
    /// The traces that they are seen in.
    pub sample: TraceSample,
}

/// A workload that receives traced requests and begins traces.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadPropagation {
    /// Which.
    pub node: NodeName,
    /// How sure it is that it should continue those of its requests.
    pub confidence: Confidence,
    /// What spans tell.
    pub evidence: Propagation,
    /// Some of the traces that it began.
    pub examples: Vec<BegunTrace>,
}

/// A trace that a workload began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BegunTrace {
    /// The trace.
    pub trace_id: TraceId,
    /// When, nanoseconds since the epoch.
    pub time: u64,
    /// A trace with a request that the same pod was serving.
    pub during: Option<TraceId>,
}

/// Who may drop the context of requests.
pub(crate) async fn propagation(view: &View, query: &PropagationQuery) -> Result<Propagations> {
    query.range.check()?;
    let memory = MemoryConsumer::new("propagation").register(&view.lookups.runtime.memory_pool);
    let (ids, mut sample) = sample::traces_in(view, query.range, None, query.traces).await?;
    let (mut seen, mut worker) = (Seen::default(), TraceHops::new());
    for chunk in ids.chunks() {
        let each = |id: TraceId, spans: &[Span<'_>]| {
            let mut works = Vec::new();
            sample.left_out += worker.works(&id.0, spans, &mut works) as u64;
            works.iter().filter(|work| query.range.holds(work.start)).for_each(|work| seen.add(id, work));
            memory.try_resize(seen.bytes())
        };
        view.traces.each_spans(chunk, each).await?;
    }
    let workloads = seen.answer();
    view.check_rows(workloads.len())?;
    Ok(Propagations { workloads, sample })
}

/// What was seen of each workload.
#[derive(Default)]
struct Seen {
    /// By all but the service of those that have a workload: not every span tells it.
    workloads: BTreeMap<NodeName, Workload>,
    times: usize,
}

#[derive(Default)]
struct Workload {
    /// The first by name.
    service: Option<String>,
    /// Counted, but for what needs all of it.
    evidence: Propagation,
    /// By name; what no span tells the pod of is of one without a name, which serves nothing.
    pods: BTreeMap<String, Pod>,
}

#[derive(Default)]
struct Pod {
    /// Start and end of requests, and their traces.
    served: Vec<(u64, u64, TraceId)>,
    /// When traces were begun, and which.
    begun: Vec<(u64, TraceId)>,
}

impl Seen {
    fn bytes(&self) -> usize {
        self.workloads.len() * WORKLOAD_BYTES + self.times * TIME_BYTES
    }

    fn add(&mut self, id: TraceId, work: &Work<'_>) {
        let nameless = work.node.workload.is_empty() && work.node.service.is_empty();
        let begins = work.asked == Asked::Nobody && work.calls > 0;
        if work.node.kind != NodeKind::Workload || nameless || !(begins || work.asked == Asked::Traced) {
            return;
        }
        let mut name = NodeName::of(&work.node);
        let service = name.service.take_if(|_| name.workload.is_some());
        let seen = self.workloads.entry(name).or_default();
        seen.service = [seen.service.take(), service].into_iter().flatten().min();
        let pod = seen.pods.entry(work.pod.to_owned()).or_default();
        self.times += 1;
        if begins {
            seen.evidence.started += 1;
            seen.evidence.calls_started += u64::from(work.calls);
            pod.begun.push((work.start, id));
            return;
        }
        seen.evidence.requests += 1;
        seen.evidence.continued += u64::from(work.calls > 0);
        seen.evidence.calls_continued += u64::from(work.calls);
        if !work.pod.is_empty() {
            pod.served.push((work.start, work.end, id));
        }
    }

    fn answer(self) -> Vec<WorkloadPropagation> {
        let mut found: Vec<_> = self.workloads.into_iter().filter_map(|(name, workload)| workload.answer(name)).collect();
        found.sort_by(|a, b| {
            let key = |one: &WorkloadPropagation| (Reverse(one.confidence), Reverse(one.evidence.started));
            key(a).cmp(&key(b)).then_with(|| a.node.cmp(&b.node))
        });
        found
    }
}

impl Workload {
    /// None if there is nothing to say of it.
    fn answer(self, name: NodeName) -> Option<WorkloadPropagation> {
        let (mut evidence, mut examples) = (self.evidence, Vec::new());
        // To compare times costs more than to count, and most workloads begin nothing, or are not asked.
        evidence.confidence()?;
        for pod in self.pods.into_values() {
            pod.compare(&mut evidence, &mut examples);
        }
        examples.sort_unstable_by_key(|one| (one.during.is_none(), one.time, one.trace_id));
        examples.truncate(EXAMPLES_MAX);
        let confidence = evidence.confidence()?;
        let node = NodeName { service: name.service.or(self.service), ..name };
        Some(WorkloadPropagation { node, confidence, evidence, examples })
    }
}

impl Pod {
    /// Adds what the times of requests and of traces that were begun tell, and these traces.
    fn compare(mut self, evidence: &mut Propagation, examples: &mut Vec<BegunTrace>) {
        self.served.sort_unstable();
        // By request, the one that ends last of all that began no later.
        let mut last: Vec<(u64, TraceId)> = Vec::with_capacity(self.served.len());
        let mut busy = 0;
        for (start, end, id) in &self.served {
            let before = last.last().copied().unwrap_or((0, *id));
            busy += end.saturating_sub(before.0.max(*start));
            last.push(if *end > before.0 { (*end, *id) } else { before });
        }
        for (time, trace_id) in &self.begun {
            let began = self.served.partition_point(|(start, ..)| start <= time);
            let serving = began.checked_sub(1).map(|at| last[at]).filter(|(end, id)| end > time && id != trace_id);
            let during = serving.map(|(_, id)| id);
            evidence.overlapping += u64::from(during.is_some());
            examples.push(BegunTrace { trace_id: *trace_id, time: *time, during });
        }
        if !self.served.is_empty() {
            evidence.checked += self.begun.len() as u64;
            evidence.overlapping_by_chance += self.begun.len() as f64 * self.part_of_time(busy);
        }
    }

    /// The part of the time that `busy` nanoseconds are, from the first to the last that is known of the pod.
    fn part_of_time(&self, busy: u64) -> f64 {
        let first = self.served.iter().map(|(start, ..)| *start).chain(self.begun.iter().map(|(time, _)| *time)).min();
        let last = self.served.iter().map(|(_, end, _)| *end).chain(self.begun.iter().map(|(time, _)| *time)).max();
        let known = last.unwrap_or(0) - first.unwrap_or(0);
        if known == 0 { 1.0 } else { busy as f64 / known as f64 }
    }
}

#[cfg(test)]
mod tests;
