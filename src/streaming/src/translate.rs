//! The way of a client's session through a server to the one that has the command or the port.
//!
//! ```text
//!   Plan::of_…(headers) ─▶ plan.ask(&mut request) ─▶ upgrade::dial ─▶ plan.answer(…) ─▶ plan.run(client, server)
//! ```
//!
//! The server behind is asked first: what it refuses is answered as plain HTTP, before the client's connection is
//! upgraded.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, response::Parts};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    Error,
    command::{self, Streams, websocket::Protocol},
    forward,
    protocol::{self, COMMAND_SPDY, PORT_FORWARD, PORT_FORWARD_TUNNEL, STREAM_PROTOCOL, Upgrade},
    session,
    spdy::{self, Role},
    tunnel::Tunnel,
    websocket::{self, Side},
};

/// How a client's session is carried on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// As it is: the server behind speaks the client's protocol.
    Pass,
    /// A command over WebSocket, carried on over SPDY.
    Command {
        /// The protocol agreed on.
        name: &'static str,
        /// Which channels there are.
        streams: Streams,
    },
    /// A port-forward's SPDY within WebSocket, carried on without that.
    Tunnel,
    /// A port-forward over WebSocket channels, carried on over SPDY.
    Ports {
        /// The protocol agreed on.
        name: &'static str,
        /// To which ports.
        ports: Vec<u16>,
    },
}

/// Why a client can't be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It asks for no upgrade.
    #[error("Upgrade request required")]
    NoUpgrade,
    /// It speaks nothing that is spoken here.
    #[error("unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {served:?}")]
    Protocol {
        /// What it speaks.
        offered: Vec<String>,
        /// What is spoken here.
        served: Vec<&'static str>,
    },
    /// Its WebSocket handshake is none.
    #[error("unable to upgrade: the WebSocket handshake lacks its key, or is of another version than 13")]
    Handshake,
    /// It asks for nothing, or for what there is not.
    #[error("{0}")]
    Request(String),
}

impl Refusal {
    /// The HTTP status that goes with it.
    pub fn code(&self) -> StatusCode {
        match self {
            Self::Protocol { .. } => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// What a command's channels are, by the request's parameters.
pub fn streams(on: impl Fn(&str) -> bool) -> Result<Streams, Refusal> {
    let streams = Streams {
        stdin: on("stdin") || on("input"),
        stdout: on("stdout") || on("output"),
        stderr: on("stderr") || on("error"),
        tty: on("tty"),
    };
    let streams = Streams {
        // With a terminal there is but one output.
        stderr: streams.stderr && !streams.tty,
        ..streams
    };
    if streams.stdin || streams.stdout || streams.stderr {
        Ok(streams)
    } else {
        Err(Refusal::Request(
            "you must specify at least 1 of stdin, stdout, stderr".to_owned(),
        ))
    }
}

impl Plan {
    /// For a command.
    pub fn of_command(headers: &HeaderMap, streams: Streams) -> Result<Self, Refusal> {
        match Upgrade::wanted(headers).ok_or(Refusal::NoUpgrade)? {
            Upgrade::Spdy => Ok(Self::Pass),
            Upgrade::WebSocket => {
                let name = agreed(headers, &command::websocket::PROTOCOLS)?;
                Ok(Self::Command { name, streams })
            }
        }
    }

    /// For a port-forward; `ports` are told by who speaks in channels only.
    pub fn of_forward<'a>(headers: &HeaderMap, ports: impl Iterator<Item = &'a str>) -> Result<Self, Refusal> {
        match Upgrade::wanted(headers).ok_or(Refusal::NoUpgrade)? {
            Upgrade::Spdy => Ok(Self::Pass),
            Upgrade::WebSocket => {
                let [channels, base64, none] = forward::websocket::PROTOCOLS;
                let name = agreed(headers, &[PORT_FORWARD_TUNNEL, channels, base64, none])?;
                if name == PORT_FORWARD_TUNNEL {
                    return Ok(Self::Tunnel);
                }
                let ports = forward::ports(ports).map_err(Refusal::Request)?;
                Ok(Self::Ports { name, ports })
            }
        }
    }

    /// Makes a request to the server behind ask for what the client (or the plan) needs there.
    pub fn ask(&self, client: &HeaderMap, request: &mut Request<()>) {
        let headers = request.headers_mut();
        let mut spdy = |protocols: &[&'static str]| {
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            for protocol in protocols {
                headers.append(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
            }
        };
        match self {
            Self::Pass => {
                for name in HANDSHAKE {
                    headers.remove(&name);
                    for value in client.get_all(&name) {
                        headers.append(name.clone(), value.clone());
                    }
                }
            }
            Self::Command { .. } => spdy(&COMMAND_SPDY),
            Self::Tunnel | Self::Ports { .. } => spdy(&[PORT_FORWARD]),
        }
    }

    /// What the client is answered, once the server behind has agreed.
    pub fn answer(&self, client: &HeaderMap, server: &Parts) -> Result<Response<()>, Refusal> {
        let name = match self {
            Self::Pass => {
                let mut response = Response::new(());
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                for name in HANDSHAKE {
                    for value in server.headers.get_all(&name) {
                        response.headers_mut().append(name.clone(), value.clone());
                    }
                }
                return Ok(response);
            }
            Self::Command { name, .. } | Self::Ports { name, .. } => name,
            Self::Tunnel => PORT_FORWARD_TUNNEL,
        };
        websocket::agree(client, name).ok_or(Refusal::Handshake)
    }

    /// The session between both upgraded connections, until it is over.
    pub async fn run<C, S>(self, client: C, server: S, idle: Duration) -> Result<(), Error>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self {
            Self::Pass => session::copy(client, server, idle).await,
            Self::Tunnel => {
                let socket = websocket::over(client, Side::Server).await;
                session::copy(Tunnel::new(socket), server, idle).await
            }
            Self::Command { name, streams } => {
                let protocol = Protocol::named(name).ok_or(Error::Protocol("an unknown protocol"))?;
                let socket = websocket::over(client, Side::Server).await;
                let (reader, writer, driver) = spdy::connect(server, Role::Client);
                let work = async {
                    let behind = command::spdy::open(reader, writer, streams).await?;
                    let client = command::websocket::serve(socket, protocol, streams).await?;
                    session::relay(client, behind, idle).await
                };
                driver.during(work).await
            }
            Self::Ports { name, ports } => {
                let form = forward::websocket::form(name);
                let socket = websocket::over(client, Side::Server).await;
                let (reader, writer, driver) = spdy::connect(server, Role::Client);
                let work = async {
                    let client = forward::websocket::serve(socket, form, &ports).await?;
                    let behind = forward::spdy::open(reader, writer, &ports).await?;
                    session::relay(client, behind, idle).await
                };
                driver.during(work).await
            }
        }
    }
}

/// The headers of an upgrade, which are passed on although they are a hop's own.
const HANDSHAKE: [HeaderName; 8] = [
    header::CONNECTION,
    header::UPGRADE,
    STREAM_PROTOCOL,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_ACCEPT,
];

fn agreed(headers: &HeaderMap, served: &[&'static str]) -> Result<&'static str, Refusal> {
    if websocket::agree(headers, "").is_none() {
        return Err(Refusal::Handshake);
    }
    let offered = protocol::offered(headers, Upgrade::WebSocket);
    protocol::agreed(&offered, served).ok_or_else(|| Refusal::Protocol {
        offered: offered.iter().map(|&word| word.to_owned()).collect(),
        served: served.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn websocket(protocols: &[&str]) -> HeaderMap {
        let mut request = Request::new(());
        websocket::ask(&mut request, protocols);
        if protocols.is_empty() {
            request.headers_mut().remove(header::SEC_WEBSOCKET_PROTOCOL);
        }
        request.into_parts().0.headers
    }

    fn spdy() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        headers.insert(STREAM_PROTOCOL, HeaderValue::from_static("v4.channel.k8s.io"));
        headers
    }

    #[test]
    fn spdy_is_passed_on_and_websocket_translated() {
        let streams = Streams {
            stdout: true,
            ..Streams::default()
        };
        let command = |headers: &HeaderMap| Plan::of_command(headers, streams);
        assert_eq!(command(&spdy()), Ok(Plan::Pass));
        let named = |name| Ok(Plan::Command { name, streams });
        let newest = websocket(&["v5.channel.k8s.io", "v4.channel.k8s.io"]);
        assert_eq!(command(&newest), named("v5.channel.k8s.io"));
        assert_eq!(command(&websocket(&[])), named(""));
        assert_eq!(command(&HeaderMap::new()), Err(Refusal::NoUpgrade));
        let refusal = command(&websocket(&["v9.channel.k8s.io"])).unwrap_err();
        assert_eq!(refusal.code(), StatusCode::FORBIDDEN);

        let forward = |headers: &HeaderMap, ports: &[&'static str]| Plan::of_forward(headers, ports.iter().copied());
        assert_eq!(forward(&websocket(&[PORT_FORWARD_TUNNEL]), &[]), Ok(Plan::Tunnel));
        let ports = Plan::Ports {
            name: "v4.channel.k8s.io",
            ports: vec![80],
        };
        assert_eq!(forward(&websocket(&["v4.channel.k8s.io"]), &["80"]), Ok(ports));
        assert!(forward(&websocket(&["v4.channel.k8s.io"]), &[]).is_err());
    }

    #[test]
    fn a_command_needs_a_stream_and_a_terminal_has_one_output() {
        assert!(streams(|_| false).is_err());
        assert!(streams(|name| name == "tty").is_err());
        let all = streams(|_| true).unwrap();
        assert!(all.stdin && all.stdout && all.tty && !all.stderr);
        // The names of the parameters before API servers sent others.
        assert!(streams(|name| name == "output").unwrap().stdout);
    }

    #[test]
    fn a_handshake_that_is_passed_on_keeps_its_headers_and_no_others() {
        let mut client = spdy();
        client.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer secret"));
        let mut request = Request::new(());
        Plan::Pass.ask(&client, &mut request);
        assert_eq!(request.headers(), &spdy());
        let mut translated = Request::new(());
        Plan::Tunnel.ask(&client, &mut translated);
        assert_eq!(translated.headers()[STREAM_PROTOCOL], PORT_FORWARD);
    }
}
