//! Times and durations as people write them in a URL.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};

/// The last second of the year 9999, where RFC 3339 ends.
const SECONDS_MAX: i64 = 253_402_300_799;

const TIME_FORMS: &str = "an RFC 3339 time (2026-08-01T12:00:00Z), unix seconds (1785585600 or 1785585600.25), now, or now-15m";
const DURATION_FORMS: &str = "numbers with a unit of ns, us, ms, s, m, h or d, as in 100ms, 1.5s or 1h30m";

/// The clock, in microseconds since the epoch.
pub(crate) fn now() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

/// Reads a time: RFC 3339, unix seconds with an optional fraction, or `now` with an optional `-duration`. The answer is in
/// microseconds since the epoch; finer parts are cut off. `now` is the clock, in the same unit.
pub(crate) fn parse_time(text: &str, now: i64) -> Result<i64, String> {
    if let Some(rest) = text.strip_prefix("now") {
        return relative(text, rest, now);
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return unix_seconds(text);
    }
    // A `+` that was not escaped in the URL arrives as a space: the offset of `…T12:00:00 02:00`.
    let offset = text.len().checked_sub(6).filter(|at| text.as_bytes()[*at] == b' ');
    let parsed = match offset {
        Some(at) => DateTime::parse_from_rfc3339(&format!("{}+{}", &text[..at], &text[at + 1..])),
        None => DateTime::parse_from_rfc3339(text),
    };
    parsed.map(|time| time.timestamp_micros()).map_err(|_| format!("`{text}` is not a time: allowed are {TIME_FORMS}"))
}

fn relative(text: &str, rest: &str, now: i64) -> Result<i64, String> {
    if rest.is_empty() {
        return Ok(now);
    }
    let back = rest.strip_prefix('-').ok_or_else(|| format!("`{text}` is not a time: allowed are {TIME_FORMS}"))?;
    let back = i64::try_from(parse_duration(back)?.as_micros()).unwrap_or(i64::MAX);
    Ok(now.saturating_sub(back))
}

fn unix_seconds(text: &str) -> Result<i64, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.contains('.') {
        return Err(format!("`{text}` is not a time: allowed are {TIME_FORMS}"));
    }
    let seconds = whole.parse::<i64>().ok().filter(|seconds| *seconds <= SECONDS_MAX);
    let seconds = seconds.ok_or_else(|| format!("`{text}` is past the year 9999: unix times are in seconds"))?;
    let micros = fraction.bytes().chain(std::iter::repeat(b'0')).take(6).fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Ok(seconds * 1_000_000 + micros)
}

/// Reads a duration: one or more decimal numbers, each with a unit, as in `1h30m`; at most 292 years.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: allowed are {DURATION_FORMS}");
    let mut rest = text;
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let part = scaled(number, unit_nanos(unit).ok_or_else(wrong)?).ok_or_else(wrong)?;
        nanos = nanos.checked_add(part).filter(|nanos| i64::try_from(*nanos).is_ok()).ok_or_else(wrong)?;
        rest = tail;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_nanos(nanos)) }
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    })
}

/// `number` times `unit`, exactly; what is finer than a nanosecond is cut off.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.contains('.') || fraction.len() > 18 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u128>().ok()? * u128::from(unit) / divisor;
    whole.checked_add(u64::try_from(part).ok()?)
}

/// RFC 3339 in UTC with six digits of fraction; a time that RFC 3339 cannot say is its number of microseconds.
pub(crate) fn format_micros(micros: i64) -> String {
    match DateTime::<Utc>::from_timestamp_micros(micros) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Micros, true),
        None => micros.to_string(),
    }
}

/// RFC 3339 in UTC with nine digits of fraction.
pub(crate) fn format_nanos(nanos: i64) -> String {
    DateTime::<Utc>::from_timestamp_nanos(nanos).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_785_585_600_000_000;

    #[test]
    fn every_form_of_a_time_is_read() {
        for (text, micros) in [
            ("2026-08-01T12:00:00Z", NOW),
            ("2026-08-01T14:00:00+02:00", NOW),
            ("2026-08-01T14:00:00 02:00", NOW),
            ("2026-08-01T12:00:00.25Z", NOW + 250_000),
            ("2026-08-01T12:00:00.123456789Z", NOW + 123_456),
            ("1785585600", NOW),
            ("1785585600.25", NOW + 250_000),
            ("1785585600.0000019", NOW + 1),
            ("0", 0),
            ("now", NOW),
            ("now-15m", NOW - 900_000_000),
            ("now-1h30m", NOW - 5_400_000_000),
            ("now-1.5s", NOW - 1_500_000),
        ] {
            assert_eq!(parse_time(text, NOW), Ok(micros), "{text}");
        }
    }

    #[test]
    fn a_wrong_time_is_refused_and_quoted() {
        for text in [
            "",
            "yesterday",
            "now-",
            "now+1m",
            "nowish",
            "now-5",
            "1.",
            ".5",
            "1.2.3",
            "-1",
            "2026-08-01",
            "2026-08-01T12:00:00",
            "1e9",
            "ééé",
        ] {
            assert!(parse_time(text, NOW).is_err(), "{text}");
        }
        // Milliseconds given as seconds.
        assert!(parse_time("1785585600000", NOW).unwrap_err().contains("in seconds"));
        assert!(parse_time("yesterday", NOW).unwrap_err().contains("`yesterday`"));
    }

    #[test]
    fn durations_are_exact() {
        for (text, nanos) in [
            ("100ms", 100_000_000),
            ("1.5s", 1_500_000_000),
            ("2m", 120_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("0s", 0),
            ("7us", 7_000),
            ("7µs", 7_000),
            ("1.0000000009s", 1_000_000_000),
            ("1d", 86_400_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "5", "ms", "-1s", "1 s", "1x", "1..5s", "1.s", "s1", "99999999999h", "200y", "1e3s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_formatted_is_read_back(micros in 0_i64..SECONDS_MAX * 1_000_000) {
            prop_assert_eq!(parse_time(&format_micros(micros), NOW), Ok(micros));
            prop_assert_eq!(parse_time(&format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000), NOW), Ok(micros));
        }

        #[test]
        fn relative_times_subtract_their_duration(millis in 0_u32.., now in 0_i64..i64::MAX) {
            let expected = now.saturating_sub(i64::from(millis) * 1_000);
            prop_assert_eq!(parse_time(&format!("now-{millis}ms"), now), Ok(expected));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}", tail in "[0-9.nsuµmhd -]{0,40}") {
            let _ = parse_time(&text, NOW);
            let _ = parse_time(&format!("now-{tail}"), NOW);
            let _ = parse_time(&tail, NOW);
            let _ = parse_duration(&text);
            let _ = parse_duration(&tail);
        }
    }
}
