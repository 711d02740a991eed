//! What the levels ask of a pod: upstream's checks in upstream's order and words, each since the version it came with.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Level, Policy, bad_containers, joined, list, named, plural, uses};
use crate::{
    auth::objects::text,
    pod::{containers, items},
};

/// A reason and its detail.
type Broken = (String, String);
type Check = fn(&Value, &Value, Policy) -> Option<Broken>;

/// What the baseline asks for; the last tells which are left to a stricter check of the restricted level.
const BASELINE: [(u32, Check, bool); 12] = [
    (0, app_armor, false),
    (0, capabilities_baseline, true),
    (0, host_namespaces, false),
    (0, host_paths, true),
    (0, host_ports, false),
    (34, host_probes, false),
    (0, privileged, false),
    (0, proc_mount, false),
    (0, se_linux, false),
    (19, seccomp_baseline, true),
    (0, sysctls, false),
    (0, windows_host_process, false),
];

/// What the restricted level asks for beside.
const RESTRICTED: [(u32, Check); 6] = [
    (8, allow_privilege_escalation),
    (22, capabilities_restricted),
    (0, volumes),
    (0, run_as_non_root),
    (23, run_as_user),
    (19, seccomp_restricted),
];

/// All that a pod breaks of a policy.
pub(super) fn run(policy: Policy, metadata: &Value, spec: &Value) -> Vec<Broken> {
    let counts = |since: u32| policy.minor.is_none_or(|minor| minor >= since);
    let mut broken = Vec::new();
    if policy.level >= Level::Baseline {
        let restricted = policy.level == Level::Restricted;
        let checks = BASELINE.iter().filter(|(since, _, stricter)| {
            // Capabilities have a stricter check since 1.22 only.
            let left = *stricter && restricted && counts(if *since == 19 { 19 } else { 22 });
            counts(*since) && !left
        });
        broken.extend(checks.filter_map(|(_, check, _)| check(metadata, spec, policy)));
    }
    if policy.level == Level::Restricted {
        let checks = RESTRICTED.iter().filter(|(since, _)| counts(*since));
        broken.extend(checks.filter_map(|(_, check)| check(metadata, spec, policy)));
    }
    broken
}

fn context<'a>(of: &'a Value, field: &str) -> &'a Value {
    &of["securityContext"][field]
}

fn is_windows(spec: &Value) -> bool {
    spec["os"]["name"] == "windows"
}

/// Who sets something bad: the pod, containers, or both.
fn setters(pod: bool, containers: &[&str]) -> String {
    let mut all = Vec::new();
    if pod {
        all.push("pod".to_owned());
    }
    if !containers.is_empty() {
        all.push(named("container", containers));
    }
    all.join(" and ")
}

fn app_armor(metadata: &Value, spec: &Value, _: Policy) -> Option<Broken> {
    let mut values = BTreeSet::new();
    let mut bad = |of: &Value| {
        let kind = context(of, "appArmorProfile")["type"].as_str();
        let bad = kind.filter(|kind| !matches!(*kind, "RuntimeDefault" | "Localhost" | ""));
        values.extend(bad.map(str::to_owned));
        bad.is_some()
    };
    let pod = bad(spec);
    let names: Vec<_> = containers(spec)
        .filter(|one| bad(one))
        .map(|one| text(one, "/name"))
        .collect();
    let annotations = metadata["annotations"].as_object().into_iter().flatten();
    let annotations: Vec<_> = annotations
        .filter(|(key, value)| {
            let value = value.as_str().unwrap_or_default();
            key.starts_with("container.apparmor.security.beta.kubernetes.io/")
                && !(value.is_empty() || value == "runtime/default" || value.starts_with("localhost/"))
        })
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    let mut who = setters(pod, &names);
    if !annotations.is_empty() {
        let mut keys: Vec<_> = annotations.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        let keys = named("annotation", &keys);
        who = if who.is_empty() {
            keys
        } else {
            format!("{who} and {keys}")
        };
        values.extend(annotations.into_iter().map(|(_, value)| value));
    }
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    (!who.is_empty()).then(|| {
        (
            plural("forbidden AppArmor profile", values.len()),
            format!("{who} must not set AppArmor profile type to {}", joined(&values)),
        )
    })
}

const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Containers that add capabilities beyond `allowed`, and which.
fn added<'a>(spec: &'a Value, allowed: &[&str]) -> Option<String> {
    let beyond = |one: &'a Value| {
        let added = list(&context(one, "capabilities")["add"]);
        added
            .into_iter()
            .filter(|name| !allowed.contains(name))
            .collect::<Vec<_>>()
    };
    let names: Vec<_> = containers(spec)
        .filter(|one| !beyond(one).is_empty())
        .map(|one| text(one, "/name"))
        .collect();
    let which: BTreeSet<_> = containers(spec).flat_map(beyond).collect();
    let which: Vec<_> = which.into_iter().collect();
    (!names.is_empty()).then(|| {
        format!(
            "{} must not include {} in securityContext.capabilities.add",
            named("container", &names),
            joined(&which)
        )
    })
}

fn capabilities_baseline(_: &Value, spec: &Value, _: Policy) -> Option<Broken> {
    let detail = added(spec, &DEFAULT_CAPABILITIES)?;
    Some(("non-default capabilities".to_owned(), detail))
}

fn capabilities_restricted(_: &Value, spec: &Value, policy: Policy) -> Option<Broken> {
    if is_windows(spec) && policy.minor.is_none_or(|minor| minor >= 25) {
        return None;
    }
    let keep = bad_containers(spec, |one| {
        !list(&context(one, "capabilities")["drop"]).contains(&"ALL")
    });
    let mut details = Vec::new();
    if !keep.is_empty() {
        let who = named("container", &keep);
        details.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    details.extend(added(spec, &["NET_BIND_SERVICE"]));
    (!details.is_empty()).then(|| ("unrestricted capabilities".to_owned(), details.join("; ")))
}

fn host_namespaces(_: &Value, spec: &Value, _: Policy) -> Option<Broken> {
    let set: Vec<_> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| spec[*field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    (!set.is_empty()).then(|| ("host namespaces".to_owned(), set.join(", ")))
}

fn host_paths(_: &Value, spec: &Value, _: Policy) -> Option<Broken> {
    let volumes = items(&spec["volumes"])
        .iter()
        .filter(|volume| volume.get("hostPath").is_some_and(|path| !path.is_null()));
    let names: Vec<_> = volumes.map(|volume| text(volume, "/name")).collect();
    (!names.is_empty()).then(|| ("hostPath volumes".to_owned(), named("volume", &names)))
}

fn host_ports(_: &Value, spec: &Value, _: Policy) -> Option<Broken> {
    let ports_of = |one: &Value| {
        let ports = items(&one["ports"]).iter().filter_map(|port| port["hostPort"].as_i64());
        ports
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
            .collect::<Vec<_>>()
    };
    let names = bad_containers(spec, |one| !ports_of(one).is_empty());
    let ports: BTreeSet<_> = containers(spec).flat_map(ports_of).collect();
    let ports: Vec<_> = ports.into_iter().collect();
    (!names.is_empty()).then(|| {
        let (who, what) = (named("container", &names), plural("hostPort", ports.len()));
        (
            "hostPort".to_owned(),
            format!("{who} {} {what} {}", uses(names.len()), ports.join(", ")),
        )
    })
}

fn host_probes(_: &Value, spec: &Value, _: Policy) -> Option<Broken> {
    let hosts_of = |one: &Value| {
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &one[probe]);
        let hooks = ["postStart", "preStop"].map(|hook| &one["lifecycle"][hook]);
        let all = probes
            .into_iter()
            .chain(hooks)
            .flat_map(|of| ["httpGet", "tcpSocket"].map(|by| text(&of[by], "/host")));
        all.filter(|host| !host.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut names = bad_containers(spec, |one| !hosts_of(one).is_empty());
    names.sort_unstable();
    let hosts: BTreeSet<_> = containers(spec).flat_map(hosts_of).collect();
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    (!names.is_empty()).then(|| {
        let (who, what) = (named("container", &names), named("probe or lifecycle host", &hosts));
        (
            "probe or lifecycle host".to_owned(),
            format!("{who} {} {what}", uses(names.len())),
        )
    })
}

fn privileged(_: &Value, spec: &Value, _: Policy) -> Option<Broken> {
    let names = bad_containers(spec, |one| context(one, "privileged") == true);
    (!names.is_empty()).then(|| {
        let who = named("container", &names);
        (
            "privileged".to_owned(),
            format!("{who} must not set securityContext.privileged=true"),
        )
    })
}

fn proc_mount(_: &Value, spec: &Value, _: Policy) -> Option<Broken> {
    let mount = |one: &Value| {
        context(one, "procMount")
            .as_str()
            .filter(|mount| *mount != "Default")
            .map(str::to_owned)
    };
    let names = bad_containers(spec, |one| mount(one).is_some());
    let values: BTreeSet<_> = containers(spec).filter_map(mount).collect();
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    (!names.is_empty()).then(|| {
        let who = named("container", &names);
        (
            "procMount".to_owned(),
            format!("{who} must not set securityContext.procMount to {}", joined(&values)),
        )
    })
}

fn se_linux(_: &Value, spec: &Value, policy: Policy) -> Option<Broken> {
    let mut allowed = vec!["", "container_t", "container_init_t", "container_kvm_t"];
    if policy.minor.is_none_or(|minor| minor >= 31) {
        allowed.push("container_engine_t");
    }
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut bad = |of: &Value| {
        let options = context(of, "seLinuxOptions");
        let (kind, sets_user, sets_role) = (
            text(options, "/type"),
            !text(options, "/user").is_empty(),
            !text(options, "/role").is_empty(),
        );
        let bad_kind = !allowed.contains(&kind);
        if bad_kind {
            types.insert(kind.to_owned());
        }
        user |= sets_user;
        role |= sets_role;
        bad_kind || sets_user || sets_role
    };
    let pod = bad(spec);
    let names: Vec<_> = containers(spec)
        .filter(|one| bad(one))
        .map(|one| text(one, "/name"))
        .collect();
    let who = setters(pod, &names);
    let mut what = Vec::new();
    if !types.is_empty() {
        let types: Vec<_> = types.iter().map(String::as_str).collect();
        what.push(named("type", &types));
    }
    what.extend(user.then(|| "user may not be set".to_owned()));
    what.extend(role.then(|| "role may not be set".to_owned()));
    (!who.is_empty()).then(|| {
        let what = what.join("; ");
        (
            "seLinuxOptions".to_owned(),
            format!("{who} set forbidden securityContext.seLinuxOptions: {what}"),
        )
    })
}

fn good_seccomp(of: &Value) -> Option<bool> {
    let kind = context(of, "seccompProfile")["type"].as_str()?;
    Some(matches!(kind, "RuntimeDefault" | "Localhost"))
}

fn seccomp_baseline(_: &Value, spec: &Value, _: Policy) -> Option<Broken> {
    let bad = |of: &Value| good_seccomp(of) == Some(false);
    let names = bad_containers(spec, bad);
    let who = setters(bad(spec), &names);
    let all = std::iter::once(spec).chain(containers(spec)).filter(|of| bad(of));
    let values: BTreeSet<_> = all.map(|of| text(context(of, "seccompProfile"), "/type")).collect();
    let values: Vec<_> = values.into_iter().collect();
    (!who.is_empty()).then(|| {
        let values = joined(&values);
        (
            "seccompProfile".to_owned(),
            format!("{who} must not set securityContext.seccompProfile.type to {values}"),
        )
    })
}

fn seccomp_restricted(metadata: &Value, spec: &Value, policy: Policy) -> Option<Broken> {
    if is_windows(spec) && policy.minor.is_none_or(|minor| minor >= 25) {
        return None;
    }
    if let Some(broken) = seccomp_baseline(metadata, spec, policy) {
        return Some(broken);
    }
    if good_seccomp(spec) == Some(true) {
        return None;
    }
    let names = bad_containers(spec, |one| good_seccomp(one).is_none());
    (!names.is_empty()).then(|| {
        let who = named("container", &names);
        let must = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
        ("seccompProfile".to_owned(), format!("pod or {who} {must}"))
    })
}

/// Each with the version since which it is thought safe.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

fn sysctls(_: &Value, spec: &Value, policy: Policy) -> Option<Broken> {
    let safe = |name: &str| {
        let known = SYSCTLS.iter().find(|(known, _)| *known == name);
        known.is_some_and(|(_, since)| policy.minor.is_none_or(|minor| minor >= *since))
    };
    let names = items(context(spec, "sysctls")).iter().map(|one| text(one, "/name"));
    let bad: Vec<_> = names.filter(|name| !safe(name)).collect();
    (!bad.is_empty()).then(|| ("forbidden sysctls".to_owned(), bad.join(", ")))
}

fn windows_host_process(_: &Value, spec: &Value, _: Policy) -> Option<Broken> {
    let bad = |of: &Value| context(of, "windowsOptions")["hostProcess"] == true;
    let who = setters(bad(spec), &bad_containers(spec, bad));
    (!who.is_empty()).then(|| {
        let must = "must not set securityContext.windowsOptions.hostProcess=true";
        ("hostProcess".to_owned(), format!("{who} {must}"))
    })
}

fn allow_privilege_escalation(_: &Value, spec: &Value, policy: Policy) -> Option<Broken> {
    if is_windows(spec) && policy.minor.is_none_or(|minor| minor >= 25) {
        return None;
    }
    let names = bad_containers(spec, |one| context(one, "allowPrivilegeEscalation") != false);
    (!names.is_empty()).then(|| {
        let who = named("container", &names);
        let must = "must set securityContext.allowPrivilegeEscalation=false";
        ("allowPrivilegeEscalation != false".to_owned(), format!("{who} {must}"))
    })
}

const ALLOWED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn volumes(_: &Value, spec: &Value, _: Policy) -> Option<Broken> {
    let kind = |volume: &Value| {
        let fields = volume.as_object().into_iter().flatten();
        let mut kinds = fields
            .filter(|(field, value)| *field != "name" && !value.is_null())
            .map(|(field, _)| field.clone());
        kinds.next().unwrap_or_else(|| "unknown".to_owned())
    };
    let bad: Vec<_> = items(&spec["volumes"])
        .iter()
        .map(|volume| (text(volume, "/name"), kind(volume)))
        .filter(|(_, kind)| !ALLOWED_VOLUMES.contains(&kind.as_str()))
        .collect();
    let names: Vec<_> = bad.iter().map(|(name, _)| *name).collect();
    let kinds: BTreeSet<_> = bad.iter().map(|(_, kind)| kind.as_str()).collect();
    let kinds: Vec<_> = kinds.into_iter().collect();
    (!bad.is_empty()).then(|| {
        let (who, what) = (named("volume", &names), named("restricted volume type", &kinds));
        (
            "restricted volume types".to_owned(),
            format!("{who} {} {what}", uses(names.len())),
        )
    })
}

fn run_as_non_root(_: &Value, spec: &Value, _: Policy) -> Option<Broken> {
    let said = |of: &Value| context(of, "runAsNonRoot").as_bool();
    let explicit = bad_containers(spec, |one| said(one) == Some(false));
    let silent = bad_containers(spec, |one| said(one).is_none());
    let pod = said(spec);
    let who = setters(pod == Some(false), &explicit);
    let reason = "runAsNonRoot != true".to_owned();
    if !who.is_empty() {
        return Some((reason, format!("{who} must not set securityContext.runAsNonRoot=false")));
    }
    (pod.is_none() && !silent.is_empty()).then(|| {
        let who = named("container", &silent);
        (
            reason,
            format!("pod or {who} must set securityContext.runAsNonRoot=true"),
        )
    })
}

fn run_as_user(_: &Value, spec: &Value, _: Policy) -> Option<Broken> {
    let bad = |of: &Value| context(of, "runAsUser") == 0;
    let who = setters(bad(spec), &bad_containers(spec, bad));
    (!who.is_empty()).then(|| ("runAsUser=0".to_owned(), format!("{who} must not set runAsUser=0")))
}
