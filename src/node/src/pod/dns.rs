//! A pod's `/etc/resolv.conf` by its `dnsPolicy` and `dnsConfig`, as upstream forms it. Pure, but for [`host`].

use std::{fs, net::IpAddr};

use bosun_api::core::Pod;
use bosun_cri::v1::DnsConfig;

/// The most name servers a resolver asks.
const MAX_SERVERS: usize = 3;
/// The most search domains, and bytes of them with the blanks between.
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_BYTES: usize = 2048;
/// A name with fewer dots is looked for in the search domains first: `service.namespace.svc` is one.
const CLUSTER_OPTION: &str = "ndots:5";

/// The cluster's DNS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterDns {
    /// Its servers; empty: there is none.
    pub servers: Vec<IpAddr>,
    /// The domain that the cluster's names are in.
    pub domain: String,
}

/// The node's own resolver, as it is now; nothing where it has none.
pub fn host() -> DnsConfig {
    parse(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

/// Reads a `resolv.conf`, as `resolv.conf(5)` has it: of several `search` or `options` lines the last counts.
pub fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let keyword = words.next().unwrap_or_default();
        let mut words = words.map(str::to_owned);
        match keyword {
            "nameserver" => config.servers.extend(words.next()),
            "search" => config.searches = words.map(|word| without_dot(&word)).collect(),
            "options" => config.options = words.collect(),
            _ => {}
        }
    }
    config
}

/// A lone dot means no search at all, and stays.
fn without_dot(name: &str) -> String {
    match name.strip_suffix('.') {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => name.to_owned(),
    }
}

/// Whether a pod wants the cluster's DNS.
pub fn wants_cluster(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let host_network = spec.is_some_and(|spec| spec.host_network == Some(true));
    match spec.and_then(|spec| spec.dns_policy.as_deref()) {
        Some("ClusterFirstWithHostNet") => true,
        None | Some("ClusterFirst") => !host_network,
        _ => false,
    }
}

/// What the pod's resolver is told; `host` is what the node's own is.
pub fn dns_config(pod: &Pod, cluster: &ClusterDns, host: &DnsConfig) -> DnsConfig {
    let spec = pod.spec.as_ref();
    let mut config = if spec.and_then(|spec| spec.dns_policy.as_deref()) == Some("None") {
        DnsConfig::default()
    } else if wants_cluster(pod) && !cluster.servers.is_empty() {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let domain = &cluster.domain;
        let own = if domain.is_empty() {
            vec![]
        } else {
            vec![
                format!("{namespace}.svc.{domain}"),
                format!("svc.{domain}"),
                domain.clone(),
            ]
        };
        DnsConfig {
            servers: cluster.servers.iter().map(ToString::to_string).collect(),
            searches: own.into_iter().chain(host.searches.iter().cloned()).collect(),
            options: vec![CLUSTER_OPTION.to_owned()],
        }
    } else {
        host.clone()
    };
    if let Some(own) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        config.servers.extend(own.nameservers.iter().flatten().cloned());
        config.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            config.options.retain(|known| known.split(':').next() != Some(name));
            config.options.push(match option.value.as_deref() {
                None | Some("") => name.to_owned(),
                Some(value) => format!("{name}:{value}"),
            });
        }
    }
    within_limits(config)
}

fn within_limits(mut config: DnsConfig) -> DnsConfig {
    config.servers = distinct(config.servers);
    config.servers.truncate(MAX_SERVERS);
    config.searches = distinct(config.searches);
    config.searches.truncate(MAX_SEARCHES);
    let mut bytes = 0;
    config.searches.retain(|search| {
        bytes += search.len() + usize::from(bytes > 0);
        bytes <= MAX_SEARCH_BYTES
    });
    config
}

fn distinct(names: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(config: &DnsConfig) -> String {
        let parts = [&config.servers, &config.searches, &config.options];
        parts.map(|words| words.join(" ")).join(" | ")
    }

    #[test]
    fn a_pods_resolver_is_told_what_its_policy_and_its_own_words_ask_for() {
        let host =
            parse("nameserver 9.9.9.9 # ours\nsearch old\nsearch example.org. svc.c.local\noptions rotate ndots:2\n");
        assert_eq!(line(&host), "9.9.9.9 | example.org svc.c.local | rotate ndots:2");
        let cluster = ClusterDns {
            servers: vec!["10.96.0.10".parse().unwrap()],
            domain: "c.local".into(),
        };
        let of_cluster = "10.96.0.10 | shop.svc.c.local svc.c.local c.local example.org | ndots:5";
        let of_host = "9.9.9.9 | example.org svc.c.local | rotate ndots:2";
        let own = serde_json::json!({"nameservers": ["1.1.1.1", "9.9.9.9", "2.2.2.2", "3.3.3.3"], "searches": ["s"],
            "options": [{"name": "ndots", "value": "1"}, {"name": "edns0"}]});
        let table = [
            (serde_json::json!({}), of_cluster),
            (serde_json::json!({"dnsPolicy": "ClusterFirst"}), of_cluster),
            (
                serde_json::json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}),
                of_host,
            ),
            (
                serde_json::json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}),
                of_cluster,
            ),
            (serde_json::json!({"dnsPolicy": "Default"}), of_host),
            (
                serde_json::json!({"dnsPolicy": "None", "dnsConfig": own}),
                "1.1.1.1 9.9.9.9 2.2.2.2 | s | ndots:1 edns0",
            ),
            (
                serde_json::json!({"dnsPolicy": "Default", "dnsConfig": own}),
                "9.9.9.9 1.1.1.1 2.2.2.2 | example.org svc.c.local s | rotate ndots:1 edns0",
            ),
        ];
        for (spec, expected) in table {
            let mut object = serde_json::json!({"metadata": {"namespace": "shop"}, "spec": spec});
            object["spec"]["containers"] = serde_json::json!([]);
            let pod: Pod = serde_json::from_value(object.clone()).unwrap();
            assert_eq!(line(&dns_config(&pod, &cluster, &host)), expected, "{object}");
            if wants_cluster(&pod) {
                assert_eq!(
                    line(&dns_config(&pod, &ClusterDns::default(), &host)),
                    of_host,
                    "{object}"
                );
            }
        }
    }

    #[test]
    fn a_search_list_keeps_to_what_resolvers_take() {
        let names = (0..40).map(|number| format!("s{number}")).collect();
        let many = DnsConfig {
            searches: names,
            ..DnsConfig::default()
        };
        assert_eq!(within_limits(many).searches.len(), 32);
        let long = (0..20).map(|number| format!("{number:0>250}")).collect();
        let long = DnsConfig {
            searches: long,
            ..DnsConfig::default()
        };
        assert!(within_limits(long).searches.join(" ").len() <= 2048);
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_node_has_for_a_resolver_a_pod_is_told_no_more_than_resolvers_take(text in "[ a-z0-9.#;\n]{0,400}|.*") {
            let host = parse(&text);
            let config = dns_config(&Pod::default(), &ClusterDns::default(), &host);
            proptest::prop_assert!(config.servers.len() <= MAX_SERVERS && config.searches.len() <= MAX_SEARCHES);
        }
    }
}
