//! The id of a trace.

use std::fmt;
use std::str::FromStr;

use arrow::array::AsArray;
use arrow::record_batch::RecordBatch;

/// The 16 bytes of a trace id. Written as 32 lower-case hex digits; read from 1 to 32, shorter ones padded with zeros on
/// the left, as 64-bit ids of B3 and Jaeger are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

/// The text is no trace id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no trace id; it has 1 to 32 hex digits")]
pub struct TraceIdError(String);

impl TraceId {
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(TraceId)
    }
}

/// Those of rows whose first column they are.
pub(crate) fn trace_ids(rows: &RecordBatch) -> impl Iterator<Item = TraceId> {
    rows.column(0).as_fixed_size_binary().iter().flatten().filter_map(TraceId::from_slice)
}

impl FromStr for TraceId {
    type Err = TraceIdError;

    fn from_str(text: &str) -> Result<Self, TraceIdError> {
        let digits_only = !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits_only.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(|number| TraceId(number.to_be_bytes())).ok_or_else(|| TraceIdError(text.chars().take(64).collect()))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: short, long, mixed-case and wrong ids. Guarantee: short ones are padded on the left, wrong ones refused.
    #[test]
    fn ids_are_padded_and_checked() {
        assert_eq!("aB1".parse::<TraceId>().unwrap().to_string(), format!("{:0>32}", "ab1"));
        let full = "0123456789abcdef0123456789ABCDEF";
        assert_eq!(full.parse::<TraceId>().unwrap().to_string(), full.to_lowercase());
        for wrong in ["", "+1", "xyz", "0123456789abcdef0123456789abcdef0"] {
            assert!(wrong.parse::<TraceId>().is_err(), "{wrong}");
        }
    }
}
