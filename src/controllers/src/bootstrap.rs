//! What machines join by: `kube-public/cluster-info` signed with each bootstrap token, and tokens deleted in time.
//!
//! Who signs and who deletes reads Secrets, so each follows just those under its own identity.

mod plan;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bosun_client::{Change, Informer, ObjectKey, Reader, call::call, informer::Config, projected};
use bosun_pki::bootstrap::SECRET_TYPE;
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1 as core};
use kube::{Api, api::PostParams};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tracing::info;

use crate::runtime::{Context, Controller, Done, SyncError, Watches, write::only};

const INFO: &str = "cluster-info";

projected! {
    /// A bootstrap token.
    pub struct Token: core::Secret, without annotations {
        /// Its parts.
        pub data: BTreeMap<String, ByteString>,
    }
}

projected! {
    /// How the cluster is known before one is part of it.
    pub struct ClusterInfo: core::ConfigMap {
        /// A kubeconfig, and signatures of it.
        pub data: BTreeMap<String, String>,
    }
}

fn tokens(context: &Context, tasks: &mut JoinSet<()>) -> Reader<Token> {
    let api = Api::namespaced(context.client.clone(), "kube-system");
    let (informer, reader) = Informer::new(api, Config::default().fields(format!("type={SECRET_TYPE}")));
    tasks.spawn(informer.run());
    reader
}

fn until(now: Timestamp, at: Option<Timestamp>) -> Option<Duration> {
    let left = now.duration_until(at?).try_into().unwrap_or(Duration::ZERO);
    Some(left.max(Duration::from_secs(1)))
}

/// Signs `cluster-info`.
#[derive(Debug)]
pub struct BootstrapSigner {
    context: Context,
    tokens: Reader<Token>,
    infos: Reader<ClusterInfo>,
    _tasks: Mutex<JoinSet<()>>,
}

impl BootstrapSigner {
    /// Under the identity of the context's client.
    pub fn new(context: &Context) -> Self {
        let mut tasks = JoinSet::new();
        let api = Api::namespaced(context.client.clone(), "kube-public");
        let (informer, infos) = Informer::new(api, Config::default().fields(format!("metadata.name={INFO}")));
        tasks.spawn(informer.run());
        Self {
            tokens: tokens(context, &mut tasks),
            infos,
            context: context.clone(),
            _tasks: Mutex::new(tasks),
        }
    }
}

#[async_trait]
impl Controller for BootstrapSigner {
    type Key = &'static str;

    fn name(&self) -> &'static str {
        "bootstrap-signer"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<&'static str>) {
        watches.on(&self.tokens, |_| Some(INFO));
        watches.on(&self.infos, |_| Some(INFO));
    }

    async fn sync(&self, _: &&'static str) -> Result<Done, SyncError> {
        let Some(held) = self.infos.get(&ObjectKey::new("kube-public", INFO)) else {
            return Ok(Done::Settled);
        };
        let (now, tokens) = (Timestamp::now(), self.tokens.list());
        let next = tokens
            .iter()
            .filter_map(|token| plan::expires(token))
            .filter(|at| *at > now)
            .min();
        if let Some(data) = plan::sign(&held.data, &tokens, now) {
            let map = core::ConfigMap {
                metadata: held.metadata.clone(),
                data: Some(data),
                ..core::ConfigMap::default()
            };
            let api: Api<core::ConfigMap> = Api::namespaced(self.context.client.clone(), "kube-public");
            call(api.replace(INFO, &PostParams::default(), &map)).await?;
        }
        Ok(Done::after(until(now, next)))
    }
}

/// Deletes tokens that have expired.
#[derive(Debug)]
pub struct TokenCleaner {
    context: Context,
    tokens: Reader<Token>,
    _tasks: Mutex<JoinSet<()>>,
}

impl TokenCleaner {
    /// Under the identity of the context's client.
    pub fn new(context: &Context) -> Self {
        let mut tasks = JoinSet::new();
        Self {
            tokens: tokens(context, &mut tasks),
            context: context.clone(),
            _tasks: Mutex::new(tasks),
        }
    }
}

#[async_trait]
impl Controller for TokenCleaner {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "token-cleaner"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<ObjectKey>) {
        watches.on(&self.tokens, |change| {
            (!matches!(change, Change::Deleted(_))).then(|| ObjectKey::of(&**change.object()))
        });
    }

    async fn sync(&self, key: &ObjectKey) -> Result<Done, SyncError> {
        let Some(token) = self.tokens.get(key) else {
            return Ok(Done::Settled);
        };
        let (now, expires) = (Timestamp::now(), plan::expires(&token));
        if expires.is_none_or(|expires| expires > now) {
            return Ok(Done::after(until(now, expires)));
        }
        let api: Api<core::Secret> = Api::namespaced(self.context.client.clone(), &key.namespace);
        match call(api.delete(&key.name, &only(&*token))).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => {
                info!(token = key.name, "deleted: it has expired");
                Ok(Done::Settled)
            }
        }
    }
}
