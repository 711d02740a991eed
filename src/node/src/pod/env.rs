//! A container's environment: services, literals, the downward API, and `$(NAME)` expansion. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use bosun_api::{
    Quantity,
    core::{Container, EnvFromSource, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector},
    expand,
};

use super::payload::Found;
use crate::api::objects::{Kind, ObjectRef};

/// What a container's environment may refer to besides the pod itself.
#[derive(Clone, Debug, Default)]
pub struct EnvContext<'a> {
    /// The node's name.
    pub node_name: &'a str,
    /// The node's addresses.
    pub host_addresses: &'a [IpAddr],
    /// The pod's addresses.
    pub pod_addresses: &'a [IpAddr],
    /// Processor time this node offers pods, in thousandths: what an absent limit stands for.
    pub allocatable_milli_cpu: i64,
    /// Memory this node offers pods, in bytes.
    pub allocatable_memory: i64,
    /// The variables that tell of services; the container's own count more.
    pub services: &'a [(String, String)],
    /// The objects that the environment is from; `None` in a pod that has no control plane.
    pub objects: Option<&'a Found>,
}

/// The environment in the order of the spec; of a name given twice the last value holds.
///
/// Fails with what can't be resolved, for a person.
pub fn environment(
    pod: &Pod,
    container: &Container,
    context: &EnvContext<'_>,
) -> Result<Vec<(String, String)>, String> {
    let mut env = context.services.to_vec();
    for source in container.env_from.iter().flatten() {
        for (name, value) in all_of(pod, source, context)? {
            set(&mut env, name, value);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) => match keyed(pod, source, context)? {
                Keyed::Value(value) => value,
                // The variable is not there, either.
                Keyed::Absent => continue,
                Keyed::Otherwise => sourced(pod, container, source, context)
                    .map_err(|problem| format!("environment variable {}: {problem}", variable.name))?,
            },
            (value, None) => expand(value.as_deref().unwrap_or_default(), |name| lookup(&env, name)).into_owned(),
        };
        set(&mut env, variable.name.clone(), value);
    }
    Ok(env)
}

fn set(env: &mut Vec<(String, String)>, name: String, value: String) {
    match env.iter_mut().find(|(known, _)| *known == name) {
        Some((_, earlier)) => *earlier = value,
        None => env.push((name, value)),
    }
}

/// The object that a pod means, as it is: `None` if it is not there.
fn object<'a>(
    pod: &Pod,
    kind: Kind,
    name: &str,
    context: &EnvContext<'a>,
) -> Result<Option<&'a BTreeMap<String, Vec<u8>>>, String> {
    let objects = context
        .objects
        .ok_or("its source needs an API server, which a pod from a file does not have")?;
    let object = ObjectRef {
        kind,
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: name.to_owned(),
    };
    let found = objects.get(&object).and_then(Option::as_ref);
    Ok(found.map(|payload| &payload.data))
}

/// All values of an object, for `envFrom`. Keys that can't be names are left out.
fn all_of(pod: &Pod, source: &EnvFromSource, context: &EnvContext<'_>) -> Result<Vec<(String, String)>, String> {
    let map = source.config_map_ref.as_ref();
    let map = map.map(|map| (Kind::ConfigMap, &map.name, map.optional));
    let secret = source.secret_ref.as_ref();
    let Some((kind, name, optional)) = map.or(secret.map(|secret| (Kind::Secret, &secret.name, secret.optional)))
    else {
        return Ok(vec![]);
    };
    let Some(data) = object(pod, kind, name, context)? else {
        return if optional == Some(true) {
            Ok(vec![])
        } else {
            Err(format!("{} {name:?} not found", kind.as_str()))
        };
    };
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let all = data.iter().map(|(key, value)| (format!("{prefix}{key}"), text(value)));
    Ok(all.filter(|(name, _)| is_name(name)).collect())
}

/// What a variable may be called: printable ASCII, and no `=`.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// What a variable's source says of an object's key.
enum Keyed {
    /// The key's value.
    Value(String),
    /// There is none, and need not be.
    Absent,
    /// It is a source of another kind.
    Otherwise,
}

/// The value of an object's key, if the source is one. Fails with what is missing.
fn keyed(pod: &Pod, source: &EnvVarSource, context: &EnvContext<'_>) -> Result<Keyed, String> {
    let map = source.config_map_key_ref.as_ref();
    let map = map.map(|of| (Kind::ConfigMap, "ConfigMap", &of.name, &of.key, of.optional));
    let secret = source.secret_key_ref.as_ref();
    let secret = secret.map(|of| (Kind::Secret, "Secret", &of.name, &of.key, of.optional));
    let Some((kind, kind_name, name, key, optional)) = map.or(secret) else {
        return Ok(Keyed::Otherwise);
    };
    let data = object(pod, kind, name, context)?;
    match data.map(|data| data.get(key)) {
        Some(Some(value)) => Ok(Keyed::Value(text(value))),
        _ if optional == Some(true) => Ok(Keyed::Absent),
        None => Err(format!("{} {name:?} not found", kind.as_str())),
        Some(None) => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            Err(format!("couldn't find key {key} in {kind_name} {namespace}/{name}"))
        }
    }
}

/// A command or its arguments, with `$(NAME)` expanded.
pub fn expand_words(words: Option<&Vec<String>>, env: &[(String, String)]) -> Vec<String> {
    let words = words.into_iter().flatten();
    words
        .map(|word| expand(word, |name| lookup(env, name)).into_owned())
        .collect()
}

fn lookup(env: &[(String, String)], name: &str) -> Option<String> {
    env.iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.clone())
}

fn sourced(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    context: &EnvContext<'_>,
) -> Result<String, String> {
    if let Some(field) = &source.field_ref {
        field_value(pod, field, context)
    } else if let Some(resource) = &source.resource_field_ref {
        resource_value(pod, container, resource, context)
    } else {
        Err("it has no source that this node knows".into())
    }
}

fn field_value(pod: &Pod, field: &ObjectFieldSelector, context: &EnvContext<'_>) -> Result<String, String> {
    let metadata = &pod.metadata;
    let join = |addresses: &[IpAddr]| {
        let words: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        words.join(",")
    };
    let first = |addresses: &[IpAddr]| addresses.first().map(ToString::to_string).unwrap_or_default();
    let spec = pod.spec.as_ref();
    let value = match field.field_path.as_str() {
        "metadata.name" => metadata.name.clone().unwrap_or_default(),
        "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
        "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
        "spec.nodeName" => context.node_name.to_owned(),
        "spec.serviceAccountName" => spec
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_default(),
        "status.hostIP" => first(context.host_addresses),
        "status.hostIPs" => join(context.host_addresses),
        "status.podIP" => first(context.pod_addresses),
        "status.podIPs" => join(context.pod_addresses),
        path => {
            let (map, key) = if let Some(key) = subscript(path, "metadata.labels") {
                (metadata.labels.as_ref(), key)
            } else if let Some(key) = subscript(path, "metadata.annotations") {
                (metadata.annotations.as_ref(), key)
            } else {
                return Err(format!("fieldRef {path:?} is not a field an environment can have"));
            };
            map.and_then(|map| map.get(key)).cloned().unwrap_or_default()
        }
    };
    Ok(value)
}

/// What a file of a downward API volume tells of the pod: more than an environment can, all labels and annotations.
pub fn volume_field(pod: &Pod, field: &ObjectFieldSelector, context: &EnvContext<'_>) -> Result<String, String> {
    let map = match field.field_path.as_str() {
        "metadata.labels" => &pod.metadata.labels,
        "metadata.annotations" => &pod.metadata.annotations,
        _ => return field_value(pod, field, context),
    };
    let lines = map.iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// `key` of `<field>['key']`.
fn subscript<'a>(path: &'a str, field: &str) -> Option<&'a str> {
    path.strip_prefix(field)?.strip_prefix("['")?.strip_suffix("']")
}

/// An amount of a container's resources.
pub fn resource_value(
    pod: &Pod,
    own: &Container,
    selector: &ResourceFieldSelector,
    context: &EnvContext<'_>,
) -> Result<String, String> {
    let container = match &selector.container_name {
        None => own,
        Some(name) => {
            let spec = pod.spec.as_ref();
            let all = spec
                .into_iter()
                .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
            let mut all = all.filter(|container| container.name == *name);
            all.next()
                .ok_or_else(|| format!("resourceFieldRef names a container {name:?} that the pod lacks"))?
        }
    };
    let problem = |what: &str| format!("resourceFieldRef {:?}: {what}", selector.resource);
    let (kind, resource) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| problem("must be limits.* or requests.*"))?;
    let resources = container.resources.as_ref();
    let map = match kind {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return Err(problem("must be limits.* or requests.*")),
    };
    let amount = map.and_then(|map| map.get(resource)).map(Quantity::of).transpose();
    let amount = amount.map_err(|error| problem(&error.to_string()))?;
    let divisor = selector
        .divisor
        .as_ref()
        .filter(|divisor| !matches!(divisor.0.as_str(), "" | "0"));
    let divisor = divisor
        .map(Quantity::of)
        .transpose()
        .map_err(|error| problem(&error.to_string()))?;
    let divide = |amount: i64, divisor: i64| amount.div_euclid(divisor) + i64::from(amount.rem_euclid(divisor) != 0);
    let value = if resource == "cpu" {
        let absent = if kind == "limits" {
            context.allocatable_milli_cpu
        } else {
            0
        };
        let divisor = divisor.map_or(1000, Quantity::milli_value);
        divide(amount.map_or(absent, Quantity::milli_value), divisor.max(1))
    } else {
        let absent = match (kind, resource) {
            ("limits", "memory") => context.allocatable_memory,
            _ => 0,
        };
        divide(
            amount.map_or(absent, Quantity::value),
            divisor.map_or(1, Quantity::value).max(1),
        )
    };
    Ok(value.to_string())
}

#[cfg(test)]
mod tests {
    use bosun_api::core::{EnvVar, ResourceRequirements};
    use k8s_openapi::apimachinery::pkg::api::resource;

    use super::*;

    fn pod() -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some("web".into());
        pod.metadata.labels = Some([("app.kubernetes.io/name".to_owned(), "shop".to_owned())].into());
        pod
    }

    fn context() -> EnvContext<'static> {
        EnvContext {
            node_name: "n1",
            host_addresses: &[],
            pod_addresses: &[],
            allocatable_milli_cpu: 2000,
            allocatable_memory: 1 << 30,
            services: &[],
            objects: None,
        }
    }

    #[test]
    fn services_are_told_of_beneath_what_the_container_says_itself() {
        let services = [("WEB_PORT", "tcp://10.0.0.3:80"), ("WEB_SERVICE_HOST", "10.0.0.3")];
        let services = services.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let context = EnvContext {
            services: &services,
            ..context()
        };
        let env = serde_json::json!([{"name": "WEB_PORT", "value": "80"},
            {"name": "URL", "value": "http://$(WEB_SERVICE_HOST):$(WEB_PORT)"}]);
        let container: Container = serde_json::from_value(serde_json::json!({"name": "a", "env": env})).unwrap();
        let told: BTreeMap<_, _> = environment(&Pod::default(), &container, &context)
            .unwrap()
            .into_iter()
            .collect();
        assert_eq!(told["WEB_PORT"], "80");
        assert_eq!(told["WEB_SERVICE_HOST"], "10.0.0.3");
        assert_eq!(told["URL"], "http://10.0.0.3:80");
    }

    #[test]
    fn values_come_from_objects_or_it_is_said_what_is_missing() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"namespace": "shop"}})).unwrap();
        let object = ObjectRef {
            kind: Kind::ConfigMap,
            namespace: "shop".into(),
            name: "c".into(),
        };
        let data = [("K", "v"), ("bad=name", "x")].map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
        let payload = crate::api::objects::Payload::of(data.into());
        let objects = Found::from([(object, Some(std::sync::Arc::new(payload)))]);
        let context = EnvContext {
            objects: Some(&objects),
            ..context()
        };
        let told = |container: serde_json::Value| {
            let container: Container = serde_json::from_value(container).unwrap();
            let env = environment(&pod, &container, &context)?;
            let told = env.into_iter().map(|(name, value)| format!("{name}={value}"));
            Ok::<_, String>(told.collect::<Vec<_>>().join(" "))
        };
        let key = |name: &str, key: &str, optional: bool| {
            let source = serde_json::json!({"name": name, "key": key, "optional": optional});
            serde_json::json!({"name": "a", "env": [{"name": "X", "valueFrom": {"configMapKeyRef": source}}]})
        };
        let from = |name: &str, optional: bool| {
            let source = serde_json::json!({"name": name, "optional": optional});
            serde_json::json!({"name": "a", "envFrom": [{"prefix": "P_", "configMapRef": source}]})
        };
        let table = [
            (key("c", "K", false), Ok("X=v")),
            (key("c", "no", false), Err("couldn't find key no in ConfigMap shop/c")),
            (key("no", "K", false), Err("configmap \"no\" not found")),
            (key("no", "K", true), Ok("")),
            (from("c", false), Ok("P_K=v")),
            (from("no", false), Err("configmap \"no\" not found")),
            (from("no", true), Ok("")),
        ];
        for (container, expected) in table {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(told(container.clone()), expected, "{container}");
        }
    }

    fn literal(name: &str, value: &str) -> EnvVar {
        EnvVar {
            name: name.into(),
            value: Some(value.into()),
            ..EnvVar::default()
        }
    }

    fn from(name: &str, source: EnvVarSource) -> EnvVar {
        EnvVar {
            name: name.into(),
            value_from: Some(source),
            ..EnvVar::default()
        }
    }

    fn field(path: &str) -> EnvVarSource {
        EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.into(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }
    }

    fn resource_of(resource: &str, divisor: &str) -> EnvVarSource {
        EnvVarSource {
            resource_field_ref: Some(ResourceFieldSelector {
                resource: resource.into(),
                divisor: Some(resource::Quantity(divisor.into())),
                container_name: None,
            }),
            ..EnvVarSource::default()
        }
    }

    #[test]
    fn values_come_from_literals_fields_resources_and_earlier_variables() {
        let container = Container {
            env: Some(vec![
                literal("A", "1"),
                literal("B", "$(A)-$(C)-$$(A)"),
                literal("A", "2"),
                from("NAME", field("metadata.name")),
                from("NODE", field("spec.nodeName")),
                from("LABEL", field("metadata.labels['app.kubernetes.io/name']")),
                from("CPU", resource_of("limits.cpu", "1m")),
                from("CORES", resource_of("limits.cpu", "1")),
                from("MEMORY", resource_of("limits.memory", "1Mi")),
            ]),
            resources: Some(ResourceRequirements {
                limits: Some([("cpu".to_owned(), resource::Quantity("1500m".into()))].into()),
                ..ResourceRequirements::default()
            }),
            ..Container::default()
        };
        let env = environment(&pod(), &container, &context()).unwrap();
        let told: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            told,
            [
                "A=2",
                "B=1-$(C)-$(A)",
                "NAME=web",
                "NODE=n1",
                "LABEL=shop",
                "CPU=1500",
                "CORES=2",
                "MEMORY=1024"
            ]
        );
        let words = vec!["echo".to_owned(), "$(NAME) on $(NODE)".to_owned()];
        assert_eq!(expand_words(Some(&words), &env), ["echo", "web on n1"]);
    }

    #[test]
    fn what_cannot_be_resolved_is_named() {
        let table = [
            (
                field("status.nothing"),
                "environment variable X: fieldRef \"status.nothing\"",
            ),
            (
                resource_of("cpu", "1"),
                "environment variable X: resourceFieldRef \"cpu\"",
            ),
            (
                EnvVarSource::default(),
                "environment variable X: it has no source that this node knows",
            ),
        ];
        for (source, expected) in table {
            let container = Container {
                env: Some(vec![from("X", source)]),
                ..Container::default()
            };
            let problem = environment(&pod(), &container, &context()).unwrap_err();
            assert!(problem.starts_with(expected), "{problem}");
        }
    }
}
