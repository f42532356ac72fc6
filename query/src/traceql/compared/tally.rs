use meshlake_traceql::{ComparedCount, ComparedSpans};

/// How often there is each of some values, by their numbers, in spans that are counted together and then in others.
#[derive(Default)]
pub(super) struct Tally {
    spans: Option<ComparedSpans>,
    /// Of these spans, by value.
    counts: Vec<u64>,
    /// The values that these spans have.
    values: Vec<usize>,
    /// Of the spans before.
    all: Vec<ComparedCount>,
}

impl Tally {
    /// What is added from now on is of these spans.
    pub(super) fn turn_to(&mut self, spans: ComparedSpans) {
        if self.spans != Some(spans) {
            self.close();
            self.spans = Some(spans);
        }
    }

    /// Adds one of a value.
    pub(super) fn add(&mut self, value: usize) {
        if value >= self.counts.len() {
            self.counts.resize(value + 1, 0);
        }
        if self.counts[value] == 0 {
            self.values.push(value);
        }
        self.counts[value] += 1;
    }

    fn close(&mut self) {
        let Some(spans) = self.spans else { return };
        let count = |value| ComparedCount { value, spans, count: std::mem::take(&mut self.counts[value]) };
        self.all.extend(self.values.drain(..).map(count));
    }

    pub(super) fn finish(mut self) -> Vec<ComparedCount> {
        self.close();
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: values of spans of two groups. Guarantee: each group has its own counts, of those values that it has.
    #[test]
    fn counts_are_by_group() {
        let spans = |interval| ComparedSpans { selected: false, interval };
        let mut tally = Tally::default();
        for (interval, values) in [(1, &[3, 0, 3][..]), (1, &[3]), (2, &[]), (4, &[0])] {
            tally.turn_to(spans(interval));
            values.iter().for_each(|value| tally.add(*value));
        }
        let counts: Vec<_> = tally.finish().into_iter().map(|count| (count.value, count.spans.interval, count.count)).collect();
        assert_eq!(counts, [(3, 1, 3), (0, 1, 1), (0, 4, 1)]);
    }
}
