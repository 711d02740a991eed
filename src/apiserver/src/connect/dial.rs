//! Connections to nodes, pods and services over the network.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use bosun_pki::{Certificate, Keeper, PrivateKey, Template, tls::AnyServer};
use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{PrivatePkcs8KeyDer, ServerName},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{
    BoxConnection, Dialer,
    place::{Endpoint, Trust},
};

/// The name under which agents know the API server; the role `system:kubelet-api-admin` is bound to it.
const CLIENT: &str = "kube-apiserver-kubelet-client";

/// For the connection and the TLS handshake together.
const DEADLINE: Duration = Duration::from_secs(30);

/// Connects as the cluster's API server: agents' certificates must be the cluster's, and see one of its own.
pub struct ClusterDialer {
    keeper: Arc<Keeper>,
    provider: Arc<CryptoProvider>,
    /// Towards agents, until its certificate is to be renewed.
    nodes: Mutex<Option<(ClientIdentity, Arc<ClientConfig>)>>,
    anybody: Arc<ClientConfig>,
}

/// What a configuration towards agents was made of. It is kept in memory only: whoever holds the authority's key makes
/// another whenever there is none.
struct ClientIdentity {
    authority: Certificate,
    own: Certificate,
}

impl ClientIdentity {
    /// Whether another is due: two thirds into its time, or under another authority.
    fn is_due(&self, authority: &Certificate, now: Timestamp) -> bool {
        let life = self.own.not_before.duration_until(self.own.not_after);
        *authority.der() != *self.authority.der()
            || now >= self.own.not_before + life * 2 / 3
            || now < self.own.not_before
    }
}

impl ClusterDialer {
    /// With the cluster's authority.
    pub fn new(keeper: Arc<Keeper>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let anybody = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            // What pods show is nobody's that we know.
            .with_custom_certificate_verifier(AnyServer::new())
            .with_no_client_auth();
        Ok(Self {
            keeper,
            provider,
            nodes: Mutex::new(None),
            anybody: Arc::new(anybody),
        })
    }

    fn towards_nodes(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let now = Timestamp::now();
        let authority = self.keeper.authority();
        let mut nodes = self.nodes.lock();
        if let Some((identity, config)) = &*nodes
            && !identity.is_due(&authority.certificate, now)
        {
            return Ok(config.clone());
        }
        let (own, key): (Certificate, PrivateKey) = authority.issue(&Template::client(CLIENT, &[]), now);
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.der().clone())?;
        let key = PrivatePkcs8KeyDer::from(key.secret_pkcs8().to_vec());
        let config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![own.der().clone()], key.into())?;
        let config = Arc::new(config);
        let identity = ClientIdentity {
            authority: authority.certificate.clone(),
            own,
        };
        *nodes = Some((identity, config.clone()));
        Ok(config)
    }
}

#[async_trait]
impl Dialer for ClusterDialer {
    async fn dial(&self, to: &Endpoint) -> io::Result<BoxConnection> {
        let connecting = async {
            let stream = TcpStream::connect((&*to.host, to.port)).await?;
            stream.set_nodelay(true)?;
            let config = match to.trust {
                Trust::Plain => return Ok(Box::pin(stream) as BoxConnection),
                Trust::Node => self.towards_nodes().map_err(io::Error::other)?,
                Trust::Anybody => self.anybody.clone(),
            };
            let name = ServerName::try_from(to.host.clone()).map_err(io::Error::other)?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok(Box::pin(stream) as BoxConnection)
        };
        let late = || {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {} s", DEADLINE.as_secs()),
            )
        };
        timeout(DEADLINE, connecting).await.unwrap_or_else(|_| Err(late()))
    }
}
