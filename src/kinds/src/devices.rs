//! The resource group: claims to devices (dynamic resource allocation, KEP-4381), and what drivers offer.
//!
//! Expressions by which devices are chosen are compiled where they are evaluated.

use bosun_api::{
    core::NodeSelector,
    field::{Errors, OrEmpty, Path, set_default},
    names,
    pod::validate::scheduling::node_selector,
};
use k8s_openapi::api::resource::v1::{
    DeviceClaim, DeviceRequest, DeviceSelector, DeviceToleration, ResourceClaim, ResourceClaimSpec,
    ResourceClaimTemplate, ResourceSlice,
};

use crate::kind::Kind;

/// The most requests, constraints and configurations of a claim, and the most selectors of a request.
const MOST: usize = 32;
/// The most alternatives a request names.
const MOST_ALTERNATIVES: usize = 8;
/// The most devices of a slice.
const MOST_DEVICES: usize = 128;
const MAX_DRIVER: usize = 63;

pub(crate) struct Claims;

impl Kind for Claims {
    type Object = ResourceClaim;

    const GENERATION: bool = false;

    fn default(claim: &mut ResourceClaim) {
        claim_defaults(&mut claim.spec);
    }

    fn validate(claim: &ResourceClaim, errors: &mut Errors) {
        claim_spec(&claim.spec, &Path::root("spec"), errors);
    }

    fn validate_update(claim: &ResourceClaim, old: &ResourceClaim, errors: &mut Errors) {
        errors.immutable(&Path::root("spec"), &claim.spec, &old.spec);
    }

    fn validate_part(claim: &ResourceClaim, old: &ResourceClaim, _: &str, errors: &mut Errors) {
        let Some(status) = &claim.status else { return };
        let path = Path::root("status");
        let reserved = path.child("reservedFor");
        let consumers = status.reserved_for.or_empty();
        errors.too_many(&reserved, consumers.len(), 256);
        for (index, consumer) in consumers.iter().enumerate() {
            let path = reserved.index(index);
            for (field, value) in [
                ("resource", &consumer.resource),
                ("name", &consumer.name),
                ("uid", &consumer.uid),
            ] {
                if value.is_empty() {
                    errors.required(&path.child(field), "");
                }
            }
            if consumers[..index].iter().any(|other| other.uid == consumer.uid) {
                errors.duplicate(&path, consumer.uid.as_str());
            }
        }
        let before = old.status.as_ref();
        let reserved_before = before.map_or(&[][..], |status| status.reserved_for.or_empty());
        if !consumers.is_empty() && status.allocation.is_none() {
            errors.forbidden(&reserved, "may not be specified when `allocated` is not set");
        } else if claim.metadata.deletion_timestamp.is_some()
            && consumers.iter().any(|consumer| !reserved_before.contains(consumer))
        {
            errors.forbidden(
                &reserved,
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set",
            );
        }
        let allocation = before.and_then(|status| status.allocation.as_ref());
        if let (Some(new), Some(old)) = (&status.allocation, allocation) {
            errors.immutable(&path.child("allocation"), new, old);
        }
    }
}

pub(crate) struct ClaimTemplates;

impl Kind for ClaimTemplates {
    type Object = ResourceClaimTemplate;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn default(template: &mut ResourceClaimTemplate) {
        claim_defaults(&mut template.spec.spec);
    }

    fn validate(template: &ResourceClaimTemplate, errors: &mut Errors) {
        claim_spec(&template.spec.spec, &Path::root("spec.spec"), errors);
    }

    fn validate_update(template: &ResourceClaimTemplate, old: &ResourceClaimTemplate, errors: &mut Errors) {
        errors.immutable(&Path::root("spec"), &template.spec, &old.spec);
    }
}

fn claim_defaults(spec: &mut ResourceClaimSpec) {
    let Some(devices) = &mut spec.devices else { return };
    for request in devices.requests.iter_mut().flatten() {
        if let Some(exactly) = &mut request.exactly {
            one_device(&mut exactly.allocation_mode, &mut exactly.count);
            toleration_defaults(exactly.tolerations.as_mut());
        }
        for alternative in request.first_available.iter_mut().flatten() {
            one_device(&mut alternative.allocation_mode, &mut alternative.count);
            toleration_defaults(alternative.tolerations.as_mut());
        }
    }
}

fn one_device(mode: &mut Option<String>, count: &mut Option<i64>) {
    set_default(mode, "ExactCount");
    if mode.or_empty() == "ExactCount" && count.unwrap_or_default() == 0 {
        *count = Some(1);
    }
}

fn toleration_defaults(tolerations: Option<&mut Vec<DeviceToleration>>) {
    for toleration in tolerations.into_iter().flatten() {
        set_default(&mut toleration.operator, "Equal");
    }
}

fn claim_spec(spec: &ResourceClaimSpec, path: &Path, errors: &mut Errors) {
    let Some(devices) = &spec.devices else { return };
    let path = path.child("devices");
    let requests = devices.requests.or_empty();
    let requests_path = path.child("requests");
    errors.too_many(&requests_path, requests.len(), MOST);
    for (index, request) in requests.iter().enumerate() {
        let path = requests_path.index(index);
        device_request(request, &path, errors);
        if requests[..index].iter().any(|other| other.name == request.name) {
            errors.duplicate(&path, request.name.as_str());
        }
    }
    let constraints = devices.constraints.or_empty();
    let constraints_path = path.child("constraints");
    errors.too_many(&constraints_path, constraints.len(), MOST);
    for (path, constraint) in constraints_path.each(constraints) {
        references(devices, constraint.requests.or_empty(), &path.child("requests"), errors);
        if constraint.match_attribute.is_none() && constraint.distinct_attribute.is_none() {
            errors.required(
                &path,
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
            );
        }
    }
    let configurations = devices.config.or_empty();
    let configurations_path = path.child("config");
    errors.too_many(&configurations_path, configurations.len(), MOST);
    for (path, configuration) in configurations_path.each(configurations) {
        references(
            devices,
            configuration.requests.or_empty(),
            &path.child("requests"),
            errors,
        );
        match &configuration.opaque {
            None => errors.required(&path.child("opaque"), ""),
            Some(opaque) => driver(&opaque.driver, &path.child("opaque.driver"), errors),
        }
    }
}

fn driver(name: &str, path: &Path, errors: &mut Errors) {
    if name.len() > MAX_DRIVER {
        errors.too_long(path, MAX_DRIVER);
    }
    errors.required_check(path, name, names::dns_subdomain);
}

/// Constraints and configurations name requests, or an alternative of one.
fn references(devices: &DeviceClaim, named: &[String], path: &Path, errors: &mut Errors) {
    let requests = devices.requests.or_empty();
    errors.too_many(path, named.len(), MOST);
    for (index, name) in named.iter().enumerate() {
        let path = path.index(index);
        let (request, alternative) = match name.split_once('/') {
            Some((request, alternative)) => (request, Some(alternative)),
            None => (name.as_str(), None),
        };
        let known = requests.iter().any(|known| {
            let alternatives = known.first_available.or_empty();
            known.name == request && alternative.is_none_or(|name| alternatives.iter().any(|known| known.name == name))
        });
        if !known {
            errors.invalid(
                &path,
                name.as_str(),
                "must be the name of a request in the claim or the name of a request and a subrequest separated by \
                 '/'",
            );
        }
        if named[..index].contains(name) {
            errors.duplicate(&path, name.as_str());
        }
    }
}

fn device_request(request: &DeviceRequest, path: &Path, errors: &mut Errors) {
    errors.required_check(&path.child("name"), &request.name, names::dns_label);
    let alternatives = request.first_available.or_empty();
    match (&request.exactly, alternatives) {
        (None, []) => errors.required(path, "exactly one of `exactly` or `firstAvailable` is required"),
        (Some(_), [_, ..]) => errors.invalid_object(
            path,
            &None::<()>,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ),
        (Some(exactly), []) => Wanted {
            class: &exactly.device_class_name,
            mode: exactly.allocation_mode.or_empty(),
            count: exactly.count.unwrap_or_default(),
            selectors: exactly.selectors.or_empty(),
            tolerations: exactly.tolerations.or_empty(),
        }
        .validate(&path.child("exactly"), errors),
        (None, alternatives) => {
            let path = path.child("firstAvailable");
            errors.too_many(&path, alternatives.len(), MOST_ALTERNATIVES);
            for (index, alternative) in alternatives.iter().enumerate() {
                let path = path.index(index);
                errors.required_check(&path.child("name"), &alternative.name, names::dns_label);
                Wanted {
                    class: &alternative.device_class_name,
                    mode: alternative.allocation_mode.or_empty(),
                    count: alternative.count.unwrap_or_default(),
                    selectors: alternative.selectors.or_empty(),
                    tolerations: alternative.tolerations.or_empty(),
                }
                .validate(&path, errors);
                if alternatives[..index].iter().any(|other| other.name == alternative.name) {
                    errors.duplicate(&path, alternative.name.as_str());
                }
            }
        }
    }
}

/// What a request and an alternative both say of the devices they want.
struct Wanted<'a> {
    class: &'a str,
    mode: &'a str,
    count: i64,
    selectors: &'a [DeviceSelector],
    tolerations: &'a [DeviceToleration],
}

impl Wanted<'_> {
    fn validate(&self, path: &Path, errors: &mut Errors) {
        errors.required_check(&path.child("deviceClassName"), self.class, names::dns_subdomain);
        let selectors = path.child("selectors");
        errors.too_many(&selectors, self.selectors.len(), MOST);
        for (path, selector) in selectors.each(self.selectors) {
            if selector.cel.is_none() {
                errors.required(&path.child("cel"), "");
            }
        }
        let count = path.child("count");
        match self.mode {
            "All" if self.count != 0 => {
                errors.invalid(&count, self.count, "must not be specified when allocationMode is 'All'");
            }
            "ExactCount" if self.count <= 0 => errors.invalid(&count, self.count, "must be greater than zero"),
            mode => errors.one_of(&path.child("allocationMode"), Some(mode), &["All", "ExactCount"]),
        }
        for (path, toleration) in path.child("tolerations").each(self.tolerations) {
            if toleration.key.is_given() {
                errors.check(&path.child("key"), toleration.key.or_empty(), names::qualified);
            }
            errors.one_of(
                &path.child("operator"),
                toleration.operator.as_deref(),
                &["Equal", "Exists"],
            );
            errors.one_of(
                &path.child("effect"),
                toleration.effect.as_deref().filter(|effect| !effect.is_empty()),
                &["NoExecute", "NoSchedule", "None"],
            );
        }
    }
}

pub(crate) struct Slices;

impl Kind for Slices {
    type Object = ResourceSlice;

    const STATUS: bool = false;

    fn validate(slice: &ResourceSlice, errors: &mut Errors) {
        let path = Path::root("spec");
        let spec = &slice.spec;
        driver(&spec.driver, &path.child("driver"), errors);
        let pool = path.child("pool");
        pool_name(&spec.pool.name, &pool.child("name"), errors);
        if spec.pool.resource_slice_count <= 0 {
            errors.invalid(
                &pool.child("resourceSliceCount"),
                spec.pool.resource_slice_count,
                "must be greater than zero",
            );
        }
        errors.at_least(&pool.child("generation"), Some(spec.pool.generation), 0);
        if let Some(node) = &spec.node_name {
            errors.required_check(&path.child("nodeName"), node, names::dns_subdomain);
        }
        if let Some(selector) = &spec.node_selector {
            one_term(selector, &path.child("nodeSelector"), errors);
        }
        let devices = spec.devices.or_empty();
        let devices_path = path.child("devices");
        errors.too_many(&devices_path, devices.len(), MOST_DEVICES);
        for (index, device) in devices.iter().enumerate() {
            let path = devices_path.index(index);
            errors.required_check(&path.child("name"), &device.name, names::dns_label);
            if devices[..index].iter().any(|other| other.name == device.name) {
                errors.duplicate(&path, device.name.as_str());
            }
        }
    }

    fn validate_update(slice: &ResourceSlice, old: &ResourceSlice, errors: &mut Errors) {
        Self::validate(slice, errors);
        let (new, old) = (&slice.spec, &old.spec);
        errors.immutable(&Path::root("spec.driver"), &new.driver, &old.driver);
        errors.immutable(&Path::root("spec.pool.name"), &new.pool.name, &old.pool.name);
        errors.immutable(&Path::root("spec.nodeName"), &new.node_name, &old.node_name);
    }
}

/// A pool is often named after its node, and then after a part of it.
fn pool_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name.len() > 253 {
        errors.too_long(path, 253);
    }
    for part in name.split('/') {
        errors.check(path, part, names::dns_subdomain);
    }
}

fn one_term(selector: &NodeSelector, path: &Path, errors: &mut Errors) {
    node_selector(selector, path, errors);
    if selector.node_selector_terms.len() != 1 {
        // What a slice is reachable from is copied into allocations, which know one term.
        errors.invalid_object(
            &path.child("nodeSelectorTerms"),
            &selector.node_selector_terms,
            "must have exactly one node selector term",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{changes, create, mistakes, update, with};

    const GROUP: &str = "resource.k8s.io";

    fn claim() -> Value {
        json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "c", "namespace": "a"},
            "spec": {"devices": {
                "requests": [
                    {"name": "one", "exactly": {"deviceClassName": "gpu"}},
                    {"name": "any", "firstAvailable": [{"name": "big", "deviceClassName": "gpu", "allocationMode": "All"}]},
                ],
                "constraints": [{"requests": ["one", "any/big"], "matchAttribute": "example.com/numa"}],
            }},
        })
    }

    #[test]
    fn a_claim_is_to_one_device_unless_said_otherwise_and_stays() {
        let stored = create(GROUP, "ResourceClaim", claim()).unwrap();
        let requests = &stored["spec"]["devices"]["requests"];
        assert_eq!(requests[0]["exactly"]["allocationMode"], "ExactCount");
        assert_eq!(requests[0]["exactly"]["count"], 1);
        assert_eq!(requests[1]["firstAvailable"][0]["count"], Value::Null);
        let other = with(&stored, "/spec/devices/requests/0/exactly/count", json!(2));
        let errors = update(GROUP, "ResourceClaim", other, &stored, "").unwrap_err();
        assert!(errors[0].ends_with("field is immutable"), "{errors:?}");
        assert_eq!(errors.len(), 1);
        let reserved = json!({"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]});
        let errors = update(
            GROUP,
            "ResourceClaim",
            with(&stored, "/status", reserved),
            &stored,
            "status",
        )
        .unwrap_err();
        assert_eq!(
            errors,
            ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"]
        );
    }

    #[test]
    fn mistakes_in_a_claim_are_told_in_upstreams_words() {
        mistakes(
            GROUP,
            "ResourceClaim",
            &claim(),
            &[
                (
                    "/spec/devices/requests/0/exactly",
                    Value::Null,
                    &[
                        "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is \
                         required",
                    ],
                ),
                (
                    "/spec/devices/requests/0/exactly/deviceClassName",
                    json!(""),
                    &["spec.devices.requests[0].exactly.deviceClassName: Required value"],
                ),
                (
                    "/spec/devices/requests/1/firstAvailable/0/count",
                    json!(2),
                    &[
                        "spec.devices.requests[1].firstAvailable[0].count: Invalid value: 2: must not be specified \
                         when allocationMode is 'All'",
                    ],
                ),
                (
                    "/spec/devices/constraints/0/requests",
                    json!(["any/small"]),
                    &[
                        "spec.devices.constraints[0].requests[0]: Invalid value: \"any/small\": must be the name of a \
                         request in the claim or the name of a request and a subrequest separated by '/'",
                    ],
                ),
                (
                    "/spec/devices/config",
                    json!([{}]),
                    &["spec.devices.config[0].opaque: Required value"],
                ),
            ],
        );
    }

    #[test]
    fn a_slice_belongs_to_a_driver_and_a_pool() {
        let slice = json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"},
            "spec": {
                "driver": "gpu.example.com", "nodeName": "n1", "devices": [{"name": "d0"}],
                "pool": {"name": "n1/pool", "generation": 1, "resourceSliceCount": 1},
            },
        });
        mistakes(
            GROUP,
            "ResourceSlice",
            &slice,
            &[
                (
                    "/spec/devices/-",
                    json!({"name": "d0"}),
                    &["spec.devices[1]: Duplicate value: \"d0\""],
                ),
                (
                    "/spec/pool/resourceSliceCount",
                    json!(0),
                    &["spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero"],
                ),
            ],
        );
        changes(
            GROUP,
            "ResourceSlice",
            &slice,
            &[
                ("/spec/pool/generation", json!(2), &[]),
                (
                    "/spec/driver",
                    json!("other.example.com"),
                    &["spec.driver: Invalid value: \"other.example.com\": field is immutable"],
                ),
            ],
        );
    }
}
