use proptest::prelude::*;

use super::*;

fn of(values: &[u64]) -> Histogram {
    let mut histogram = Histogram::new();
    values.iter().for_each(|value| histogram.record(*value));
    histogram
}

/// Latencies of every size.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![0..5_000u64, (0..64u32, any::<u64>()).prop_map(|(shift, value)| value >> shift)]
}

/// Within 1.1 %, and half a nanosecond of rounding.
fn near(found: u64, exact: u64) -> bool {
    found.abs_diff(exact) as f64 <= 0.011 * exact as f64 + 0.5
}

/// Scenario: powers of two, their neighbours and the ends. Guarantee: buckets are OpenTelemetry's, closed on the right.
#[test]
fn buckets_are_those_of_scale_5() {
    assert_eq!((number(0), number(1), number(2), number(3), number(4)), (0, ONE, ONE + 32, ONE + 51, ONE + 64));
    assert_eq!(number(u64::MAX), NUMBER_MAX);
    for octave in 1..64u16 {
        let power = 1u64 << octave;
        assert_eq!(number(power), ONE + octave * STEPS);
        assert!(number(power + 1) > number(power));
    }
    for value in (1..100_000).chain([1_000_000_007, u64::MAX / 3]) {
        let exact = ((value as f64).log2() * 32.0).ceil() as i64 - 1;
        assert_eq!(i64::from(number(value)), exact + 2, "{value}");
        let (low, high) = (low(number(value)), high(number(value)));
        assert!(low <= value && value <= high, "{low} {value} {high}");
        assert!(near(middle(low, high), value), "{low} {value} {high}");
    }
}

/// Scenario: no values, one, and a share that is none. Guarantee: no quantile of nothing, nearly the value, none.
#[test]
fn edges() {
    assert_eq!((of(&[]).quantile(0.5), of(&[]).share_below(1), of(&[]).min()), (None, None, None));
    let one = of(&[1_234_567]);
    assert!(near(one.quantile(0.0).unwrap(), 1_234_567) && one.quantile(0.0) == one.quantile(1.0));
    assert_eq!((one.quantile(-0.1), one.quantile(1.1), one.quantile(f64::NAN)), (None, None, None));
    let hundred = of(&(1..=100).map(|value| value * 1_000_000).collect::<Vec<_>>());
    assert!(near(hundred.quantile(0.07).unwrap(), 7_000_000), "0.07 * 100 is rounded up, the rank is not");
}

/// Scenario: a histogram of 0, 3, 3 and 10 ms. Guarantee: the bytes of version 1, for ever.
#[test]
fn golden() {
    let mut bytes = Vec::new();
    of(&[0, 3, 3, 10_000_000]).encode(&mut bytes);
    assert_eq!(bytes, GOLDEN);
    assert_eq!(Histogram::decode(&bytes).unwrap(), of(&[0, 3, 3, 10_000_000]));
    let mut empty = Vec::new();
    of(&[]).encode(&mut empty);
    assert_eq!(empty, [1]);
    assert_eq!(Histogram::decode(&empty).unwrap(), of(&[]));
}

const GOLDEN: &[u8] = &[1, 134, 173, 226, 4, 0, 128, 173, 226, 4, 3, 0, 1, 52, 2, 182, 5, 1];

/// Scenario: bytes that no histogram is. Guarantee: an error that says why, never a panic.
#[test]
fn bytes_that_are_none() {
    assert_eq!(Histogram::decode(&[]), Err(DecodeError::Short));
    assert_eq!(Histogram::decode(&[2]), Err(DecodeError::Version(2)));
    assert_eq!(Histogram::decode(&[1, 5]), Err(DecodeError::Short));
    for bytes in [&[1, 0, 0, 0, 0][..], &[1, 0, 1, 0, 1, 1, 1], &[1, 9, 1, 1, 1, 1, 0], &[1, 9, 1, 1, 2, 1, 1, 0, 1]] {
        assert_eq!(Histogram::decode(bytes), Err(DecodeError::Buckets), "{bytes:?}");
    }
}

proptest! {
    /// Scenario: any values. Guarantee: quantiles are within 1.1 % of those of the sorted values, shares within one bucket.
    #[test]
    fn quantiles_are_near_the_exact_ones(mut values in prop::collection::vec(value(), 1..200), q in 0.0..=1.0f64) {
        let histogram = of(&values);
        values.sort_unstable();
        let rank = (1..=values.len()).find(|rank| *rank as f64 / values.len() as f64 >= q).unwrap();
        prop_assert!(near(histogram.quantile(q).unwrap(), values[rank - 1]));
        let threshold = values[rank - 1];
        let share = histogram.share_below(threshold).unwrap() * values.len() as f64;
        let bucket = (low(number(threshold)), high(number(threshold)));
        prop_assert!(share + 1e-9 >= values.iter().filter(|value| **value < bucket.0).count() as f64);
        prop_assert!(share <= values.iter().filter(|value| **value <= bucket.1).count() as f64 + 1e-9);
        prop_assert_eq!(histogram.buckets().map(|bucket| bucket.count).sum::<u64>(), values.len() as u64);
        prop_assert_eq!(histogram.sum(), values.iter().map(|value| u128::from(*value)).sum::<u128>());
    }

    /// Scenario: values split in two, either way round. Guarantee: merged, they are the histogram of all; encoded, they read back.
    #[test]
    fn merging_is_recording(left in prop::collection::vec(value(), 0..60), right in prop::collection::vec(value(), 0..60)) {
        let all = of(&[left.clone(), right.clone()].concat());
        for (a, b) in [(&left, &right), (&right, &left)] {
            let mut merged = of(a);
            merged.merge(&of(b));
            prop_assert_eq!(&merged, &all);
        }
        let mut bytes = Vec::new();
        all.encode(&mut bytes);
        prop_assert_eq!(Histogram::decode(&bytes).unwrap(), all);
        for cut in 1..bytes.len() {
            prop_assert!(cut == 1 || Histogram::decode(&bytes[..cut]).is_err());
        }
    }

    /// Scenario: any bytes. Guarantee: no panic, and what is read writes the same bytes or equals them.
    #[test]
    fn any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        bytes.insert(0, 1);
        if let Ok(histogram) = Histogram::decode(&bytes) {
            let mut again = Vec::new();
            histogram.encode(&mut again);
            prop_assert_eq!(Histogram::decode(&again).unwrap(), histogram);
        }
    }
}
