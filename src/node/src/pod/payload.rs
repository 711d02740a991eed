//! What `ConfigMap`, Secret, projected and downward API volumes hold, from the pod and the objects it uses. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bosun_api::core::{
    Container, DownwardAPIVolumeFile, EnvVar, KeyToPath, Pod, ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use super::{
    atomic_dir::{File, Files},
    env::{self, EnvContext},
};
use crate::api::objects::{Kind, ObjectRef, Payload};

/// Permissions of a file that nobody says otherwise of.
const MODE: i32 = 0o644;
/// Permissions of a token that is its owner's or its group's alone.
const TOKEN_MODE: u32 = 0o600;
/// How long a token is asked to live if nobody says.
const TOKEN_SECONDS: i64 = 3600;

/// A token that a pod has in a volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenRef {
    /// For whom; empty: for the API itself.
    pub audience: String,
    /// How long it is to live.
    pub seconds: i64,
}

/// The objects a pod uses, as they are: `None` for one that is not there.
pub type Found = BTreeMap<ObjectRef, Option<Arc<Payload>>>;

/// What volumes are made from.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What the downward API tells.
    pub env: &'a EnvContext<'a>,
    /// The objects that the pod's volumes use.
    pub objects: &'a Found,
    /// Its tokens.
    pub tokens: &'a BTreeMap<TokenRef, String>,
}

fn namespace(pod: &Pod) -> String {
    pod.metadata.namespace.clone().unwrap_or_default()
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
}

fn projections(volume: &Volume) -> impl Iterator<Item = &VolumeProjection> {
    volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten())
}

/// Whether a volume holds what the control plane tells, which containers can only read.
pub fn is_payload(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// Whether a volume's files belong in memory: they may be secret.
pub fn is_in_memory(volume: &Volume) -> bool {
    volume.config_map.is_none()
}

/// The objects that the pod's volumes use.
pub fn objects_of_volumes(pod: &Pod) -> BTreeSet<ObjectRef> {
    let mut found = BTreeSet::new();
    let mut add = |kind, name: &str| {
        if !name.is_empty() {
            found.insert(ObjectRef {
                kind,
                namespace: namespace(pod),
                name: name.to_owned(),
            });
        }
    };
    for volume in volumes(pod) {
        if let Some(source) = &volume.config_map {
            add(Kind::ConfigMap, &source.name);
        }
        if let Some(source) = &volume.secret {
            add(Kind::Secret, source.secret_name.as_deref().unwrap_or_default());
        }
        for source in projections(volume) {
            if let Some(source) = &source.config_map {
                add(Kind::ConfigMap, &source.name);
            }
            if let Some(source) = &source.secret {
                add(Kind::Secret, &source.name);
            }
        }
    }
    found
}

/// The objects that a container's environment uses.
pub fn objects_of_environment(pod: &Pod, container: &Container) -> BTreeSet<ObjectRef> {
    let sources = container.env_from.iter().flatten().flat_map(|source| {
        let map = source.config_map_ref.as_ref().map(|map| (Kind::ConfigMap, &map.name));
        map.into_iter()
            .chain(source.secret_ref.as_ref().map(|secret| (Kind::Secret, &secret.name)))
    });
    let keys = container.env.iter().flatten().filter_map(|variable: &EnvVar| {
        let source = variable.value_from.as_ref()?;
        let map = source
            .config_map_key_ref
            .as_ref()
            .map(|key| (Kind::ConfigMap, &key.name));
        map.or(source.secret_key_ref.as_ref().map(|key| (Kind::Secret, &key.name)))
    });
    let all = sources.chain(keys).map(|(kind, name)| ObjectRef {
        kind,
        namespace: namespace(pod),
        name: name.clone(),
    });
    all.collect()
}

/// All objects that a pod uses while it runs.
pub fn objects_of(pod: &Pod) -> BTreeSet<ObjectRef> {
    let mut all = objects_of_volumes(pod);
    let containers = pod
        .spec
        .iter()
        .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    for container in containers {
        all.extend(objects_of_environment(pod, container));
    }
    all
}

/// The tokens that the pod's volumes hold.
pub fn tokens_of(pod: &Pod) -> BTreeSet<TokenRef> {
    let sources = volumes(pod).flat_map(projections);
    let tokens = sources.filter_map(|source| source.service_account_token.as_ref());
    tokens.map(token_ref).collect()
}

fn token_ref(source: &ServiceAccountTokenProjection) -> TokenRef {
    TokenRef {
        audience: source.audience.clone().unwrap_or_default(),
        seconds: source.expiration_seconds.unwrap_or(TOKEN_SECONDS),
    }
}

/// The files of a volume. Fails, in upstream's words, with what is missing.
pub fn files(volume: &Volume, inputs: &Inputs<'_>) -> Result<Files, String> {
    let mut files = Files::new();
    if let Some(source) = &volume.config_map {
        let wanted = Wanted {
            kind: Kind::ConfigMap,
            name: &source.name,
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
        };
        wanted.add(inputs, source.default_mode.unwrap_or(MODE), &mut files)?;
    }
    if let Some(source) = &volume.secret {
        let wanted = Wanted {
            kind: Kind::Secret,
            name: source.secret_name.as_deref().unwrap_or_default(),
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
        };
        wanted.add(inputs, source.default_mode.unwrap_or(MODE), &mut files)?;
    }
    if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(MODE);
        downward(source.items.iter().flatten(), inputs, mode, &mut files)?;
    }
    if let Some(source) = &volume.projected {
        let mode = source.default_mode.unwrap_or(MODE);
        for source in source.sources.iter().flatten() {
            project(source, inputs, mode, &mut files)?;
        }
    }
    Ok(files)
}

fn project(source: &VolumeProjection, inputs: &Inputs<'_>, mode: i32, files: &mut Files) -> Result<(), String> {
    if let Some(source) = &source.config_map {
        let wanted = Wanted {
            kind: Kind::ConfigMap,
            name: &source.name,
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
        };
        wanted.add(inputs, mode, files)?;
    }
    if let Some(source) = &source.secret {
        let wanted = Wanted {
            kind: Kind::Secret,
            name: &source.name,
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
        };
        wanted.add(inputs, mode, files)?;
    }
    if let Some(source) = &source.downward_api {
        downward(source.items.iter().flatten(), inputs, mode, files)?;
    }
    if let Some(source) = &source.service_account_token {
        let token = inputs.tokens.get(&token_ref(source)).ok_or("its token is not there")?;
        let user = user(inputs.pod);
        let group = fs_group(inputs.pod);
        let mode = if user.is_some() || group.is_some() {
            TOKEN_MODE
        } else {
            permissions(mode)
        };
        let file = File {
            bytes: token.clone().into_bytes(),
            mode,
            owner: user,
        };
        files.insert(source.path.clone(), file);
    }
    if source.cluster_trust_bundle.is_some() {
        return Err("clusterTrustBundle projections are not supported by this node".to_owned());
    }
    if source.pod_certificate.is_some() {
        return Err("podCertificate projections are not supported by this node".to_owned());
    }
    Ok(())
}

/// The group that the pod's volumes are to belong to.
pub fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    u32::try_from(context.fs_group?).ok()
}

/// The one user that all of the pod's containers are, if it says so.
fn user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let users: BTreeSet<Option<i64>> = containers
        .map(|container| {
            container
                .security_context
                .as_ref()
                .and_then(|context| context.run_as_user)
                .or(of_pod)
        })
        .collect();
    match users.into_iter().collect::<Vec<_>>().as_slice() {
        [Some(user)] => u32::try_from(*user).ok(),
        _ => None,
    }
}

fn permissions(mode: i32) -> u32 {
    mode.unsigned_abs() & 0o777
}

/// What is wanted of one object.
struct Wanted<'a> {
    kind: Kind,
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: bool,
}

impl Wanted<'_> {
    fn add(&self, inputs: &Inputs<'_>, mode: i32, files: &mut Files) -> Result<(), String> {
        let object = ObjectRef {
            kind: self.kind,
            namespace: namespace(inputs.pod),
            name: self.name.to_owned(),
        };
        let payload = match inputs.objects.get(&object).cloned().flatten() {
            Some(payload) => payload,
            None if self.optional => return Ok(()),
            None => return Err(format!("{object} not found")),
        };
        let file = |bytes: &Vec<u8>, mode: i32| File {
            bytes: bytes.clone(),
            mode: permissions(mode),
            owner: None,
        };
        let Some(items) = self.items.filter(|items| !items.is_empty()) else {
            files.extend(payload.data.iter().map(|(key, bytes)| (key.clone(), file(bytes, mode))));
            return Ok(());
        };
        for item in items {
            match payload.data.get(&item.key) {
                Some(bytes) => {
                    files.insert(item.path.clone(), file(bytes, item.mode.unwrap_or(mode)));
                }
                None if self.optional => {}
                None => {
                    return Err(match self.kind {
                        Kind::ConfigMap => format!("configmap references non-existent config key: {}", item.key),
                        Kind::Secret => format!("references non-existent secret key: {}", item.key),
                    });
                }
            }
        }
        Ok(())
    }
}

fn downward<'a>(
    items: impl Iterator<Item = &'a DownwardAPIVolumeFile>,
    inputs: &Inputs<'_>,
    mode: i32,
    files: &mut Files,
) -> Result<(), String> {
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            env::volume_field(inputs.pod, field, inputs.env)?
        } else if let Some(resource) = &item.resource_field_ref {
            env::resource_value(inputs.pod, &Container::default(), resource, inputs.env)?
        } else {
            continue;
        };
        let file = File {
            bytes: text.into_bytes(),
            mode: permissions(item.mode.unwrap_or(mode)),
            owner: None,
        };
        files.insert(item.path.clone(), file);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(volume: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web", "tier": "\"x\""}},
            "spec": {"containers": [{"name": "a", "image": "i"}], "volumes": [volume]},
        }))
        .unwrap()
    }

    fn object(kind: Kind, name: &str, data: &[(&str, &str)]) -> (ObjectRef, Option<Arc<Payload>>) {
        let object = ObjectRef {
            kind,
            namespace: "shop".into(),
            name: name.into(),
        };
        let data = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        (object, Some(Arc::new(Payload::of(data.collect()))))
    }

    /// `path=text/mode` of each file, or what is wrong.
    fn told(volume: &Value) -> Result<String, String> {
        let pod = pod(volume);
        let objects = Found::from([
            object(Kind::ConfigMap, "c", &[("k", "v"), ("l", "w")]),
            object(Kind::Secret, "s", &[("p", "x")]),
        ]);
        let tokens = tokens_of(&pod)
            .into_iter()
            .map(|token| (token.clone(), format!("{}!", token.seconds)));
        let inputs = Inputs {
            pod: &pod,
            env: &EnvContext::default(),
            objects: &objects,
            tokens: &tokens.collect(),
        };
        let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
        assert!(is_payload(volume));
        let files = files(volume, &inputs)?;
        let told = files
            .iter()
            .map(|(path, file)| format!("{path}={}/{:o}", String::from_utf8_lossy(&file.bytes), file.mode));
        Ok(told.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_volume_holds_what_its_sources_say_or_says_what_is_missing() {
        let ok = |text: &str| Ok(text.to_owned());
        let err = |text: &str| Err(text.to_owned());
        let table = [
            (json!({"configMap": {"name": "c"}}), ok("k=v/644 l=w/644")),
            (
                json!({"configMap": {"name": "c", "defaultMode": 0o400, "items": [
                    {"key": "k", "path": "d/x"}, {"key": "l", "path": "y", "mode": 0o755}]}}),
                ok("d/x=v/400 y=w/755"),
            ),
            (
                json!({"configMap": {"name": "c", "items": [{"key": "no", "path": "x"}]}}),
                err("configmap references non-existent config key: no"),
            ),
            (
                json!({"configMap": {"name": "c", "optional": true, "items": [{"key": "no", "path": "x"}]}}),
                ok(""),
            ),
            (json!({"configMap": {"name": "no"}}), err("configmap \"no\" not found")),
            (json!({"configMap": {"name": "no", "optional": true}}), ok("")),
            (json!({"secret": {"secretName": "s"}}), ok("p=x/644")),
            (json!({"secret": {"secretName": "no"}}), err("secret \"no\" not found")),
            (
                json!({"downwardAPI": {"items": [
                    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                    {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}),
                ok("labels=app=\"web\"\ntier=\"\\\"x\\\"\"/644 name=web/644"),
            ),
            (
                json!({"projected": {"defaultMode": 0o444, "sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                    {"configMap": {"name": "c", "items": [{"key": "k", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}),
                ok("ca.crt=v/444 namespace=shop/444 token=3607!/444"),
            ),
        ];
        for (source, expected) in table {
            let mut volume = json!({"name": "v"});
            volume
                .as_object_mut()
                .unwrap()
                .extend(source.as_object().unwrap().clone());
            assert_eq!(told(&volume), expected, "{source}");
        }
    }

    #[test]
    fn a_token_is_for_the_pods_user_or_group_alone_where_it_has_one() {
        let mut pod = pod(&json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}));
        let file = |pod: &Pod| {
            let tokens = tokens_of(pod)
                .into_iter()
                .map(|token| (token, "t".to_owned()))
                .collect();
            let inputs = Inputs {
                pod,
                env: &EnvContext::default(),
                objects: &Found::new(),
                tokens: &tokens,
            };
            let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
            let file = files(volume, &inputs).unwrap().remove("t").unwrap();
            (file.mode, file.owner)
        };
        assert_eq!(file(&pod), (0o644, None));
        let spec = pod.spec.as_mut().unwrap();
        spec.security_context = Some(serde_json::from_value(json!({"runAsUser": 7})).unwrap());
        assert_eq!(file(&pod), (0o600, Some(7)));
        let spec = pod.spec.as_mut().unwrap();
        spec.security_context = Some(serde_json::from_value(json!({"fsGroup": 9})).unwrap());
        assert_eq!(file(&pod), (0o600, None));
    }

    #[test]
    fn everything_that_a_pod_uses_is_known_before_it_starts() {
        let mut pod = pod(&json!({"name": "v", "configMap": {"name": "c"}}));
        pod.spec.as_mut().unwrap().containers[0] = serde_json::from_value(json!({
            "name": "a",
            "envFrom": [{"secretRef": {"name": "e"}}],
            "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "f", "key": "k"}}}],
        }))
        .unwrap();
        let told: Vec<_> = objects_of(&pod).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["configmap \"c\"", "configmap \"f\"", "secret \"e\""]);
    }
}
