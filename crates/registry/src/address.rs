//! Which addresses a stranger may make us talk to.
//!
//! The node plugin runs on the host network, where loopback is the node's own services and link-local is the
//! cloud's metadata. A reference, realm or redirect that ends there is refused after DNS: names by the
//! resolver that the HTTP clients use (no second look-up, so no rebinding), addresses written as such by
//! [`AddressPolicy::check`], because an HTTP client does not resolve those. Behind a proxy it is the proxy that
//! resolves, and nobody here sees the address: names that clouds give to their metadata are refused as names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::host::HostPattern;
use crate::shown::host_and_port;

/// What an address is to a node on its own network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressClass {
    /// Everything else, private networks included: registries live there.
    Ordinary,
    /// 127/8, `::1`, and the unspecified address, which connects to loopback.
    Loopback,
    /// 169.254/16 and `fe80::/10`.
    LinkLocal,
    /// A cloud's metadata or host service outside the link-local ranges.
    Metadata,
    /// Multicast and broadcast: nobody is there.
    Multicast,
}

/// Metadata and host services of clouds that are not link-local.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    // Hands out the roles of pods.
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];
/// The same services by name.
const METADATA_NAMES: [&str; 6] = [
    "instance-data",
    "instance-data.ec2.internal",
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "metadata.tencentyun.com",
];

/// Says what an address is. IPv4 inside IPv6 (mapped, compatible, NAT64, 6to4) is judged as the IPv4 address.
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    if address.is_loopback() || address.octets()[0] == 0 {
        AddressClass::Loopback
    } else if address.is_link_local() {
        AddressClass::LinkLocal
    } else if METADATA_V4.contains(&address) {
        AddressClass::Metadata
    } else if address.is_multicast() || address.is_broadcast() {
        AddressClass::Multicast
    } else {
        AddressClass::Ordinary
    }
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    if address.is_loopback() || address.is_unspecified() {
        AddressClass::Loopback
    } else if address.is_unicast_link_local() {
        AddressClass::LinkLocal
    } else if METADATA_V6.contains(&address) {
        AddressClass::Metadata
    } else if address.is_multicast() {
        AddressClass::Multicast
    } else {
        embedded_v4(address).map_or(AddressClass::Ordinary, classify_v4)
    }
}

fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        // The same for networks of one's own (RFC 8215), where the address stands last.
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

/// A host that may not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{host} is a loopback, link-local or metadata address; an administrator can list the host in the node configuration"
)]
pub(crate) struct RefusedAddress {
    pub(crate) host: String,
}

/// The rules, made once of the options.
#[derive(Debug)]
pub(crate) struct AddressPolicy {
    /// Hosts with local addresses that an administrator wrote down.
    listed: Vec<HostPattern>,
    /// Hosts of those that are spoken to without TLS.
    plain: Vec<HostPattern>,
    /// The proxies' own names, which the resolver must let through.
    proxies: Vec<HostPattern>,
    /// The command line's switch.
    loopback: bool,
}

impl AddressPolicy {
    pub(crate) fn new(
        local: &[HostPattern],
        plain: &[HostPattern],
        proxies: Vec<HostPattern>,
        loopback: bool,
    ) -> Self {
        let listed = local.iter().chain(plain).cloned().collect();
        Self { listed, plain: plain.to_vec(), proxies, loopback }
    }

    /// Whether an administrator wrote that this host speaks plain http.
    pub(crate) fn is_listed_plain(&self, url: &Url) -> bool {
        self.plain.iter().any(|pattern| pattern.covers_url(url))
    }

    /// Whether the switch covers this registry: a loopback address or `localhost`, and the switch is on.
    pub(crate) fn is_loopback_registry(&self, registry: &Url) -> bool {
        self.loopback && is_loopback_host(registry)
    }

    /// Whether `url` may be spoken to without TLS on behalf of `registry`.
    pub(crate) fn allows_plain_http(&self, url: &Url, registry: &Url) -> bool {
        self.is_listed_plain(url) || (is_loopback_host(url) && self.is_loopback_registry(registry))
    }

    /// Refuses what the resolver cannot: literal addresses, and listed names at a port that is not listed.
    pub(crate) async fn check(&self, url: &Url, registry: &Url) -> Result<(), RefusedAddress> {
        let refusal = || RefusedAddress { host: host_and_port(url) };
        if self.listed.iter().any(|pattern| pattern.covers_url(url)) {
            return Ok(());
        }
        if is_loopback_host(url) {
            return if self.is_loopback_registry(registry) { Ok(()) } else { Err(refusal()) };
        }
        match url.host() {
            Some(Host::Ipv4(address)) => permit(classify_v4(address)).then_some(()).ok_or_else(refusal),
            Some(Host::Ipv6(address)) => permit(classify_v6(address)).then_some(()).ok_or_else(refusal),
            Some(Host::Domain(name)) if is_metadata_name(name) => Err(refusal()),
            Some(Host::Domain(name)) => {
                if !self.resolver_lets_through(name) {
                    return Ok(());
                }
                // The resolver knows no ports, so it lets this name pass whatever it means. If the look-up
                // fails, so will the connection.
                let Ok(addresses) = tokio::net::lookup_host((name, 0)).await else { return Ok(()) };
                let mut addresses = addresses.map(|address| permit(classify(address.ip())));
                addresses.all(|permitted| permitted).then_some(()).ok_or_else(refusal)
            }
            None => Err(refusal()),
        }
    }

    fn resolver_lets_through(&self, name: &str) -> bool {
        let host = Host::Domain(name);
        self.listed.iter().chain(&self.proxies).any(|pattern| pattern.covers_at_some_port(&host))
            || (self.loopback && is_loopback_name(name))
    }
}

fn permit(class: AddressClass) -> bool {
    class == AddressClass::Ordinary
}

fn is_loopback_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

fn is_metadata_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    METADATA_NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn is_loopback_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_loopback_name(name),
        Some(Host::Ipv4(address)) => classify_v4(address) == AddressClass::Loopback,
        Some(Host::Ipv6(address)) => classify_v6(address) == AddressClass::Loopback,
        None => false,
    }
}

/// The system's resolver without the answers that the policy forbids.
pub(crate) struct PolicyResolver(pub(crate) Arc<AddressPolicy>);

impl Resolve for PolicyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.0);
        Box::pin(async move {
            let name = name.as_str();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name, 0)).await?.collect();
            let free = policy.resolver_lets_through(name);
            let kept: Vec<SocketAddr> =
                found.iter().copied().filter(|address| free || permit(classify(address.ip()))).collect();
            if kept.is_empty() && !found.is_empty() {
                return Err(RefusedAddress { host: name.to_owned() }.into());
            }
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reqwest::dns::Resolve as _;
    use url::Url;

    use super::{AddressClass, AddressPolicy, PolicyResolver, RefusedAddress, classify};
    use crate::host::HostPattern;

    #[test]
    fn addresses_are_classified() {
        let table = [
            ("127.0.0.1", AddressClass::Loopback),
            ("127.255.255.254", AddressClass::Loopback),
            ("0.0.0.0", AddressClass::Loopback),
            ("0.1.2.3", AddressClass::Loopback),
            ("::1", AddressClass::Loopback),
            ("::", AddressClass::Loopback),
            ("::ffff:127.0.0.1", AddressClass::Loopback),
            ("::127.0.0.1", AddressClass::Loopback),
            ("::ffff:0:127.0.0.1", AddressClass::Loopback),
            ("64:ff9b::127.0.0.1", AddressClass::Loopback),
            ("2002:7f00:1::", AddressClass::Loopback),
            ("169.254.169.254", AddressClass::LinkLocal),
            ("::ffff:169.254.169.254", AddressClass::LinkLocal),
            ("fe80::1", AddressClass::LinkLocal),
            ("febf::1", AddressClass::LinkLocal),
            ("fd00:ec2::254", AddressClass::Metadata),
            ("fd00:ec2::23", AddressClass::Metadata),
            ("fd20:ce::254", AddressClass::Metadata),
            ("64:ff9b::a9fe:a9fe", AddressClass::LinkLocal),
            ("64:ff9b:1::a9fe:a9fe", AddressClass::LinkLocal),
            ("64:ff9b:1:ffff:ffff:ffff:7f00:1", AddressClass::Loopback),
            ("2002:a9fe:a9fe::1", AddressClass::LinkLocal),
            ("::ffff:100.100.100.200", AddressClass::Metadata),
            ("::ffff:0.0.0.0", AddressClass::Loopback),
            ("100.100.100.200", AddressClass::Metadata),
            ("168.63.129.16", AddressClass::Metadata),
            ("224.0.0.1", AddressClass::Multicast),
            ("255.255.255.255", AddressClass::Multicast),
            ("ff02::1", AddressClass::Multicast),
            ("10.0.0.1", AddressClass::Ordinary),
            ("192.168.1.1", AddressClass::Ordinary),
            ("8.8.8.8", AddressClass::Ordinary),
            ("fd00::1", AddressClass::Ordinary),
            ("fc00:1::254", AddressClass::Ordinary),
            ("64:ff9b:1::a00:1", AddressClass::Ordinary),
            ("fec0::1", AddressClass::Ordinary),
            ("2606:4700::1", AddressClass::Ordinary),
        ];
        for (address, class) in table {
            assert_eq!(classify(address.parse().unwrap()), class, "{address}");
        }
    }

    fn patterns(hosts: &[&str]) -> Vec<HostPattern> {
        hosts.iter().map(|host| host.parse().unwrap()).collect()
    }

    async fn allowed(policy: &AddressPolicy, url: &str, registry: &str) -> bool {
        policy.check(&Url::parse(url).unwrap(), &Url::parse(registry).unwrap()).await.is_ok()
    }

    #[tokio::test]
    async fn literal_local_addresses_need_a_listing() {
        let policy = AddressPolicy::new(&patterns(&["127.0.0.1:5000"]), &[], Vec::new(), false);
        let table = [
            ("https://127.0.0.1:5000/", true),
            ("https://127.0.0.1:5001/", false),
            ("https://0x7f.1:5001/", false),
            ("https://localhost:5000/", false),
            ("https://169.254.169.254/latest", false),
            ("https://[fe80::1]/", false),
            ("https://[::ffff:7f00:1]/", false),
            ("https://[fd00:ec2::254]/", false),
            ("https://[::ffff:169.254.169.254]/", false),
            ("https://0.0.0.0/", false),
            ("https://2852039166/", false),
            ("https://[fd12:3456::1]/", true),
            ("https://10.1.2.3/", true),
            ("https://ghcr.io/", true),
        ];
        for (url, expected) in table {
            assert_eq!(allowed(&policy, url, "https://ghcr.io/").await, expected, "{url}");
        }
    }

    #[tokio::test]
    async fn names_of_metadata_services_need_a_listing_too() {
        let policy = AddressPolicy::new(&patterns(&["metadata.goog"]), &[], Vec::new(), false);
        for (url, expected) in [
            ("https://metadata.google.internal/", false),
            ("https://METADATA.google.internal./computeMetadata/v1", false),
            ("https://metadata/", false),
            ("https://instance-data.ec2.internal/", false),
            ("https://metadata.goog/", true),
            ("https://metadata.example/", true),
        ] {
            assert_eq!(allowed(&policy, url, "https://ghcr.io/").await, expected, "{url}");
        }
    }

    #[tokio::test]
    async fn the_loopback_switch_serves_loopback_registries_only() {
        let policy = AddressPolicy::new(&[], &[], Vec::new(), true);
        assert!(allowed(&policy, "http://127.0.0.1:5000/", "http://127.0.0.1:5000/").await);
        assert!(allowed(&policy, "http://localhost:6000/", "http://127.0.0.1:5000/").await);
        assert!(!allowed(&policy, "http://127.0.0.1:5000/", "https://evil.example/").await);
        assert!(!allowed(&policy, "http://localhost/", "https://evil.example/").await);
        assert!(!allowed(&policy, "http://169.254.169.254/", "http://127.0.0.1:5000/").await);
    }

    #[tokio::test]
    async fn a_listed_port_does_not_open_the_other_ports_of_a_local_name() {
        let policy = AddressPolicy::new(&patterns(&["localhost:5000"]), &[], Vec::new(), false);
        assert!(allowed(&policy, "https://localhost:5000/", "https://localhost:5000/").await);
        assert!(!allowed(&policy, "https://localhost:22/", "https://localhost:22/").await);
    }

    #[tokio::test]
    async fn the_resolver_refuses_a_name_that_means_loopback() {
        let refusing = Arc::new(AddressPolicy::new(&[], &[], Vec::new(), false));
        let error = PolicyResolver(refusing).resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert_eq!(error.downcast_ref::<RefusedAddress>().unwrap().host, "localhost");
        let listing = Arc::new(AddressPolicy::new(&patterns(&["localhost"]), &[], Vec::new(), false));
        let found = PolicyResolver(listing).resolve("localhost".parse().unwrap()).await.unwrap();
        assert!(found.count() > 0);
    }
}
