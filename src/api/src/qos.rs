//! The quality-of-service class of a pod.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use crate::{
    core::{PodSpec, ResourceRequirements},
    quantity::Quantity,
};

/// How a pod's processes share the node, and in which order they give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QosClass {
    /// Every container's processor and memory are limited, and requested in full.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    /// As `status.qosClass` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Processor and memory, the only resources the class looks at; zero means not given.
#[derive(Clone, Copy, Default)]
struct Amounts {
    cpu: Option<Quantity>,
    memory: Option<Quantity>,
}

impl Amounts {
    fn of(list: Option<&BTreeMap<String, Written>>) -> Self {
        let positive = |name: &str| {
            let amount = Quantity::of(list?.get(name)?).ok()?;
            (!amount.is_zero() && !amount.is_negative()).then_some(amount)
        };
        Self {
            cpu: positive("cpu"),
            memory: positive("memory"),
        }
    }

    fn complete(self) -> bool {
        self.cpu.is_some() && self.memory.is_some()
    }

    fn none(self) -> bool {
        self.cpu.is_none() && self.memory.is_none()
    }

    fn plus(self, other: Self) -> Self {
        let plus = |a: Option<Quantity>, b: Option<Quantity>| match (a, b) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        Self {
            cpu: plus(self.cpu, other.cpu),
            memory: plus(self.memory, other.memory),
        }
    }
}

/// The class of a pod whose requests have been defaulted from its limits.
///
/// Resources given for the whole pod decide alone; else all containers do, those of the start-up phase included.
pub fn qos_class(spec: &PodSpec) -> QosClass {
    let amounts = |resources: Option<&ResourceRequirements>| {
        (
            Amounts::of(resources.and_then(|resources| resources.requests.as_ref())),
            Amounts::of(resources.and_then(|resources| resources.limits.as_ref())),
        )
    };
    let (requests, limits, every_limit_given) = if spec.resources.is_some() {
        let (requests, limits) = amounts(spec.resources.as_ref());
        (requests, limits, limits.complete())
    } else {
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        containers.map(|container| amounts(container.resources.as_ref())).fold(
            (Amounts::default(), Amounts::default(), true),
            |(requests, limits, every), (request, limit)| {
                (requests.plus(request), limits.plus(limit), every && limit.complete())
            },
        )
    };
    if requests.none() && limits.none() {
        QosClass::BestEffort
    } else if every_limit_given && requests.cpu == limits.cpu && requests.memory == limits.memory {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Container;

    fn list(amounts: &str) -> Option<BTreeMap<String, Written>> {
        (!amounts.is_empty()).then(|| {
            amounts
                .split(',')
                .map(|amount| amount.split_once('=').unwrap())
                .map(|(name, amount)| (name.to_owned(), Written(amount.to_owned())))
                .collect()
        })
    }

    fn resources((requests, limits): (&str, &str)) -> ResourceRequirements {
        ResourceRequirements {
            requests: list(requests),
            limits: list(limits),
            claims: None,
        }
    }

    fn container(amounts: (&str, &str)) -> Container {
        Container {
            resources: Some(resources(amounts)),
            ..Container::default()
        }
    }

    fn spec(containers: &[(&str, &str)], init: &[(&str, &str)], pod: Option<(&str, &str)>) -> PodSpec {
        PodSpec {
            containers: containers.iter().copied().map(container).collect(),
            init_containers: Some(init.iter().copied().map(container).collect()),
            resources: pod.map(resources),
            ..PodSpec::default()
        }
    }

    #[test]
    fn the_class_follows_requests_and_limits_of_all_containers() {
        use QosClass::{BestEffort, Burstable, Guaranteed};
        const FULL: (&str, &str) = ("cpu=100m,memory=100Mi", "cpu=0.1,memory=100Mi");
        let table = vec![
            ("nothing asked", spec(&[("", "")], &[], None), BestEffort),
            (
                "zero is nothing",
                spec(&[("cpu=0,memory=0", "")], &[], None),
                BestEffort,
            ),
            (
                "other resources don't count",
                spec(&[("hugepages-2Mi=2Mi", "hugepages-2Mi=2Mi")], &[], None),
                BestEffort,
            ),
            ("all equal", spec(&[FULL], &[], None), Guaranteed),
            ("all equal, two containers", spec(&[FULL, FULL], &[], None), Guaranteed),
            (
                "memory not limited",
                spec(&[("cpu=1,memory=1Gi", "cpu=1")], &[], None),
                Burstable,
            ),
            (
                "less requested than limited",
                spec(&[("cpu=1,memory=1Gi", "cpu=2,memory=1Gi")], &[], None),
                Burstable,
            ),
            (
                "one container asks nothing",
                spec(&[FULL, ("", "")], &[], None),
                Burstable,
            ),
            (
                "an init container asks nothing",
                spec(&[FULL], &[("", "")], None),
                Burstable,
            ),
            ("init container equal", spec(&[FULL], &[FULL], None), Guaranteed),
            ("only a request", spec(&[("cpu=1", "")], &[], None), Burstable),
            ("the pod's own decide", spec(&[("", "")], &[], Some(FULL)), Guaranteed),
            (
                "the pod's own lack memory",
                spec(&[FULL], &[], Some(("cpu=1", "cpu=1"))),
                Burstable,
            ),
            (
                "the pod's own are requests only",
                spec(&[FULL], &[], Some(("cpu=1,memory=1Gi", ""))),
                Burstable,
            ),
            (
                "the pod's own are empty",
                spec(&[FULL], &[], Some(("", ""))),
                BestEffort,
            ),
        ];
        for (case, spec, class) in table {
            assert_eq!(qos_class(&spec), class, "{case}");
        }
    }
}
