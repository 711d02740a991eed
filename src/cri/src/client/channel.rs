//! The connection: one HTTP/2 connection over a Unix socket, made when needed and made again after a break.

use std::{io, path::PathBuf, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// Why an endpoint can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("runtime endpoint {endpoint:?} is not of the form unix:///path/to/runtime.sock")]
pub struct EndpointError {
    /// As given.
    pub endpoint: String,
}

/// What one stream may have in flight: lists of many containers should not stop to ask for more.
const STREAM_WINDOW: u32 = 1 << 20;

/// What all streams together may have in flight. Far above one stream's, so that an answer nobody has read yet
/// does not hold up the others.
const CONNECTION_WINDOW: u32 = 32 << 20;

/// A local connection is made at once or not at all; longer means the runtime accepts nothing.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// The socket's path.
pub(super) fn socket_path(endpoint: &str) -> Result<PathBuf, EndpointError> {
    match endpoint.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') && path.len() > 1 => Ok(path.into()),
        _ => Err(EndpointError {
            endpoint: endpoint.to_owned(),
        }),
    }
}

/// A channel that connects on first use.
pub(super) fn open(endpoint: &str) -> Result<Channel, EndpointError> {
    let path = socket_path(endpoint)?;
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    // The address only fills the `:authority` header; the connector knows where to go.
    Ok(Endpoint::from_static("http://localhost")
        .connect_timeout(CONNECT_DEADLINE)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_with_connector_lazy(connector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_unix_url_with_an_absolute_path() {
        assert_eq!(
            socket_path("unix:///run/containerd/containerd.sock"),
            Ok(PathBuf::from("/run/containerd/containerd.sock"))
        );
        for wrong in [
            "",
            "/run/c.sock",
            "unix://",
            "unix:///",
            "unix://run/c.sock",
            "tcp://127.0.0.1:1",
        ] {
            let error = socket_path(wrong).expect_err(wrong);
            assert!(error.to_string().contains("unix:///path/to/runtime.sock"), "{error}");
        }
    }
}
