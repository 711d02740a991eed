//! Namespaces and service accounts.

use bosun_api::{
    core::{Namespace, NamespaceStatus, ServiceAccount},
    field::{Errors, OrEmpty, Path, set_default},
    names,
};

use crate::{Context, kind::Kind, meta::finalizer_of_ours};

/// Each namespace bears its name as a label, so that selectors can name it.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(crate) struct Namespaces;

impl Kind for Namespaces {
    type Object = Namespace;

    const GENERATION: bool = false;

    fn default(namespace: &mut Namespace) {
        let name = namespace.metadata.name.or_empty().to_owned();
        if !name.is_empty() {
            let labels = namespace.metadata.labels.get_or_insert_default();
            labels.insert(NAME_LABEL.to_owned(), name);
        }
        if let Some(status) = &mut namespace.status {
            set_default(&mut status.phase, "Active");
        }
    }

    /// The content of a namespace goes before it does: the controller that removes it lifts this finalizer.
    fn prepare_create(namespace: &mut Namespace, _: &Context<'_>) {
        Self::default(namespace);
        namespace.status = Some(NamespaceStatus {
            phase: Some("Active".to_owned()),
            conditions: None,
        });
        let finalizers = namespace
            .spec
            .get_or_insert_default()
            .finalizers
            .get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
            finalizers.push("kubernetes".to_owned());
        }
    }

    fn validate(namespace: &Namespace, errors: &mut Errors) {
        let path = Path::root("spec.finalizers");
        for finalizer in finalizers(namespace) {
            errors.check(&path, finalizer, names::qualified);
            finalizer_of_ours(finalizer, &path, errors);
        }
    }

    fn prepare_update(namespace: &mut Namespace, old: &Namespace, context: &Context<'_>) {
        match context.subresource {
            "" => namespace.spec.clone_from(&old.spec),
            "finalize" => namespace.status.clone_from(&old.status),
            _ => {}
        }
        Self::default(namespace);
    }

    fn validate_update(_: &Namespace, _: &Namespace, _: &mut Errors) {}

    fn validate_part(namespace: &Namespace, _: &Namespace, part: &str, errors: &mut Errors) {
        if part == "finalize" {
            for (path, finalizer) in Path::root("spec.finalizers").each(finalizers(namespace)) {
                errors.check(&path, finalizer, names::qualified);
                finalizer_of_ours(finalizer, &path, errors);
            }
            return;
        }
        let phase = namespace.status.as_ref().map_or("", |status| status.phase.or_empty());
        let path = Path::root("status.Phase");
        let going = namespace.metadata.deletion_timestamp.is_some();
        if !going && phase != "Active" {
            errors.invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty");
        } else if going && phase != "Terminating" {
            errors.invalid(
                &path,
                phase,
                "may only be 'Terminating' if `deletionTimestamp` is not empty",
            );
        }
    }
}

fn finalizers(namespace: &Namespace) -> &[String] {
    namespace.spec.as_ref().map_or(&[], |spec| spec.finalizers.or_empty())
}

pub(crate) struct ServiceAccounts;

impl Kind for ServiceAccounts {
    type Object = ServiceAccount;

    const STATUS: bool = false;
    const GENERATION: bool = false;
}
