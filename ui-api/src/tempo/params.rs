//! Times and numbers as clients of Tempo write them.

use std::ops::RangeInclusive;

use meshlake_query::TimeRange;

use super::failure::Failure;
use crate::params::Params;
use crate::time::{now, parse_duration, parse_time};

/// What is asked about if no time is given.
const DEFAULT_RANGE_MICROS: i64 = 3_600_000_000;
const MICROS_PER_SECOND: i64 = 1_000_000;
/// Whole numbers with more digits are nanoseconds: as seconds, they were after the year 2286.
const SECONDS_DIGITS: usize = 10;

/// The parameter as a number within bounds; 0 if it is not given.
pub(super) fn number(params: &Params, name: &str, bounds: RangeInclusive<u32>) -> Result<u32, Failure> {
    let read = |text: &str| {
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        number.ok_or_else(|| format!("`{text}` is not a number from {} to {}", bounds.start(), bounds.end()))
    };
    Ok(params.read(name, read)?.unwrap_or(0))
}

/// The parameter as unix seconds; 0 if it is not given. Fractions are cut off.
pub(super) fn seconds(params: &Params, name: &str) -> Result<u32, Failure> {
    let seconds = params.read(name, |text| parse_time(text, now()))?.map_or(0, |micros| micros / MICROS_PER_SECOND);
    u32::try_from(seconds).map_err(|_| Failure::invalid(format!("parameter `{name}`: {seconds} is after the year 2106")))
}

/// The parameter as unix nanoseconds, given in these or in seconds; 0 if it is not given.
pub(super) fn nanos(params: &Params, name: &str) -> Result<u64, Failure> {
    let read = |text: &str| {
        if text.len() > SECONDS_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map_err(|_| format!("`{text}` is not a time: it has too many digits"));
        }
        // Times are not before 1970.
        parse_time(text, now()).map(|micros| micros as u64 * 1_000)
    };
    Ok(params.read(name, read)?.unwrap_or(0))
}

/// The parameter as nanoseconds, given as a duration or as seconds; 0 if it is not given.
pub(super) fn step(params: &Params, name: &str) -> Result<u64, Failure> {
    let read = |text: &str| match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e9).contains(&seconds) => Ok((seconds * 1e9) as u64),
        Ok(_) => Err(format!("`{text}` is not a number of seconds")),
        // At most 292 years.
        Err(_) => parse_duration(text).map(|duration| duration.as_nanos() as u64),
    };
    Ok(params.read(name, read)?.unwrap_or(0))
}

/// The parameter as milliseconds, given as a duration; 0 if it is not given. What is finer is cut off.
pub(super) fn millis(params: &Params, name: &str) -> Result<u32, Failure> {
    let millis = params.read(name, parse_duration)?.map_or(0, |duration| duration.as_millis());
    u32::try_from(millis).map_err(|_| Failure::invalid(format!("parameter `{name}`: {millis} ms are longer than 49 days")))
}

/// The range of a request, unix seconds, of which 0 is not given: then it ends now, and is an hour long.
pub(super) fn range(start: u32, end: u32) -> Result<TimeRange, Failure> {
    let micros = |seconds: u32| i64::from(seconds) * MICROS_PER_SECOND;
    let to = if end == 0 { now() } else { micros(end) };
    let from = if start == 0 { to.saturating_sub(DEFAULT_RANGE_MICROS).max(0) } else { micros(start) };
    if from >= to {
        return Err(Failure::invalid(format!("http parameter start must be before end. received start={start} end={end}")));
    }
    Ok(TimeRange { start: from, end: to })
}

/// The range of metrics, unix nanoseconds, with the same defaults.
pub(super) fn nanos_range(start: u64, end: u64) -> Result<(u64, u64), Failure> {
    // Times are not before 1970.
    let to = if end == 0 { now() as u64 * 1_000 } else { end };
    let from = if start == 0 { to.saturating_sub(DEFAULT_RANGE_MICROS as u64 * 1_000) } else { start };
    if from >= to {
        return Err(Failure::invalid(format!("http parameter start must be before end. received start={start} end={end}")));
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(query: &str) -> Params {
        Params::any(&format!("/?{query}").parse().unwrap()).unwrap()
    }

    /// Scenario: times and steps in each form that Grafana, Kiali and people send. Guarantee: they are read as they are meant.
    #[test]
    fn times_are_read_in_every_unit() {
        assert_eq!(seconds(&given("t=1785585600"), "t").unwrap(), 1_785_585_600);
        assert_eq!(seconds(&given("t=1785585600.9"), "t").unwrap(), 1_785_585_600);
        assert_eq!(seconds(&given(""), "t").unwrap(), 0);
        assert!(seconds(&given("t=5000000000"), "t").is_err());
        assert!(seconds(&given("t=yesterday"), "t").is_err());
        for text in ["1785585600", "1785585600000000000", "2026-08-01T12:00:00Z"] {
            assert_eq!(nanos(&given(&format!("t={text}")), "t").unwrap(), 1_785_585_600_000_000_000, "{text}");
        }
        assert_eq!(nanos(&given("t=1785585600.25"), "t").unwrap(), 1_785_585_600_250_000_000);
        assert!(nanos(&given("t=99999999999999999999999"), "t").is_err());
        for (text, expected) in [("15s", 15_000_000_000), ("15", 15_000_000_000), ("0.5", 500_000_000), ("1m30s", 90_000_000_000)] {
            assert_eq!(step(&given(&format!("step={text}")), "step").unwrap(), expected, "{text}");
        }
        for wrong in ["-1", "nan", "inf", "1e300", "often"] {
            assert!(step(&given(&format!("step={wrong}")), "step").is_err(), "{wrong}");
        }
        assert_eq!(millis(&given("d=1.5s"), "d").unwrap(), 1_500);
        assert!(millis(&given("d=50d"), "d").is_err());
        assert_eq!(number(&given("limit=7"), "limit", 1..=10).unwrap(), 7);
        for wrong in ["0", "11", "-1", "x"] {
            assert!(number(&given(&format!("limit={wrong}")), "limit", 1..=10).is_err(), "{wrong}");
        }
    }

    /// Scenario: one end, both or none is given. Guarantee: an hour, up to the end or now; an empty range is refused.
    #[test]
    fn ranges_have_defaults() {
        assert_eq!(range(10, 20).unwrap(), TimeRange { start: 10_000_000, end: 20_000_000 });
        assert_eq!(range(0, 7_200).unwrap(), TimeRange { start: 3_600_000_000, end: 7_200_000_000 });
        let hour = range(0, 0).unwrap();
        assert_eq!(hour.end - hour.start, DEFAULT_RANGE_MICROS);
        assert!(range(20, 20).is_err());
        assert_eq!(nanos_range(1, 2).unwrap(), (1, 2));
        assert_eq!(nanos_range(0, 7_200_000_000_000).unwrap(), (3_600_000_000_000, 7_200_000_000_000));
        assert!(nanos_range(2, 1).is_err());
    }
}
