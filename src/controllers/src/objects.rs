//! What controllers read of each kind.
//!
//! Lists and maps are empty where the API has none. What a controller alone reads of its own kind is in its own module;
//! a kind that several read is here, and there is one informer of it.

pub mod pod;

use std::collections::BTreeMap;

use bosun_client::projected;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        certificates::v1 as certificates, coordination::v1 as coordination, core::v1 as core,
        discovery::v1 as discovery, policy::v1 as policy,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use serde::Deserialize;

pub use self::pod::Pod;

projected! {
    /// A node.
    pub struct Node: core::Node {
        /// What is wanted of it.
        pub spec: NodeSpec,
        /// How it is.
        pub status: NodeStatus,
    }
}

/// What is read of a node's `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSpec {
    /// What pods must tolerate.
    pub taints: Vec<core::Taint>,
    /// New pods shall go elsewhere.
    pub unschedulable: bool,
    /// The ranges of its pods' addresses, one of each family.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
}

/// What is read of a node's `status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeStatus {
    /// How it is.
    pub conditions: Vec<NodeCondition>,
    /// Where it is reached.
    pub addresses: Vec<core::NodeAddress>,
}

/// A condition of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeCondition {
    /// Such as `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// When it was last told.
    pub last_heartbeat_time: Option<Timestamp>,
}

projected! {
    /// A namespace.
    pub struct Namespace: core::Namespace, without annotations {
        /// What holds it.
        pub spec: NamespaceSpec,
        /// Where it is in its life.
        pub status: NamespaceStatus,
    }
}

/// What is read of a namespace's `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NamespaceSpec {
    /// What must be done before it is gone.
    pub finalizers: Vec<String>,
}

/// What is read of a namespace's `status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NamespaceStatus {
    /// `Active` or `Terminating`.
    pub phase: String,
    /// What hinders its deletion.
    pub conditions: Vec<core::NamespaceCondition>,
}

projected! {
    /// A service account: that it is there.
    pub struct ServiceAccount: core::ServiceAccount, without annotations {}
}

projected! {
    /// The bundle of authorities that each namespace has.
    pub struct RootCa: core::ConfigMap {
        /// `ca.crt`.
        pub data: BTreeMap<String, String>,
    }
}

projected! {
    /// A sign of life of a node.
    pub struct Lease: coordination::Lease, without annotations {
        /// When it was given.
        pub spec: LeaseSpec,
    }
}

/// What is read of a lease's `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LeaseSpec {
    /// By the holder's clock.
    pub renew_time: Option<Timestamp>,
}

projected! {
    /// A service.
    pub struct Service: core::Service {
        /// What it is.
        pub spec: ServiceSpec,
    }
}

/// What is read of a service's `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Pods that serve it; whoever has none keeps its endpoints by hand.
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    pub ports: Vec<core::ServicePort>,
    /// Its own address, or `None`.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// The families of its addresses.
    pub ip_families: Vec<String>,
    /// Whether pods that aren't ready are told of as if they were.
    pub publish_not_ready_addresses: bool,
}

projected! {
    /// A part of a service's endpoints.
    pub struct EndpointSlice: discovery::EndpointSlice {
        /// The family of its addresses.
        pub address_type: String,
        /// Where the service is served.
        pub endpoints: Vec<discovery::Endpoint>,
        /// At which ports.
        pub ports: Vec<discovery::EndpointPort>,
    }
}

projected! {
    /// All of a service's endpoints, in the form that came before slices.
    pub struct Endpoints: core::Endpoints {
        /// Addresses that have the same ports.
        pub subsets: Vec<core::EndpointSubset>,
    }
}

projected! {
    /// A request for a certificate.
    pub struct SigningRequest: certificates::CertificateSigningRequest {
        /// What is asked.
        pub spec: SigningRequestSpec,
        /// What was answered.
        pub status: SigningRequestStatus,
    }
}

/// What is read of a request's `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SigningRequestSpec {
    /// The request itself (PKCS#10), in PEM.
    pub request: k8s_openapi::ByteString,
    /// By which rules it is signed.
    pub signer_name: String,
    /// How long it shall be valid.
    pub expiration_seconds: Option<i64>,
    /// For what the key is to be used.
    pub usages: Vec<String>,
    /// Who asks; the API server says so.
    pub username: String,
    /// Their groups.
    pub groups: Vec<String>,
    /// Their UID.
    pub uid: String,
    /// What else is known of them.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What is read of a request's `status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SigningRequestStatus {
    /// The certificate.
    pub certificate: Option<k8s_openapi::ByteString>,
    /// `Approved`, `Denied`, `Failed`.
    pub conditions: Vec<certificates::CertificateSigningRequestCondition>,
}

projected! {
    /// How many pods must be there, or may be away.
    pub struct DisruptionBudget: policy::PodDisruptionBudget {
        /// What is wanted.
        pub spec: policy::PodDisruptionBudgetSpec,
        /// What was counted.
        pub status: policy::PodDisruptionBudgetStatus,
    }
}

projected! {
    /// How much a namespace may have.
    pub struct Quota: core::ResourceQuota {
        /// What is wanted.
        pub spec: core::ResourceQuotaSpec,
        /// What was counted.
        pub status: core::ResourceQuotaStatus,
    }
}

/// The owner of an object that controls it.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true))
}
