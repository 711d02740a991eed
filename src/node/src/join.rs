//! How a node joins a cluster, and stays trusted.
//!
//! ```text
//!  token ──▶ discovery ──▶ request ──▶ store ──▶ kubeconfig ──▶ Joined: client, serving certificate
//!            whom to       a key made  the pair,               │
//!            trust         here, a CSR on disk                 └──▶ Upkeep: both certificates anew in time
//! ```
//!
//! Each step leaves on disk what the next needs, so that a node killed in between goes on where it was: the key before
//! the request that names it, the certificate before the kubeconfig that points at it. A request's name is made of its
//! key, so asking again finds the request that is pending. Once there is a kubeconfig with a certificate that holds,
//! nothing of this is done again: a node starts without its server.
//!
//! Pure: [`decide`], and the reading of a request's state in [`request`].

pub mod decide;
mod discovery;
mod error;
pub mod request;
mod serving;
mod store;
mod upkeep;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bosun_client::connect::{Access, Connection, Options, Token, Trust, kubeconfig};
use bosun_pki::{
    Certificate, PrivateKey,
    bootstrap::{CaHash, JoinToken},
};
use http::Uri;
use jiff::Timestamp;
use rustls::{pki_types::CertificateDer, server::ResolvesServerCert};
use tokio::sync::watch;

use self::{
    decide::{Next, Stored},
    request::{Purpose, Wanted},
    serving::Serving,
    store::Store,
};
pub use self::{
    error::{JoinError, Step},
    upkeep::Upkeep,
};

/// By what a node comes to trust a cluster and to be trusted by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// A server's URL and a token.
    Token {
        /// Where the server is.
        server: Uri,
        /// What the node proves itself with, and mostly also what it knows the cluster by.
        token: JoinToken,
        /// What else it knows the cluster by.
        known: Known,
    },
    /// A kubeconfig that is good for asking for a certificate, as kubelet's `--bootstrap-kubeconfig`.
    Kubeconfig(PathBuf),
}

/// By what a node knows the right cluster, beside its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The hash in the token.
    Hash,
    /// The authority's certificate in this file.
    File(PathBuf),
    /// Nothing but the signature that whoever knows the token can make: kubeadm's
    /// `--discovery-token-unsafe-skip-ca-verification`.
    Nothing,
}

/// What the node serves its own API with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServeWith {
    /// A certificate that the cluster signs; one of its own until it has.
    Cluster,
    /// A certificate of its own, that nobody can check.
    Own,
    /// This certificate and key, read again when they change.
    Files {
        /// `tlsCertFile`.
        certificate: PathBuf,
        /// `tlsPrivateKeyFile`.
        key: PathBuf,
    },
}

/// What others call the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

/// What joining goes by.
#[derive(Clone, Debug)]
pub struct JoinConfig {
    /// The node's name.
    pub node_name: String,
    /// Certificates and keys lie here, as kubelet's do: `/var/lib/kubelet/pki`.
    pub pki: PathBuf,
    /// How the node reaches its server. Written when it joins, used ever after.
    pub kubeconfig: PathBuf,
    /// `None`: the kubeconfig must be there.
    pub way: Option<Way>,
    /// What the node serves its own API with.
    pub serve_with: ServeWith,
    /// Whether certificates are renewed in time.
    pub rotate: bool,
    /// How long the server may be away while the node joins.
    pub patience: Duration,
    /// How long a request may wait for approval.
    pub approval: Duration,
}

impl JoinConfig {
    /// How long the server may be away while a node joins, unless told otherwise: kubeadm's.
    pub const PATIENCE: Duration = Duration::from_secs(300);
    /// How long a request may wait for approval, unless told otherwise: kubelet's.
    pub const APPROVAL: Duration = Duration::from_secs(900);
}

/// A node that is trusted.
pub struct Joined {
    /// Connections to the server, with whatever certificate the node has at the moment.
    pub connection: Connection,
    /// A client over them.
    pub client: kube::Client,
    /// The certificate of the node's own API, whatever it is at the moment.
    pub serving: Arc<dyn ResolvesServerCert>,
    /// The cluster's authorities.
    pub authorities: Vec<CertificateDer<'static>>,
    /// To be run as long as the node does.
    pub upkeep: Upkeep,
}

/// Joins, or comes back. `names` is what others call the node, as far as is known; the serving certificate follows it.
pub async fn join(config: JoinConfig, names: watch::Receiver<Names>) -> Result<Joined, JoinError> {
    let store = Store::open(&config.pki)?;
    let stored = stored(&config, &store, Timestamp::now())?;
    match decide::next(&stored, config.way.is_some()) {
        Next::Use => {}
        Next::Bootstrap => {
            let way = config.way.as_ref().expect("decided only where there is a way");
            bootstrap(&config, way, &store).await?;
        }
        Next::Refuse(why) => return Err(JoinError::refused(&why, &config.kubeconfig)),
    }
    let connection = Connection::from_kubeconfig(&config.kubeconfig, Options::default())?;
    let access = connection.access();
    let authorities = match access.trust {
        Trust::Authorities(authorities) => authorities,
        Trust::System | Trust::Anybody => vec![],
    };
    let managed = access.certificate_file.as_deref() == Some(&*store.current_path(store::CLIENT));
    if !managed && config.rotate {
        tracing::info!(
            kubeconfig = %config.kubeconfig.display(),
            "the kubeconfig brings credentials of its own, which are not renewed here"
        );
    }
    let client = connection.client();
    let serving = Arc::new(Serving::open(&config, &store, &names.borrow())?);
    let upkeep = Upkeep {
        client: client.clone(),
        store,
        serving: serving.clone(),
        names,
        managed: managed && config.rotate,
        config,
    };
    Ok(Joined {
        connection,
        client,
        serving,
        authorities,
        upkeep,
    })
}

/// What a former start left.
fn stored(config: &JoinConfig, store: &Store, now: Timestamp) -> Result<Stored, JoinError> {
    if !config.kubeconfig.exists() {
        return Ok(Stored::Nothing);
    }
    let ours = store.current_path(store::CLIENT);
    let access = match kubeconfig::read(&config.kubeconfig) {
        Ok(access) => access,
        // It points at a certificate that is gone or damaged: then it is as if there were none.
        Err(error) if config.way.is_some() && store.current(store::CLIENT).ok().flatten().is_none() => {
            tracing::warn!(%error, "the kubeconfig can't be used; joining anew");
            return Ok(Stored::Nothing);
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(Way::Token { token, .. }) = &config.way
        && let (Some(wanted), Trust::Authorities(authorities)) = (token.authority, &access.trust)
        && !authorities.iter().any(|authority| is(authority, wanted))
    {
        return Ok(Stored::OtherCluster);
    }
    if access.certificate_file.as_deref() != Some(&*ours) {
        return Ok(Stored::Given);
    }
    let Some(pair) = store.current(store::CLIENT)? else {
        return Ok(Stored::Nothing);
    };
    Ok(Stored::of(&pair.certificate, &config.node_name, now))
}

fn is(authority: &CertificateDer<'static>, hash: CaHash) -> bool {
    Certificate::from_der(authority.clone()).is_ok_and(|authority| CaHash::of(&authority) == hash)
}

/// From nothing to a certificate and the kubeconfig that points at it.
async fn bootstrap(config: &JoinConfig, way: &Way, store: &Store) -> Result<(), JoinError> {
    let access = discovery::access(way, config.patience).await?;
    // A node that was killed before the kubeconfig was written has its certificate already.
    let kept = store.current(store::CLIENT).ok().flatten().filter(|pair| {
        let holds = Stored::of(&pair.certificate, &config.node_name, Timestamp::now()) == Stored::Valid;
        holds && signed_by(&pair.certificate, &access.trust)
    });
    if kept.is_none() {
        tracing::info!(server = %access.server, node = config.node_name, "asking the cluster for a certificate");
        let client = Connection::new(access.clone(), Options::default())?.client();
        let purpose = Purpose::Client;
        obtain(&client, config, store, &purpose, config.approval).await?;
    }
    store::write_kubeconfig(&config.kubeconfig, &access, &store.current_path(store::CLIENT))?;
    tracing::info!(server = %access.server, kubeconfig = %config.kubeconfig.display(), "the node has joined");
    Ok(())
}

fn signed_by(certificate: &Certificate, trust: &Trust) -> bool {
    let Trust::Authorities(authorities) = trust else {
        return false;
    };
    authorities
        .iter()
        .filter_map(|authority| Certificate::from_der(authority.clone()).ok())
        .any(|authority| certificate.is_signed_by(&authority))
}

/// Asks for a certificate over the key that is kept for it, waits for it, and stores both.
async fn obtain(
    client: &kube::Client,
    config: &JoinConfig,
    store: &Store,
    purpose: &Purpose,
    patience: Duration,
) -> Result<(), JoinError> {
    let prefix = match purpose {
        Purpose::Client => store::CLIENT,
        Purpose::Serving(_) => store::SERVER,
    };
    // A second time where what was asked for long ago has expired meanwhile.
    for fresh in [false, true] {
        let key = store.pending_key(prefix)?;
        let wanted = Wanted::new(&config.node_name, &key, purpose);
        let pem = match request::obtain(client, &wanted, patience).await {
            Ok(pem) => pem,
            Err(error) => {
                // What was refused stays refused for this key; whether to ask with another is for the next time.
                if error.is_refused() && config.kubeconfig.exists() {
                    store.forget_key(prefix)?;
                }
                return Err(error);
            }
        };
        let now = Timestamp::now();
        match decide::issued(&pem, &key, now) {
            Ok(()) => return Ok(store.put(prefix, &pem, &key, now)?),
            Err(decide::Unfit::Expired) if !fresh => store.forget_key(prefix)?,
            Err(unfit) => return Err(JoinError::unfit(&unfit, &wanted.name)),
        }
    }
    unreachable!("the second time returns")
}

/// A certificate and key as TLS takes them.
fn identity(certificate: &[u8], key: &PrivateKey) -> Result<bosun_client::connect::Identity, String> {
    bosun_client::connect::Identity::from_pem(certificate, key.secret_pem().as_bytes())
        .map_err(|error| error.to_string())
}

/// How the bearer of a token reaches the server.
fn with_token(mut access: Access, token: &JoinToken) -> Access {
    let text = format!("{}.{}", token.token.id, token.token.secret);
    access.token = Token::new(&text);
    access
}

/// The path in words for messages.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
