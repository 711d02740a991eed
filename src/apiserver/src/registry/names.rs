//! What objects of each kind may be called, and the names that the server makes up.

use bosun_api::names::{self, Check};

/// Of a generated name, what comes before the suffix is cut to this.
const MAX_BASE: usize = 63 - SUFFIX;
const SUFFIX: usize = 5;
/// Without vowels and what looks like another, as upstream.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name that begins with `base`, cut to what a label may be.
pub(super) fn generate(base: &str) -> String {
    let end = (0..=base.len().min(MAX_BASE))
        .rev()
        .find(|&end| base.is_char_boundary(end));
    let mut name = base[..end.unwrap_or(0)].to_owned();
    name.extend((0..SUFFIX).map(|_| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())])));
    name
}

/// Whether an object of this kind may be called `name`.
pub(super) fn check(group: &str, kind: &str, name: &str) -> Check {
    match (group, kind) {
        ("", "Namespace") => names::dns_label(name),
        ("", "Service") => dns_1035_label(name),
        ("rbac.authorization.k8s.io", _) => path_segment(name),
        ("networking.k8s.io", "IPAddress") => canonical_ip(name),
        ("certificates.k8s.io", "ClusterTrustBundle") => match name.rsplit_once(':') {
            Some((_, last)) => names::dns_subdomain(last),
            None => names::dns_subdomain(name),
        },
        _ => names::dns_subdomain(name),
    }
}

/// Whether a generated name may begin so.
pub(super) fn check_base(group: &str, kind: &str, base: &str) -> Check {
    // What follows a trailing dash or dot is a letter or digit.
    check(group, kind, &format!("{}b", base.trim_end_matches(['-', '.'])))
}

fn dns_1035_label(name: &str) -> Check {
    names::dns_label(name)?;
    if name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return Ok(());
    }
    Err(
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, \
         and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
         '[a-z]([-a-z0-9]*[a-z0-9])?')",
    )
}

fn path_segment(name: &str) -> Check {
    match name {
        "." => Err("may not be '.'"),
        ".." => Err("may not be '..'"),
        _ if name.contains('/') => Err("may not contain '/'"),
        _ if name.contains('%') => Err("may not contain '%'"),
        _ => Ok(()),
    }
}

fn canonical_ip(name: &str) -> Check {
    match name.parse::<std::net::IpAddr>() {
        Ok(ip) if ip.to_string() == name => Ok(()),
        Ok(_) => Err("must be in canonical form"),
        Err(_) => Err("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_their_kinds_want() {
        let table = [
            ("", "Pod", "a.b-c", true),
            ("", "Pod", "A", false),
            ("", "Pod", "", false),
            ("", "Namespace", "a.b", false),
            ("", "Service", "1a", false),
            ("", "Service", "a1", true),
            ("rbac.authorization.k8s.io", "ClusterRole", "system:node Y", true),
            ("rbac.authorization.k8s.io", "Role", "a/b", false),
            ("rbac.authorization.k8s.io", "Role", "..", false),
            ("networking.k8s.io", "IPAddress", "10.0.0.1", true),
            ("networking.k8s.io", "IPAddress", "fd00:0::1", false),
            ("certificates.k8s.io", "ClusterTrustBundle", "a.b:c:d", true),
            ("example.com", "Thing", "x.y", true),
        ];
        for (group, kind, name, expected) in table {
            assert_eq!(check(group, kind, name).is_ok(), expected, "{kind} {name}");
        }
        assert!(check_base("", "Pod", "web-").is_ok());
        assert!(check_base("", "Pod", "Web-").is_err());
    }

    #[test]
    fn a_made_up_name_is_five_signs_longer_and_still_a_label() {
        for (base, length) in [("web-", 9), (&"a".repeat(100), 63), ("é".repeat(60).as_str(), 63)] {
            let name = generate(base);
            assert_eq!(name.len(), length);
            assert!(base.starts_with(&name[..name.len() - SUFFIX]));
            assert!(name[name.len() - SUFFIX..].bytes().all(|byte| ALPHABET.contains(&byte)));
        }
        assert_ne!(generate("a"), generate("a"));
    }
}
