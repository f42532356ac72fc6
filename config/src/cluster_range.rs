//! A range of pod addresses and the cluster that it is of: `10.4.0.0/14=east`.

use std::{
    fmt::{self, Display, Formatter},
    net::IpAddr,
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

const FORM: &str = "the first address of a range, its prefix and a cluster, such as 10.4.0.0/14=east";

/// A range of addresses (RFC 4632, RFC 4291) and the cluster of the pods in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRange {
    /// The first address of the range.
    network: IpAddr,
    /// Bits that all addresses of the range have in common.
    prefix: u8,
    cluster: String,
}

impl ClusterRange {
    /// Whether an address is in it. An IPv4 address that is written as IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && masked(address, self.prefix) == bits(self.network)
    }

    /// The number of bits that all its addresses have in common: of two ranges around an address the smaller one has more.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The cluster of the pods in it.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    pub(crate) fn is_same_range(&self, other: &ClusterRange) -> bool {
        (self.network, self.prefix) == (other.network, other.prefix)
    }
}

/// The bits of an address, from the highest.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn masked(address: IpAddr, prefix: u8) -> u128 {
    // Nothing is left of all bits shifted out.
    bits(address) & u128::MAX.checked_shl(u128::BITS - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for ClusterRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is no range with a cluster; expected {FORM}");
        let (range, cluster) = text.split_once('=').ok_or_else(wrong)?;
        let (network, prefix) = range.trim().split_once('/').ok_or_else(wrong)?;
        let network: IpAddr = network.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let (longest, cluster) = (if network.is_ipv4() { 32 } else { 128 }, cluster.trim().to_owned());
        if prefix > longest || cluster.is_empty() {
            return Err(wrong());
        }
        // A host in place of the network is a mistake more often than not.
        if masked(network, prefix) != bits(network) {
            return Err(format!("`{text}` has bits set past its prefix; expected {FORM}"));
        }
        Ok(ClusterRange { network, prefix, cluster })
    }
}

impl Display for ClusterRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}={}", self.network, self.prefix, self.cluster)
    }
}

impl Serialize for ClusterRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClusterRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: ranges of both families, from one address to all, and the addresses at their borders. Guarantee: those within are
    /// in it, and no other; what is written is read back.
    #[test]
    fn ranges() {
        for (text, inside, outside) in [
            ("10.4.0.0/14=east", &["10.4.0.0", "10.7.255.255", "::ffff:10.5.0.1"][..], &["10.3.255.255", "10.8.0.0", "::"][..]),
            ("10.1.2.3/32=one", &["10.1.2.3"], &["10.1.2.2", "10.1.2.4"]),
            ("0.0.0.0/0=all", &["0.0.0.0", "255.255.255.255"], &["::1", "fd00::1"]),
            ("fd00:1::/32=v6", &["fd00:1::", "fd00:1:ffff::1"], &["fd00:2::", "10.0.0.1"]),
            ("fd00::1/128=one", &["fd00::1"], &["fd00::2"]),
            ("::/0=all", &["fd00::1"], &["10.0.0.1"]),
        ] {
            let range: ClusterRange = text.parse().unwrap();
            assert_eq!(range.to_string(), text);
            assert!(inside.iter().all(|address| range.contains(address.parse().unwrap())), "{text}");
            assert!(!outside.iter().any(|address| range.contains(address.parse().unwrap())), "{text}");
        }
        assert_eq!(" 10.0.0.0/8 = a=b ".trim().parse::<ClusterRange>().unwrap().cluster(), "a=b");
    }

    /// Scenario: texts that are no range. Guarantee: each is quoted, with what is expected.
    #[test]
    fn what_is_no_range() {
        for text in [
            "",
            "10.0.0.0/8",
            "10.0.0.0=a",
            "10.0.0.0/33=a",
            "fd00::/129=a",
            "10.0.0/8=a",
            "10.0.0.0/8=",
            "10.0.0.1/8=a",
            "a/8=a",
            "10.0.0.0/-1=a",
        ] {
            let error = text.parse::<ClusterRange>().unwrap_err();
            assert!(error.starts_with(&format!("`{text}` ")) && error.contains("10.4.0.0/14=east"), "{error}");
        }
    }
}
