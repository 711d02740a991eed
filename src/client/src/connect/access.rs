//! Where an API server is, how it is known, and who we are to it.

use std::{fmt, path::PathBuf, sync::Arc};

use http::{HeaderValue, Uri};
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

/// All that is needed to reach an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Its URL, with scheme and host; a path is put before those of requests.
    pub server: Uri,
    /// The name its certificate must be for; `None`: the URL's host.
    pub server_name: Option<String>,
    /// How it is known.
    pub trust: Trust,
    /// Our certificate.
    pub identity: Option<Identity>,
    /// The file that our certificate was read from, if it was one.
    pub certificate_file: Option<PathBuf>,
    /// Our bearer token.
    pub token: Option<Token>,
    /// The namespace that is meant where none is given.
    pub namespace: String,
}

impl Access {
    /// To a server by its URL, as nobody yet.
    pub fn new(server: Uri, trust: Trust) -> Self {
        Self {
            server,
            server_name: None,
            trust,
            identity: None,
            certificate_file: None,
            token: None,
            namespace: "default".to_owned(),
        }
    }
}

/// How a server is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// By a certificate that leads to one of these.
    Authorities(Vec<CertificateDer<'static>>),
    /// By a certificate that leads to an authority the machine trusts.
    System,
    /// Not at all: whoever answers is taken for it.
    Anybody,
}

impl Trust {
    /// All certificates of a PEM text, at least one.
    pub fn from_pem(pem: &[u8]) -> Result<Self, NotPem> {
        certificates(pem).map(Self::Authorities)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, NotPem> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| NotPem(error.to_string()))?;
    if found.is_empty() {
        return Err(NotPem("there is no CERTIFICATE in it".to_owned()));
    }
    Ok(found)
}

/// A text holds no certificate or key, or such as don't belong together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotPem(String);

/// A certificate and its key.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    /// Tells two keys apart: their certificates do, unless a file holds another key of the same name.
    key: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    /// From PEM: the leaf's certificate first, a key of any kind that TLS knows.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, NotPem> {
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| NotPem(format!("no private key: {error}")))?;
        let certified = CertifiedKey::from_der(chain, key.clone_key(), &ring::default_provider())
            .map_err(|error| NotPem(format!("certificate and key make no pair: {error}")))?;
        Ok(Self {
            certified: Arc::new(certified),
            key: Arc::new(key),
        })
    }

    /// As TLS takes it.
    pub fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert && self.key == other.key
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates)", self.certified.cert.len())
    }
}

/// A bearer token. It shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(HeaderValue);

impl Token {
    /// `None` if it can't stand in a header.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {text}")).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}
