//! What a controller is made from.

use std::sync::Arc;

use bosun_client::Recorder;
use kube::Client;

use super::metrics::Metrics;
use crate::{config::Config, informers::Informers};

/// Gives clients that speak under an identity: `system:kube-controller-manager`,
/// `system:serviceaccount:kube-system:deployment-controller`.
#[derive(Clone)]
pub struct Clients(Arc<dyn Fn(&str) -> Client + Send + Sync>);

impl Clients {
    /// Whatever makes a client for a user's name.
    pub fn new(client_for: impl Fn(&str) -> Client + Send + Sync + 'static) -> Self {
        Self(Arc::new(client_for))
    }

    /// One client for all, as where the controllers have one certificate.
    pub fn same(client: Client) -> Self {
        Self::new(move |_| client.clone())
    }

    /// A client under the identity of a user.
    pub fn user(&self, name: &str) -> Client {
        self.0(name)
    }

    /// A client under the identity of a service account in `kube-system`.
    pub fn service_account(&self, name: &str) -> Client {
        self.user(&format!("system:serviceaccount:kube-system:{name}"))
    }
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}

/// What each controller is made from: all that is shared, and what is its own.
#[derive(Clone)]
pub struct Context {
    /// What there is, as far as it was heard of. Shared by all controllers.
    pub informers: Arc<Informers>,
    /// Speaks under the controller's own identity.
    pub client: Client,
    /// Events in the controller's own name.
    pub recorder: Recorder,
    /// How the cluster is to be.
    pub config: Arc<Config>,
    /// Counters of its queue.
    pub metrics: Metrics,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
