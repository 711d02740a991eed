//! Every namespace has a service account of the name `default`.

use std::sync::Arc;

use async_trait::async_trait;
use bosun_client::{Change, ObjectKey, call::call};
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};

use crate::runtime::{Context, Controller, Done, SyncError, Watches};

const NAME: &str = "default";

/// Makes service accounts of the name `default`. Its keys are namespaces.
#[derive(Debug)]
pub struct ServiceAccounts(Context);

impl ServiceAccounts {
    /// Under the identity of the context's client.
    pub fn new(context: &Context) -> Self {
        Self(context.clone())
    }
}

#[async_trait]
impl Controller for ServiceAccounts {
    type Key = String;

    fn name(&self) -> &'static str {
        "service-account"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<String>) {
        watches.on(&self.0.informers.namespaces, |change| {
            (!matches!(change, Change::Deleted(_))).then(|| change.object().name_any())
        });
        watches.on(&self.0.informers.default_service_accounts, |change| match change {
            Change::Deleted(account) => account.namespace(),
            _ => None,
        });
    }

    async fn sync(&self, namespace: &String) -> Result<Done, SyncError> {
        let informers = &self.0.informers;
        let there = informers.namespaces.get(&ObjectKey::cluster(namespace));
        let stays = there.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none());
        if !stays
            || informers
                .default_service_accounts
                .get(&ObjectKey::new(namespace, NAME))
                .is_some()
        {
            return Ok(Done::Settled);
        }
        let account = core::ServiceAccount {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                ..ObjectMeta::default()
            },
            ..core::ServiceAccount::default()
        };
        let api: Api<core::ServiceAccount> = Api::namespaced(self.0.client.clone(), namespace);
        match call(api.create(&PostParams::default(), &account)).await {
            Err(error) if !error.is_already_exists() && !error.is_namespace_terminating() => Err(error.into()),
            _ => Ok(Done::Settled),
        }
    }
}
