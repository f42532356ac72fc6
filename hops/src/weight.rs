//! How many requests a sampled span stands for (OpenTelemetry, "TraceState: Probability Sampling").
//!
//! `tracestate` holds `ot=th:T`: spans of traces whose 56 bits of randomness are less than T were dropped. So one that was
//! kept stands for `2^56 / (2^56 - T)` requests.

/// The weight of a span that stands for itself: weights are integers in units of 2^-16, so that sums do not depend on order.
pub const WEIGHT_ONE: u64 = 1 << WEIGHT_BITS;

/// Fractional bits of a weight.
const WEIGHT_BITS: u32 = 16;
/// Bits of randomness.
const RANDOM_BITS: u32 = 56;
/// Hexadecimal digits of a threshold or of randomness.
const DIGITS: usize = 14;
/// The largest weight: who keeps less than one trace in 2^32 is not believed.
const WEIGHT_MAX: u128 = 1 << (32 + WEIGHT_BITS);

/// The rejection threshold that `tracestate` states; none if there is none, or if the trace would have been dropped by it.
pub(crate) fn threshold(trace_state: &str, trace_id: &[u8; 16]) -> Option<u64> {
    if trace_state.is_empty() {
        return None;
    }
    let member = trace_state.split(',').find_map(|member| member.trim_matches([' ', '\t']).strip_prefix("ot="))?;
    let value = |key: &str| member.split(';').find_map(|field| field.strip_prefix(key)?.strip_prefix(':'));
    let threshold = value("th").and_then(|digits| hex(digits, 1))?;
    let randomness = match value("rv") {
        Some(digits) => hex(digits, DIGITS)?,
        None => low_bits(trace_id),
    };
    (randomness >= threshold).then_some(threshold)
}

/// Lower-case hexadecimal digits, `least` to 14 of them, as if zeros followed.
fn hex(digits: &str, least: usize) -> Option<u64> {
    let lower = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let fits = lower && (least..=DIGITS).contains(&digits.len());
    let value = fits.then(|| u64::from_str_radix(digits, 16).ok()).flatten()?;
    Some(value << (4 * (DIGITS - digits.len())))
}

fn low_bits(trace_id: &[u8; 16]) -> u64 {
    u128::from_be_bytes(*trace_id) as u64 & ((1 << RANDOM_BITS) - 1)
}

/// The weight of a threshold, rounded to the nearest unit; none past 2^32.
pub(crate) fn weight(threshold: u64) -> Option<u64> {
    let kept = (1u128 << RANDOM_BITS).checked_sub(threshold.into()).filter(|kept| *kept > 0)?;
    let weight = ((1u128 << (RANDOM_BITS + WEIGHT_BITS)) + kept / 2) / kept;
    (weight <= WEIGHT_MAX).then_some(weight as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: [u8; 16] = [0xff; 16];

    /// Scenario: trace states with and without a threshold. Guarantee: what the specification says is read, the rest is unknown.
    #[test]
    fn thresholds() {
        for (trace_state, expected) in [
            ("ot=th:8", Some(1 << 55)),
            ("ot=th:0", Some(0)),
            ("vendor=x:1, ot=rv:ffffffffffffff;th:c", Some(3 << 54)),
            ("ot=th:8;rv:7fffffffffffff", None),
            ("ot=th:8;rv:80000000000000", Some(1 << 55)),
            ("ot=th:8;rv:8", None),
            ("ot=th:", None),
            ("ot=th:8A", None),
            ("ot=th:123456789abcdef", None),
            ("ot=p:3;r:5", None),
            ("other=th:8", None),
            ("", None),
        ] {
            assert_eq!(threshold(trace_state, &LOW), expected, "{trace_state}");
        }
        assert_eq!(threshold("ot=th:8", &[0; 16]), None, "the trace id says that it was dropped");
    }

    /// Scenario: thresholds from keeping all to keeping nothing. Guarantee: weights are rounded, and absurd ones unknown.
    #[test]
    fn weights() {
        assert_eq!(weight(0), Some(WEIGHT_ONE));
        assert_eq!(weight(1 << 55), Some(2 * WEIGHT_ONE));
        assert_eq!(weight((1 << 56) / 3 * 2), Some(3 * WEIGHT_ONE));
        assert_eq!(weight((1 << 56) - (1 << 24)), Some(WEIGHT_ONE << 32));
        assert_eq!(weight((1 << 56) - 1), None);
        assert_eq!(weight(1 << 56), None);
        assert_eq!(weight(u64::MAX), None);
    }
}
