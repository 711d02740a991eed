//! Clients of the API within the server's own process: no socket, no TLS, no copy; authorization, admission and audit
//! apply to them as to anyone.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bosun_apiserver::{
    User,
    http::{Body, Identity, Router},
};
use http::{Request, Response};
use tower::Service;

/// Asks the router in the name of one user.
#[derive(Clone)]
struct As {
    router: Router,
    user: Arc<User>,
}

impl Service<Request<kube::client::Body>> for As {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <Router as Service<Request<kube::client::Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<kube::client::Body>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, mut request: Request<kube::client::Body>) -> Self::Future {
        request.extensions_mut().insert(Identity(self.user.clone()));
        self.router.call(request)
    }
}

/// A client that is the user of this name.
pub(super) fn client(router: &Router, name: &str) -> kube::Client {
    let service = As {
        router: router.clone(),
        user: Arc::new(user(name)),
    };
    kube::Client::new(service, "default")
}

/// A user of this name, in the groups that its name tells.
fn user(name: &str) -> User {
    let groups: &[&str] = if name.starts_with("system:serviceaccount:kube-system:") {
        &["system:serviceaccounts", "system:serviceaccounts:kube-system"]
    } else if name.starts_with("system:node:") {
        &["system:nodes"]
    } else {
        &[]
    };
    let groups = groups.iter().copied().chain(["system:authenticated"]);
    User {
        name: name.to_owned(),
        groups: groups.map(str::to_owned).collect(),
        ..User::default()
    }
}
