//! Hosts: where the names in URLs, addresses and clusters lie.

/// Where a host's name means something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where the caller is: a short name, an address.
    #[default]
    Local,
    /// In the mesh, in the namespace that the name states: `reviews.bookinfo.svc.cluster.local`.
    Mesh,
    /// Everywhere: `www.example.com`.
    Public,
}

/// Last labels of names that no public server answers for.
const PRIVATE_DOMAINS: [&str; 7] = ["svc", "local", "internal", "localdomain", "lan", "home", "test"];

/// The host of a URL, without user and port; empty if it is no URL with a host.
pub(crate) fn of_url(url: &str) -> &str {
    let Some(rest) = url.split_once(':').and_then(|(_, rest)| rest.strip_prefix("//")) else { return "" };
    let end = rest.bytes().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let authority = end.map_or(rest, |end| &rest[..end]);
    without_port(authority.rsplit_once('@').map_or(authority, |(_, host)| host))
}

/// The host of `host`, `host:port`, `[address]:port`.
pub(crate) fn without_port(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or("", |(address, _)| address);
    }
    match authority.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => authority,
    }
}

/// Whether it is an IP address.
pub(crate) fn is_address(host: &str) -> bool {
    host.contains(':') || host.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit())
}

/// The host if it is a name that tells one service from another, else nothing.
pub(crate) fn name(host: &str) -> &str {
    if matches!(host, "localhost" | "-") || is_address(host) { "" } else { host }
}

/// Service and namespace of a Kubernetes host (`reviews.bookinfo.svc.cluster.local`).
pub(crate) fn in_mesh(host: &str) -> Option<(&str, &str)> {
    let (service, rest) = at_dot(host)?;
    let (namespace, rest) = at_dot(rest)?;
    let third = rest.strip_prefix("svc")?;
    (third.is_empty() || third.starts_with('.')).then_some((service, namespace))
}

/// What stands before and behind the first dot. Labels are short, so looking at each byte is quickest.
fn at_dot(host: &str) -> Option<(&str, &str)> {
    let dot = host.bytes().position(|byte| byte == b'.')?;
    Some((&host[..dot], &host[dot + 1..]))
}

/// Where the host's name means something.
pub(crate) fn place(host: &str) -> Place {
    if in_mesh(host).is_some() {
        return Place::Mesh;
    }
    match host.rsplit_once('.') {
        Some((_, last)) if !last.is_empty() && !is_address(host) && !PRIVATE_DOMAINS.contains(&last) => Place::Public,
        _ => Place::Local,
    }
}

/// Whether two names may be of one host: equal, or one is what the other begins with (`reviews`, `reviews.bookinfo.svc`).
pub(crate) fn same(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    !short.is_empty() && long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: URLs and authorities as SDKs and proxies write them. Guarantee: the host alone is left.
    #[test]
    fn hosts_of_urls() {
        for (url, host) in [
            ("http://details:9080/details/0", "details"),
            ("https://user:secret@api.example.com?x=1", "api.example.com"),
            ("http://[::1]:80/", "::1"),
            ("http://10.0.0.1:80", "10.0.0.1"),
            ("/path", ""),
            ("http://", ""),
            ("", ""),
        ] {
            assert_eq!(of_url(url), host, "{url}");
        }
        assert_eq!(without_port("fe80::1"), "fe80::1");
        assert_eq!(without_port("[fe80::1"), "");
    }

    /// Scenario: names of every kind. Guarantee: addresses are no names, and each name is placed.
    #[test]
    fn names_and_places() {
        assert_eq!([name("10.1.2.3"), name("::1"), name("localhost"), name("-"), name(""), name("a")], ["", "", "", "", "", "a"]);
        for (host, expected) in [
            ("reviews", Place::Local),
            ("reviews.bookinfo.svc", Place::Mesh),
            ("db.prod.svc.clusterset.local", Place::Mesh),
            ("printer.local", Place::Local),
            ("10.1.2.3", Place::Local),
            ("www.example.com", Place::Public),
            ("example.", Place::Local),
        ] {
            assert_eq!(place(host), expected, "{host}");
        }
    }

    /// Scenario: short and long forms of a name. Guarantee: they are one host, and a name that merely begins alike is another.
    #[test]
    fn forms_of_a_name() {
        assert!(same("reviews", "reviews.bookinfo.svc.cluster.local") && same("reviews.bookinfo", "reviews"));
        assert!(!same("reviews", "reviews-v2") && !same("reviews.a", "reviews.b") && !same("", ""));
    }
}
