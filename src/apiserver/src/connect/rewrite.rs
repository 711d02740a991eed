//! Requests and answers as they are passed on: without what is between two neighbours only, and with places as the client
//! knows them. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

/// Headers between neighbours (RFC 9110, section 7.6.1).
const HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

/// Headers of a message without those that are between neighbours only, `Upgrade` among them.
pub fn without_hop(headers: &HeaderMap) -> HeaderMap {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let mut passed = headers.clone();
    for name in HOP.iter().chain(&listed).chain([&header::UPGRADE]) {
        passed.remove(name);
    }
    passed
}

/// A request's headers as they are passed on. Who asks is nothing that those behind a proxy may learn: they could pretend
/// to be them.
pub fn request(headers: &HeaderMap, from: Option<&str>, uri: &Uri) -> HeaderMap {
    let mut passed = without_hop(headers);
    let secrets: Vec<HeaderName> = passed
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-") || name.as_str().starts_with("x-remote-"))
        .cloned()
        .chain([header::AUTHORIZATION])
        .collect();
    for name in secrets {
        passed.remove(name);
    }
    let mut put = |name: &'static str, value: Option<String>| {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            passed.insert(name, value);
        }
    };
    let before = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    put(
        "x-forwarded-for",
        from.map(|from| before.map_or_else(|| from.to_owned(), |before| format!("{before}, {from}"))),
    );
    put("x-forwarded-uri", Some(uri.path().to_owned()));
    put("x-forwarded-proto", Some("https".to_owned()));
    put(
        "x-forwarded-host",
        headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .map(str::to_owned),
    );
    passed.remove(header::HOST);
    passed
}

/// A redirect's place as the client must ask for it: beneath `prefix`, unless it leads to another host. It is never
/// followed here.
pub fn location(given: &str, host: &str, prefix: &str) -> Option<String> {
    let uri: Uri = given.parse().ok()?;
    if uri.authority().is_some_and(|authority| authority.as_str() != host) {
        return None;
    }
    let path = uri.path();
    // What is relative stays so, and what names us already is right.
    if !path.starts_with('/') || path.starts_with(prefix) {
        return None;
    }
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    Some(format!("{}{path}{query}", prefix.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_is_between_neighbours_and_who_asks_is_not_passed_on() {
        let given = headers(&[
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("authorization", "Bearer secret"),
            ("impersonate-user", "admin"),
            ("x-remote-group", "system:masters"),
            ("accept", "text/html"),
            ("host", "api:6443"),
            ("x-forwarded-for", "192.0.2.1"),
        ]);
        let uri = "/api/v1/namespaces/a/pods/b/proxy/c?d=e".parse().unwrap();
        let expected = headers(&[
            ("accept", "text/html"),
            ("x-forwarded-for", "192.0.2.1, 192.0.2.7"),
            ("x-forwarded-host", "api:6443"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-uri", "/api/v1/namespaces/a/pods/b/proxy/c"),
        ]);
        assert_eq!(request(&given, Some("192.0.2.7"), &uri), expected);
    }

    #[test]
    fn redirects_lead_back_through_the_proxy() {
        let prefix = "/api/v1/namespaces/a/pods/b/proxy/";
        for (given, expected) in [
            ("/login?next=x", Some("/api/v1/namespaces/a/pods/b/proxy/login?next=x")),
            (
                "http://10.1.0.5:80/login",
                Some("/api/v1/namespaces/a/pods/b/proxy/login"),
            ),
            ("https://elsewhere/login", None),
            ("/api/v1/namespaces/a/pods/b/proxy/login", None),
            ("", None),
        ] {
            assert_eq!(location(given, "10.1.0.5:80", prefix).as_deref(), expected, "{given}");
        }
    }
}
