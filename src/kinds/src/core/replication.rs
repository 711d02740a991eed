//! Replication controllers, which replica sets replaced, and templates by themselves.

use bosun_api::{
    core::{PodTemplate, ReplicationController},
    field::{Errors, OrEmpty, Path},
    pod::{defaults::template_defaults, validate},
};

use crate::{kind::Kind, template};

pub(crate) struct Controllers;

impl Kind for Controllers {
    type Object = ReplicationController;

    fn default(controller: &mut ReplicationController) {
        let Some(spec) = &mut controller.spec else { return };
        spec.replicas.get_or_insert(1);
        let Some(template) = &mut spec.template else { return };
        template_defaults(template);
        let labels = template::labels(template);
        if labels.is_empty() {
            return;
        }
        if !spec.selector.is_given() {
            spec.selector = Some(labels.clone());
        }
        if !controller.metadata.labels.is_given() {
            controller.metadata.labels = Some(labels.clone());
        }
    }

    fn validate(controller: &ReplicationController, errors: &mut Errors) {
        let path = Path::root("spec");
        let Some(spec) = &controller.spec else {
            return errors.required(&path.child("selector"), "");
        };
        errors.at_least(&path.child("minReadySeconds"), spec.min_ready_seconds, 0);
        if !spec.selector.is_given() {
            errors.required(&path.child("selector"), "");
        }
        errors.at_least(&path.child("replicas"), spec.replicas, 0);
        let path = path.child("template");
        match &spec.template {
            None => errors.required(&path, ""),
            Some(template) => {
                template::includes(spec.selector.or_empty(), template, &path, errors);
                template::lasting(template, "ReplicationController", &path, errors);
            }
        }
    }

    fn validate_part(controller: &ReplicationController, _: &ReplicationController, _: &str, errors: &mut Errors) {
        let Some(status) = &controller.status else { return };
        template::counts(
            &[
                ("fullyLabeledReplicas", status.fully_labeled_replicas.map(i64::from)),
                ("readyReplicas", status.ready_replicas.map(i64::from)),
                ("availableReplicas", status.available_replicas.map(i64::from)),
            ],
            Some(status.replicas.into()),
            errors,
        );
    }
}

pub(crate) struct Templates;

impl Kind for Templates {
    type Object = PodTemplate;

    const STATUS: bool = false;

    fn default(template: &mut PodTemplate) {
        template_defaults(template.template.get_or_insert_default());
    }

    fn validate(template: &PodTemplate, errors: &mut Errors) {
        if let Some(template) = &template.template {
            validate::template(template, &Path::root("template"), errors);
        }
    }
}
