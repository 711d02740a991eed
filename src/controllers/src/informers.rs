//! What there is, as far as it was heard of: one informer of each kind for all controllers.

use bosun_client::{Index, Informer, ObjectKey, Reader, informer::Config};
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinSet;

use crate::objects::{
    DisruptionBudget, EndpointSlice, Endpoints, Lease, Namespace, Node, Pod, Quota, RootCa, Service, ServiceAccount,
    SigningRequest, controller_of,
};

macro_rules! informers {
    (
        follow { $($(#[$doc:meta])* $name:ident: $object:ty $(, $select:expr)?;)* }
        index { $($(#[$index_doc:meta])* $index:ident: $reader:ident of $indexed:ty, $keys:expr;)* }
    ) => {
        /// Readers of each kind, and indexes of some.
        #[derive(Clone, Debug)]
        pub struct Informers {
            $($(#[$doc])* pub $name: Reader<$object>,)*
            $($(#[$index_doc])* pub $index: Index<$indexed, String>,)*
        }

        impl Informers {
            /// Begins to follow all kinds, each as a task of `tasks`.
            pub fn start(client: &Client, tasks: &mut JoinSet<()>) -> Self {
                $(
                    let config = Config::default();
                    $(let config = config.fields($select);)?
                    let (informer, $name) = Informer::<$object>::new(Api::all(client.clone()), config);
                    tasks.spawn(informer.run());
                )*
                $(let $index = $reader.index($keys);)*
                Self { $($name,)* $($index,)* }
            }
        }
    };
}

informers! {
    follow {
        /// Pods.
        pods: Pod;
        /// Nodes.
        nodes: Node;
        /// Their signs of life.
        node_leases: Lease, "metadata.namespace=kube-node-lease";
        /// Namespaces.
        namespaces: Namespace;
        /// Service accounts of the name `default`, one of which each namespace has.
        default_service_accounts: ServiceAccount, "metadata.name=default";
        /// The bundle of authorities of each namespace.
        root_cas: RootCa, "metadata.name=kube-root-ca.crt";
        /// Services.
        services: Service;
        /// Parts of their endpoints.
        endpoint_slices: EndpointSlice;
        /// Their endpoints in the old form.
        endpoints: Endpoints;
        /// Requests for certificates.
        signing_requests: SigningRequest;
        /// Budgets of disruptions.
        budgets: DisruptionBudget;
        /// Quotas.
        quotas: Quota;
    }
    index {
        /// Pods by the UID of their controller.
        pods_by_controller: pods of Pod, |pod: &Pod| controller_of(&pod.metadata).map(|owner| owner.uid.clone());
        /// Pods by their namespace.
        pods_by_namespace: pods of Pod, |pod: &Pod| pod.namespace();
        /// Pods by the node they are bound to.
        pods_by_node: pods of Pod, |pod: &Pod| pod.node().map(ToOwned::to_owned);
        /// Slices by the namespace and name of their service.
        slices_by_service: endpoint_slices of EndpointSlice, |slice: &EndpointSlice| service_of(slice);
        /// Services by their namespace.
        services_by_namespace: services of Service, |service: &Service| service.namespace();
    }
}

fn service_of(slice: &EndpointSlice) -> Option<String> {
    let name = slice.labels().get("kubernetes.io/service-name")?;
    Some(ObjectKey::new(slice.namespace()?, name).to_string())
}
