//! Who asks, and whether they may: what [`crate::auth`] says, in the order in which it is asked.

use std::sync::Arc;

use http::{HeaderMap, request::Parts};
use jiff::Timestamp;

use super::query::Query;
use crate::{
    Request, Status, User,
    auth::{Attributes, Authenticator, Authorizer, Decision, Reviews, authenticate::impersonate, authorize::forbidden},
    selector::FieldSelector,
    server::Peer,
};

/// Lets requests in.
pub struct Gate {
    authenticator: Arc<Authenticator>,
    authorizer: Arc<Authorizer>,
    pub(super) reviews: Reviews,
}

/// Who asks, as far as it is known: a request that is refused at the door is written down too.
#[derive(Default)]
pub(super) struct Sender {
    /// As whom the request goes on.
    pub(super) user: Arc<User>,
    /// Who it really is, if that is another.
    pub(super) impersonator: Option<Arc<User>>,
    /// Why it goes no further.
    pub(super) refused: Option<Status>,
}

impl Gate {
    /// Asks these two.
    pub fn new(authenticator: Arc<Authenticator>, authorizer: Arc<Authorizer>) -> Self {
        Self {
            reviews: Reviews::new(authenticator.clone(), authorizer.clone()),
            authenticator,
            authorizer,
        }
    }

    /// Who sends a request that came by a socket.
    pub(super) async fn sender(&self, parts: &Parts, peer: Option<&Peer>, now: Timestamp) -> Sender {
        let nobody = crate::auth::Peer::default();
        let peer = peer.map_or(&nobody, |peer| &*peer.identity);
        let known = self
            .authenticator
            .authenticate(peer, &parts.headers, parts.uri.path(), now);
        match known.await {
            Ok(user) => self.as_wanted(&parts.headers, user),
            Err(status) => Sender {
                refused: Some(status),
                ..Sender::default()
            },
        }
    }

    /// As whom a user goes on, by the request's headers.
    pub(super) fn as_wanted(&self, headers: &HeaderMap, user: Arc<User>) -> Sender {
        let other = impersonate::wanted(headers).and_then(|wanted| {
            wanted
                .map(|wanted| impersonate::impersonate(&self.authorizer, &user, wanted))
                .transpose()
        });
        match other {
            Ok(Some(other)) => Sender {
                user: other,
                impersonator: Some(user),
                refused: None,
            },
            other => Sender {
                user,
                impersonator: None,
                refused: other.err(),
            },
        }
    }

    /// Whether a request may be answered, and why.
    pub(super) fn may(&self, request: &Request, query: &Query) -> Result<String, Status> {
        let fields = fields(request, query);
        let mut attributes = Attributes {
            fields: &fields,
            ..Attributes::of(request)
        };
        // A list or watch of the one object of a name is about that object, and who may read it may follow it.
        if let Some((_, name)) = fields.iter().find(|(field, _)| field == "metadata.name") {
            attributes.name = name;
        }
        match self.authorizer.authorize(&attributes) {
            Decision::Allow(reason) => Ok(reason),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(&attributes, &reason)),
        }
    }
}

/// The fields that a list, watch or deletion of a collection holds to a value. A selector that can't be read is refused
/// later; it holds nothing.
fn fields(request: &Request, query: &Query) -> Vec<(String, String)> {
    if !matches!(request.verb, "list" | "watch" | "deletecollection") {
        return Vec::new();
    }
    let selector = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default()).unwrap_or_default();
    let equal = selector.terms.into_iter().filter(|term| term.equal);
    equal.map(|term| (term.field, term.value)).collect()
}
