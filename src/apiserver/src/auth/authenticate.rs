//! Who asks: by the client's certificate, else by a bearer token, else nobody.
//!
//! Whoever shows a certificate or token that is no good is refused (401), not taken for nobody. Nobody is
//! `system:anonymous`, and only on the few paths that a machine needs before it has credentials.

pub mod bootstrap;
pub mod impersonate;
pub mod service_account;
pub mod x509;

use std::sync::Arc;

use bosun_pki::{Keeper, TokenKeys};
use http::{HeaderMap, header::AUTHORIZATION};
use jiff::Timestamp;

pub use self::x509::Peer;
use super::{
    names::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED},
    objects::Objects,
};
use crate::{Reason, Status, User};

/// Paths that may be read without saying who one is.
const OPEN: [&str; 4] = [
    "/healthz",
    "/livez",
    "/readyz",
    "/api/v1/namespaces/kube-public/configmaps/cluster-info",
];

/// Says who asks.
pub struct Authenticator {
    keeper: Arc<Keeper>,
    objects: Arc<dyn Objects>,
    /// The issuer of service-account tokens, and the audience of those that are for this server.
    issuer: String,
}

impl Authenticator {
    /// `issuer` is the URL in service-account tokens, by default `https://kubernetes.default.svc.<cluster domain>`.
    pub fn new(keeper: Arc<Keeper>, objects: Arc<dyn Objects>, issuer: String) -> Self {
        Self {
            keeper,
            objects,
            issuer,
        }
    }

    /// The issuer of service-account tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The keys of service-account tokens.
    pub fn token_keys(&self) -> &TokenKeys {
        &self.keeper.token_keys
    }

    pub(crate) fn objects(&self) -> &dyn Objects {
        &*self.objects
    }

    /// Who sends a request: `peer` is the client's end of the connection, `path` that of the request. Impersonation is
    /// not looked at.
    pub async fn authenticate(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        path: &str,
        now: Timestamp,
    ) -> Result<Arc<User>, Status> {
        let by_certificate = match peer.user(&self.keeper.authority(), now) {
            Some(Ok(user)) => return Ok(user),
            other => other,
        };
        let bearer = bearer(headers);
        if bearer == Bearer::Unreadable {
            return Err(unauthorized());
        }
        if let Bearer::Token(token) = bearer {
            // Tokens are for this server unless they say otherwise.
            return match self.token(token, std::slice::from_ref(&self.issuer), now).await {
                Ok(found) => Ok(Arc::new(found.user)),
                Err(TokenRefusal::Failed(status)) => Err(status),
                Err(TokenRefusal::Refused(why)) => {
                    tracing::debug!(why, "a bearer token was refused");
                    Err(unauthorized())
                }
            };
        }
        if let Some(Err(why)) = by_certificate {
            tracing::debug!(why = %why, "a client certificate was refused");
            return Err(unauthorized());
        }
        if OPEN.contains(&path) {
            return Ok(Arc::new(anonymous()));
        }
        Err(unauthorized())
    }

    /// Whose token this is, for one of these audiences.
    pub(crate) async fn token(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<TokenOwner, TokenRefusal> {
        let mut found = if let Ok(token) = token.parse() {
            let user = bootstrap::authenticate(&*self.objects, &token, now).await?;
            TokenOwner {
                user,
                audiences: audiences.to_vec(),
            }
        } else {
            service_account::authenticate(self, token, audiences, now).await?
        };
        if !found.user.groups.iter().any(|group| group == AUTHENTICATED) {
            found.user.groups.push(AUTHENTICATED.to_owned());
        }
        Ok(found)
    }
}

/// Whose a token is.
#[derive(Debug)]
pub(crate) struct TokenOwner {
    pub(crate) user: User,
    /// Those asked for that it is good for.
    pub(crate) audiences: Vec<String>,
}

/// Why a token is not taken.
#[derive(Debug)]
pub(crate) enum TokenRefusal {
    /// It is no good. The reason is for the log, and for those who may review tokens.
    Refused(String),
    /// It could not be checked.
    Failed(Status),
}

impl TokenRefusal {
    fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }
}

impl From<Status> for TokenRefusal {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

/// The bearer token of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bearer<'a> {
    /// There is none. Others' schemes say nothing to us, as upstream has it.
    None,
    /// There is something that can't be one.
    Unreadable,
    Token(&'a str),
}

fn bearer(headers: &HeaderMap) -> Bearer<'_> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(first) = values.next() else {
        return Bearer::None;
    };
    let Ok(text) = first.to_str() else {
        return Bearer::Unreadable;
    };
    if values.next().is_some() {
        return Bearer::Unreadable;
    }
    let (scheme, token) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Bearer::None;
    }
    if token.is_empty() || token.len() > bosun_pki::jwt::MAX_BYTES {
        return Bearer::Unreadable;
    }
    Bearer::Token(token)
}

fn anonymous() -> User {
    User {
        name: ANONYMOUS.to_owned(),
        groups: vec![UNAUTHENTICATED.to_owned()],
        ..User::default()
    }
}

/// 401, which never says why: whoever guesses learns nothing.
pub fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}

#[cfg(test)]
mod tests;
