//! Pods run as a service account: its existence, its pull secrets, and the volume with its token.

use serde_json::{Value, json};

use crate::{
    auth::objects::text,
    pod::{items, secret_names},
};

/// Where programs look for the token.
const TOKEN_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How the volume's name begins; five letters follow.
const VOLUME_PREFIX: &str = "kube-api-access-";
/// How long the token is asked to live: upstream's hour and seven seconds, by which it is known.
const TOKEN_SECONDS: u64 = 3607;

/// Whether it stands for a pod from a node's file, which has no account.
pub(super) fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"]
        .get(bosun_api::labels::CONFIG_MIRROR)
        .is_some()
}

/// The name of a pod's account: `default` if it says none.
pub(super) fn name_of(pod: &mut Value) -> String {
    if text(pod, "/spec/serviceAccountName").is_empty() {
        pod["spec"]["serviceAccountName"] = "default".into();
    }
    let name = text(pod, "/spec/serviceAccountName").to_owned();
    // The older name of the field is kept alike.
    pod["spec"]["serviceAccount"] = name.clone().into();
    name
}

pub(super) fn missing(namespace: &str, name: &str) -> String {
    format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found")
}

/// Gives a pod its account's pull secrets, unless it has some, and the volume with the token, unless either doesn't want
/// that. `suffix` ends the volume's name.
pub(super) fn mount(pod: &mut Value, account: &Value, suffix: &str) {
    let wanted = pod["spec"]["automountServiceAccountToken"]
        .as_bool()
        .or(account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    if wanted {
        mount_token(&mut pod["spec"], suffix);
    }
    if items(&pod["spec"]["imagePullSecrets"]).is_empty() && !items(&account["imagePullSecrets"]).is_empty() {
        pod["spec"]["imagePullSecrets"] = account["imagePullSecrets"].clone();
    }
}

fn mount_token(spec: &mut Value, suffix: &str) {
    let existing = items(&spec["volumes"]).iter().find(|volume| {
        text(volume, "/name").starts_with(VOLUME_PREFIX)
            && items(&volume["projected"]["sources"])
                .iter()
                .any(|source| source.get("serviceAccountToken").is_some())
    });
    let name = existing.map_or_else(
        || format!("{VOLUME_PREFIX}{suffix}"),
        |volume| text(volume, "/name").to_owned(),
    );
    let there = existing.is_some();
    let mut used = false;
    for kind in ["initContainers", "containers"] {
        for container in spec[kind].as_array_mut().into_iter().flatten() {
            if items(&container["volumeMounts"])
                .iter()
                .any(|mount| mount["mountPath"] == TOKEN_DIRECTORY)
            {
                continue;
            }
            let mount = json!({"name": name, "readOnly": true, "mountPath": TOKEN_DIRECTORY});
            push(&mut container["volumeMounts"], mount);
            used = true;
        }
    }
    if used && !there {
        push(&mut spec["volumes"], volume(&name));
    }
}

fn volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
                ]}},
            ],
        },
    })
}

/// Adds to a list that may not be there yet.
pub(super) fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}

/// What a mirror pod may not have.
pub(super) fn validate(pod: &Value) -> Result<(), String> {
    if !is_mirror(pod) {
        return Ok(());
    }
    let spec = &pod["spec"];
    if !text(spec, "/serviceAccountName").is_empty() {
        return Err("a mirror pod may not reference service accounts".to_owned());
    }
    let mut secrets = false;
    secret_names(spec, &mut |name| {
        secrets |= name.as_str().is_some_and(|name| !name.is_empty());
    });
    if secrets {
        return Err("a mirror pod may not reference secrets".to_owned());
    }
    let sources = items(&spec["volumes"])
        .iter()
        .flat_map(|volume| items(&volume["projected"]["sources"]));
    for source in sources {
        if source.get("serviceAccountToken").is_some() {
            return Err("a mirror pod may not use ServiceAccountToken volume projections".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": TOKEN_DIRECTORY}]}],
            "initContainers": [{"name": "i", "volumeMounts": [{"name": "x", "mountPath": "/x"}]}],
        }})
    }

    #[test]
    fn a_pod_gets_a_token_where_it_has_none() {
        let mut pod = pod();
        assert_eq!(name_of(&mut pod), "default");
        mount(&mut pod, &json!({}), "abcde");
        let spec = &pod["spec"];
        assert_eq!(spec["serviceAccount"], "default");
        assert_eq!(spec["volumes"], json!([volume("kube-api-access-abcde")]));
        let token = json!({"name": "kube-api-access-abcde", "readOnly": true, "mountPath": TOKEN_DIRECTORY});
        assert_eq!(spec["containers"][0]["volumeMounts"], json!([token]));
        assert_eq!(spec["containers"][1]["volumeMounts"][0]["name"], "own");
        assert_eq!(spec["initContainers"][0]["volumeMounts"][1], token);
        let before = pod.clone();
        mount(&mut pod, &json!({}), "fghij");
        assert_eq!(pod, before, "a second time changes nothing");
    }

    #[test]
    fn either_may_not_want_the_token_and_the_pod_has_the_last_word() {
        let table = [
            (json!(null), json!(false), false),
            (json!(false), json!(true), false),
            (json!(true), json!(false), true),
            (json!(null), json!(null), true),
        ];
        for (of_pod, of_account, mounted) in table {
            let mut pod = pod();
            pod["spec"]["automountServiceAccountToken"] = of_pod;
            mount(&mut pod, &json!({"automountServiceAccountToken": of_account}), "abcde");
            assert_eq!(pod["spec"].get("volumes").is_some(), mounted);
        }
    }

    #[test]
    fn pull_secrets_are_the_pods_or_else_the_accounts() {
        let account = json!({"imagePullSecrets": [{"name": "a"}]});
        let mut plain = pod();
        mount(&mut plain, &account, "abcde");
        assert_eq!(plain["spec"]["imagePullSecrets"], account["imagePullSecrets"]);
        let mut own = pod();
        own["spec"]["imagePullSecrets"] = json!([{"name": "own"}]);
        mount(&mut own, &account, "abcde");
        assert_eq!(own["spec"]["imagePullSecrets"][0]["name"], "own");
    }

    #[test]
    fn mirror_pods_refer_to_nothing() {
        let mirror =
            |spec: Value| json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": spec});
        validate(&mirror(json!({"containers": []}))).unwrap();
        let table = [
            (
                json!({"serviceAccountName": "x"}),
                "a mirror pod may not reference service accounts",
            ),
            (
                json!({"volumes": [{"secret": {"secretName": "s"}}]}),
                "a mirror pod may not reference secrets",
            ),
            (
                json!({"volumes": [volume("v")]}),
                "a mirror pod may not use ServiceAccountToken volume projections",
            ),
        ];
        for (spec, why) in table {
            assert_eq!(validate(&mirror(spec)), Err(why.to_owned()));
        }
        assert_eq!(
            missing("default", "x"),
            "error looking up service account default/x: serviceaccount \"x\" not found"
        );
    }
}
