//! A container's environment: literals, the downward API, and `$(NAME)` expansion. Pure.

use std::net::IpAddr;

use bosun_api::{
    Quantity,
    core::{Container, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector},
    expand,
};

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
}

/// The environment in the order of the spec; of a name given twice the last value holds.
///
/// Fails with what can't be resolved, for a person.
pub fn environment(
    pod: &Pod,
    container: &Container,
    context: &EnvContext<'_>,
) -> Result<Vec<(String, String)>, String> {
    let mut env: Vec<(String, String)> = vec![];
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) => match sourced(pod, container, source, context) {
                Ok(value) => value,
                Err(problem) => return Err(format!("environment variable {}: {problem}", variable.name)),
            },
            (value, None) => expand(value.as_deref().unwrap_or_default(), |name| lookup(&env, name)).into_owned(),
        };
        match env.iter_mut().find(|(name, _)| *name == variable.name) {
            Some((_, earlier)) => *earlier = value,
            None => env.push((variable.name.clone(), value)),
        }
    }
    Ok(env)
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
        Err("its source needs an API server, which a pod from a file does not have".into())
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

/// `key` of `<field>['key']`.
fn subscript<'a>(path: &'a str, field: &str) -> Option<&'a str> {
    path.strip_prefix(field)?.strip_prefix("['")?.strip_suffix("']")
}

fn resource_value(
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
                "environment variable X: its source needs an API server",
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
