//! What names and other words of Kubernetes objects may look like, and upstream's words for when they don't.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The outcome of a check: what the word must be, when it isn't.
pub type Check = Result<(), &'static str>;

/// A check of a word.
pub type Rule = fn(&str) -> Check;

const MAX_15: &str = "must be no more than 15 bytes";
const MAX_63: &str = "must be no more than 63 bytes";
const MAX_253: &str = "must be no more than 253 bytes";

fn must(holds: bool, detail: &'static str) -> Check {
    if holds { Ok(()) } else { Err(detail) }
}

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn edges(text: &str, of: impl Fn(u8) -> bool) -> bool {
    text.bytes().next().is_some_and(&of) && text.bytes().next_back().is_some_and(of)
}

fn is_label(text: &str) -> bool {
    edges(text, lower) && text.bytes().all(|byte| lower(byte) || byte == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// A lowercase RFC 1123 label.
pub fn dns_label(name: &str) -> Check {
    must(name.len() <= 63, MAX_63)?;
    must(is_label(name) || !is_subdomain(name), "must not contain dots")?;
    must(
        is_label(name),
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
         with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
    )
}

/// An RFC 1035 label: the name of a Service.
pub fn dns_1035_label(name: &str) -> Check {
    must(name.len() <= 63, MAX_63)?;
    must(
        is_label(name) && name.as_bytes()[0].is_ascii_lowercase(),
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
         character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation \
         is '[a-z]([-a-z0-9]*[a-z0-9])?')",
    )
}

/// A lowercase RFC 1123 subdomain.
pub fn dns_subdomain(name: &str) -> Check {
    must(name.len() <= 253, MAX_253)?;
    must(
        is_subdomain(name),
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
         and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
    )
}

/// A subdomain that may have underscores: a search domain.
pub fn search_domain(name: &str) -> Check {
    must(name.len() <= 253, MAX_253)?;
    let label = |label: &str| {
        let label = label.strip_prefix('_').unwrap_or(label);
        edges(label, lower) && label.bytes().all(|byte| lower(byte) || matches!(byte, b'-' | b'_'))
    };
    must(
        name.split('.').all(label),
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must \
         start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
    )
}

/// `*.` and a subdomain: a host of an Ingress.
pub fn wildcard_subdomain(name: &str) -> Check {
    must(name.len() <= 253, MAX_253)?;
    must(
        name.strip_prefix("*.").is_some_and(is_subdomain),
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
         lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. \
         '*.example.com', regex used for validation is \
         '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
    )
}

/// Two or more labels, with or without a dot at the end: a host name of an `EndpointSlice`.
pub fn domain_name(name: &str) -> Check {
    let name = name.strip_suffix('.').unwrap_or(name);
    dns_subdomain(name)?;
    must(
        name.contains('.'),
        "should be a domain with at least two segments separated by dots",
    )?;
    name.split('.').try_for_each(dns_label)
}

/// A key of labels and annotations, or the name of an extended resource.
pub fn qualified(key: &str) -> Check {
    let name = match key.split_once('/') {
        Some((_, name)) if name.contains('/') => {
            return Err(
                "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                 with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                 validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and \
                 '/' (e.g. 'example.com/MyName')",
            );
        }
        Some(("", _)) => return Err("prefix part must be non-empty"),
        Some((prefix, name)) => {
            must(prefix.len() <= 253, "prefix part must be no more than 253 bytes")?;
            must(
                is_subdomain(prefix),
                "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
                 or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
                 validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            )?;
            name
        }
        None => key,
    };
    must(!name.is_empty(), "name part must be non-empty")?;
    must(name.len() <= 63, "name part must be no more than 63 bytes")?;
    must(
        word(name),
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
         alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
    )
}

/// A [`qualified`] name in any case: a key of annotations.
pub fn annotation_key(key: &str) -> Check {
    qualified(&key.to_lowercase())
}

/// The value of a label.
pub fn label_value(value: &str) -> Check {
    must(value.len() <= 63, MAX_63)?;
    must(
        value.is_empty() || word(value),
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
         and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
         validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
    )
}

fn word(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_alphanumeric();
    edges(text, alphanumeric)
        && text
            .bytes()
            .all(|byte| alphanumeric(byte) || matches!(byte, b'-' | b'_' | b'.'))
}

/// What may stand between two slashes of a request's path: the name of a role.
pub fn path_segment(name: &str) -> Check {
    must(name != ".", "may not be '.'")?;
    must(name != "..", "may not be '..'")?;
    path_segment_prefix(name)
}

/// The beginning of a [`path_segment`].
pub fn path_segment_prefix(name: &str) -> Check {
    must(!name.contains('/'), "may not contain '/'")?;
    must(!name.contains('%'), "may not contain '%'")
}

/// A key of a `ConfigMap` or Secret, which is the name of a file too.
pub fn config_key(key: &str) -> Check {
    must(key.len() <= 253, MAX_253)?;
    must(
        !key.is_empty()
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')),
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
         'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
    )?;
    must(key != ".", "must not be '.'")?;
    must(key != "..", "must not be '..'")?;
    must(!key.starts_with(".."), "must not start with '..'")
}

/// `50%`.
pub fn percent(text: &str) -> Check {
    let digits = text.strip_suffix('%').unwrap_or_default();
    must(
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used \
         for validation is '[0-9]+%')",
    )
}

/// The name of a port.
pub fn port_name(name: &str) -> Check {
    must(name.len() <= 15, MAX_15)?;
    must(
        !name.is_empty() && name.bytes().all(|byte| lower(byte) || byte == b'-'),
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    )?;
    must(
        name.bytes().any(|byte| byte.is_ascii_lowercase()),
        "must contain at least one letter (a-z)",
    )?;
    must(!name.contains("--"), "must not contain consecutive hyphens")?;
    must(edges(name, lower), "must not begin or end with a hyphen")
}

/// The name of an environment variable.
pub fn environment_variable(name: &str) -> Check {
    must(!name.is_empty(), "environment variable name must be non-empty")?;
    must(
        name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'='),
        "a valid environment variable name must consist only of printable ASCII characters other than '='",
    )
}

/// An address of either family.
pub fn ip_address(text: &str) -> Check {
    must(
        text.parse::<IpAddr>().is_ok(),
        "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    )
}

/// An IPv4 address.
pub fn ipv4_address(text: &str) -> Check {
    must(text.parse::<Ipv4Addr>().is_ok(), "must be an IPv4 address")
}

/// An IPv6 address.
pub fn ipv6_address(text: &str) -> Check {
    must(text.parse::<Ipv6Addr>().is_ok(), "must be an IPv6 address")
}

/// An address that hosts elsewhere can reach: an endpoint's.
pub fn ordinary_address(text: &str) -> Check {
    let Ok(ip) = text.parse::<IpAddr>() else {
        return Err("must be a valid IP address");
    };
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    must(
        !ip.is_unspecified(),
        if ip.is_ipv4() {
            "may not be unspecified (0.0.0.0)"
        } else {
            "may not be unspecified (::)"
        },
    )?;
    must(
        !ip.is_loopback(),
        "may not be in the loopback range (127.0.0.0/8, ::1/128)",
    )?;
    must(
        !link_local,
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
    )?;
    must(
        !link_local_multicast,
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
    )
}

/// An address and the length of a prefix.
pub fn cidr(text: &str) -> Check {
    must(
        split_cidr(text).is_some(),
        "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
    )
}

/// The address and the prefix's length of a [`cidr`].
pub fn split_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let plain = length == "0" || !length.starts_with(['0', '+']);
    let length: u8 = length.parse().ok().filter(|_| plain)?;
    (length <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, length))
}

/// `example.com/controller`.
pub fn domain_prefixed_path(text: &str) -> Check {
    let Some((host, path)) = text
        .split_once('/')
        .filter(|(host, path)| !host.is_empty() && !path.is_empty())
    else {
        return Err("must be a domain-prefixed path (such as \"acme.io/foo\")");
    };
    dns_subdomain(host)?;
    must(
        path.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte)),
        "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
    )
}

/// The name of a header.
pub fn http_header(name: &str) -> Check {
    must(
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for \
         validation is '[-A-Za-z0-9]+')",
    )
}

/// A kernel parameter, its parts divided by dots or slashes.
pub fn sysctl(name: &str) -> Check {
    let part = |part: &str| edges(part, lower) && part.bytes().all(|byte| lower(byte) || matches!(byte, b'-' | b'_'));
    must(
        name.len() <= 253 && name.split(['.', '/']).all(part),
        "must have at most 253 characters and match regex \
         ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
    )
}

/// A path inside a container.
pub fn absolute_path(path: &str) -> Check {
    must(path.starts_with('/'), "must be an absolute path")?;
    no_backsteps(path)?;
    must(!path.contains('\0'), "must not contain a NUL")
}

/// A path below some directory.
pub fn local_path(path: &str) -> Check {
    must(!path.starts_with('/'), "must be a relative path")?;
    no_backsteps(path)?;
    must(!path.contains('\0'), "must not contain a NUL")
}

/// A [`local_path`] that leaves `..data` and its like to the one who writes the volume.
pub fn local_file(path: &str) -> Check {
    local_path(path)?;
    must(!path.starts_with(".."), "must not start with '..'")
}

/// A path that doesn't climb.
pub fn no_backsteps(path: &str) -> Check {
    must(!path.split('/').any(|part| part == ".."), "must not contain '..'")
}

/// An RFC 4122 identifier in its usual form.
pub fn uuid(text: &str) -> Check {
    let dashes = [8, 13, 18, 23];
    must(
        text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| {
                if dashes.contains(&at) {
                    byte == b'-'
                } else {
                    byte.is_ascii_hexdigit()
                }
            }),
        "must be a lowercase UUID in RFC 4122 format",
    )
}
