//! Client certificates: the common name is the user, the organizations are the groups.

use std::{fmt::Write, sync::Arc};

use bosun_pki::{Authority, Certificate, tls::verify_client};
use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;

use crate::{User, auth::names::AUTHENTICATED};

/// The client's end of a connection. What its certificate says is found out once, and holds as long as that.
#[derive(Default)]
pub struct Peer {
    chain: Vec<CertificateDer<'static>>,
    verified: Mutex<Option<Verified>>,
}

struct Verified {
    authority: Certificate,
    user: Arc<User>,
    until: Timestamp,
}

impl Peer {
    /// `chain` is what the client sent, its own certificate first; empty if it has none. The handshake has shown that the
    /// client holds the key.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self {
            chain,
            verified: Mutex::default(),
        }
    }

    /// Who the certificate says the client is, or why that is not believed; `None` without one.
    pub(crate) fn user(&self, authority: &Authority, now: Timestamp) -> Option<Result<Arc<User>, String>> {
        let leaf = self.chain.first()?;
        let mut verified = self.verified.lock();
        if let Some(known) = &*verified
            && now <= known.until
            && known.authority == authority.certificate
        {
            return Some(Ok(known.user.clone()));
        }
        if let Err(error) = verify_client(&authority.certificate, &self.chain, now) {
            return Some(Err(error.to_string()));
        }
        let certificate = match Certificate::from_der(leaf.clone()) {
            Ok(certificate) => certificate,
            Err(error) => return Some(Err(error.to_string())),
        };
        if certificate.common_name.is_empty() {
            return Some(Err("the certificate names nobody".to_owned()));
        }
        let mut groups = certificate.organizations;
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        let fingerprint = ring::digest::digest(&ring::digest::SHA256, leaf);
        let hex = fingerprint.as_ref().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let credential = (
            "authentication.kubernetes.io/credential-id".to_owned(),
            vec![format!("X509SHA256={hex}")],
        );
        let user = Arc::new(User {
            name: certificate.common_name,
            groups,
            extra: [credential].into(),
            ..User::default()
        });
        *verified = Some(Verified {
            authority: authority.certificate.clone(),
            user: user.clone(),
            until: certificate.not_after,
        });
        Some(Ok(user))
    }
}
