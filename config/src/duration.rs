//! Durations in YAML: one whole number, one unit. Used with `#[serde(with = "crate::duration")]` on `std` durations.

use std::{fmt, time::Duration};

use serde::{Deserializer, Serializer, de};

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const EXPECTED: &str = "a whole number with a unit (ms, s, m, h, d), such as 30s";

/// `5m`, `720h`: in the largest unit up to hours that divides it.
pub(crate) fn display(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (unit, factor) = UNITS[1..].iter().find(|(_, factor)| ms != 0 && ms % factor == 0).unwrap_or(&UNITS[3]);
    format!("{}{unit}", ms / factor)
}

fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(factor)?))
}

pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&display(*duration))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = Duration;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str(EXPECTED)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_str(Visitor)
}

/// The same of durations that need not be set.
pub(crate) mod option {
    use super::{Deserializer, Duration, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        super::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: every unit. Guarantee: parsed exactly, and printed so that it parses to the same again.
    #[test]
    fn durations_parse_and_print() {
        for (text, ms, printed) in [
            ("250ms", 250, "250ms"),
            ("30s", 30_000, "30s"),
            ("5m", 300_000, "5m"),
            ("720h", 2_592_000_000, "720h"),
            ("30d", 2_592_000_000, "720h"),
            ("90 s", 90_000, "90s"),
        ] {
            let duration = parse(text).unwrap();
            assert_eq!(duration, Duration::from_millis(ms));
            assert_eq!(display(duration), printed);
            assert_eq!(parse(printed), Some(duration));
        }
    }

    /// Scenario: no unit, fractions, two units. Guarantee: refused, not guessed.
    #[test]
    fn doubtful_durations_are_refused() {
        for text in ["", "30", "s", "1.5h", "1h30m", "-5s", "5 minutes"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
