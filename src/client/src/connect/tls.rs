//! A connection, from the server's name to the end of the TLS handshake. What fails on the way is told by its step.

use std::{
    fs,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bosun_pki::tls::AnyServer;
use http::{Uri, uri::Scheme};
use hyper_util::{
    client::legacy::connect::{
        Connected, Connection, HttpConnector,
        dns::{GaiResolver, Name},
    },
    rt::TokioIo,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    sign::SingleCertAndKey,
};
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower::Service;

use super::{
    Options,
    access::{Access, Trust},
    kubeconfig::AccessError,
};

/// A server that is gone is noticed by TCP too: that is what watches over HTTP/1.1 have.
const KEEPALIVE: Duration = Duration::from_secs(15);
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Where systems keep the authorities they trust, the first that is there.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The server's name has no address.
    #[error("resolving {host}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// There is no TCP connection.
    #[error("connecting to {host}")]
    Tcp {
        /// Host and port.
        host: String,
        /// What the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The handshake failed.
    #[error("securing the connection to {host}")]
    Tls {
        /// Host and port.
        host: String,
        /// What TLS said, a [`rustls::Error`] inside.
        source: io::Error,
    },
    /// It took too long.
    #[error("no connection to {host} within {} s", .after.as_secs())]
    Deadline {
        /// Host and port.
        host: String,
        /// How long was waited.
        after: Duration,
    },
}

/// Makes connections by one access.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector<Resolver>,
    tls: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    limit: Duration,
    grace: Duration,
    retired: CancellationToken,
}

impl Connector {
    pub(super) fn new(
        access: &Access,
        http2: bool,
        options: &Options,
        retired: CancellationToken,
    ) -> Result<Self, AccessError> {
        let mut tcp = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE / 3));
        tcp.set_keepalive_retries(Some(3));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        let named = access
            .server_name
            .as_ref()
            .or(access.server.host().map(str::to_owned).as_ref())
            .map(|name| server_name(name))
            .transpose()?;
        Ok(Self {
            tcp,
            tls: Arc::new(config(access, http2)?),
            server_name: named,
            limit: options.connect,
            grace: options.grace,
            retired,
        })
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, AccessError> {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned()).map_err(|_| AccessError::ServerName(name.to_owned()))
}

fn config(access: &Access, http2: bool) -> Result<ClientConfig, AccessError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(AccessError::Tls)?;
    let builder = match &access.trust {
        Trust::Authorities(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots.add(authority.clone()).map_err(AccessError::Tls)?;
            }
            builder.with_root_certificates(roots)
        }
        Trust::System => builder.with_root_certificates(system_authorities()?),
        Trust::Anybody => builder.dangerous().with_custom_certificate_verifier(AnyServer::new()),
    };
    let mut config = match &access.identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified()))),
        None => builder.with_no_client_auth(),
    };
    let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn system_authorities() -> Result<RootCertStore, AccessError> {
    let mut roots = RootCertStore::empty();
    let own = std::env::var("SSL_CERT_FILE").ok();
    let places = own.as_deref().into_iter().chain(SYSTEM_AUTHORITIES);
    if let Some(pem) = places.map(fs::read).find_map(Result::ok) {
        // What is no certificate there is not ours to complain about.
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    }
    if roots.is_empty() {
        return Err(AccessError::NoAuthorities);
    }
    Ok(roots)
}

impl Service<Uri> for Connector {
    type Response = Wire;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Wire, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        // The inner one is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let mut this = self.clone();
        Box::pin(async move {
            let host = uri.authority().map(ToString::to_string).unwrap_or_default();
            match timeout(this.limit, this.connect(uri, &host)).await {
                Ok(connected) => connected,
                Err(_) => Err(ConnectError::Deadline {
                    host,
                    after: this.limit,
                }),
            }
        })
    }
}

impl Connector {
    async fn connect(&mut self, uri: Uri, host: &str) -> Result<Wire, ConnectError> {
        let secure = uri.scheme() != Some(&Scheme::HTTP);
        let tcp = self.tcp.call(uri).await.map_err(|error| tcp_error(host, error))?;
        let stream = match (&self.server_name, secure) {
            (Some(name), true) => {
                let secured = TlsConnector::from(self.tls.clone())
                    .connect(name.clone(), tcp.into_inner())
                    .await
                    .map_err(|source| ConnectError::Tls {
                        host: host.to_owned(),
                        source,
                    })?;
                Stream::Tls(TokioIo::new(Box::new(secured)))
            }
            _ => Stream::Plain(tcp),
        };
        Ok(Wire {
            stream,
            grace: self.grace,
            end: End::Waiting(Box::pin(self.retired.clone().cancelled_owned())),
        })
    }
}

/// The resolver's own error lies somewhere in the connector's.
fn tcp_error(host: &str, error: impl std::error::Error + Send + Sync + 'static) -> ConnectError {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = next {
        if let Some(Unresolved { host, kind, message }) = inner.downcast_ref() {
            return ConnectError::Resolve {
                host: host.clone(),
                source: io::Error::new(*kind, message.clone()),
            };
        }
        next = inner.source();
    }
    ConnectError::Tcp {
        host: host.to_owned(),
        source: Box::new(error),
    }
}

/// The system's resolver, with an error that can be told from others.
#[derive(Clone)]
struct Resolver(GaiResolver);

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Unresolved {
    host: String,
    kind: io::ErrorKind,
    message: String,
}

impl Service<Name> for Resolver {
    type Response = <GaiResolver as Service<Name>>::Response;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unresolved>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let host = name.as_str().to_owned();
        let answer = self.0.call(name);
        Box::pin(async move {
            answer.await.map_err(|error| Unresolved {
                host,
                kind: error.kind(),
                message: error.to_string(),
            })
        })
    }
}

enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(TokioIo<Box<TlsStream<TcpStream>>>),
}

/// A connection that ends some time after its access was replaced.
pub(super) struct Wire {
    stream: Stream,
    grace: Duration,
    end: End,
}

enum End {
    /// Until the access is replaced.
    Waiting(Pin<Box<WaitForCancellationFutureOwned>>),
    /// Until requests under way had their time.
    Grace(Pin<Box<Sleep>>),
}

impl Wire {
    /// Whether the time is over; if not, whoever polls is woken when it is.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            match &mut self.end {
                End::Waiting(retired) => {
                    ready!(retired.as_mut().poll(cx));
                    self.end = End::Grace(Box::pin(sleep(self.grace)));
                }
                End::Grace(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    // A timer that has fired may not be polled again before it is set anew.
                    sleep.as_mut().reset(Instant::now());
                    return Poll::Ready(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "closed because the credentials were replaced",
                    ));
                }
            }
        }
    }
}

impl hyper::rt::Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(error) = self.poll_end(cx) {
            return Poll::Ready(Err(error));
        }
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl hyper::rt::Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        match &self.stream {
            Stream::Plain(stream) => stream.connected(),
            Stream::Tls(stream) => {
                let (tcp, session) = stream.inner().get_ref();
                let connected = tcp.connected();
                if session.alpn_protocol() == Some(b"h2") {
                    connected.negotiated_h2()
                } else {
                    connected
                }
            }
        }
    }
}
