//! Ids as a pure function of a seed and a running number.

/// Ids of one run. Different numbers give different span ids, always: the function is a bijection on 64 bits.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    span: u64,
    trace_high: u64,
    trace_low: u64,
    request_high: u64,
    request_low: u64,
    stretch: u64,
}

/// The finalizer of splitmix64.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn unmix(mut x: u64) -> u64 {
    x = (x ^ (x >> 31) ^ (x >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    x = (x ^ (x >> 27) ^ (x >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    x ^ (x >> 30) ^ (x >> 60)
}

impl Ids {
    /// The ids of a run with this seed.
    pub fn new(seed: u64) -> Self {
        let key = |stream: u64| mix(mix(seed.wrapping_add(1)).wrapping_add(stream));
        Self { span: key(1), trace_high: key(2), trace_low: key(3), request_high: key(4), request_low: key(5), stretch: key(6) }
    }

    /// Span id number `number`.
    pub fn span(&self, number: u64) -> [u8; 8] {
        mix(number ^ self.span).to_be_bytes()
    }

    /// The number of a span id.
    pub fn span_number(&self, id: [u8; 8]) -> u64 {
        unmix(u64::from_be_bytes(id)) ^ self.span
    }

    /// Trace id number `number`.
    pub fn trace(&self, number: u64) -> [u8; 16] {
        let (high, low) = (mix(number ^ self.trace_high), mix(number ^ self.trace_low));
        ((u128::from(high) << 64) | u128::from(low)).to_be_bytes()
    }

    /// The `x-request-id` of trace number `number`: a UUID whose 15th character is 9, Envoy's mark of a sampled trace.
    pub fn request_id(&self, number: u64) -> [u8; 36] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let (high, low) = (mix(number ^ self.request_high), mix(number ^ self.request_low));
        let bytes = ((u128::from(high) << 64) | u128::from(low)).to_be_bytes();
        let mut text = [b'-'; 36];
        let mut at = 0;
        for byte in bytes {
            if matches!(at, 8 | 13 | 18 | 23) {
                at += 1;
            }
            text[at] = HEX[usize::from(byte >> 4)];
            text[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
        text[14] = b'9';
        text
    }

    /// How much the times of trace number `number` are stretched, in 1,024ths: 1,024 to 1,279. Without it the durations of
    /// a few thousand spans would repeat for ever, and compress as no real ones do.
    pub(crate) fn stretch(&self, number: u64) -> u64 {
        1024 + (mix(number ^ self.stretch) >> 56)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: numbers small, large and odd, several seeds. Guarantee: a span id gives back its number.
    #[test]
    fn span_ids_can_be_computed_back() {
        for seed in [0, 1, 42, u64::MAX] {
            let ids = Ids::new(seed);
            for number in (0..1000).chain([u64::MAX, 1 << 40, 0x1234_5678_9abc_def0]) {
                assert_eq!(ids.span_number(ids.span(number)), number);
            }
        }
    }

    /// Scenario: two seeds. Guarantee: they share no id among the first numbers.
    #[test]
    fn seeds_differ() {
        let (a, b) = (Ids::new(1), Ids::new(2));
        for number in 0..10_000 {
            assert!(b.span_number(a.span(number)) > 1_000_000);
            assert_ne!(a.trace(number), b.trace(number));
        }
    }

    /// Scenario: request ids. Guarantee: a UUID's shape, with Envoy's mark.
    #[test]
    fn request_ids_look_like_envoys() {
        let id = String::from_utf8(Ids::new(7).request_id(3).to_vec()).unwrap();
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "9");
        assert!(id.chars().all(|c| c == '-' || c.is_ascii_hexdigit()));
    }
}
