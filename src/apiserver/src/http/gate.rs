//! Who asks, and whether they may.

use std::sync::Arc;

use bosun_pki::{Certificate, Keeper, keeper::ADMIN_GROUP, tls};
use http::request::Parts;
use jiff::Timestamp;

use super::query::Query;
use crate::{Reason, Request, Status, User, server::Peer};

/// Lets requests in by their certificates.
pub struct Gate {
    keeper: Arc<Keeper>,
}

impl Gate {
    /// Believes what `keeper`'s authority signed.
    pub fn new(keeper: Arc<Keeper>) -> Self {
        Self { keeper }
    }

    /// Who asks, and who really does.
    pub(super) async fn who(
        &self,
        _parts: &Parts,
        peer: Option<&Peer>,
        now: Timestamp,
    ) -> Result<(Arc<User>, Option<Arc<User>>), Status> {
        let chain = peer.map(|peer| peer.certificates.clone()).unwrap_or_default();
        let Some(leaf) = chain.first() else {
            let anonymous = User {
                name: "system:anonymous".to_owned(),
                groups: vec!["system:unauthenticated".to_owned()],
                ..User::default()
            };
            return Ok((Arc::new(anonymous), None));
        };
        let unauthorized = || Status::new(Reason::Unauthorized, "Unauthorized");
        tls::verify_client(&self.keeper.authority().certificate, &chain, now).map_err(|_| unauthorized())?;
        let certificate = Certificate::from_der(leaf.clone()).map_err(|_| unauthorized())?;
        let mut groups = certificate.organizations;
        groups.push("system:authenticated".to_owned());
        let user = User {
            name: certificate.common_name,
            groups,
            ..User::default()
        };
        Ok((Arc::new(user), None))
    }

    pub(super) fn impersonate(&self, _parts: &Parts, _request: &mut Request) -> Result<(), Status> {
        Ok(())
    }

    /// Whether they may, and why.
    pub(super) fn may(&self, request: &Request, _query: &Query) -> Result<String, Status> {
        let open = super::health::Health::is_path(&request.path) || request.path == "/version";
        if open
            || request
                .user
                .groups
                .iter()
                .any(|group| group == ADMIN_GROUP || group == "system:masters")
        {
            return Ok(String::new());
        }
        Err(Status::new(
            Reason::Forbidden,
            format!(
                "forbidden: User {:?} cannot {} path {:?}",
                request.user.name, request.verb, request.path
            ),
        ))
    }
}
