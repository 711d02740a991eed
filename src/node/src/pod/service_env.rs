//! The variables by which containers find services without DNS, under upstream's names. Pure.

use bosun_api::core::ServicePort;

/// The service that every container is told of, whatever its pod's namespace.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// What containers are told of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its address; empty or `None` (a word of the API) if it has none.
    pub cluster_ip: String,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// The variables of a pod in `namespace`: of the API's own service always, of the namespace's if `links`
/// (`enableServiceLinks`) are wanted. A namespace's own `kubernetes` hides the API's then.
pub fn variables(services: &[Service], namespace: &str, links: bool) -> Vec<(String, String)> {
    let is_master = |service: &Service| (service.namespace.as_str(), service.name.as_str()) == MASTER;
    let is_linked = |service: &Service| links && service.namespace == namespace;
    let mut told: Vec<&Service> = services
        .iter()
        .filter(|service| !matches!(service.cluster_ip.as_str(), "" | "None"))
        .filter(|service| is_master(service) || is_linked(service))
        .collect();
    // The namespace's own before the API's, of which only the first of a name counts.
    told.sort_by_key(|service| (service.name.as_str(), is_master(service)));
    told.dedup_by_key(|service| service.name.as_str());
    told.into_iter().flat_map(of_service).collect()
}

fn of_service(service: &Service) -> Vec<(String, String)> {
    let prefix = variable_name(&service.name);
    let address = &service.cluster_ip;
    let mut all = vec![(format!("{prefix}_SERVICE_HOST"), address.clone())];
    if let Some(first) = service.ports.first() {
        all.push((format!("{prefix}_SERVICE_PORT"), first.port.to_string()));
    }
    for port in &service.ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let name = variable_name(name);
            all.push((format!("{prefix}_SERVICE_PORT_{name}"), port.port.to_string()));
        }
    }
    for (index, port) in service.ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let scheme = protocol.to_lowercase();
        let host = if address.contains(':') {
            format!("[{address}]")
        } else {
            address.clone()
        };
        let url = format!("{scheme}://{host}:{}", port.port);
        if index == 0 {
            all.push((format!("{prefix}_PORT"), url.clone()));
        }
        let own = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        all.push((own.clone(), url));
        all.push((format!("{own}_PROTO"), scheme));
        all.push((format!("{own}_PORT"), port.port.to_string()));
        all.push((format!("{own}_ADDR"), address.clone()));
    }
    all
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, name: &str, cluster_ip: &str, ports: &[(&str, i32, &str)]) -> Service {
        let ports = ports.iter().map(|(name, port, protocol)| ServicePort {
            name: Some((*name).into()),
            port: *port,
            protocol: Some((*protocol).into()),
            ..ServicePort::default()
        });
        Service {
            namespace: namespace.into(),
            name: name.into(),
            cluster_ip: cluster_ip.into(),
            ports: ports.collect(),
        }
    }

    #[test]
    fn a_services_variables_are_named_as_upstream_names_them() {
        let ports = [("", 53, "UDP"), ("dns-tcp", 54, "TCP")];
        let found = variables(&[service("shop", "my-dns", "10.0.0.9", &ports)], "shop", true);
        let expected = [
            ("MY_DNS_SERVICE_HOST", "10.0.0.9"),
            ("MY_DNS_SERVICE_PORT", "53"),
            ("MY_DNS_SERVICE_PORT_DNS_TCP", "54"),
            ("MY_DNS_PORT", "udp://10.0.0.9:53"),
            ("MY_DNS_PORT_53_UDP", "udp://10.0.0.9:53"),
            ("MY_DNS_PORT_53_UDP_PROTO", "udp"),
            ("MY_DNS_PORT_53_UDP_PORT", "53"),
            ("MY_DNS_PORT_53_UDP_ADDR", "10.0.0.9"),
            ("MY_DNS_PORT_54_TCP", "tcp://10.0.0.9:54"),
            ("MY_DNS_PORT_54_TCP_PROTO", "tcp"),
            ("MY_DNS_PORT_54_TCP_PORT", "54"),
            ("MY_DNS_PORT_54_TCP_ADDR", "10.0.0.9"),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let found = variables(&[service("shop", "web", "fd00::9", &[("", 80, "TCP")])], "shop", true);
        assert!(
            found.contains(&("WEB_PORT".into(), "tcp://[fd00::9]:80".into())),
            "{found:?}"
        );
    }

    #[test]
    fn a_pod_is_told_of_the_api_and_of_its_namespaces_services_that_have_an_address() {
        let api = service("default", "kubernetes", "10.0.0.1", &[("https", 443, "TCP")]);
        let own = service("shop", "kubernetes", "10.0.0.2", &[]);
        let web = service("shop", "web", "10.0.0.3", &[]);
        let other = service("default", "web", "10.0.0.4", &[]);
        let headless = service("shop", "db", "None", &[]);
        let external = service("shop", "far", "", &[]);
        let all = [&own, &web, &other, &headless, &external, &api].map(Clone::clone);
        let hosts = |services: &[Service], namespace: &str, links: bool| -> Vec<String> {
            let found = variables(services, namespace, links).into_iter();
            let hosts = found.filter(|(name, _)| name.ends_with("_SERVICE_HOST"));
            hosts.map(|(_, address)| address).collect()
        };
        let cases: [(&[Service], &str, bool, &[&str]); 6] = [
            (&all, "shop", true, &["10.0.0.2", "10.0.0.3"]),
            (&all[1..], "shop", true, &["10.0.0.1", "10.0.0.3"]),
            (&all, "shop", false, &["10.0.0.1"]),
            (&all, "default", true, &["10.0.0.1", "10.0.0.4"]),
            (&all, "elsewhere", true, &["10.0.0.1"]),
            (&[], "shop", true, &[]),
        ];
        for (services, namespace, links, expected) in cases {
            assert_eq!(
                hosts(services, namespace, links),
                expected,
                "{namespace}, links: {links}"
            );
        }
    }
}
