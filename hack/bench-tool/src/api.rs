//! Clients of an API server as its users' are: HTTP/2 over TLS, with the certificate of the kubeconfig it wrote.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tokio_rustls::TlsConnector;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a kubeconfig says: where the server is, and who we are.
#[derive(Clone)]
pub(crate) struct Access {
    address: String,
    tls: Arc<ClientConfig>,
}

impl Access {
    /// Reads a kubeconfig with one cluster and one user, whose certificates are in it.
    pub(crate) fn read(kubeconfig: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(kubeconfig)?;
        let config: Value = serde_saphyr::from_str(&text)?;
        let text = |pointer: &str| {
            let value = config.pointer(pointer).and_then(Value::as_str);
            value.with_context(|| format!("the kubeconfig has no {pointer}"))
        };
        let pem = |pointer: &str| anyhow::Ok(BASE64_STANDARD.decode(text(pointer)?)?);
        let mut roots = RootCertStore::empty();
        let authority = pem("/clusters/0/cluster/certificate-authority-data")?;
        for certificate in CertificateDer::pem_slice_iter(&authority) {
            roots.add(certificate?)?;
        }
        let chain = pem("/users/0/user/client-certificate-data")?;
        let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&pem("/users/0/user/client-key-data")?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let server = text("/clusters/0/cluster/server")?;
        let address = server.strip_prefix("https://").context("a server without TLS")?;
        Ok(Self {
            address: address.trim_end_matches('/').to_owned(),
            tls: Arc::new(tls),
        })
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        let stream = timeout(DEADLINE, TcpStream::connect(&self.address)).await??;
        stream.set_nodelay(true)?;
        let host = self.address.rsplit_once(':').map_or(&*self.address, |(host, _)| host);
        let name = ServerName::try_from(host.to_owned())?;
        let connector = TlsConnector::from(self.tls.clone());
        let stream = timeout(DEADLINE, connector.connect(name, stream)).await??;
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Client {
            base: format!("https://{}", self.address),
            requests,
            driver: Arc::new(driver),
        })
    }
}

/// One connection; clones share it.
#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    requests: SendRequest<Full<Bytes>>,
    /// The task that moves the connection's bytes; it ends with the last clone.
    #[expect(dead_code, reason = "held for its end")]
    driver: Arc<JoinSet<hyper::Result<()>>>,
}

impl Client {
    /// Sends a request; its answer, with the body still to come.
    pub(crate) async fn send(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Response<Incoming>> {
        let form = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("content-type", form)
            .body(Full::new(body))?;
        self.requests.ready().await?;
        let answer = timeout(DEADLINE, self.requests.send_request(request)).await?;
        Ok(answer?)
    }

    /// Sends a request that must succeed; how long its body is.
    pub(crate) async fn expect(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<u64> {
        let mut answer = self.send(method.clone(), path, body).await?;
        if !answer.status().is_success() {
            let status = answer.status();
            let body = answer.body_mut().collect().await?.to_bytes();
            bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        let mut length = 0;
        while let Some(frame) = timeout(DEADLINE, answer.body_mut().frame()).await? {
            length += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(length)
    }

    /// What is at a path, as JSON.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(
            status.is_success(),
            "GET {path}: {status}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(serde_json::from_slice(&body)?)
    }
}
