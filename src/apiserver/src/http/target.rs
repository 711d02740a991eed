//! What a path and a method mean: a verb on a resource, or a path of its own.

use std::borrow::Cow;

use http::Method;

use super::query::{self, Query};

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for a path without a resource
    /// the method in lower case.
    pub verb: &'static str,
    /// The path with its escapes resolved, as it was sent otherwise.
    pub path: String,
    /// The resource, if the path names one.
    pub resource: Option<ResourcePath>,
}

/// The parts of `/api/v1/namespaces/x/pods/y/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcePath {
    /// Empty for the core group.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Empty across namespaces. Of the namespace itself it is its own name, so that a role in it may speak of it.
    pub namespace: String,
    /// Such as `pods`.
    pub plural: String,
    /// Empty for collections.
    pub name: String,
    /// Such as `status`; empty for the object itself.
    pub subresource: String,
    /// What follows the subresource (`proxy/…`), without the slash between.
    pub rest: String,
}

/// A path whose escapes are not escapes, or not of UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path has an escape that is not one, or is not UTF-8")]
pub struct BadPath;

impl Target {
    /// Reads a request line.
    pub fn parse(method: &Method, path: &str, query: &Query) -> Result<Self, BadPath> {
        let path = decode(path).ok_or(BadPath)?.into_owned();
        let (resource, deprecated_watch) = resource_path(&path);
        let verb = match &resource {
            None => method_verb(method),
            Some(_) if deprecated_watch => "watch",
            Some(resource) => verb(method, resource, query),
        };
        Ok(Self { verb, path, resource })
    }

    /// Whether it may last as long as the client likes, and so is not counted among the requests in flight.
    pub fn long_running(&self) -> bool {
        self.resource.is_some() && self.verb == "watch" || self.passes_on()
    }

    /// Whether it is answered elsewhere: by a node, a pod or a service.
    pub fn passes_on(&self) -> bool {
        let sub = self.resource.as_ref().map(|resource| &*resource.subresource);
        matches!(sub, Some("attach" | "exec" | "log" | "portforward" | "proxy"))
    }

    /// Whether it changes nothing.
    pub fn read_only(&self) -> bool {
        matches!(self.verb, "get" | "list" | "watch" | "head" | "options")
    }
}

fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

fn verb(method: &Method, resource: &ResourcePath, query: &Query) -> &'static str {
    let collection = resource.name.is_empty();
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if collection => "deletecollection",
        Method::DELETE => "delete",
        Method::GET | Method::HEAD if !collection => "get",
        Method::GET | Method::HEAD if query.get("watch").is_some_and(query::truth) => "watch",
        Method::GET | Method::HEAD => "list",
        _ => "",
    }
}

/// The resource a path names, and whether by the deprecated `/watch/`.
fn resource_path(path: &str) -> (Option<ResourcePath>, bool) {
    let path = path.trim_matches('/');
    let mut parts: Vec<&str> = path.split('/').collect();
    let mut resource = ResourcePath::default();
    match parts[..] {
        ["api", version, _, ..] => {
            version.clone_into(&mut resource.version);
            parts.drain(..2);
        }
        ["apis", group, version, _, ..] => {
            group.clone_into(&mut resource.group);
            version.clone_into(&mut resource.version);
            parts.drain(..3);
        }
        _ => return (None, false),
    }
    let watch = parts.len() > 1 && parts[0] == "watch";
    if watch {
        parts.remove(0);
    }
    if let ["namespaces", namespace, rest @ ..] = &parts[..] {
        (*namespace).clone_into(&mut resource.namespace);
        // A namespace's own subresources; anything else below it is a resource in it.
        if !matches!(rest, [] | ["status" | "finalize", ..]) {
            parts.drain(..2);
        }
    }
    let mut parts = parts.into_iter();
    let mut next = || parts.next().unwrap_or_default().to_owned();
    resource.plural = next();
    resource.name = next();
    resource.subresource = next();
    resource.rest = parts.collect::<Vec<_>>().join("/");
    (Some(resource), watch)
}

/// Resolves `%2F`; `None` for what is no escape or no UTF-8.
pub(super) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            (digit()? * 16 + digit()?) as u8
        } else {
            byte
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(line: &str) -> Target {
        let (method, uri) = line.split_once(' ').unwrap();
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        Target::parse(&method.parse().unwrap(), path, &Query::parse(query).unwrap()).unwrap()
    }

    #[test]
    fn a_path_and_a_method_make_a_verb_on_a_resource() {
        // verb, group, version, namespace, plural, name, subresource, rest
        let table = [
            ("GET /api/v1/pods", ["list", "", "v1", "", "pods", "", "", ""]),
            ("GET /api/v1/pods?watch=1", ["watch", "", "v1", "", "pods", "", "", ""]),
            ("GET /api/v1/pods?watch", ["watch", "", "v1", "", "pods", "", "", ""]),
            (
                "GET /api/v1/pods?watch=False",
                ["list", "", "v1", "", "pods", "", "", ""],
            ),
            ("GET /api/v1/pods?watch=0", ["list", "", "v1", "", "pods", "", "", ""]),
            (
                "GET /api/v1/namespaces",
                ["list", "", "v1", "", "namespaces", "", "", ""],
            ),
            (
                "GET /api/v1/namespaces/a",
                ["get", "", "v1", "a", "namespaces", "a", "", ""],
            ),
            (
                "PUT /api/v1/namespaces/a/finalize",
                ["update", "", "v1", "a", "namespaces", "a", "finalize", ""],
            ),
            (
                "GET /api/v1/namespaces/a/pods/",
                ["list", "", "v1", "a", "pods", "", "", ""],
            ),
            (
                "POST /api/v1/namespaces/a/pods",
                ["create", "", "v1", "a", "pods", "", "", ""],
            ),
            (
                "DELETE /api/v1/namespaces/a/pods",
                ["deletecollection", "", "v1", "a", "pods", "", "", ""],
            ),
            (
                "DELETE /api/v1/namespaces/a/pods/b",
                ["delete", "", "v1", "a", "pods", "b", "", ""],
            ),
            (
                "PATCH /apis/apps/v1/namespaces/a/deployments/b/scale",
                ["patch", "apps", "v1", "a", "deployments", "b", "scale", ""],
            ),
            (
                "GET /api/v1/namespaces/a/pods/b/proxy/x/y?watch=1",
                ["get", "", "v1", "a", "pods", "b", "proxy", "x/y"],
            ),
            (
                "GET /api/v1/watch/namespaces/a/pods/b",
                ["watch", "", "v1", "a", "pods", "b", "", ""],
            ),
            ("GET /api/v1/watch/pods", ["watch", "", "v1", "", "pods", "", "", ""]),
            (
                "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                [
                    "get",
                    "rbac.authorization.k8s.io",
                    "v1",
                    "",
                    "clusterroles",
                    "system:node",
                    "",
                    "",
                ],
            ),
            ("HEAD /api/v1/nodes/n", ["get", "", "v1", "", "nodes", "n", "", ""]),
        ];
        for (line, expected) in table {
            let target = parse(line);
            let r = target.resource.expect(line);
            let found = [
                target.verb,
                &r.group,
                &r.version,
                &r.namespace,
                &r.plural,
                &r.name,
                &r.subresource,
                &r.rest,
            ];
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn paths_without_a_resource_keep_their_method() {
        for (line, verb) in [
            ("GET /", "get"),
            ("GET /api", "get"),
            ("GET /api/v1", "get"),
            ("GET /apis/apps/v1/", "get"),
            ("POST /healthz", "post"),
            ("GET /openapi/v3/apis/apps/v1", "get"),
        ] {
            let target = parse(line);
            assert_eq!((target.verb, target.resource), (verb, None), "{line}");
        }
    }

    #[test]
    fn what_lasts_is_told_from_what_is_counted() {
        for (line, long) in [
            ("GET /api/v1/pods?watch=true", true),
            ("GET /api/v1/namespaces/a/pods/b/log", true),
            ("POST /api/v1/namespaces/a/pods/b/exec", true),
            ("GET /api/v1/pods", false),
            ("GET /healthz?watch=true", false),
        ] {
            assert_eq!(parse(line).long_running(), long, "{line}");
        }
    }

    #[test]
    fn a_broken_escape_is_refused() {
        for path in ["/api/v1/pods/%", "/api/v1/pods/%2", "/%zz", "/%ff"] {
            assert_eq!(
                Target::parse(&Method::GET, path, &Query::default()),
                Err(BadPath),
                "{path}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_path_is_read_without_a_panic(path in "(/|api|apis|v1|watch|namespaces|status|%2[fF]|%|[a-z])*") {
            let _ = Target::parse(&Method::GET, &path, &Query::default());
        }

        #[test]
        fn escaping_everything_changes_nothing(text in "[ -~é]{0,20}") {
            let escaped = text.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
            prop_assert_eq!(decode(&escaped).unwrap(), text);
        }
    }
}
