//! Every namespace has the certificates by which its pods know the API server: the map `kube-root-ca.crt`.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bosun_client::{Change, ObjectKey, call::call};
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};

use crate::{
    objects::RootCa,
    runtime::{Context, Controller, Done, SyncError, Watches},
};

const NAME: &str = "kube-root-ca.crt";
const FIELD: &str = "ca.crt";

/// Publishes the authorities. Its keys are namespaces.
#[derive(Debug)]
pub struct RootCas(Context);

impl RootCas {
    /// Under the identity of the context's client.
    pub fn new(context: &Context) -> Self {
        Self(context.clone())
    }
}

/// What to write into a namespace, if anything; the map that is there is only changed where it is wrong.
fn plan(held: Option<&RootCa>, wanted: &str) -> Option<core::ConfigMap> {
    let data: BTreeMap<_, _> = [(FIELD.to_owned(), wanted.to_owned())].into();
    let metadata = match held {
        Some(held) if held.data == data => return None,
        Some(held) => held.metadata.clone(),
        None => ObjectMeta {
            name: Some(NAME.to_owned()),
            annotations: Some(
                [(
                    "kubernetes.io/description".to_owned(),
                    "The authorities by which a pod verifies the API server at its address inside of the cluster."
                        .to_owned(),
                )]
                .into(),
            ),
            ..ObjectMeta::default()
        },
    };
    Some(core::ConfigMap {
        metadata,
        data: Some(data),
        ..core::ConfigMap::default()
    })
}

#[async_trait]
impl Controller for RootCas {
    type Key = String;

    fn name(&self) -> &'static str {
        "root-ca-certificate-publisher"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<String>) {
        watches.on(&self.0.informers.namespaces, |change| {
            (!matches!(change, Change::Deleted(_))).then(|| change.object().name_any())
        });
        watches.on(&self.0.informers.root_cas, |change| change.object().namespace());
    }

    async fn sync(&self, namespace: &String) -> Result<Done, SyncError> {
        let informers = &self.0.informers;
        let there = informers.namespaces.get(&ObjectKey::cluster(namespace));
        let stays = there.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none());
        let (true, Some(wanted)) = (stays, self.0.config.root_ca.as_deref()) else {
            return Ok(Done::Settled);
        };
        let held = informers.root_cas.get(&ObjectKey::new(namespace, NAME));
        let Some(map) = plan(held.as_deref(), wanted) else {
            return Ok(Done::Settled);
        };
        let api: Api<core::ConfigMap> = Api::namespaced(self.0.client.clone(), namespace);
        let params = PostParams::default();
        let written = match held {
            Some(_) => call(api.replace(NAME, &params, &map)).await,
            None => call(api.create(&params, &map)).await,
        };
        match written {
            Err(error) if error.is_namespace_terminating() => Ok(Done::Settled),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(Done::Settled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_is_written_where_it_is_missing_or_wrong() {
        let made = plan(None, "pem").expect("there is none");
        assert_eq!(made.metadata.name.as_deref(), Some(NAME));
        let held = |content: &str| RootCa {
            metadata: ObjectMeta {
                resource_version: Some("7".to_owned()),
                ..made.metadata.clone()
            },
            data: [(FIELD.to_owned(), content.to_owned())].into(),
        };
        assert_eq!(plan(Some(&held("pem")), "pem"), None);
        let fixed = plan(Some(&held("old")), "pem").expect("it is wrong");
        assert_eq!(fixed.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(fixed.data.expect("data")[FIELD], "pem");
    }
}
