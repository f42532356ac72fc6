//! Whom clusters name, of those that came lately.

use std::ops::Range;

use super::Target;

/// Places for clusters, a power of two: as many as stay in a processor's own cache.
const CLUSTERS: usize = 1 << 10;
/// Bytes of a name that is kept.
const NAME_MAX: usize = 256;

/// Clusters and whom they name, by where their names stand in memory: spans of one batch of rows share them, and comparing one is less
/// than taking it to pieces. Each is at one of two places next to each other. What is found is compared, so nothing but the time
/// depends on the places.
#[derive(Debug, Default)]
pub(crate) struct Clusters(Vec<Known>);

#[derive(Clone, Debug, Default)]
struct Known {
    cluster: String,
    /// Where in it the name stands of whom it names.
    name: Range<usize>,
    /// But for the name.
    target: Target<'static>,
}

impl Clusters {
    /// Whom a cluster names, if it names somebody; and what else it says.
    pub(super) fn target<'a>(&mut self, cluster: &'a str) -> Target<'a> {
        // Spans of SDKs have none.
        if cluster.is_empty() || cluster.len() > NAME_MAX {
            return Target::of_cluster(cluster);
        }
        if self.0.is_empty() {
            self.0.resize(CLUSTERS, Known::default());
        }
        let hash = (cluster.as_ptr().addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = (hash >> (u64::BITS - CLUSTERS.ilog2())) as usize & !1;
        let places = &mut self.0[first..][..2];
        if let Some(known) = places.iter().find(|known| known.cluster == cluster) {
            return known.of(cluster);
        }
        places.swap(0, 1);
        places[0].set(cluster);
        places[0].of(cluster)
    }
}

impl Known {
    fn of<'a>(&self, cluster: &'a str) -> Target<'a> {
        Target { name: &cluster[self.name.clone()], ..self.target }
    }

    fn set(&mut self, cluster: &str) {
        let target = Target::of_cluster(cluster);
        let begin = if target.is_known() { target.name.as_ptr().addr() - cluster.as_ptr().addr() } else { 0 };
        self.name = begin..begin + target.name.len();
        self.target = Target { name: "", ..target };
        self.cluster.clear();
        self.cluster.push_str(cluster);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: clusters one after the other in the same memory, of which some are alike but for a letter, name nobody, or are too
    /// long to be kept. Guarantee: each names whom it names by its letters, the first time and again.
    #[test]
    fn targets_are_those_of_letters() {
        let long = format!("outbound|80||{}.example.com", "a".repeat(NAME_MAX));
        let names = [
            "outbound|80||reviews.default.svc.cluster.local",
            "outbound|80||ratings.default.svc.cluster.local",
            "outbound|80|www.example.com|www.example.com",
            "outbound|80||reviews",
            "outbound|80||abc.example.com",
            "outbound|8080||a.example.com",
            "PassthroughCluster",
            "inbound|9080||",
            "",
            &long,
        ];
        let (mut clusters, mut memory) = (Clusters::default(), String::with_capacity(long.len()));
        for name in names.iter().chain(&names).flat_map(|name| [name, name]) {
            memory.clear();
            memory.push_str(name);
            assert_eq!(clusters.target(&memory), Target::of_cluster(name), "{name}");
        }
    }
}
