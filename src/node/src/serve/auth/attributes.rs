//! What a request amounts to, in the cluster's words: a verb on a part of the node (KEP-2862). Pure.

use http::Method;

/// A question to the cluster's authorizer: may somebody `verb` `nodes/<subresource>` of this name?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// `get`, `create` and so on.
    pub verb: &'static str,
    /// The part of the node.
    pub subresource: &'static str,
    /// The node.
    pub node_name: String,
}

/// What a request amounts to; one of these must be allowed, the finest first.
pub fn attributes(method: &Method, path: &str, node_name: &str) -> Vec<Attributes> {
    let verb = match *method {
        Method::POST => "create",
        Method::GET => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    };
    let within = |root: &str| {
        path.strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let subresources: &[&str] = match () {
        () if within("/stats") => &["stats"],
        () if within("/metrics") => &["metrics"],
        () if within("/logs") => &["log"],
        () if within("/checkpoint") => &["checkpoint"],
        () if within("/pods") || within("/runningpods") => &["pods", "proxy"],
        () if within("/healthz") => &["healthz", "proxy"],
        () if within("/configz") => &["configz", "proxy"],
        () => &["proxy"],
    };
    let question = |subresource: &&'static str| Attributes {
        verb,
        subresource,
        node_name: node_name.to_owned(),
    };
    subresources.iter().map(question).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_a_part_of_the_node() {
        for (method, path, verb, parts) in [
            (Method::GET, "/pods", "get", &["pods", "proxy"][..]),
            (Method::GET, "/podsandmore", "get", &["proxy"]),
            (Method::GET, "/runningpods/", "get", &["pods", "proxy"]),
            (Method::GET, "/healthz/ping", "get", &["healthz", "proxy"]),
            (Method::GET, "/configz", "get", &["configz", "proxy"]),
            (Method::GET, "/stats/summary", "get", &["stats"]),
            (Method::GET, "/metrics/resource", "get", &["metrics"]),
            (Method::GET, "/logs/", "get", &["log"]),
            (Method::GET, "/containerLogs/a/b/c", "get", &["proxy"]),
            (Method::POST, "/exec/a/b/c", "create", &["proxy"]),
            (Method::GET, "/exec/a/b/c", "get", &["proxy"]),
            (Method::HEAD, "/pods", "", &["pods", "proxy"]),
        ] {
            let found = attributes(&method, path, "n1");
            let subresources: Vec<_> = found.iter().map(|one| one.subresource).collect();
            assert_eq!(subresources, parts, "{path}");
            assert!(
                found.iter().all(|one| one.verb == verb && one.node_name == "n1"),
                "{path}"
            );
        }
    }
}
