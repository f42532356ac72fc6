//! Checks of values against their limits, with errors in the words of the configuration file.

use std::{fmt::Display, net::SocketAddr, ops::RangeInclusive, time::Duration};

use crate::{
    ByteSize,
    duration::display,
    error::{KeyError, Source},
};

pub(crate) type Checked = Result<(), Box<KeyError>>;

/// Passes if `ok`; else the error for `key`. The source is filled in by the loader, which alone knows it.
pub(crate) fn require(ok: bool, key: &str, found: impl Display, allowed: impl Display) -> Checked {
    if ok {
        return Ok(());
    }
    Err(Box::new(KeyError {
        key: key.into(),
        found: format!("`{found}`"),
        allowed: allowed.to_string(),
        source_of_value: Source::Default,
    }))
}

pub(crate) fn number<T: Display + PartialOrd>(key: &str, value: T, range: RangeInclusive<T>) -> Checked {
    let allowed = format!("{} to {}", range.start(), range.end());
    require(range.contains(&value), key, value, allowed)
}

pub(crate) fn size(key: &str, value: ByteSize, range: RangeInclusive<ByteSize>) -> Checked {
    number(key, value, range)
}

pub(crate) fn time(key: &str, value: Duration, range: RangeInclusive<Duration>) -> Checked {
    let allowed = format!("{} to {}", display(*range.start()), display(*range.end()));
    require(range.contains(&value), key, display(value), allowed)
}

/// Two listeners cannot share an address, unless the port is 0 (chosen by the system).
pub(crate) fn apart(key: &str, listen: SocketAddr, other_key: &str, other: SocketAddr) -> Checked {
    let ok = listen != other || listen.port() == 0;
    require(ok, key, listen, format!("an address other than that of {other_key}"))
}

pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

pub(crate) const fn hours(count: u64) -> Duration {
    Duration::from_secs(count * 3600)
}
