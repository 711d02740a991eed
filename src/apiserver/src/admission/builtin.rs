//! Built-in admission: upstream's plugins that are on by default and what pods depend on, in upstream's order.
//!
//! Each plugin is a module: a pure decision on the object and what it was looked up, with its table of tests. This is
//! what looks things up, and asks them in turn.
//!
//! - [`limit_ranger`], [`service_account`], [`node_restriction`], [`taint_nodes`], [`pod_security`], [`priority`],
//!   [`default_tolerations`], [`storage`] (default class, protection, resize), [`runtime_class`], [`certificates`],
//!   [`default_ingress_class`], [`topology_labels`], [`resource_quota`];
//! - roles and bindings, which are checked for escalation ([`crate::auth::authorize::escalate`]).

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::{
    Admission, Attributes, Operation, Warning, certificates, default_ingress_class, default_tolerations, limit_ranger,
    node_restriction, pod_security, priority, resource_quota, runtime_class, service_account, storage, taint_nodes,
    topology_labels,
};
use crate::{
    Status,
    auth::{
        Authorizer, Objects,
        authorize::{escalate, rbac},
        names::{NodeIdentity, node_identity},
        objects::text,
    },
};

/// All built-in admission.
pub struct BuiltIn {
    objects: Arc<dyn Objects>,
    authorizer: Arc<Authorizer>,
}

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject<'a> {
    pub(super) group: &'a str,
    pub(super) plural: &'a str,
    pub(super) subresource: &'a str,
    pub(super) operation: Operation,
}

impl<'a> Subject<'a> {
    pub(super) fn of(attributes: &Attributes<'a>) -> Self {
        let resource = attributes.request.resource.as_ref();
        Self {
            group: resource.map_or("", |resource| &*resource.group),
            plural: resource.map_or("", |resource| &*resource.plural),
            subresource: &attributes.request.subresource,
            operation: attributes.operation,
        }
    }

    /// Whether it is an object itself of this kind.
    fn is(&self, group: &str, plural: &str) -> bool {
        (self.group, self.plural, self.subresource) == (group, plural, "")
    }

    fn creates(&self, group: &str, plural: &str) -> bool {
        self.operation == Operation::Create && self.is(group, plural)
    }

    fn updates(&self, group: &str, plural: &str) -> bool {
        self.operation == Operation::Update && self.is(group, plural)
    }
}

/// 403 in the words of upstream's admission: `pods "x" is forbidden: …`.
pub(super) fn forbid(attributes: &Attributes<'_>, why: &str) -> Status {
    let subject = Subject::of(attributes);
    let given = [
        attributes.name,
        text(&attributes.object, "/metadata/name"),
        text(&attributes.object, "/metadata/generateName"),
    ];
    let name = given.into_iter().find(|name| !name.is_empty()).unwrap_or("Unknown");
    Status::forbidden(subject.group, subject.plural, name, why)
}

impl BuiltIn {
    /// One that looks things up in `objects`: for a registry's own admission, its [`Reads`](crate::auth::objects::Reads).
    pub fn new(objects: Arc<dyn Objects>, authorizer: Arc<Authorizer>) -> Self {
        Self { objects, authorizer }
    }

    async fn namespace_labels(&self, namespace: &str) -> Result<Value, Status> {
        let namespace = self.objects.get("", "namespaces", "", namespace).await?;
        Ok(namespace.map_or(Value::Null, |mut namespace| namespace["metadata"]["labels"].take()))
    }

    async fn mutate_pod(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let namespace = attributes.request.namespace.clone();
        let refuse = |attributes: &Attributes<'_>, why: String| Err(forbid(attributes, &why));
        for range in self.objects.list("", "limitranges", &namespace).await? {
            limit_ranger::default_pod(&mut attributes.object, &range);
        }
        if !service_account::is_mirror(&attributes.object) {
            let name = service_account::name_of(&mut attributes.object);
            let account = self.objects.get("", "serviceaccounts", &namespace, &name).await?;
            let Some(account) = account else {
                let why = service_account::missing(&namespace, &name);
                return refuse(attributes, why);
            };
            let suffix = bosun_pki::bootstrap::random_text(5);
            service_account::mount(&mut attributes.object, &account, &suffix);
        }
        let classes = self
            .priority_classes(text(&attributes.object, "/spec/priorityClassName"))
            .await?;
        if let Err(why) = priority::resolve(&mut attributes.object, &classes) {
            return refuse(attributes, why);
        }
        default_tolerations::add(&mut attributes.object);
        let class = text(&attributes.object, "/spec/runtimeClassName").to_owned();
        if !class.is_empty() {
            let found = self.objects.get("node.k8s.io", "runtimeclasses", "", &class).await?;
            if let Err(why) = runtime_class::apply(&mut attributes.object, &class, found.as_ref()) {
                return refuse(attributes, why);
            }
        }
        Ok(())
    }

    /// The class named, or all if the default has to be found.
    async fn priority_classes(&self, name: &str) -> Result<Vec<Value>, Status> {
        let (group, plural) = ("scheduling.k8s.io", "priorityclasses");
        if name.is_empty() {
            return self.objects.list(group, plural, "").await;
        }
        Ok(self.objects.get(group, plural, "", name).await?.into_iter().collect())
    }

    async fn validate_pod(&self, attributes: &Attributes<'_>, subject: Subject<'_>) -> Result<(), Status> {
        let namespace = &attributes.request.namespace;
        let refuse = |why: String| Err(forbid(attributes, &why));
        let object = &attributes.object;
        let creates = subject.creates("", "pods");
        if creates {
            if let Err(why) = service_account::validate(object) {
                return refuse(why);
            }
            if let Err(why) = runtime_class::validate(object) {
                return refuse(why);
            }
        }
        if creates || subject.subresource == "resize" {
            let mut errors = Vec::new();
            for range in self.objects.list("", "limitranges", namespace).await? {
                errors.extend(limit_ranger::check_pod(object, &range));
            }
            if let Some(why) = limit_ranger::join(&errors) {
                return refuse(why);
            }
        }
        let runs = matches!(subject.subresource, "" | "ephemeralcontainers");
        if runs && attributes.old.is_none_or(|old| pod_security::differs(old, object)) {
            let labels = self.namespace_labels(namespace).await?;
            let notes = &attributes.request.notes;
            notes.set(pod_security::ENFORCED, pod_security::enforced(&labels));
            if let Some(why) = pod_security::enforce(&labels, &object["metadata"], &object["spec"]) {
                return refuse(why);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Admission for BuiltIn {
    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<Vec<Warning>, Status> {
        let subject = Subject::of(attributes);
        if subject.creates("", "pods") {
            self.mutate_pod(attributes).await?;
        } else if subject.updates("", "pods") {
            if let Some(old) = attributes.old {
                priority::keep(&mut attributes.object, old);
            }
            default_tolerations::add(&mut attributes.object);
        } else if (subject.group, subject.plural, subject.subresource) == ("", "pods", "binding") {
            let node = text(&attributes.object, "/spec/nodeName").to_owned();
            if let Some(node) = self.objects.get("", "nodes", "", &node).await? {
                topology_labels::copy(&mut attributes.object, &node);
            }
        } else if subject.creates("", "nodes") {
            taint_nodes::taint(&mut attributes.object);
        } else if subject.creates("", "persistentvolumeclaims") {
            if storage::wants_class(&attributes.object) {
                let classes = self.objects.list("storage.k8s.io", "storageclasses", "").await?;
                storage::set_class(&mut attributes.object, &classes);
            }
            storage::protect(&mut attributes.object, "kubernetes.io/pvc-protection");
        } else if subject.creates("", "persistentvolumes") {
            storage::protect(&mut attributes.object, "kubernetes.io/pv-protection");
        } else if subject.creates("storage.k8s.io", "volumeattributesclasses") {
            storage::protect(&mut attributes.object, "kubernetes.io/vac-protection");
        } else if subject.creates("networking.k8s.io", "ingresses") {
            if default_ingress_class::wants_class(&attributes.object) {
                let classes = self.objects.list("networking.k8s.io", "ingressclasses", "").await?;
                default_ingress_class::set(&mut attributes.object, &classes);
            }
        } else if subject.creates("certificates.k8s.io", "certificatesigningrequests") {
            certificates::stamp(&mut attributes.object, &attributes.request.user);
        }
        let mut warnings = Vec::new();
        let spec = if subject.creates("", "pods") {
            Some((&attributes.object["metadata"], &attributes.object["spec"]))
        } else {
            pod_security::template(subject.group, subject.plural, &attributes.object).filter(|_| {
                subject.subresource.is_empty() && matches!(subject.operation, Operation::Create | Operation::Update)
            })
        };
        if let Some((metadata, spec)) = spec {
            let labels = self.namespace_labels(&attributes.request.namespace).await?;
            warnings.extend(pod_security::warn(&labels, metadata, spec));
            if let Some(broken) = pod_security::audit(&labels, metadata, spec) {
                attributes.request.notes.set(pod_security::VIOLATIONS, broken);
            }
        }
        if subject.updates("", "namespaces")
            && let Some(old) = attributes.old
        {
            let labels = &attributes.object["metadata"]["labels"];
            if pod_security::tightens(labels, &old["metadata"]["labels"]) {
                let pods = self.objects.list("", "pods", attributes.name).await?;
                warnings.extend(pod_security::existing(attributes.name, labels, &pods));
            }
        }
        Ok(warnings)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let subject = Subject::of(attributes);
        let user = attributes.request.user.clone();
        if node_identity(&user) != NodeIdentity::None {
            node_restriction::check(&*self.objects, attributes, subject).await?;
        }
        let written = matches!(subject.operation, Operation::Create | Operation::Update);
        if subject.group.is_empty() && subject.plural == "pods" && written {
            self.validate_pod(attributes, subject).await?;
        }
        if subject.group == rbac::GROUP && subject.subresource.is_empty() && written {
            escalate::check(
                &self.authorizer,
                &user,
                subject.plural,
                &attributes.object,
                attributes.old,
            )?;
        }
        if subject.is("", "namespaces") && written {
            pod_security::check_labels(&attributes.object)?;
        }
        if subject.is("scheduling.k8s.io", "priorityclasses") && written {
            let classes = self.objects.list("scheduling.k8s.io", "priorityclasses", "").await?;
            if let Err(why) = priority::check_class(&attributes.object, &classes) {
                return Err(forbid(attributes, &why));
            }
        }
        if subject.is("", "persistentvolumeclaims") && written {
            let mut errors = Vec::new();
            for range in self
                .objects
                .list("", "limitranges", &attributes.request.namespace)
                .await?
            {
                errors.extend(limit_ranger::check_claim(&attributes.object, &range));
            }
            if let Some(why) = limit_ranger::join(&errors) {
                return Err(forbid(attributes, &why));
            }
            if let Some(old) = attributes.old.filter(|old| storage::grows(&attributes.object, old)) {
                let class = storage::class_of(&attributes.object).to_owned();
                let class = self.objects.get("storage.k8s.io", "storageclasses", "", &class).await?;
                if let Err(why) = storage::check_growth(old, class.as_ref()) {
                    return Err(forbid(attributes, &why));
                }
            }
        }
        if (subject.group, subject.plural) == ("certificates.k8s.io", "certificatesigningrequests") {
            certificates::check(&self.authorizer, attributes, subject)?;
        }
        resource_quota::charge(&*self.objects, attributes, subject).await
    }
}

#[cfg(test)]
mod tests;
