//! What is summed of the hops of one key.

use std::cmp::Reverse;

use super::fact::{NONE, Seen, Told, Weighed};
use super::format::Reader;
use super::latencies::{Latencies, LatencySums};
use super::rows::Sum;
use crate::estimate::Tally;
use crate::hop::ErrorClass;
use crate::varint;

/// A count of [`Measures`]. Their order and number are part of the file format: another one is another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Hops.
    Requests,
    /// Those that failed, by the callee's report, else the caller's.
    Errors,
    /// Calls that they end.
    Calls,
    /// Attempts: hops that are no mirrored requests.
    Attempts,
    /// Messages.
    Messages,
    /// Hops of which one end may still be named.
    Unresolved,
    /// Hops whose ends only the parent link or one of several proxies tells.
    Assumed,
    /// Bytes of requests.
    RequestBytes,
    /// Bytes of responses.
    ResponseBytes,
    /// Traces whose sampling is known.
    SampledTraces,
    /// Their hops.
    SampledHops,
    /// Hops whose sampling is unknown.
    UnknownHops,
    /// Hops that came over mutual TLS.
    MutualTls,
    /// Hops that are known not to.
    PlainText,
}

const COUNTS: usize = Count::PlainText as usize + 1;
const CLASSES: usize = ErrorClass::Status as usize;
/// Numbers of which most are zero together.
const NUMBERS: usize = COUNTS + 2 * CLASSES + 2;
/// The most variance that one trace gives, so that sums of some 2^26 traces fit.
const VARIANCE_MAX: u128 = 1 << 100;

/// The greatest value, and of its traces the smallest id.
pub type Best = Option<(u64, Reverse<[u8; 16]>)>;

/// Sums over hops: with something, less without it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    counts: [i64; COUNTS],
    /// What the callers saw.
    pub caller: SideMeasures,
    /// What the callees saw.
    pub callee: SideMeasures,
    /// Network and proxy times.
    pub network: Latencies,
    weight: i128,
    variance: i128,
    /// The longest latency, nanoseconds, and its trace.
    pub slowest: Best,
    /// The latest failure, nanoseconds since the epoch, and its trace.
    pub latest_error: Best,
    /// Traces that were taken out; sorted.
    retracted: Vec<[u8; 16]>,
}

/// What one side saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SideMeasures {
    /// Hops that it tells of.
    pub reports: i64,
    /// Of these, those of each class but the first.
    errors: [i64; CLASSES],
    /// Their latencies.
    pub latency: Latencies,
}

impl SideMeasures {
    fn add(&mut self, seen: Seen, sign: i64) {
        let Some(error) = seen.error else { return };
        self.reports += sign;
        if let Some(class) = (error as usize).checked_sub(1) {
            self.errors[class] += sign;
        }
        if seen.latency != NONE {
            self.latency.record(seen.latency, sign);
        }
    }

    /// Adds what it saw of other hops.
    pub fn merge(&mut self, other: &SideMeasures) {
        self.merge_counts(other);
        self.latency.merge(&other.latency);
    }

    fn merge_counts(&mut self, other: &SideMeasures) {
        self.reports = self.reports.wrapping_add(other.reports);
        self.errors.iter_mut().zip(other.errors).for_each(|(count, more)| *count = count.wrapping_add(more));
    }

    /// How many there were of each class that is there at all, without those that did not fail.
    pub fn classes(&self) -> impl Iterator<Item = (ErrorClass, u64)> {
        let classes = ErrorClass::ALL.into_iter().skip(1).zip(self.errors);
        classes.filter_map(|(class, count)| Some((class, u64::try_from(count).ok().filter(|count| *count > 0)?)))
    }

    /// Those that count as errors.
    pub fn errors(&self) -> u64 {
        u64::try_from(self.signed_errors()).unwrap_or(0)
    }

    fn signed_errors(&self) -> i64 {
        let classes = ErrorClass::ALL.into_iter().skip(1).zip(self.errors);
        classes.filter(|(class, _)| class.is_error()).map(|(_, count)| count).sum()
    }

    fn clear(&mut self) {
        self.reports = 0;
        self.errors = [0; CLASSES];
        self.latency.clear();
    }

    fn is_zero(&self) -> bool {
        self.reports == 0 && self.errors == [0; CLASSES] && self.latency.is_zero()
    }
}

impl Measures {
    /// A count of something that is whole: it is not negative.
    pub fn count(&self, count: Count) -> u64 {
        u64::try_from(self.counts[count as usize]).unwrap_or(0)
    }

    /// The same of what may be a difference.
    pub fn signed(&self, count: Count) -> i64 {
        self.counts[count as usize]
    }

    fn add_count(&mut self, count: Count, more: i64) {
        let counted = &mut self.counts[count as usize];
        *counted = counted.wrapping_add(more);
    }

    /// Adds a hop, or takes it out.
    pub(crate) fn add(&mut self, hop: &Told) {
        let (caller, callee, sign) = (hop.caller(), hop.callee(), hop.sign.factor());
        let told = if callee.error.is_some() { callee } else { caller };
        let failed = told.error.is_some_and(ErrorClass::is_error);
        for (count, value) in [
            (Count::Requests, 1),
            (Count::Errors, failed.into()),
            (Count::Calls, hop.calls.into()),
            (Count::Attempts, (!hop.mirror).into()),
            (Count::Messages, hop.messages.into()),
            (Count::Unresolved, hop.unresolved.into()),
            (Count::Assumed, hop.assumed.into()),
            (Count::RequestBytes, hop.request_bytes as i64),
            (Count::ResponseBytes, hop.response_bytes as i64),
            (Count::UnknownHops, (!hop.weighed).into()),
            (Count::MutualTls, (hop.mtls == Some(true)).into()),
            (Count::PlainText, (hop.mtls == Some(false)).into()),
        ] {
            self.add_count(count, sign * value);
        }
        self.caller.add(caller, sign);
        self.callee.add(callee, sign);
        if hop.network != NONE {
            self.network.record(hop.network, sign);
        }
        if sign > 0 {
            let latency = Some(told.latency).filter(|latency| *latency != NONE);
            self.slowest = self.slowest.max(latency.map(|latency| (latency, Reverse(hop.trace_id))));
            self.latest_error = self.latest_error.max(failed.then_some((hop.time, Reverse(hop.trace_id))));
        }
    }

    /// Adds the known weights of one trace's hops on an edge.
    pub(crate) fn add_weights(&mut self, weighed: &Weighed, sign: i64) {
        self.add_count(Count::SampledTraces, sign);
        self.add_count(Count::SampledHops, sign * i64::from(weighed.hops));
        self.weight += i128::from(sign) * weighed.weight() as i128;
        self.variance += i128::from(sign) * weighed.variance().min(VARIANCE_MAX) as i128;
    }

    /// Says that a trace has no hop here any more, if it had one.
    pub(crate) fn retract(&mut self, trace_id: [u8; 16]) {
        if let Err(place) = self.retracted.binary_search(&trace_id) {
            self.retracted.insert(place, trace_id);
        }
    }

    /// Adds what was summed of other hops.
    pub fn merge(&mut self, other: &Measures) {
        self.merge_all_but_latencies(other);
        self.caller.latency.merge(&other.caller.latency);
        self.callee.latency.merge(&other.callee.latency);
        self.network.merge(&other.network);
    }

    fn merge_all_but_latencies(&mut self, other: &Measures) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count = count.wrapping_add(more));
        self.caller.merge_counts(&other.caller);
        self.callee.merge_counts(&other.callee);
        self.weight = self.weight.wrapping_add(other.weight);
        self.variance = self.variance.wrapping_add(other.variance);
        for trace_id in &other.retracted {
            self.retract(*trace_id);
        }
        let is_there = |best: &(u64, Reverse<[u8; 16]>)| self.retracted.binary_search(&best.1.0).is_err();
        self.slowest = self.slowest.filter(is_there).max(other.slowest.filter(is_there));
        self.latest_error = self.latest_error.filter(is_there).max(other.latest_error.filter(is_there));
    }

    /// Leaves out what is of the traces on one edge, weights and exemplars: counts and latencies of hops mean the same whatever
    /// they are summed over.
    pub(crate) fn leave_traces_out(&mut self) {
        for count in [Count::SampledTraces, Count::SampledHops, Count::UnknownHops] {
            self.counts[count as usize] = 0;
        }
        (self.weight, self.variance) = (0, 0);
        (self.slowest, self.latest_error) = (None, None);
        self.retracted.clear();
    }

    /// What the hops of an edge through a waypoint are on the way to it: the callers' side.
    pub fn to_waypoint(&self) -> Measures {
        let mut measures = Measures { callee: SideMeasures::default(), network: Latencies::default(), ..self.clone() };
        measures.counts[Count::Errors as usize] = self.caller.signed_errors();
        measures
    }

    /// And from it: the callees' side.
    pub fn from_waypoint(&self) -> Measures {
        let mut measures = Measures { caller: SideMeasures::default(), network: Latencies::default(), ..self.clone() };
        measures.counts[Count::Errors as usize] = self.callee.signed_errors();
        measures
    }

    /// Counts, errors and reports, as they are encoded.
    fn numbers(&self) -> [i64; NUMBERS] {
        let mut numbers = [0; NUMBERS];
        let (counts, rest) = numbers.split_at_mut(COUNTS);
        let (of_caller, rest) = rest.split_at_mut(CLASSES);
        let (of_callee, reports) = rest.split_at_mut(CLASSES);
        counts.copy_from_slice(&self.counts);
        of_caller.copy_from_slice(&self.caller.errors);
        of_callee.copy_from_slice(&self.callee.errors);
        reports.copy_from_slice(&[self.caller.reports, self.callee.reports]);
        numbers
    }

    fn set_numbers(&mut self, numbers: &[i64; NUMBERS]) {
        let (counts, rest) = numbers.split_at(COUNTS);
        let (of_caller, rest) = rest.split_at(CLASSES);
        let (of_callee, reports) = rest.split_at(CLASSES);
        self.counts.copy_from_slice(counts);
        self.caller.errors.copy_from_slice(of_caller);
        self.callee.errors.copy_from_slice(of_callee);
        [self.caller.reports, self.callee.reports] = [reports[0], reports[1]];
    }

    /// The weights, of something that is whole.
    pub fn tally(&self) -> Tally {
        Tally {
            traces: self.count(Count::SampledTraces),
            hops: self.count(Count::SampledHops),
            unknown: self.count(Count::UnknownHops),
            weight: u128::try_from(self.weight).unwrap_or(0),
            variance: u128::try_from(self.variance).unwrap_or(0),
        }
    }
}

/// The bits of a mask that are set. One after the other: nobody can guess which of many they are.
fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(bit)
    })
}

/// The sum of many [`Measures`].
#[derive(Debug, Default)]
pub(crate) struct MeasureSums {
    measures: Measures,
    latencies: [LatencySums; 3],
}

impl MeasureSums {
    pub(crate) fn add(&mut self, measures: &Measures) {
        self.measures.merge_all_but_latencies(measures);
        let latencies = [&measures.caller.latency, &measures.callee.latency, &measures.network];
        self.latencies.iter_mut().zip(latencies).for_each(|(sums, latencies)| sums.add(latencies));
    }

    /// Makes `measures` the sum, in the memory that they have; what is left is zero.
    pub(crate) fn take(&mut self, measures: &mut Measures) {
        measures.clear();
        measures.merge_all_but_latencies(&self.measures);
        self.measures.clear();
        let latencies = [&mut measures.caller.latency, &mut measures.callee.latency, &mut measures.network];
        self.latencies.iter_mut().zip(latencies).for_each(|(sums, latencies)| sums.take(latencies));
    }
}

impl Sum for Measures {
    fn merge(&mut self, other: &Measures) {
        Measures::merge(self, other);
    }

    /// Traces that were taken out leave their exemplars when all is known, so it does not matter what was summed first.
    fn join(&mut self, other: &Measures) {
        let best = (self.slowest.max(other.slowest), self.latest_error.max(other.latest_error));
        Measures::merge(self, other);
        (self.slowest, self.latest_error) = best;
    }

    fn is_zero(&self) -> bool {
        self.counts == [0; COUNTS]
            && self.caller.is_zero()
            && self.callee.is_zero()
            && self.network.is_zero()
            && (self.weight, self.variance) == (0, 0)
            && self.retracted.is_empty()
    }

    fn clear(&mut self) {
        self.counts = [0; COUNTS];
        self.caller.clear();
        self.callee.clear();
        self.network.clear();
        (self.weight, self.variance) = (0, 0);
        (self.slowest, self.latest_error) = (None, None);
        self.retracted.clear();
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        // The numbers that are mostly zero together stand behind one bit each.
        let numbers = self.numbers();
        let mask = numbers.iter().enumerate().fold(0u64, |mask, (bit, number)| mask | u64::from(*number != 0) << bit);
        varint::write_small(bytes, mask);
        bits(mask).for_each(|bit| varint::write_small(bytes, varint::zigzag_small(numbers[bit])));
        let latencies = [&self.caller.latency, &self.callee.latency, &self.network];
        let flags = latencies.iter().enumerate().fold(0u8, |flags, (bit, latency)| flags | u8::from(!latency.is_zero()) << bit)
            | u8::from((self.weight, self.variance) != (0, 0)) << 3
            | u8::from(self.slowest.is_some()) << 4
            | u8::from(self.latest_error.is_some()) << 5
            | u8::from(!self.retracted.is_empty()) << 6;
        bytes.push(flags);
        latencies.iter().filter(|latency| !latency.is_zero()).for_each(|latency| latency.encode(bytes));
        if flags & 1 << 3 != 0 {
            varint::write(bytes, varint::zigzag(self.weight));
            varint::write(bytes, varint::zigzag(self.variance));
        }
        for (value, Reverse(trace_id)) in [self.slowest, self.latest_error].into_iter().flatten() {
            varint::write(bytes, value.into());
            bytes.extend_from_slice(&trace_id);
        }
        if !self.retracted.is_empty() {
            varint::write(bytes, self.retracted.len() as u128);
            bytes.extend(self.retracted.iter().flatten());
        }
    }

    fn decode(&mut self, bytes: &mut &[u8]) -> Option<()> {
        self.clear();
        let reader = &mut Reader::new(bytes);
        let (mask, mut numbers) = (reader.small()?, [0; NUMBERS]);
        for bit in bits(mask & ((1 << NUMBERS) - 1)) {
            numbers[bit] = reader.signed()?;
        }
        self.set_numbers(&numbers);
        let flags = reader.byte()?;
        for (bit, latency) in [&mut self.caller.latency, &mut self.callee.latency, &mut self.network].into_iter().enumerate() {
            if flags & 1 << bit != 0 {
                latency.decode(&mut reader.bytes)?;
            }
        }
        if flags & 1 << 3 != 0 {
            self.weight = varint::unzigzag(reader.large()?);
            self.variance = varint::unzigzag(reader.large()?);
        }
        for (bit, best) in [&mut self.slowest, &mut self.latest_error].into_iter().enumerate() {
            if flags & 1 << (4 + bit) != 0 {
                *best = Some((reader.small()?, Reverse(reader.id()?)));
            }
        }
        if flags & 1 << 6 != 0 {
            for _ in 0..reader.small()? {
                self.retracted.push(reader.id()?);
            }
        }
        *bytes = reader.bytes;
        Some(())
    }
}
