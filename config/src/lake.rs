//! Settings of the lake: when fresh files are merged into it, and for how long spans are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    ByteSize, Tenant,
    duration::display,
    limits::{Checked, hours, minutes, number, require, seconds, size, time},
};

/// The merging of fresh files into the lake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compaction {
    /// Whether a server compacts, besides taking spans and answering queries.
    pub enabled: bool,
    /// How often it looks for work.
    #[serde(with = "crate::duration")]
    pub interval: Duration,
    /// How long a window must have got no fresh file before it is merged.
    #[serde(with = "crate::duration")]
    pub settle: Duration,
    /// Age of a fresh file after which its window is merged, settled or not.
    #[serde(with = "crate::duration")]
    pub max_age: Duration,
    /// Size of a lake file.
    pub file_size: ByteSize,
    /// Percentage of one core that it takes at most while it works.
    pub cpu_percent: u32,
    /// Memory that a merge takes at most: it decides how many files are merged at once.
    pub memory_limit: ByteSize,
    /// Bytes a second that it reads and writes at most; 0: no limit.
    pub io_limit: ByteSize,
    /// Attributes that get columns of their own in the lake, at most.
    pub promoted_max: u32,
    /// Percentage of a file's spans that carry an attribute which gets one.
    pub promoted_percent: u32,
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: seconds(15),
            settle: minutes(5),
            max_age: hours(6),
            file_size: ByteSize::mib(256),
            cpu_percent: 100,
            memory_limit: ByteSize::mib(384),
            io_limit: ByteSize::bytes(0),
            promoted_max: 32,
            promoted_percent: 10,
        }
    }
}

impl Compaction {
    pub(crate) fn validate(&self) -> Checked {
        time("compaction.interval", self.interval, Duration::from_millis(10)..=hours(24))?;
        time("compaction.settle", self.settle, seconds(0)..=hours(24))?;
        time("compaction.max_age", self.max_age, seconds(0)..=hours(24 * 7))?;
        size("compaction.file_size", self.file_size, ByteSize::mib(1)..=ByteSize::gib(4))?;
        number("compaction.cpu_percent", self.cpu_percent, 1..=100)?;
        size("compaction.memory_limit", self.memory_limit, ByteSize::mib(128)..=ByteSize::gib(64))?;
        let enough = self.io_limit.as_u64() == 0 || self.io_limit >= ByteSize::mib(1);
        require(enough, "compaction.io_limit", self.io_limit, "0B, or at least 1MiB")?;
        number("compaction.promoted_max", self.promoted_max, 0..=256)?;
        number("compaction.promoted_percent", self.promoted_percent, 1..=100)
    }
}

/// For how long spans of one tenant are kept; what is not set is as for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantRetention {
    /// Instead of `retention.age`.
    #[serde(with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    pub age: Option<Duration>,
    /// Instead of `retention.size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
}

/// For how long spans are kept, each tenant's by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Age at which a lake file goes, by the latest start of its spans.
    #[serde(with = "crate::duration")]
    pub age: Duration,
    /// Bytes of lake files of one tenant, past which its oldest go; 0: no limit.
    pub size: ByteSize,
    /// How long a file that no new query reads stays for those that run.
    #[serde(with = "crate::duration")]
    pub delete_delay: Duration,
    /// Tenants whose spans are kept for another time, by name.
    pub tenants: BTreeMap<String, TenantRetention>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: hours(30 * 24), size: ByteSize::bytes(0), delete_delay: minutes(10), tenants: BTreeMap::new() }
    }
}

impl Retention {
    /// Age and bytes of a tenant's lake files, past which they go; 0 bytes: no limit.
    pub fn of(&self, tenant: &str) -> (Duration, ByteSize) {
        let own = self.tenants.get(tenant);
        (own.and_then(|own| own.age).unwrap_or(self.age), own.and_then(|own| own.size).unwrap_or(self.size))
    }

    pub(crate) fn validate(&self, query_timeout: Duration, interval: Duration) -> Checked {
        let allowed_age = hours(1)..=hours(3_650 * 24);
        time("retention.age", self.age, allowed_age.clone())?;
        for (name, tenant) in &self.tenants {
            let key = format!("retention.tenants.{name}");
            if let Err(error) = Tenant::parse(name) {
                require(false, &key, name, format!("the name of a tenant ({error})"))?;
            }
            tenant.age.map_or(Ok(()), |age| time(&format!("{key}.age"), age, allowed_age.clone()))?;
        }
        // A query may run for its whole timeout on the files that its server knew when it began, and that follows what other
        // processes replace at intervals.
        let least = query_timeout + interval;
        let allowed = format!("query.timeout and compaction.interval together ({}) to {}", display(least), display(hours(24 * 7)));
        let ok = (least..=hours(24 * 7)).contains(&self.delete_delay);
        require(ok, "retention.delete_delay", display(self.delete_delay), allowed)
    }
}
