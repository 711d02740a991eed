//! The coordination group: who leads, and who is still there.

use bosun_api::field::{Errors, OrEmpty, Path};
use k8s_openapi::api::coordination::v1::Lease;

use crate::kind::Kind;

pub(crate) struct Leases;

impl Kind for Leases {
    type Object = Lease;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn validate(lease: &Lease, errors: &mut Errors) {
        let Some(spec) = &lease.spec else { return };
        let path = Path::root("spec");
        if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            errors.invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0");
        }
        errors.at_least(&path.child("leaseTransitions"), spec.lease_transitions, 0);
        if let Some(strategy) = &spec.strategy {
            errors.check(&path.child("strategy"), strategy, bosun_api::names::qualified);
        }
        if spec.preferred_holder.is_given() && !spec.strategy.is_given() {
            errors.forbidden(
                &path.child("preferredHolder"),
                "may only be specified if `strategy` is defined",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::mistakes;

    #[test]
    fn a_lease_is_for_a_time() {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l", "namespace": "a"},
            "spec": {"holderIdentity": "me", "leaseDurationSeconds": 10, "renewTime": "2024-01-01T00:00:00.000001Z"},
        });
        mistakes(
            "coordination.k8s.io",
            "Lease",
            &lease,
            &[
                (
                    "/spec/leaseDurationSeconds",
                    json!(0),
                    &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
                ),
                (
                    "/spec/leaseTransitions",
                    json!(-1),
                    &["spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"],
                ),
                (
                    "/spec/preferredHolder",
                    json!("you"),
                    &["spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"],
                ),
            ],
        );
    }
}
