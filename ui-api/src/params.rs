//! Query parameters: known names only, each wrong value named.

use std::fmt::Display;
use std::ops::RangeInclusive;

use axum::extract::Query;
use http::Uri;
use meshlake_query::TimeRange;

use crate::problem::{Kind, Problem};
use crate::time::{format_micros, now, parse_time};

/// The one parameter that may be given more than once.
const REPEATABLE: &str = "attribute";
const DEFAULT_RANGE_MICROS: i64 = 3_600_000_000;
const LIMIT_MAX: usize = 1_000;
const MINUTE_MICROS: i64 = 60_000_000;

/// The query parameters of a request. A parameter with an empty value is as one that was not given.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads the query of `uri`.
    ///
    /// # Errors
    /// 400 for a name that is not in `allowed`, and for one that is given twice.
    pub(crate) fn parse(uri: &Uri, allowed: &[&str]) -> Result<Params, Problem> {
        let pairs = read_pairs(uri)?;
        for (at, (name, _)) in pairs.iter().enumerate() {
            if !allowed.contains(&name.as_str()) {
                return Err(Problem::parameter(name, unknown(name, allowed)));
            }
            if name != REPEATABLE && pairs[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::parameter(name, format!("parameter `{name}` is given more than once")));
            }
        }
        Ok(Params(pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect()))
    }

    /// Reads the query of `uri` as it comes, for clients that send parameters which we don't know.
    ///
    /// # Errors
    /// 400 for a query that is none.
    pub(crate) fn any(uri: &Uri) -> Result<Params, Problem> {
        let pairs = read_pairs(uri)?;
        Ok(Params(pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect()))
    }

    /// The value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter, in order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter, read by `read`, whose error becomes the detail of a 400.
    pub(crate) fn read<T, E: Display>(&self, name: &str, read: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, Problem> {
        self.get(name).map(read).transpose().map_err(|error| Problem::parameter(name, format!("parameter `{name}`: {error}")))
    }

    /// `limit`: how many are answered at most.
    pub(crate) fn limit(&self, default: usize) -> Result<usize, Problem> {
        self.number("limit", 1..=LIMIT_MAX, default)
    }

    /// A number within bounds.
    pub(crate) fn number(&self, name: &str, bounds: RangeInclusive<usize>, default: usize) -> Result<usize, Problem> {
        Ok(self.read(name, |text| read_number(text, &bounds))?.unwrap_or(default))
    }

    /// `start` and `end`: by default the hour before `end`, and now.
    pub(crate) fn range(&self) -> Result<TimeRange, Problem> {
        self.range_at(now())
    }

    /// The same at a time that other relative times are of, too.
    pub(crate) fn range_at(&self, now: i64) -> Result<TimeRange, Problem> {
        self.range_of("start", "end", now)
    }

    /// A range of these names, with the defaults of [`Params::range`] where one of them is given; none where neither is.
    pub(crate) fn range_if_given(&self, start: &str, end: &str) -> Result<Option<TimeRange>, Problem> {
        let given = self.get(start).is_some() || self.get(end).is_some();
        given.then(|| self.range_of(start, end, now())).transpose()
    }

    fn range_of(&self, start_name: &str, end_name: &str, now: i64) -> Result<TimeRange, Problem> {
        let end = self.read(end_name, |text| parse_time(text, now))?.unwrap_or(now);
        let start = self.read(start_name, |text| parse_time(text, now))?.unwrap_or(end.saturating_sub(DEFAULT_RANGE_MICROS));
        if start >= end {
            return Err(Problem::parameter(
                start_name,
                format!(
                    "`{start_name}` ({}) must be before `{end_name}` ({}, by default now)",
                    format_micros(start),
                    format_micros(end)
                ),
            ));
        }
        Ok(TimeRange { start, end })
    }

    /// The range of an answer made of hops: with `exact=true` as it is given, by default rounded outwards to whole minutes, for which sums are kept.
    pub(crate) fn of_hops(&self, range: TimeRange) -> Result<TimeRange, Problem> {
        if self.read("exact", |text| text.parse::<bool>())?.unwrap_or(false) {
            return Ok(range);
        }
        let start = range.start.div_euclid(MINUTE_MICROS) * MINUTE_MICROS;
        let end = range.end.saturating_add(MINUTE_MICROS - 1).div_euclid(MINUTE_MICROS) * MINUTE_MICROS;
        Ok(TimeRange { start, end })
    }

    /// `baseline_start` and `baseline_end`: by default as long a time as `range`, and where it begins.
    pub(crate) fn baseline_at(&self, now: i64, range: TimeRange) -> Result<TimeRange, Problem> {
        let end = self.read("baseline_end", |text| parse_time(text, now))?.unwrap_or(range.start);
        let length = range.end.saturating_sub(range.start);
        let start = self.read("baseline_start", |text| parse_time(text, now))?.unwrap_or(end.saturating_sub(length));
        if start >= end {
            return Err(Problem::parameter(
                "baseline_start",
                format!(
                    "`baseline_start` ({}) must be before `baseline_end` ({}, by default `start`)",
                    format_micros(start),
                    format_micros(end)
                ),
            ));
        }
        Ok(TimeRange { start, end })
    }
}

fn read_pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    let pairs = Query::try_from_uri(uri).map_err(|error| Problem::new(Kind::InvalidParameter, error.body_text()))?;
    Ok(pairs.0)
}

fn read_number(text: &str, bounds: &RangeInclusive<usize>) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| bounds.contains(number));
    number.ok_or_else(|| format!("`{text}` is not a number from {} to {}", bounds.start(), bounds.end()))
}

fn unknown(name: &str, allowed: &[&str]) -> String {
    match allowed {
        [] => format!("there is no parameter `{name}`: none is taken here"),
        _ => format!("there is no parameter `{name}`: allowed are {}", allowed.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Result<Params, Problem> {
        Params::parse(&format!("/?{query}").parse().unwrap(), &["service", "attribute", "start", "end"])
    }

    #[test]
    fn names_are_checked_and_values_decoded() {
        let given = params("service=a%20b+c&attribute=k=v&attribute=x%3Dy&start=").unwrap();
        assert_eq!(given.get("service"), Some("a b c"));
        assert_eq!(given.all("attribute").collect::<Vec<_>>(), ["k=v", "x=y"]);
        assert_eq!(given.get("start"), None);
        for wrong in ["servise=a", "service=a&service=b", "=a", "Service=a"] {
            assert!(params(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_range_defaults_to_the_hour_before_its_end() {
        let range = params("end=7200").unwrap().range().unwrap();
        assert_eq!((range.start, range.end), (3_600_000_000, 7_200_000_000));
        let range = params("").unwrap().range().unwrap();
        assert_eq!(range.end - range.start, 3_600_000_000);
        assert!(params("start=5&end=5").unwrap().range().is_err());
        assert!(params("start=now").unwrap().range().is_err());
        assert_eq!(params("end=7200").unwrap().range_if_given("start", "service").unwrap(), None);
        assert_eq!(
            params("end=7200").unwrap().range_if_given("start", "end").unwrap(),
            Some(params("end=7200").unwrap().range().unwrap())
        );
    }

    /// Scenario: a range within minutes, and one of whole minutes; asked for exactly, or not. Guarantee: outwards to whole minutes, unless it is
    /// exact.
    #[test]
    fn ranges_of_hops_are_whole_minutes() {
        let of_hops = |query: &str, start, end| {
            let params = Params::parse(&format!("/?{query}").parse().unwrap(), &["exact"]).unwrap();
            params.of_hops(TimeRange { start, end }).map(|range| (range.start, range.end))
        };
        assert_eq!(of_hops("", 60_000_001, 179_999_999).unwrap(), (60_000_000, 180_000_000));
        assert_eq!(of_hops("exact=false", 60_000_000, 180_000_000).unwrap(), (60_000_000, 180_000_000));
        assert_eq!(of_hops("exact=true", 60_000_001, 179_999_999).unwrap(), (60_000_001, 179_999_999));
        assert!(of_hops("exact=yes", 0, 1).is_err());
    }

    /// Scenario: a baseline that is not given, given by one end or by both, and one that is empty. Guarantee: as long as the range and right before it,
    /// unless it is said otherwise.
    #[test]
    fn the_baseline_defaults_to_the_time_before_the_range() {
        let baseline = |query: &str| {
            let params = Params::parse(&format!("/?{query}").parse().unwrap(), &["baseline_start", "baseline_end"]).unwrap();
            params.baseline_at(9_000_000_000, TimeRange { start: 5_000_000, end: 7_000_000 }).map(|range| (range.start, range.end))
        };
        assert_eq!(baseline("").unwrap(), (3_000_000, 5_000_000));
        assert_eq!(baseline("baseline_end=4").unwrap(), (2_000_000, 4_000_000));
        assert_eq!(baseline("baseline_start=1").unwrap(), (1_000_000, 5_000_000));
        assert_eq!(baseline("baseline_start=now-2s&baseline_end=now").unwrap(), (8_998_000_000, 9_000_000_000));
        assert!(baseline("baseline_start=5").is_err());
    }
}
