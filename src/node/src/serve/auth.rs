//! Who asks, and whether they may: by client certificate or token, and by what the cluster says of them. Nobody is let in
//! without a name.

pub mod attributes;
mod review;

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use bosun_pki::{Certificate, tls::verify_client};
use http::{HeaderMap, Request, Response, StatusCode, header};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use self::attributes::{Attributes, attributes};
pub use self::review::ClusterAuth;
use super::body::{Body, text};

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// The name.
    pub name: String,
    /// The UID, if there is one.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else a token said.
    pub extra: Vec<(String, Vec<String>)>,
}

/// The cluster could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unanswered(pub String);

/// What the cluster says of those who ask.
#[async_trait]
pub trait Auth: Send + Sync {
    /// Whose token it is; `None` if nobody's.
    async fn whose(&self, token: &str) -> Result<Option<User>, Unanswered>;

    /// Whether a user may do that.
    async fn may(&self, user: &User, attributes: &Attributes) -> Result<bool, Unanswered>;
}

/// Lets requests in.
pub(super) struct Gate {
    auth: Arc<dyn Auth>,
    authorities: watch::Receiver<Arc<Vec<Certificate>>>,
    node_name: String,
}

/// Why a request is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Unauthorized,
    Forbidden(String),
    Unanswered(String),
}

impl Refusal {
    pub(super) fn into_response(self) -> Response<Body> {
        match self {
            Self::Unauthorized => text(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Forbidden(why) => text(StatusCode::FORBIDDEN, why),
            Self::Unanswered(why) => text(StatusCode::INTERNAL_SERVER_ERROR, why),
        }
    }
}

impl Gate {
    pub(super) fn new(
        auth: Arc<dyn Auth>,
        authorities: watch::Receiver<Arc<Vec<Certificate>>>,
        node_name: &str,
    ) -> Self {
        Self {
            auth,
            authorities,
            node_name: node_name.to_owned(),
        }
    }

    /// Lets a request in, or says why not. `shown` are the certificates of its connection.
    pub(super) async fn admit<B>(
        &self,
        request: &Request<B>,
        shown: &[CertificateDer<'static>],
    ) -> Result<(), Refusal> {
        let user = self.user(request.headers(), shown).await?;
        let wanted = attributes(request.method(), request.uri().path(), &self.node_name);
        // The finest first; whoever may more may this too.
        for attributes in &wanted {
            match self.auth.may(&user, attributes).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, user = user.name, "node API: the cluster does not say who may what");
                    let why = format!("Authorization error (user={}, {error})", user.name);
                    return Err(Refusal::Unanswered(why));
                }
            }
        }
        let subresources: Vec<_> = wanted.iter().map(|one| one.subresource).collect();
        let verb = wanted.first().map_or("", |one| one.verb);
        Err(Refusal::Forbidden(format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n",
            user.name,
            subresources.join(" ")
        )))
    }

    async fn user(&self, headers: &HeaderMap, shown: &[CertificateDer<'static>]) -> Result<User, Refusal> {
        if let Some(user) = self.certified(shown) {
            return Ok(user);
        }
        let token = bearer(headers).ok_or(Refusal::Unauthorized)?;
        match self.auth.whose(token).await {
            Ok(user) => user.ok_or(Refusal::Unauthorized),
            Err(error) => {
                tracing::warn!(%error, "node API: the cluster does not say whose a token is");
                Err(Refusal::Unauthorized)
            }
        }
    }

    fn certified(&self, shown: &[CertificateDer<'static>]) -> Option<User> {
        let own = Certificate::from_der(shown.first()?.clone()).ok()?;
        let now = Timestamp::try_from(SystemTime::now()).ok()?;
        let authorities = self.authorities.borrow().clone();
        let believed = authorities
            .iter()
            .any(|authority| verify_client(authority, shown, now).is_ok());
        (believed && !own.common_name.is_empty()).then(|| User {
            name: own.common_name,
            // As the API server has it for everybody who has a name.
            groups: own
                .organizations
                .into_iter()
                .chain(["system:authenticated".to_owned()])
                .collect(),
            ..User::default()
        })
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
