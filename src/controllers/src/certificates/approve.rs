//! Which requests of nodes are approved without a person. Pure.

use std::net::IpAddr;

use bosun_pki::{
    authority::AltName,
    signer::{KUBELET_CLIENT, KUBELET_SERVING, SigningRequest, permits},
};

use crate::objects::{Node, SigningRequestSpec};

/// How nodes are called as users.
pub(super) const USER_PREFIX: &str = "system:node:";
/// The group of nodes.
const GROUP: &str = "system:nodes";

/// Under which name authorization is asked whether the requester may have a certificate of a node as a client; `None`
/// if the request is none of the kind.
pub(super) fn client(asked: &SigningRequest, spec: &SigningRequestSpec) -> Option<&'static str> {
    permits(KUBELET_CLIENT, asked, &spec.usages).ok()?;
    Some(if asked.common_name == spec.username {
        "selfnodeclient"
    } else {
        "nodeclient"
    })
}

/// Whether a node may have a certificate as a server: it asks for itself, and for nothing but what it is called and
/// reached at. Whoever could have one for another's name could pretend to be it.
pub(super) fn server(asked: &SigningRequest, spec: &SigningRequestSpec, node: Option<&Node>) -> Result<(), String> {
    permits(KUBELET_SERVING, asked, &spec.usages).map_err(|error| error.to_string())?;
    if asked.common_name != spec.username || !spec.groups.iter().any(|group| group == GROUP) {
        return Err(format!(
            "{} asks for a certificate of {}",
            spec.username, asked.common_name
        ));
    }
    let name = asked.common_name.strip_prefix(USER_PREFIX).unwrap_or_default();
    let node = node.filter(|node| node.metadata.name.as_deref() == Some(name));
    let node = node.ok_or_else(|| format!("there is no node {name:?}"))?;
    let addresses = &node.status.addresses;
    for wanted in &asked.names {
        let own = match wanted {
            AltName::Dns(dns) => {
                let names = addresses
                    .iter()
                    .filter(|address| ["Hostname", "InternalDNS", "ExternalDNS"].contains(&address.type_.as_str()));
                dns == name || names.into_iter().any(|address| address.address == *dns)
            }
            AltName::Ip(ip) => {
                let ips = addresses
                    .iter()
                    .filter(|address| ["InternalIP", "ExternalIP"].contains(&address.type_.as_str()));
                ips.into_iter()
                    .any(|address| address.address.parse::<IpAddr>().is_ok_and(|address| address == *ip))
            }
            _ => false,
        };
        if !own {
            return Err(format!("{wanted:?} is no name or address of node {name}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::core::v1::NodeAddress, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    use super::*;

    const CLIENT: [&str; 2] = ["client auth", "digital signature"];
    const SERVER: [&str; 2] = ["server auth", "digital signature"];

    fn request(common_name: &str, names: &[&str]) -> SigningRequest {
        let mut params = rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
            .expect("valid names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, GROUP);
        params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        let key = rcgen::KeyPair::generate().expect("a key");
        let pem = params.serialize_request(&key).expect("a request").pem().expect("pem");
        SigningRequest::from_pem(pem.as_bytes()).expect("valid")
    }

    fn spec(username: &str, usages: &[&str]) -> SigningRequestSpec {
        SigningRequestSpec {
            username: username.to_owned(),
            groups: vec![GROUP.to_owned()],
            usages: usages.iter().map(|usage| (*usage).to_owned()).collect(),
            ..SigningRequestSpec::default()
        }
    }

    fn node(name: &str) -> Node {
        let address = |type_: &str, address: &str| NodeAddress {
            type_: type_.to_owned(),
            address: address.to_owned(),
        };
        let mut node = Node {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..Node::default()
        };
        node.status.addresses = vec![
            address("InternalIP", "10.0.0.7"),
            address("Hostname", "host-7"),
            address("InternalIP", "fd00:0::7"),
        ];
        node
    }

    #[test]
    fn a_client_asks_for_itself_or_for_a_new_node() {
        let asked = request("system:node:a", &[]);
        assert_eq!(client(&asked, &spec("system:node:a", &CLIENT)), Some("selfnodeclient"));
        assert_eq!(
            client(&asked, &spec("system:bootstrap:abcdef", &CLIENT)),
            Some("nodeclient")
        );
        assert_eq!(client(&asked, &spec("system:node:a", &SERVER)), None);
        assert_eq!(
            client(&request("system:node:a", &["a"]), &spec("system:node:a", &CLIENT)),
            None
        );
        assert_eq!(client(&request("admin", &[]), &spec("system:node:a", &CLIENT)), None);
    }

    #[test]
    fn a_server_gets_only_its_own_names() {
        let user = "system:node:a";
        for (names, username, fine) in [
            (&["a", "host-7", "10.0.0.7", "fd00::7"][..], user, true),
            (&["10.0.0.7"], user, true),
            (&[], user, false),
            (&["b"], user, false),
            (&["a", "10.0.0.8"], user, false),
            (&["a.example.org"], user, false),
            (&["a"], "system:node:b", false),
            (&["a"], "system:serviceaccount:default:x", false),
        ] {
            let outcome = server(&request(user, names), &spec(username, &SERVER), Some(&node("a")));
            assert_eq!(outcome.is_ok(), fine, "{names:?} {username}: {outcome:?}");
        }
        let asked = request(user, &["a"]);
        assert!(server(&asked, &spec(user, &SERVER), None).is_err());
        assert!(server(&asked, &spec(user, &SERVER), Some(&node("b"))).is_err());
        assert!(server(&asked, &spec(user, &CLIENT), Some(&node("a"))).is_err());
        let mut outsider = spec(user, &SERVER);
        outsider.groups.clear();
        assert!(server(&asked, &outsider, Some(&node("a"))).is_err());
    }
}
