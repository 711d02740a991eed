//! As much of URLs as probes and their redirects need. Pure.

use std::fmt::{self, Write};

use http::Uri;

/// An address that can be requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    https: bool,
    /// A name or an address, the latter without brackets.
    host: String,
    port: u16,
    /// Path and query, escaped.
    target: Uri,
}

impl Url {
    pub(super) fn new(https: bool, host: &str, port: u16, path: &str) -> Self {
        Self {
            https,
            host: host.to_owned(),
            port,
            target: target(path),
        }
    }

    pub(super) fn is_https(&self) -> bool {
        self.https
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn request_target(&self) -> Uri {
        self.target.clone()
    }

    /// For the `Host` header.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub(super) fn same_host(&self, other: &Self) -> bool {
        self.host.eq_ignore_ascii_case(&other.host)
    }

    /// Where a redirect from here leads; `None` when it leads to nothing we can request.
    pub(super) fn join(&self, location: &str) -> Option<Self> {
        let location = location.split('#').next().unwrap_or_default();
        if let Some((scheme, rest)) = scheme(location) {
            let https = match scheme.to_ascii_lowercase().as_str() {
                "http" => false,
                "https" => true,
                _ => return None,
            };
            return Self::from_authority(https, rest.strip_prefix("//")?);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::from_authority(self.https, rest);
        }
        let target = if location.starts_with('/') {
            without_dots(location)
        } else if location.is_empty() || location.starts_with('?') {
            format!("{}{location}", self.target.path())
        } else {
            let directory = self
                .target
                .path()
                .rsplit_once('/')
                .map_or("", |(directory, _)| directory);
            without_dots(&format!("{directory}/{location}"))
        };
        Some(Self {
            target: self::target(&target),
            ..self.clone()
        })
    }

    fn from_authority(https: bool, text: &str) -> Option<Self> {
        let end = text.find(['/', '?']).unwrap_or(text.len());
        let (authority, path) = text.split_at(end);
        let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
        let (host, port) = match address.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']')?;
                (host, rest.strip_prefix(':').unwrap_or(rest))
            }
            None => address.rsplit_once(':').unwrap_or((address, "")),
        };
        let port = match port {
            "" if https => 443,
            "" => 80,
            port => port.parse().ok()?,
        };
        (!host.is_empty()).then(|| Self::new(https, host, port, &without_dots(path)))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            if self.https { "https" } else { "http" },
            self.authority(),
            self.target
        )
    }
}

/// Whether a redirect names no host.
pub(super) fn is_relative(location: &str) -> bool {
    scheme(location).is_none() && !location.starts_with("//")
}

fn scheme(location: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = location.split_once(':')?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    is_scheme.then_some((scheme, rest))
}

/// A path with its query, as it goes into a request: rooted, and with everything escaped that must be.
fn target(path: &str) -> Uri {
    let path = path.split('#').next().unwrap_or_default();
    let mut escaped = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        escaped.push('/');
    }
    for byte in path.bytes() {
        if (b'!'..=b'~').contains(&byte) && !b"\"<>\\^`{|}".contains(&byte) {
            escaped.push(byte.into());
        } else {
            write!(escaped, "%{byte:02X}").expect("writing to a string succeeds");
        }
    }
    escaped.parse().unwrap_or_else(|_| Uri::from_static("/"))
}

/// A path whose `.` and `..` are resolved; its query is left alone.
fn without_dots(text: &str) -> String {
    let (path, query) = text.split_at(text.find('?').unwrap_or(text.len()));
    let mut parts: Vec<&str> = Vec::new();
    let mut pieces = path.split('/').skip(usize::from(path.starts_with('/'))).peekable();
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        match piece {
            "." | ".." => {
                if piece == ".." {
                    parts.pop();
                }
                if last {
                    parts.push("");
                }
            }
            piece => parts.push(piece),
        }
    }
    format!("/{}{query}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_become_request_targets() {
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("healthz", "/healthz"),
            ("/healthz?verbose=1&x=a b", "/healthz?verbose=1&x=a%20b"),
            ("/a%20b", "/a%20b"),
            ("/é#top", "/%C3%A9"),
            ("?q", "/?q"),
            ("/a{b}\"", "/a%7Bb%7D%22"),
        ] {
            assert_eq!(target(path).to_string(), expected, "{path}");
        }
    }

    #[test]
    fn redirects_lead_where_a_browser_would_go() {
        let url = Url::new(false, "10.0.0.1", 8080, "/a/b?x=1");
        for (location, expected) in [
            ("/login", Some("http://10.0.0.1:8080/login")),
            ("c", Some("http://10.0.0.1:8080/a/c")),
            ("./c/./d", Some("http://10.0.0.1:8080/a/c/d")),
            ("../c?y=../z", Some("http://10.0.0.1:8080/c?y=../z")),
            ("../../../c", Some("http://10.0.0.1:8080/c")),
            ("..", Some("http://10.0.0.1:8080/")),
            ("?y=2", Some("http://10.0.0.1:8080/a/b?y=2")),
            ("#top", Some("http://10.0.0.1:8080/a/b")),
            ("https://10.0.0.1/x", Some("https://10.0.0.1:443/x")),
            ("HTTP://example.com", Some("http://example.com:80/")),
            ("//user:pw@example.com:81/x?y", Some("http://example.com:81/x?y")),
            ("http://[2001:db8::1]:81/x", Some("http://[2001:db8::1]:81/x")),
            ("http://[2001:db8::1]", Some("http://[2001:db8::1]:80/")),
            ("ftp://example.com/", None),
            ("http:///x", None),
            ("http:x", None),
            ("http://example.com:99999/", None),
        ] {
            let joined = url.join(location).map(|url| url.to_string());
            assert_eq!(joined.as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn only_the_host_decides_whether_a_redirect_stays() {
        let url = Url::new(false, "pod.example", 80, "/");
        for (location, stays) in [
            ("/x", true),
            ("https://POD.example:8443/", true),
            ("http://example/", false),
        ] {
            assert_eq!(url.join(location).unwrap().same_host(&url), stays, "{location}");
        }
    }

    proptest! {
        #[test]
        fn any_location_is_joined_or_refused_without_a_panic(location in "\\PC{0,40}", path in "\\PC{0,20}") {
            let url = Url::new(true, "h", 1, &path);
            if let Some(joined) = url.join(&location) {
                prop_assert!(joined.request_target().path().starts_with('/'));
            }
        }
    }
}
