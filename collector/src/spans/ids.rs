//! The ids of spans, and why spans can't be kept.

use std::fmt;

use super::SpanFields;

/// Reasons that are told apart; spans rejected for others are counted together.
const REASONS_MAX: usize = 8;

/// Why a span can't be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadId {
    Length(&'static str, usize),
    Zero(&'static str),
}

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadId::Length(id, 1) => write!(f, "{id} of 1 byte"),
            BadId::Length(id, bytes) => write!(f, "{id} of {bytes} bytes"),
            BadId::Zero(id) => write!(f, "{id} all zero"),
        }
    }
}

/// How many spans can't be kept, and why.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    reasons: Vec<(BadId, u64)>,
    others: u64,
}

impl Rejections {
    pub(crate) fn add(&mut self, reason: BadId) {
        match self.reasons.iter().position(|(known, _)| *known == reason) {
            Some(known) => self.reasons[known].1 += 1,
            None if self.reasons.len() < REASONS_MAX => self.reasons.push((reason, 1)),
            None => self.others += 1,
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.reasons.iter().map(|(_, count)| count).sum::<u64>() + self.others
    }

    /// For the sender; none if there is nothing to tell.
    pub(crate) fn text(&self) -> Option<String> {
        let count = self.count();
        let mut reasons: Vec<_> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        if self.others > 0 {
            reasons.push(format!("{} other", self.others));
        }
        let spans = if count == 1 { "span" } else { "spans" };
        (count > 0).then(|| format!("{count} {spans} rejected: {}", reasons.join(", ")))
    }
}

type Ids = ([u8; 16], [u8; 8], Option<[u8; 8]>);

/// The ids of a span that can be kept.
pub(crate) fn ids(span: &SpanFields<'_>) -> Result<Ids, BadId> {
    let trace_id: [u8; 16] = span.trace_id.try_into().map_err(|_| BadId::Length("trace_id", span.trace_id.len()))?;
    let span_id: [u8; 8] = span.span_id.try_into().map_err(|_| BadId::Length("span_id", span.span_id.len()))?;
    let parent: [u8; 8] = match span.parent_span_id {
        [] => [0; 8],
        parent => parent.try_into().map_err(|_| BadId::Length("parent_span_id", parent.len()))?,
    };
    if trace_id == [0; 16] {
        return Err(BadId::Zero("trace_id"));
    }
    if span_id == [0; 8] {
        return Err(BadId::Zero("span_id"));
    }
    Ok((trace_id, span_id, Some(parent).filter(|parent| *parent != [0; 8])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: spans with ids of each wrong kind. Guarantee: the sender is told how many there are of each; of more kinds
    /// than are told apart, how many others.
    #[test]
    fn reasons_are_counted() {
        let mut rejections = Rejections::default();
        assert_eq!(rejections.text(), None);
        let (one, eight) = ([1; 1], [0; 8]);
        let good = SpanFields { trace_id: &[1; 16], span_id: &[1; 8], ..SpanFields::default() };
        for bad in [
            SpanFields { trace_id: &one, ..good },
            SpanFields { span_id: &eight, ..good },
            SpanFields { trace_id: &one, ..good },
            SpanFields { parent_span_id: &[1; 16], ..good },
        ] {
            rejections.add(ids(&bad).unwrap_err());
        }
        let text = "4 spans rejected: 2 trace_id of 1 byte, 1 span_id all zero, 1 parent_span_id of 16 bytes";
        assert_eq!(rejections.text().unwrap(), text);
        (20..40).for_each(|bytes| rejections.add(BadId::Length("span_id", bytes)));
        assert_eq!(rejections.count(), 24);
        assert!(rejections.text().unwrap().ends_with("1 span_id of 24 bytes, 15 other"), "{:?}", rejections.text());
    }
}
