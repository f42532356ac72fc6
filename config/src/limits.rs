//! Checks of values against their limits, with errors in the words of the configuration file.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use crate::{
    ByteSize,
    duration::display,
    error::{KeyError, Source},
    secret::MASK,
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
    let same_host = listen.ip() == other.ip() || covers(listen.ip(), other.ip()) || covers(other.ip(), listen.ip());
    let ok = listen.port() != other.port() || listen.port() == 0 || !same_host;
    require(ok, key, listen, format!("an address other than that of {other_key} ({other})"))
}

/// Whether `all` means all addresses of the host, this one among them: `::` takes IPv4 too.
fn covers(all: IpAddr, address: IpAddr) -> bool {
    all.is_unspecified() && (all.is_ipv6() || address.is_ipv4())
}

/// Credentials have settings of their own, which are masked; an address is printed and logged.
pub(crate) fn without_credentials(key: &str, url: &str) -> Checked {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or_default();
    let allowed = "an address without user and password; set storage.s3.access_key_id and storage.s3.secret_access_key";
    require(!authority.contains('@'), key, MASK, allowed)
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
