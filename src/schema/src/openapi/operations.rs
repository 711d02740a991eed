//! What can be asked of the server: every path and method of a resource, as upstream names and marks them.

use crate::resources::ResourceFacts;

use super::{
    CustomResource,
    parameters::{
        ANY, CUSTOM, CUSTOM_STREAM, DELETE, DELETE_COLLECTION, GROUPS, LIST, LOG, PATCH, READ, STREAM, TEXT, WRITE,
    },
};

/// One operation.
#[derive(Debug)]
pub(super) struct Operation {
    pub path: String,
    /// In lower case.
    pub method: &'static str,
    /// Such as `readCoreV1NamespacedPod`.
    pub id: String,
    /// Such as `core_v1`.
    pub tag: String,
    /// `x-kubernetes-action`.
    pub action: Option<&'static str>,
    /// `x-kubernetes-group-version-kind`.
    pub kind: Option<[String; 3]>,
    pub body: Body,
    pub answer: Answer,
    /// Codes beside 200 with the same answer.
    pub also: &'static [u16],
    /// Names of [`PARAMETERS`](super::parameters::PARAMETERS).
    pub query: &'static [&'static str],
    pub produces: &'static [&'static str],
}

/// What is sent.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Nothing,
    /// An object of this schema, which must be there.
    Object(String),
    /// Any sort of patch.
    Patch,
    /// `DeleteOptions`, if any.
    Options,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// An object of this schema.
    Object(String),
    Text,
    /// Nothing is said of it.
    Unsaid,
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// A resource, built in or custom, as far as its operations go.
struct Row<'a> {
    group: &'a str,
    version: &'a str,
    plural: &'a str,
    kind: &'a str,
    /// Schemas of objects and lists.
    schema: String,
    list_schema: Option<String>,
    namespaced: bool,
    verbs: Vec<&'a str>,
    returns_deleted: bool,
    subresources: Vec<Sub<'a>>,
    custom: bool,
}

struct Sub<'a> {
    name: &'a str,
    kind: [String; 3],
    /// `None` if it is connected to or answered as text.
    schema: Option<String>,
    verbs: Vec<&'a str>,
}

/// Every operation of a built-in resource.
pub(super) fn of_resource(resource: &ResourceFacts) -> Vec<Operation> {
    let name = |ty| super::name_of(ty).to_owned();
    let subresources = resource.subresources.iter().map(|sub| Sub {
        name: sub.name,
        kind: [sub.group, sub.version, sub.kind].map(str::to_owned),
        schema: sub.ty.map(name),
        verbs: sub.verbs.clone(),
    });
    Row {
        group: resource.group,
        version: resource.version,
        plural: resource.plural,
        kind: resource.kind,
        schema: name(resource.ty),
        list_schema: resource.list_ty.map(name),
        namespaced: resource.namespaced,
        verbs: resource.verbs.clone(),
        returns_deleted: resource.returns_deleted,
        subresources: subresources.collect(),
        custom: false,
    }
    .operations()
}

/// Every operation of a custom resource.
pub(super) fn of_custom(custom: &CustomResource<'_>) -> Vec<Operation> {
    const STATUS: &[&str] = &["get", "patch", "update"];
    let schema = custom.schema_name();
    let mut subresources = Vec::new();
    if custom.status {
        let kind = [custom.group, custom.version, custom.kind].map(str::to_owned);
        subresources.push(Sub {
            name: "status",
            kind,
            schema: Some(schema.clone()),
            verbs: STATUS.to_vec(),
        });
    }
    if custom.scale {
        let kind = ["autoscaling", "v1", "Scale"].map(str::to_owned);
        let schema = Some("io.k8s.api.autoscaling.v1.Scale".to_owned());
        subresources.push(Sub {
            name: "scale",
            kind,
            schema,
            verbs: STATUS.to_vec(),
        });
    }
    Row {
        group: custom.group,
        version: custom.version,
        plural: custom.plural,
        kind: custom.kind,
        list_schema: Some(custom.list_schema_name()),
        schema,
        namespaced: custom.namespaced,
        verbs: vec![
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch",
        ],
        returns_deleted: false,
        subresources,
        custom: true,
    }
    .operations()
}

/// The operation that tells what a group's version has.
pub(super) fn of_version(group: &str, version: &str) -> Operation {
    plain(
        format!("{}/", base(group, version)),
        format!("get{}{}APIResources", pascal(group), upper(version)),
        format!("{}_{version}", camel(group)),
        "APIResourceList",
    )
}

/// The operation that tells what versions a group has.
pub(super) fn of_group(group: &str) -> Operation {
    if group.is_empty() {
        return plain(
            "/api/".to_owned(),
            "getCoreAPIVersions".to_owned(),
            "core".to_owned(),
            "APIVersions",
        );
    }
    let id = format!("get{}APIGroup", pascal(group));
    plain(format!("/apis/{group}/"), id, camel(group), "APIGroup")
}

/// The operation that tells what groups there are.
pub(super) fn of_groups() -> Operation {
    plain(
        "/apis/".to_owned(),
        "getAPIVersions".to_owned(),
        "apis".to_owned(),
        "APIGroupList",
    )
}

/// Operations beside those of groups.
pub(super) fn of_server() -> Vec<Operation> {
    let text = |path: &str, id: &str, tag: &str, produces| Operation {
        answer: Answer::Text,
        produces,
        ..plain(path.to_owned(), id.to_owned(), tag.to_owned(), "")
    };
    vec![
        text(
            "/.well-known/openid-configuration/",
            "getServiceAccountIssuerOpenIDConfiguration",
            "WellKnown",
            &["application/json"],
        ),
        text(
            "/openid/v1/jwks/",
            "getServiceAccountIssuerOpenIDKeyset",
            "openid",
            &["application/jwk-set+json"],
        ),
        Operation {
            answer: Answer::Object("io.k8s.apimachinery.pkg.version.Info".to_owned()),
            produces: &["application/json"],
            ..plain(
                "/version/".to_owned(),
                "getCodeVersion".to_owned(),
                "version".to_owned(),
                "",
            )
        },
    ]
}

fn plain(path: String, id: String, tag: String, answer: &str) -> Operation {
    Operation {
        path,
        method: "get",
        id,
        tag,
        action: None,
        kind: None,
        body: Body::Nothing,
        answer: Answer::Object(format!("{META}.{answer}")),
        also: &[],
        query: &[],
        produces: GROUPS,
    }
}

impl Row<'_> {
    fn operations(&self) -> Vec<Operation> {
        let mut all = Vec::new();
        let base = base(self.group, self.version);
        let scope = if self.namespaced { "namespaces/{namespace}/" } else { "" };
        let collection = format!("{base}/{scope}{}", self.plural);
        let item = format!("{collection}/{{name}}");
        let own = || Answer::Object(self.schema.clone());
        let status = || Answer::Object(format!("{META}.Status"));
        let body = || Body::Object(self.schema.clone());
        for verb in &self.verbs {
            match *verb {
                "create" => all.push(Operation {
                    body: body(),
                    also: &[201, 202],
                    ..self.operation(&collection, "post", "post", "create", own(), WRITE)
                }),
                "update" => all.push(Operation {
                    body: body(),
                    also: &[201],
                    ..self.operation(&item, "put", "put", "replace", own(), WRITE)
                }),
                "patch" => all.push(Operation {
                    body: Body::Patch,
                    also: &[201],
                    ..self.operation(&item, "patch", "patch", "patch", own(), PATCH)
                }),
                "delete" => all.push(Operation {
                    body: Body::Options,
                    also: &[202],
                    ..self.operation(
                        &item,
                        "delete",
                        "delete",
                        "delete",
                        if self.returns_deleted { own() } else { status() },
                        DELETE,
                    )
                }),
                "deletecollection" => all.push(Operation {
                    id: self.id("delete", "Collection", self.namespaced, ""),
                    body: Body::Options,
                    ..self.operation(
                        &collection,
                        "delete",
                        "deletecollection",
                        "",
                        status(),
                        DELETE_COLLECTION,
                    )
                }),
                "get" => all.push(self.operation(&item, "get", "get", "read", own(), READ)),
                "list" => self.lists(&base, &collection, &mut all),
                "watch" => self.watches(&base, scope, &mut all),
                _ => {}
            }
        }
        for sub in &self.subresources {
            self.subresource(sub, &item, &mut all);
        }
        all
    }

    fn lists(&self, base: &str, collection: &str, all: &mut Vec<Operation>) {
        let answer = || self.list_schema.clone().map_or(Answer::Unsaid, Answer::Object);
        let produces = if self.custom { CUSTOM_STREAM } else { STREAM };
        all.push(Operation {
            produces,
            ..self.operation(collection, "get", "list", "list", answer(), LIST)
        });
        if self.namespaced {
            let path = format!("{base}/{}", self.plural);
            all.push(Operation {
                produces,
                id: self.id("list", "", false, "ForAllNamespaces"),
                ..self.operation(&path, "get", "list", "", answer(), LIST)
            });
        }
    }

    fn watches(&self, base: &str, scope: &str, all: &mut Vec<Operation>) {
        // Long deprecated in favour of a list's `watch`, and never there for custom resources.
        if self.custom {
            return;
        }
        let path = format!("{base}/watch/{scope}{}", self.plural);
        let mut watch = |path: &str, action, id| {
            all.push(Operation {
                produces: STREAM,
                id,
                ..self.operation(
                    path,
                    "get",
                    action,
                    "",
                    Answer::Object(format!("{META}.WatchEvent")),
                    LIST,
                )
            });
        };
        watch(&path, "watchlist", self.id("watch", "", self.namespaced, "List"));
        watch(
            &format!("{path}/{{name}}"),
            "watch",
            self.id("watch", "", self.namespaced, ""),
        );
        if self.namespaced {
            let everywhere = format!("{base}/watch/{}", self.plural);
            watch(
                &everywhere,
                "watchlist",
                self.id("watch", "", false, "ListForAllNamespaces"),
            );
        }
    }

    fn subresource(&self, sub: &Sub<'_>, item: &str, all: &mut Vec<Operation>) {
        let path = format!("{item}/{}", sub.name);
        let suffix = upper(sub.name);
        let operation = |method, action, prefix: &str, answer, query| Operation {
            kind: Some(sub.kind.clone()),
            id: self.id(prefix, "", self.namespaced, &suffix),
            ..self.operation(&path, method, action, "", answer, query)
        };
        let Some(schema) = &sub.schema else {
            if sub.name == "log" {
                all.push(Operation {
                    produces: TEXT,
                    ..operation("get", "get", "read", Answer::Text, LOG)
                });
            } else {
                self.connections(sub, &path, all);
            }
            return;
        };
        let (body, answer) = (|| Body::Object(schema.clone()), || Answer::Object(schema.clone()));
        for verb in &sub.verbs {
            all.push(match *verb {
                "get" => operation("get", "get", "read", answer(), READ),
                "create" => Operation {
                    body: body(),
                    also: &[201, 202],
                    ..operation("post", "post", "create", answer(), WRITE)
                },
                "update" => Operation {
                    body: body(),
                    also: &[201],
                    ..operation("put", "put", "replace", answer(), WRITE)
                },
                "patch" => Operation {
                    body: Body::Patch,
                    also: &[201],
                    ..operation("patch", "patch", "patch", answer(), PATCH)
                },
                other => unreachable!("no subresource has the verb {other}"),
            });
        }
    }

    fn connections(&self, sub: &Sub<'_>, path: &str, all: &mut Vec<Operation>) {
        let (query, methods): (&[&str], &[&str]) = match sub.name {
            "exec" => (
                &["command", "container", "stderr", "stdin", "stdout", "tty"],
                &["get", "post"],
            ),
            "attach" => (&["container", "stderr", "stdin", "stdout", "tty"], &["get", "post"]),
            "portforward" => (&["ports"], &["get", "post"]),
            _ => (&["path"], &["delete", "get", "head", "options", "patch", "post", "put"]),
        };
        let deeper = format!("{path}/{{path}}");
        let paths = if sub.name == "proxy" {
            vec![(path, ""), (deeper.as_str(), "WithPath")]
        } else {
            vec![(path, "")]
        };
        for (path, suffix) in paths {
            for method in methods {
                all.push(Operation {
                    kind: Some(sub.kind.clone()),
                    id: self.id(
                        "connect",
                        &upper(method),
                        self.namespaced,
                        &format!("{}{suffix}", upper(sub.name)),
                    ),
                    produces: ANY,
                    ..self.operation(path, method, "connect", "", Answer::Text, query)
                });
            }
        }
    }

    fn operation(
        &self,
        path: &str,
        method: &'static str,
        action: &'static str,
        prefix: &str,
        answer: Answer,
        query: &'static [&'static str],
    ) -> Operation {
        Operation {
            path: path.to_owned(),
            method,
            id: self.id(prefix, "", self.namespaced, ""),
            tag: format!("{}_{}", camel(self.group), self.version),
            action: Some(action),
            kind: Some([self.group, self.version, self.kind].map(str::to_owned)),
            body: Body::Nothing,
            answer,
            also: &[],
            query,
            produces: if self.custom { CUSTOM } else { GROUPS },
        }
    }

    fn id(&self, prefix: &str, middle: &str, namespaced: bool, suffix: &str) -> String {
        let scope = if namespaced { "Namespaced" } else { "" };
        format!(
            "{prefix}{}{}{middle}{scope}{}{suffix}",
            pascal(self.group),
            upper(self.version),
            self.kind
        )
    }
}

/// The path of a group's version.
pub(super) fn base(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

/// `rbac.authorization.k8s.io` as `RbacAuthorization`.
fn pascal(group: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    group.trim_end_matches(".k8s.io").split(['.', '-']).map(upper).collect()
}

/// `rbac.authorization.k8s.io` as `rbacAuthorization`.
fn camel(group: &str) -> String {
    let name = pascal(group);
    let mut letters = name.chars();
    letters
        .next()
        .map(|first| first.to_lowercase().chain(letters).collect())
        .unwrap_or_default()
}

fn upper(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}
