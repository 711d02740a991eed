//! The cluster's services, watched for the environments of pods.

use std::{fmt, time::Duration};

use bosun_api::core;
use bosun_client::{Informer, Reader, informer, projected};
use kube::{Client, api::Api as KubeApi};
use tokio::task::JoinSet;

use crate::pod::service_env;

/// How long a container waits for the first list before its start is tried again.
const PATIENCE: Duration = Duration::from_secs(5);

projected! {
    /// What containers are told of a service.
    struct Service: core::Service, without annotations {
        spec: ServiceSpec,
    }
}

/// See [`Service`].
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(rename = "clusterIP", default)]
    cluster_ip: Option<String>,
    #[serde(default)]
    ports: Option<Vec<core::ServicePort>>,
}

/// Watches all services for as long as it lives.
pub struct Services {
    reader: Reader<Service>,
    _task: JoinSet<()>,
}

impl Services {
    /// Asked of the control plane by this client. Must be called in a tokio runtime.
    pub fn new(client: Client) -> Self {
        let (informer, reader) = Informer::<Service>::new(KubeApi::all(client), informer::Config::default());
        let mut task = JoinSet::new();
        task.spawn(informer.run());
        Self { reader, _task: task }
    }

    /// The variables of a pod in `namespace`. With `wait`, fails in upstream's words if the services were not read
    /// once yet; without, what is known so far has to do: pods from files start while the control plane is away.
    pub async fn variables(&self, namespace: &str, links: bool, wait: bool) -> Result<Vec<(String, String)>, String> {
        if wait && tokio::time::timeout(PATIENCE, self.reader.synced()).await.is_err() {
            return Err("services have not yet been read at least once, cannot construct envvars".to_owned());
        }
        let services: Vec<_> = self.reader.with(|services| {
            services
                .map(|service| service_env::Service {
                    namespace: service.metadata.namespace.clone().unwrap_or_default(),
                    name: service.metadata.name.clone().unwrap_or_default(),
                    cluster_ip: service.spec.cluster_ip.clone().unwrap_or_default(),
                    ports: service.spec.ports.clone().unwrap_or_default(),
                })
                .collect()
        });
        Ok(service_env::variables(&services, namespace, links))
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}
