//! What there is, as far as it was heard of: one informer of each kind for all controllers.

use bosun_client::{Index, Informer, ObjectKey, Reader, informer::Config};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinSet;

use crate::{
    cron_job::CronJob,
    daemon_set::DaemonSet,
    deployment::Deployment,
    job::{self, Job},
    objects::{
        DisruptionBudget, EndpointSlice, Endpoints, Lease, Namespace, Node, Pod, Quota, RootCa, Service,
        ServiceAccount, SigningRequest, controller_of,
    },
    replica_set::{ReplicaSet, ReplicationController},
    stateful_set::{Claim, StatefulSet},
    workload::revision::Revision,
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
        /// Deployments.
        deployments: Deployment;
        /// ReplicaSets.
        replica_sets: ReplicaSet;
        /// ReplicationControllers.
        replication_controllers: ReplicationController;
        /// StatefulSets.
        stateful_sets: StatefulSet;
        /// DaemonSets.
        daemon_sets: DaemonSet;
        /// Revisions of the templates of both.
        revisions: Revision;
        /// Claims of volumes.
        claims: Claim;
        /// Jobs.
        jobs: Job;
        /// CronJobs.
        cron_jobs: CronJob;
    }
    index {
        /// Pods that a Job has not counted, by the namespace and name of the Job.
        tracked_pods: pods of Pod, |pod: &Pod| job::tracker(pod);
        /// StatefulSets by their namespace.
        stateful_sets_by_namespace: stateful_sets of StatefulSet, |set: &StatefulSet| set.namespace();
        /// DaemonSets by their namespace.
        daemon_sets_by_namespace: daemon_sets of DaemonSet, |set: &DaemonSet| set.namespace();
        /// Revisions by the UID of their controller.
        revisions_by_controller: revisions of Revision, |revision: &Revision| owner(&revision.metadata);
        /// Revisions that nobody controls, by their namespace.
        orphan_revisions: revisions of Revision, |revision: &Revision| orphan(&revision.metadata);
        /// Jobs by their namespace.
        jobs_by_namespace: jobs of Job, |job: &Job| job.namespace();
        /// Jobs by the UID of their controller.
        jobs_by_controller: jobs of Job, |job: &Job| owner(&job.metadata);
        /// Pods that nobody controls, by their namespace.
        orphan_pods: pods of Pod, |pod: &Pod| orphan(&pod.metadata);
        /// ReplicaSets by the UID of their controller.
        replica_sets_by_controller: replica_sets of ReplicaSet, |set: &ReplicaSet| owner(&set.metadata);
        /// ReplicaSets that nobody controls, by their namespace.
        orphan_replica_sets: replica_sets of ReplicaSet, |set: &ReplicaSet| orphan(&set.metadata);
        /// Deployments by their namespace.
        deployments_by_namespace: deployments of Deployment, |deployment: &Deployment| deployment.namespace();
        /// ReplicaSets by their namespace.
        replica_sets_by_namespace: replica_sets of ReplicaSet, |set: &ReplicaSet| set.namespace();
        /// ReplicationControllers by their namespace.
        replication_controllers_by_namespace: replication_controllers of ReplicationController, |set: &ReplicationController| {
            set.namespace()
        };
        /// Pods by the UID of their controller.
        pods_by_controller: pods of Pod, |pod: &Pod| owner(&pod.metadata);
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

/// The UID of an object's controller.
fn owner(meta: &ObjectMeta) -> Option<String> {
    controller_of(meta).map(|owner| owner.uid.clone())
}

/// The namespace of an object that nobody controls.
fn orphan(meta: &ObjectMeta) -> Option<String> {
    if controller_of(meta).is_some() {
        return None;
    }
    meta.namespace.clone()
}
