use proptest::prelude::*;

use super::quantiles::ranks;
use super::*;
use crate::histogram::Histogram;

fn rate(events: u64, exposure: f64) -> Rate {
    Rate { events, exposure }
}

fn share(part: u64, whole: u64) -> Share {
    Share { part, whole }
}

fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
    let mut histogram = Histogram::new();
    values.into_iter().for_each(|value| histogram.record(value));
    histogram
}

fn near(found: f64, expected: f64) -> bool {
    (found / expected - 1.0).abs() < 1e-6
}

/// Scenario: counts over equal times, which make the sign test; 11 events in 800 against 21 in 3,011 (the data of `poisson.test` in R); and none.
/// Guarantee: the binomial tail, doubled: tables of the sign test, and sums of fractions.
#[test]
fn poisson_ratios() {
    assert!(near(rates_differ(rate(1, 1.0), rate(9, 1.0)), 0.021_484_375));
    assert!(near(rates_differ(rate(0, 5.0), rate(6, 5.0)), 0.031_25));
    assert!(near(rates_differ(rate(21, 3_011.0), rate(11, 800.0)), 0.112_017_319_58));
    assert_eq!(rates_differ(rate(50, 1.0), rate(50, 1.0)), 1.0);
    assert_eq!(rates_differ(rate(0, 1.0), rate(0, 9.0)), 1.0);
    assert_eq!((rates_differ(rate(9, 0.0), rate(1, 1.0)), rates_differ(rate(9, f64::NAN), rate(1, 1.0))), (1.0, 1.0));
    assert_eq!(rates_differ(rate(0, 1.0), rate(1_000_000_000, 1.0)), 0.0);
}

/// Scenario: large counts at either side of where the tail is no longer summed. Guarantee: the approximation says nearly the same.
#[test]
fn large_counts_are_normal() {
    // Variances of 9,998 and 10,002.
    let summed = rates_differ(rate(19_996 - 300, 1.0), rate(19_996 + 300, 1.0));
    let normal = rates_differ(rate(20_004 - 300, 1.0), rate(20_004 + 300, 1.0));
    assert!((summed / normal - 1.0).abs() < 0.02, "{summed} {normal}");
    assert!((0.002..0.004).contains(&summed), "{summed}");
}

/// Scenario: the Physicians' Health Study, 189 heart attacks of 11,034 without aspirin and 104 of 11,037 with it (Agresti: z = 5.00). Guarantee: its
/// score test, X^2 = 25.01.
#[test]
fn score_test() {
    let p = shares_differ(share(189, 11_034), share(104, 11_037));
    assert!((5.6e-7..5.8e-7).contains(&p), "{p}");
    assert_eq!(shares_differ(share(10, 1_000), share(10, 1_000)), 1.0);
}

/// Scenario: Fisher's lady tasting tea; a large whole and a small one; nothing to compare. Guarantee: the hypergeometric tail, doubled: sums of
/// fractions. The score test would call the second one chance of 10^-67.
#[test]
fn fisher_where_counts_are_small() {
    assert!(near(shares_differ(share(3, 4), share(1, 4)), 0.485_714_285_714));
    assert!(near(shares_differ(share(0, 1_000), share(3, 10)), 1.401_810_859_268e-6));
    assert!(near(shares_differ(share(1, 10), share(8, 10)), 0.005_477_494_641_58));
    for (a, b) in [(share(0, 5), share(0, 9)), (share(5, 5), share(9, 9)), (share(0, 0), share(3, 9)), (share(1, 1), share(0, 0))] {
        assert_eq!(shares_differ(a, b), 1.0);
    }
}

/// Scenario: the example of Benjamini and Hochberg (1995, 15 p-values), in another order; nothing. Guarantee: at 0.05 the four smallest are found, as
/// they write.
#[test]
fn false_discoveries() {
    let mut p =
        [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0];
    p.reverse();
    let adjusted = adjust(&p);
    let found: Vec<f64> = p.iter().zip(&adjusted).filter(|(_, adjusted)| **adjusted <= 0.05).map(|(p, _)| *p).collect();
    assert_eq!(found, [0.0095, 0.0019, 0.0004, 0.0001]);
    assert!(near(adjusted[14], 0.0015) && near(adjusted[11], 0.0095 * 15.0 / 4.0) && adjusted[0] == 1.0, "{adjusted:?}");
    assert!(adjust(&[]).is_empty());
}

/// Scenario: ranks of medians that are in every table, and of high quantiles, by sums of fractions; a large number. Guarantee: those.
#[test]
fn order_statistics() {
    for (count, q, expected) in [
        (6, 0.5, (1, 6)),
        (10, 0.5, (2, 9)),
        (100, 0.5, (40, 61)),
        (36, 0.9, (29, 36)),
        (100, 0.9, (84, 96)),
        (72, 0.95, (64, 72)),
        (368, 0.99, (360, 368)),
        (1_000, 0.99, (983, 997)),
    ] {
        assert_eq!(ranks(count, q), expected, "{count} {q}");
    }
    // 1.96 deviations of 500 either side.
    assert_eq!(ranks(1_000_000, 0.5), (499_020, 500_981));
}

/// Scenario: latencies that moved by 10 ms, that moved in the tail only, that all lie in one bucket, and too few. Guarantee: the interval holds the
/// shift; the median is the same where only the tail moved; what is too small says nothing.
#[test]
fn quantiles_move() {
    let before = of((1..=500).map(|step| 10_000_000 + step * 20_000));
    let after = of((1..=500).map(|step| 20_000_000 + step * 20_000));
    let test = QuantileTest::new(&before, &after);
    let Shift { by, low, high, .. } = test.shift(0.5).unwrap();
    assert!(low < 10_000_000 && 10_000_000 < high && low > 8_000_000 && by.abs_diff(10_000_000) < 500_000, "{low} {by} {high}");
    assert!(test.p(0.5).unwrap() < 1e-50);
    // Of the slowest of both all are of one, but that are few.
    assert!((1e-10..1e-4).contains(&test.p(0.99).unwrap()), "{:?}", test.p(0.99));

    let tail = of((1..=500).map(|step| 10_000_000 + step * 20_000 + if step > 450 { 80_000_000 } else { 0 }));
    let test = QuantileTest::new(&before, &tail);
    assert!(test.p(0.5).unwrap() > 0.9 && test.p(0.95).unwrap() < 1e-3, "{:?} {:?}", test.p(0.5), test.p(0.95));
    assert!(test.shift(0.95).unwrap().low > 0 && test.shift(0.5).unwrap().low < 0);

    let (one, other) = (of([5_000_000; 400]), of([7_000_000; 400]));
    let same = QuantileTest::new(&one, &one);
    assert_eq!(
        (same.p(0.5), same.shift(0.5).map(|shift| (shift.by, shift.low < 0, shift.high > 0))),
        (Some(1.0), Some((0, true, true)))
    );
    let apart = QuantileTest::new(&one, &other);
    assert!(apart.p(0.5).unwrap() < 1e-50 && apart.p(0.99).unwrap() < 1e-50, "all values of each are in one bucket");

    let few = of([5_000_000; 5]);
    let test = QuantileTest::new(&few, &other);
    assert_eq!((test.p(0.5), test.shift(0.5), QuantileTest::new(&one, &other).p(1.0)), (None, None, None));
}

/// Numbers that look random and are the same each time.
struct Chance(u64);

impl Chance {
    /// Between 0 and 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// How many events of this mean come (Knuth).
    fn events(&mut self, mean: f64) -> u64 {
        let parts = (mean / 20.0).ceil();
        let one = |chance: &mut Chance| {
            let (limit, mut product, mut count) = ((-mean / parts).exp(), chance.next(), 0);
            while product > limit {
                product *= chance.next();
                count += 1;
            }
            count
        };
        (0..parts as u64).map(|_| one(self)).sum()
    }

    fn hits(&mut self, tries: u64, p: f64) -> u64 {
        (0..tries).filter(|_| self.next() < p).count() as u64
    }

    /// A latency with a mean of 10 ms.
    fn latency(&mut self) -> u64 {
        (-(1.0 - self.next()).ln() * 1e7) as u64
    }
}

const DRAWS: usize = 4_000;

/// Draws p-values, of which no more than their share may be small, but for four deviations of chance; and of those of large counts about that share.
fn is_uniform(name: &str, least: f64, mut draw: impl FnMut() -> f64) {
    let drawn: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
    assert!(drawn.iter().all(|p| (0.0..=1.0).contains(p)), "{name}");
    for level in [0.01, 0.05, 0.2, 0.5] {
        let found = drawn.iter().filter(|p| **p <= level).count() as f64 / DRAWS as f64;
        let error = 4.0 * (level * (1.0 - level) / DRAWS as f64).sqrt();
        assert!(found <= level + error && found >= least * level - error, "{name}: {found} of p-values are at most {level}");
    }
}

/// Scenario: draws where nothing differs, of small and of large counts, over unequal times and sizes. Guarantee: p-values are uniform; those of small
/// counts, which have few values, are never too small.
#[test]
fn nothing_is_found_where_nothing_is() {
    let mut chance = Chance(1);
    let rates = |chance: &mut Chance, per_second: f64| {
        let count = |chance: &mut Chance, seconds: f64| rate(chance.events(per_second * seconds), seconds);
        rates_differ(count(chance, 1.0), count(chance, 3.0))
    };
    is_uniform("few events", 0.0, || rates(&mut chance, 3.0));
    is_uniform("many events", 0.8, || rates(&mut chance, 800.0));
    let shares = |chance: &mut Chance, before: u64, after: u64, p: f64| {
        shares_differ(share(chance.hits(before, p), before), share(chance.hits(after, p), after))
    };
    is_uniform("few failures", 0.0, || shares(&mut chance, 40, 200, 0.05));
    is_uniform("skewed failures", 0.5, || shares(&mut chance, 100, 3_000, 0.2));
    is_uniform("many failures", 0.85, || shares(&mut chance, 1_000, 1_000, 0.3));
    for q in [0.5, 0.95] {
        is_uniform("latencies", 0.5, || {
            let (before, after) = (of((0..150).map(|_| chance.latency())), of((0..400).map(|_| chance.latency())));
            QuantileTest::new(&before, &after).p(q).unwrap()
        });
    }
}

/// Scenario: draws of two histograms whose quantiles are known, one of them twice as slow. Guarantee: the interval holds the shift in 95 % of them, or
/// somewhat more, for its ends are those of buckets.
#[test]
fn intervals_hold_the_shift() {
    let mut chance = Chance(2);
    for q in [0.5f64, 0.95] {
        let truth = (-(1.0 - q).ln() * 1e7) as i64;
        let held = (0..1_000).filter(|_| {
            let (before, after) = (of((0..200).map(|_| chance.latency())), of((0..300).map(|_| 2 * chance.latency())));
            let shift = QuantileTest::new(&before, &after).shift(q).unwrap();
            (shift.low..=shift.high).contains(&truth)
        });
        let held = held.count();
        assert!((935..=995).contains(&held), "{held} of 1000 at {q}");
    }
}

proptest! {
    /// Scenario: any counts, before and after exchanged. Guarantee: probabilities, and the same ones.
    #[test]
    fn tests_are_symmetric(
        a in 0..2_000_000u64, b in 0..2_000_000u64, x in 1e-3..1e6f64, y in 1e-3..1e6f64, n in 0..3_000_000u64, m in 0..3_000_000u64,
    ) {
        let same = |p: f64, other: f64| (0.0..=1.0).contains(&p) && (p == other || (p / other - 1.0).abs() < 1e-4 || p.max(other) < 1e-290);
        let rates = (rates_differ(rate(a, x), rate(b, y)), rates_differ(rate(b, y), rate(a, x)));
        prop_assert!(same(rates.0, rates.1), "{rates:?}");
        let (before, after) = (share(a.min(n), n), share(b.min(m), m));
        let shares = (shares_differ(before, after), shares_differ(after, before));
        prop_assert!(same(shares.0, shares.1), "{shares:?}");
        let others = |share: Share| Share { part: share.whole - share.part, ..share };
        let others = shares_differ(others(before), others(after));
        prop_assert!(same(shares.0, others), "{shares:?} {others}");
    }

    /// Scenario: any latencies, before and after exchanged. Guarantee: the same p-value, and the interval turned round, around the shift.
    #[test]
    fn shifts_are_symmetric(
        left in prop::collection::vec(0..50_000_000u64, 0..200), right in prop::collection::vec(0..50_000_000u64, 0..200), q in 0.01..0.99f64,
    ) {
        let (left, right) = (of(left), of(right));
        let (there, back) = (QuantileTest::new(&left, &right), QuantileTest::new(&right, &left));
        match (there.p(q), back.p(q)) {
            (Some(p), Some(other)) => prop_assert!((0.0..=1.0).contains(&p) && (p - other).abs() < 1e-9, "{p} {other}"),
            (p, other) => prop_assert_eq!(p, other),
        }
        prop_assert_eq!(there.p(q).is_some(), there.shift(q).is_some());
        if let (Some(there), Some(back)) = (there.shift(q), back.shift(q)) {
            prop_assert_eq!((there.by, there.low, there.high), (-back.by, -back.high, -back.low));
            prop_assert!(there.low <= there.by && there.by <= there.high);
        }
    }

    /// Scenario: any p-values. Guarantee: adjusted ones are no smaller, at most 1, and in the same order.
    #[test]
    fn adjusting_keeps_the_order(p in prop::collection::vec(0.0..=1.0f64, 0..50)) {
        let adjusted = adjust(&p);
        let pairs: Vec<(f64, f64)> = p.iter().copied().zip(adjusted.iter().copied()).collect();
        for (p, adjusted) in &pairs {
            prop_assert!(p <= adjusted && *adjusted <= 1.0);
            prop_assert!(pairs.iter().all(|(other, after)| other < p || after >= adjusted));
        }
    }
}
