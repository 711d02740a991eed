//! Names of users and groups that mean something.

/// Who has not said who they are.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of whoever has.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of whoever has not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// May do anything; nothing can take that away.
pub const MASTERS: &str = "system:masters";
/// The group of nodes.
pub const NODES: &str = "system:nodes";
/// How nodes' names as users begin.
pub const NODE_PREFIX: &str = "system:node:";
/// The group of all service accounts.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// How service accounts' names as users begin.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// `system:serviceaccount:<namespace>:<name>`.
pub fn service_account(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

/// The namespace and name in a service account's name as a user.
pub fn split_service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    let fits = bosun_api::names::dns_label(namespace).is_ok() && bosun_api::names::dns_subdomain(name).is_ok();
    fits.then_some((namespace, name))
}

/// The groups of every service account of a namespace.
pub fn service_account_groups(namespace: &str) -> Vec<String> {
    vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")]
}

/// What a user is as a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeIdentity<'a> {
    /// Not a node.
    None,
    /// In the nodes' group, but with a name that is no node's.
    Unknown,
    /// This node.
    Node(&'a str),
}

/// Which node a user is.
pub fn node_identity(user: &crate::User) -> NodeIdentity<'_> {
    let Some(name) = user.name.strip_prefix(NODE_PREFIX) else {
        return NodeIdentity::None;
    };
    if !user.groups.iter().any(|group| group == NODES) {
        return NodeIdentity::None;
    }
    if name.is_empty() {
        NodeIdentity::Unknown
    } else {
        NodeIdentity::Node(name)
    }
}
