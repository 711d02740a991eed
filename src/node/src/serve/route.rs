//! What a path asks for. Pure.

use bosun_api::PodKey;

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its pod.
    pub pod: PodKey,
    /// Its name in the pod.
    pub container: String,
}

/// What there is to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/healthz`, and the parts of it.
    Healthz,
    /// `/configz`
    Configz,
    /// `/pods`
    Pods,
    /// `/runningpods/`
    RunningPods,
    /// `/stats/summary`
    Summary,
    /// `/metrics/resource`
    ResourceMetrics,
    /// `/logs/…`: files beneath the logs' directory.
    Files(String),
    /// `/containerLogs/<namespace>/<pod>/<container>`
    Logs(Target),
    /// `/run/<namespace>/<pod>/[<uid>/]<container>`
    Run(Target),
    /// `/exec/<namespace>/<pod>/[<uid>/]<container>`
    Exec(Target),
    /// `/attach/<namespace>/<pod>/[<uid>/]<container>`
    Attach(Target),
    /// `/portForward/<namespace>/<pod>[/<uid>]`
    PortForward {
        /// The pod.
        pod: PodKey,
    },
}

impl Route {
    /// Reads a path.
    pub fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        Some(match parts[..] {
            ["healthz", ..] => Self::Healthz,
            ["configz"] => Self::Configz,
            ["pods"] => Self::Pods,
            ["runningpods"] | ["runningpods", ""] => Self::RunningPods,
            ["stats", "summary"] => Self::Summary,
            ["metrics", "resource"] => Self::ResourceMetrics,
            ["logs", ref rest @ ..] => Self::Files(rest.join("/")),
            ["containerLogs", namespace, pod, container] => Self::Logs(target(namespace, pod, container)?),
            [action, namespace, pod, container] | [action, namespace, pod, _, container] => {
                let target = target(namespace, pod, container);
                match action {
                    "run" => Self::Run(target?),
                    "exec" => Self::Exec(target?),
                    "attach" => Self::Attach(target?),
                    // The last part is a UID.
                    "portForward" if parts.len() == 4 => Self::PortForward {
                        pod: key(namespace, pod)?,
                    },
                    _ => return None,
                }
            }
            ["portForward", namespace, pod] => Self::PortForward {
                pod: key(namespace, pod)?,
            },
            _ => return None,
        })
    }
}

fn target(namespace: &str, pod: &str, container: &str) -> Option<Target> {
    Some(Target {
        pod: key(namespace, pod)?,
        container: named(container)?,
    })
}

fn key(namespace: &str, pod: &str) -> Option<PodKey> {
    Some(PodKey {
        namespace: named(namespace)?,
        name: named(pod)?,
    })
}

/// Names have nothing in them that would have to be escaped.
fn named(name: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (!name.is_empty() && name.bytes().all(plain)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn web(container: &str) -> Target {
        target("default", "web-0", container).unwrap()
    }

    #[test]
    fn a_path_names_what_is_asked_for() {
        let pod = || web("x").pod;
        for (path, expected) in [
            ("/healthz", Some(Route::Healthz)),
            ("/healthz/ping", Some(Route::Healthz)),
            ("/pods", Some(Route::Pods)),
            ("/runningpods/", Some(Route::RunningPods)),
            ("/stats/summary", Some(Route::Summary)),
            ("/metrics/resource", Some(Route::ResourceMetrics)),
            ("/logs/", Some(Route::Files(String::new()))),
            ("/logs/pods/a/0.log", Some(Route::Files("pods/a/0.log".to_owned()))),
            ("/containerLogs/default/web-0/app", Some(Route::Logs(web("app")))),
            ("/exec/default/web-0/app", Some(Route::Exec(web("app")))),
            ("/exec/default/web-0/uid-1/app", Some(Route::Exec(web("app")))),
            ("/attach/default/web-0/app", Some(Route::Attach(web("app")))),
            ("/run/default/web-0/app", Some(Route::Run(web("app")))),
            ("/portForward/default/web-0", Some(Route::PortForward { pod: pod() })),
            (
                "/portForward/default/web-0/uid-1",
                Some(Route::PortForward { pod: pod() }),
            ),
            ("/exec/default/web-0", None),
            ("/exec/default//app", None),
            ("/exec/default/web%2F0/app", None),
            ("/", None),
            ("", None),
            ("/debug/pprof", None),
        ] {
            assert_eq!(Route::parse(path), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_read_without_a_panic(path in "(/|exec|logs|portForward|\\.\\.|%2e|[a-z])*") {
            let _ = Route::parse(&path);
        }
    }
}
