//! A client of the API without a library's opinions: every header as the test wants it, or bytes alone.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// No answer may take longer.
const ANSWER: Duration = Duration::from_secs(60);

/// Makes connections.
#[derive(Clone, Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    address: SocketAddr,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its code.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {:?}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's text; empty if it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

impl Client {
    /// Of the server at `address`, with what the kubeconfig says, the user's certificate only if `known`.
    pub fn new(kubeconfig: &Path, address: SocketAddr, known: bool) -> anyhow::Result<Self> {
        let config: Value = serde_saphyr::from_str(&fs::read_to_string(kubeconfig)?)?;
        let pem = |pointer: &str| {
            let text = config
                .pointer(pointer)
                .and_then(Value::as_str)
                .context(pointer.to_owned())?;
            anyhow::Ok(STANDARD.decode(text)?)
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem("/clusters/0/cluster/certificate-authority-data")?) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = if known {
            let chain = CertificateDer::pem_slice_iter(&pem("/users/0/user/client-certificate-data")?)
                .collect::<Result<Vec<_>, _>>()?;
            let key = PrivateKeyDer::from_pem_slice(&pem("/users/0/user/client-key-data")?)?;
            builder.with_client_auth_cert(chain, key)?
        } else {
            builder.with_no_client_auth()
        };
        Ok(Self {
            config: Arc::new(config),
            address,
        })
    }

    /// A connection to write bytes to, as HTTP/2 if so agreed.
    pub async fn connect(&self, http2: bool) -> anyhow::Result<TlsStream<TcpStream>> {
        let mut config = (*self.config).clone();
        let protocol = if http2 { "h2" } else { "http/1.1" };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(self.address.ip());
        let connected = timeout(ANSWER, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
        connected
            .context("the TLS handshake does not end")?
            .context("the TLS handshake")
    }

    /// One request by HTTP/1.1 on a connection of its own.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Reply> {
        let stream = self.connect(false).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let answer = timeout(ANSWER, async {
            let response = sender.send_request(request).await?;
            let (parts, body) = response.into_parts();
            anyhow::Ok(Reply {
                status: parts.status,
                headers: parts.headers,
                body: body.collect().await?.to_bytes(),
            })
        });
        answer.await.context("no answer")?
    }

    /// A request of this method with a body in JSON.
    pub async fn json(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Reply> {
        let request = self.request(method, path).header("content-type", "application/json");
        self.send(request.body(Full::from(body.to_string()))?).await
    }

    /// A GET with these headers.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Reply> {
        let request = headers
            .iter()
            .fold(self.request(Method::GET, path), |request, (name, value)| {
                request.header(*name, *value)
            });
        self.send(request.body(Full::default())?).await
    }

    /// A request to be completed.
    pub fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
    }

    /// The URL of a path, as HTTP/2 wants it.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// A connection of many streams; its task ends with the set.
    pub async fn http2(&self, tasks: &mut JoinSet<()>) -> anyhow::Result<http2::SendRequest<Full<Bytes>>> {
        self.http2_with_window(tasks, 1 << 20).await
    }

    /// A connection of many streams, each of which takes `window` bytes of an answer before it is read.
    pub async fn http2_with_window(
        &self,
        tasks: &mut JoinSet<()>,
        window: u32,
    ) -> anyhow::Result<http2::SendRequest<Full<Bytes>>> {
        let stream = self.connect(true).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(TokioIo::new(stream))
            .await?;
        tasks.spawn(async move {
            // Its end is seen by whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(sender)
    }
}
