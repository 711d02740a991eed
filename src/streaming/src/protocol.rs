//! What is spoken over a connection that was upgraded, and how both sides come to agree on it. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// How a client of a SPDY connection says which protocols it speaks, and the server which it chose.
pub const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// Chosen by the server of a port-forward over SPDY.
pub const PORT_FORWARD: &str = "portforward.k8s.io";
/// A port-forward's SPDY connection within a WebSocket one (KEP-4006).
pub const PORT_FORWARD_TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// A remote command over SPDY, the newest first.
pub const COMMAND_SPDY: [&str; 4] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

/// To what a client wants its connection upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// `SPDY/3.1`
    Spdy,
    /// `websocket`
    WebSocket,
}

impl Upgrade {
    /// What a request wants, if it is one of these.
    pub fn wanted(headers: &HeaderMap) -> Option<Self> {
        let connection = words(headers, &header::CONNECTION);
        if !connection.iter().any(|word| word.eq_ignore_ascii_case("upgrade")) {
            return None;
        }
        words(headers, &header::UPGRADE)
            .iter()
            .find_map(|word| match &*word.to_ascii_lowercase() {
                "spdy/3.1" => Some(Self::Spdy),
                "websocket" => Some(Self::WebSocket),
                _ => None,
            })
    }
}

/// The protocols a client names, in its order of preference; over WebSocket none at all stands for `""`.
pub fn offered(headers: &HeaderMap, upgrade: Upgrade) -> Vec<&str> {
    match upgrade {
        Upgrade::Spdy => words(headers, &STREAM_PROTOCOL),
        Upgrade::WebSocket => {
            let offered = words(headers, &header::SEC_WEBSOCKET_PROTOCOL);
            if offered.is_empty() { vec![""] } else { offered }
        }
    }
}

/// The first protocol a client offers that is also served.
pub fn agreed<'a>(offered: &[&str], served: &[&'a str]) -> Option<&'a str> {
    let both = |offer: &&str| served.iter().copied().find(|one| one == offer);
    offered.iter().find_map(both)
}

/// The words of a header that may be given several times, and several at a time.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value: &HeaderValue| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn an_upgrade_is_wanted_where_both_headers_say_so() {
        let table: [(&[_], _); 5] = [
            (
                &[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")],
                Some(Upgrade::Spdy),
            ),
            (
                &[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")],
                Some(Upgrade::WebSocket),
            ),
            (&[("connection", "upgrade"), ("upgrade", "h2c")], None),
            (&[("upgrade", "websocket")], None),
            (&[], None),
        ];
        for (pairs, expected) in table {
            assert_eq!(Upgrade::wanted(&headers(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn the_clients_first_choice_that_is_served_is_taken() {
        let several = headers(&[
            ("x-stream-protocol-version", "v5.channel.k8s.io"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("x-stream-protocol-version", "channel.k8s.io"),
        ]);
        let offers = offered(&several, Upgrade::Spdy);
        assert_eq!(agreed(&offers, &COMMAND_SPDY), Some("v4.channel.k8s.io"));
        let listed = headers(&[("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io")]);
        assert_eq!(
            offered(&listed, Upgrade::WebSocket),
            ["v5.channel.k8s.io", "v4.channel.k8s.io"]
        );
        assert_eq!(offered(&HeaderMap::new(), Upgrade::WebSocket), [""]);
        assert_eq!(agreed(&["v9"], &COMMAND_SPDY), None);
    }
}
