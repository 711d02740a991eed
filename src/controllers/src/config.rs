//! How the cluster is to be: upstream's flags of `kube-controller-manager`, with their defaults.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bosun_client::lease::Terms;
use bosun_pki::Authority;

/// A range of addresses: the address it begins at, and the bits that are the same in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The first address.
    pub address: IpAddr,
    /// Bits of the network.
    pub prefix: u8,
}

/// How the cluster is to be.
#[derive(Clone)]
pub struct Config {
    /// Who this is among several controllers. One that is the same after a restart leads again at once.
    pub identity: String,
    /// How leadership is kept.
    pub terms: Terms,
    /// Controllers that don't run, by their names.
    pub disabled: Vec<String>,
    /// The certificates by which pods know the API server, in PEM: `ca.crt` in every namespace.
    pub root_ca: Option<String>,
    /// Who signs certificates; `None` where somebody else does.
    pub authority: Option<Arc<Authority>>,
    /// `--cluster-signing-duration`: how long certificates are valid at most.
    pub signing_duration: Duration,
    /// `--cluster-cidr`: the ranges that pods' addresses are taken from, at most one of each family; none where
    /// somebody else gives nodes their ranges.
    pub cluster_cidrs: Vec<Cidr>,
    /// `--node-cidr-mask-size-ipv4`.
    pub node_prefix_v4: u8,
    /// `--node-cidr-mask-size-ipv6`.
    pub node_prefix_v6: u8,
    /// `--node-monitor-grace-period`: without a sign of life for this time, a node's state is unknown.
    pub node_grace: Duration,
    /// `--node-eviction-rate`: nodes in a second whose pods are moved away.
    pub eviction_rate: f64,
    /// `--terminated-pod-gc-threshold`: pods that have ended, and are kept.
    pub finished_pods: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            identity: String::new(),
            terms: Terms::default(),
            disabled: Vec::new(),
            root_ca: None,
            authority: None,
            signing_duration: Duration::from_secs(365 * 24 * 3600),
            cluster_cidrs: Vec::new(),
            node_prefix_v4: 24,
            node_prefix_v6: 64,
            node_grace: Duration::from_secs(50),
            eviction_rate: 0.1,
            finished_pods: 12_500,
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
