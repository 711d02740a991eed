//! What a serving certificate must be valid for.

use std::net::IpAddr;

/// Where a server is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The machine's host name; empty if it has none that fits into a certificate.
    pub host_name: String,
    /// The addresses told to others, those listened on, and more that the administrator names; unspecified ones
    /// (`0.0.0.0`) are left out.
    pub addresses: Vec<IpAddr>,
    /// More DNS names, such as that of a load balancer.
    pub dns_names: Vec<String>,
    /// The address of the Service `default/kubernetes` in each family: the first of each Service range.
    pub service_addresses: Vec<IpAddr>,
    /// Such as `cluster.local`.
    pub cluster_domain: String,
}

/// All names of an API server, each once: DNS names, then addresses, in a fixed order.
pub fn api_server(reached: &Reached) -> Vec<String> {
    let service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned);
    let in_domain = format!("kubernetes.default.svc.{}", reached.cluster_domain);
    let dns = ["localhost".to_owned()]
        .into_iter()
        .chain(service)
        .chain([in_domain, reached.host_name.to_lowercase()])
        .chain(reached.dns_names.iter().map(|name| name.to_lowercase()))
        .filter(|name| is_dns_name(name));
    let loopback = [IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()];
    let addresses = loopback
        .into_iter()
        .chain(reached.service_addresses.iter().copied())
        .chain(reached.addresses.iter().copied())
        .filter(|address| !address.is_unspecified())
        .map(|address| address.to_string());
    let mut names = Vec::new();
    for name in dns.chain(addresses) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Whether TLS clients take it for a DNS name; a host name with an underscore, for one, would spoil the certificate.
fn is_dns_name(name: &str) -> bool {
    rustls::pki_types::DnsName::try_from(name).is_ok() && !name.contains('_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_the_server_is_named_once() {
        let reached = Reached {
            host_name: "Node-1".into(),
            addresses: ["192.0.2.7", "0.0.0.0", "::", "127.0.0.1"]
                .map(|text| text.parse().unwrap())
                .into(),
            dns_names: vec!["api.example.com".into(), "localhost".into()],
            service_addresses: ["10.96.0.1", "fd00::1"].map(|text| text.parse().unwrap()).into(),
            cluster_domain: "cluster.local".into(),
        };
        assert_eq!(
            api_server(&reached),
            [
                "localhost",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
                "node-1",
                "api.example.com",
                "127.0.0.1",
                "::1",
                "10.96.0.1",
                "fd00::1",
                "192.0.2.7",
            ]
        );
    }

    #[test]
    fn a_host_name_that_no_client_takes_is_left_out() {
        for host_name in ["", "my_host", "a b", "-x."] {
            let reached = Reached {
                host_name: host_name.into(),
                cluster_domain: "c".into(),
                ..Reached::default()
            };
            assert!(!api_server(&reached).contains(&host_name.to_owned()), "{host_name:?}");
        }
    }
}
