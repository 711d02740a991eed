//! What names and other words of Kubernetes objects may look like.

use std::net::IpAddr;

/// The outcome of a check: what the word must be, when it isn't.
pub type Check = Result<(), &'static str>;

fn must(holds: bool, detail: &'static str) -> Check {
    if holds { Ok(()) } else { Err(detail) }
}

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn edges(text: &str, of: impl Fn(u8) -> bool) -> bool {
    text.bytes().next().is_some_and(&of) && text.bytes().next_back().is_some_and(of)
}

/// A lowercase RFC 1123 label.
pub fn dns_label(name: &str) -> Check {
    must(name.len() <= 63, "must be no more than 63 characters")?;
    must(
        edges(name, lower) && name.bytes().all(|byte| lower(byte) || byte == b'-'),
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
         with an alphanumeric character (e.g. 'my-name' or '123-abc')",
    )
}

/// A lowercase RFC 1123 subdomain.
pub fn dns_subdomain(name: &str) -> Check {
    must(name.len() <= 253, "must be no more than 253 characters")?;
    must(
        name.split('.')
            .all(|part| edges(part, lower) && part.bytes().all(|byte| lower(byte) || byte == b'-')),
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
         and end with an alphanumeric character (e.g. 'example.com')",
    )
}

/// A key of labels and annotations, or the name of an extended resource.
pub fn qualified(key: &str) -> Check {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            must(
                dns_subdomain(prefix).is_ok(),
                "prefix part must be a lowercase RFC 1123 subdomain",
            )?;
            name
        }
        None => key,
    };
    must(name.len() <= 63, "name part must be no more than 63 characters")?;
    must(
        !name.is_empty() && word(name),
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
         alphanumeric character (e.g. 'MyName' or 'my.name' or '123-abc')",
    )
}

/// The value of a label.
pub fn label_value(value: &str) -> Check {
    must(value.len() <= 63, "must be no more than 63 characters")?;
    must(
        value.is_empty() || word(value),
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
         and end with an alphanumeric character (e.g. 'MyValue' or 'my_value' or '12345')",
    )
}

fn word(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_alphanumeric();
    edges(text, alphanumeric)
        && text
            .bytes()
            .all(|byte| alphanumeric(byte) || matches!(byte, b'-' | b'_' | b'.'))
}

/// The name of a port.
pub fn port_name(name: &str) -> Check {
    must(name.len() <= 15, "must be no more than 15 characters")?;
    must(
        edges(name, lower) && name.bytes().all(|byte| lower(byte) || byte == b'-'),
        "must contain only alphanumeric characters (a-z, 0-9), and hyphens (-), and may not begin or end with one",
    )?;
    must(
        name.bytes().any(|byte| byte.is_ascii_lowercase()),
        "must contain at least one letter (a-z)",
    )?;
    must(!name.contains("--"), "must not contain consecutive hyphens")
}

/// The name of an environment variable.
pub fn environment_variable(name: &str) -> Check {
    must(
        !name.is_empty() && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'='),
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

/// The name of a header.
pub fn http_header(name: &str) -> Check {
    must(
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)),
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name')",
    )
}

/// A kernel parameter, its parts divided by dots or slashes.
pub fn sysctl(name: &str) -> Check {
    must(name.len() <= 253, "must be no more than 253 characters")?;
    let part = |part: &str| edges(part, lower) && part.bytes().all(|byte| lower(byte) || matches!(byte, b'-' | b'_'));
    must(
        name.split(['.', '/']).all(part),
        "must be a kernel parameter such as net.ipv4.ip_forward",
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

fn no_backsteps(path: &str) -> Check {
    must(!path.split('/').any(|part| part == ".."), "must not contain '..'")
}
