//! What a probe or a lifecycle hook does: a request, a connection, a call or a command.

use std::{net::IpAddr, time::Duration};

use bosun_api::{
    ContainerId,
    core::{Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction},
};
use bosun_cri::{ErrorKind, ExecOutput, Runtime};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{dial, grpc, http};

/// As much of an answer as is kept for people, like upstream.
pub const MAX_ANSWER: usize = 10 << 10;

/// Where a handler finds what it names.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The pod's address; the node's for a pod in the node's network.
    pub address: Option<IpAddr>,
    /// The container whose ports may be named.
    pub container: &'a Container,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The container answered well.
    Success(String),
    /// The container answered badly, or not in time.
    Failure(String),
    /// It could not be asked: this says nothing of the container.
    Unknown(String),
}

/// A handler with its names resolved.
#[derive(Clone, Debug)]
pub enum Action {
    /// A GET request.
    Http(Box<http::Request>),
    /// A connection, opened and closed.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A call of `grpc.health.v1.Health/Check`.
    Grpc {
        /// The pod's address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// The service asked about; empty for the server as a whole.
        service: String,
    },
    /// A command in the container.
    Exec(Vec<String>),
    /// Waiting.
    Sleep(Duration),
    /// Something that can't be done, and why.
    Broken(String),
}

impl Action {
    /// What a probe does.
    pub fn of_probe(probe: &Probe, target: &Target<'_>) -> Self {
        let Probe {
            exec,
            http_get,
            tcp_socket,
            grpc,
            ..
        } = probe;
        let action = if let Some(ExecAction { command }) = exec {
            Ok(Self::Exec(command.clone().unwrap_or_default()))
        } else if let Some(get) = http_get {
            Self::of_get(get, target)
        } else if let Some(tcp) = tcp_socket {
            Self::of_tcp(tcp, target)
        } else if let Some(grpc) = grpc {
            Self::of_grpc(grpc, target)
        } else {
            Err("the probe has no handler".to_owned())
        };
        action.unwrap_or_else(Self::Broken)
    }

    /// What a lifecycle hook does.
    pub fn of_hook(hook: &LifecycleHandler, target: &Target<'_>) -> Self {
        let LifecycleHandler {
            exec, http_get, sleep, ..
        } = hook;
        let action = if let Some(ExecAction { command }) = exec {
            Ok(Self::Exec(command.clone().unwrap_or_default()))
        } else if let Some(get) = http_get {
            Self::of_get(get, target)
        } else if let Some(sleep) = sleep {
            Ok(Self::Sleep(Duration::from_secs(sleep.seconds.max(0).unsigned_abs())))
        } else {
            Err("the hook has no handler that can be run: use exec, httpGet or sleep".to_owned())
        };
        action.unwrap_or_else(Self::Broken)
    }

    fn of_get(get: &HTTPGetAction, target: &Target<'_>) -> Result<Self, String> {
        let port = port(&get.port, target.container)?;
        let host = host(get.host.as_deref(), target)?;
        let https = get
            .scheme
            .as_deref()
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        let headers = get.http_headers.as_deref().unwrap_or_default();
        let path = get.path.as_deref().unwrap_or_default();
        Ok(Self::Http(Box::new(http::Request::new(
            https, &host, port, path, headers,
        )?)))
    }

    fn of_tcp(tcp: &TCPSocketAction, target: &Target<'_>) -> Result<Self, String> {
        Ok(Self::Tcp {
            host: host(tcp.host.as_deref(), target)?,
            port: port(&tcp.port, target.container)?,
        })
    }

    fn of_grpc(grpc: &GRPCAction, target: &Target<'_>) -> Result<Self, String> {
        let address = target.address.ok_or("the pod has no address")?;
        let port = port(&IntOrString::Int(grpc.port), target.container)?;
        Ok(Self::Grpc {
            address,
            port,
            service: grpc.service.clone().unwrap_or_default(),
        })
    }

    /// Whether the runtime does it, which then keeps the time.
    pub fn is_command(&self) -> bool {
        matches!(self, Self::Exec(_))
    }

    /// Does it once. Only a command is ended after `limit`; for the others the caller drops the future.
    pub async fn run(&self, runtime: &dyn Runtime, container: &ContainerId, limit: Duration, agent: &str) -> Outcome {
        match self {
            Self::Http(request) => match http::get(request, agent).await {
                Ok(answer) => judge(&answer),
                Err(error) => Outcome::Failure(error.to_string()),
            },
            Self::Tcp { host, port } => match dial::connect(host, *port).await {
                Ok(_) => Outcome::Success(String::new()),
                Err(error) => Outcome::Failure(error.to_string()),
            },
            Self::Grpc { address, port, service } => grpc::check(*address, *port, service, agent).await,
            Self::Exec(command) => exec(runtime, container, command, limit).await,
            Self::Sleep(duration) => {
                tokio::time::sleep(*duration).await;
                Outcome::Success(String::new())
            }
            Self::Broken(why) => Outcome::Unknown(why.clone()),
        }
    }
}

fn host(named: Option<&str>, target: &Target<'_>) -> Result<String, String> {
    match named.filter(|host| !host.is_empty()) {
        Some(host) => Ok(host.to_owned()),
        None => target
            .address
            .map(|address| address.to_string())
            .ok_or_else(|| "the pod has no address".to_owned()),
    }
}

/// A port by number, or by its name among the container's.
fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let ports = container.ports.as_deref().unwrap_or_default();
            let named = ports.iter().find(|port| port.name.as_deref() == Some(name));
            match (named, name.parse()) {
                (Some(port), _) => port.container_port,
                (None, Ok(number)) => number,
                (None, Err(_)) => return Err(format!("container {:?} has no port named {name:?}", container.name)),
            }
        }
    };
    u16::try_from(number)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("{number} is not a port"))
}

/// 2xx is success, and so is a redirect that leads to another host: it is not ours to judge.
fn judge(answer: &http::Answer) -> Outcome {
    match answer.status {
        200..=299 => Outcome::Success(text(&answer.body)),
        300..=399 => Outcome::Success(format!("stopped at a redirect: {}", text(&answer.body))),
        status => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
    }
}

async fn exec(runtime: &dyn Runtime, container: &ContainerId, command: &[String], limit: Duration) -> Outcome {
    match runtime.exec(container, command, limit).await {
        Ok(ExecOutput {
            exit_code: 0, stdout, ..
        }) => Outcome::Success(text(&stdout)),
        Ok(ExecOutput {
            exit_code,
            stdout,
            stderr,
        }) => {
            let output = if stderr.is_empty() {
                text(&stdout)
            } else {
                text(&stderr)
            };
            Outcome::Failure(format!("command exited with code {exit_code}: {output}"))
        }
        Err(error) if error.kind == ErrorKind::DeadlineExceeded => {
            Outcome::Failure(format!("command timed out after {} s", limit.as_secs_f64()))
        }
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_ANSWER)])
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use bosun_api::core::{ContainerPort, SleepAction};

    use super::*;

    fn container() -> Container {
        let named = |name: &str, container_port| ContainerPort {
            name: Some(name.to_owned()),
            container_port,
            ..ContainerPort::default()
        };
        Container {
            name: "web".to_owned(),
            ports: Some(vec![named("http", 8080)]),
            ..Container::default()
        }
    }

    fn tcp(port: IntOrString, address: Option<IpAddr>) -> Action {
        let probe = Probe {
            tcp_socket: Some(TCPSocketAction { host: None, port }),
            ..Probe::default()
        };
        Action::of_probe(
            &probe,
            &Target {
                address,
                container: &container(),
            },
        )
    }

    #[test]
    fn ports_are_found_by_number_and_by_name() {
        let address = "10.0.0.1".parse().ok();
        for (port, expected) in [
            (IntOrString::Int(80), Ok(80)),
            (IntOrString::String("http".to_owned()), Ok(8080)),
            (IntOrString::String("9090".to_owned()), Ok(9090)),
            (
                IntOrString::String("https".to_owned()),
                Err(r#"container "web" has no port named "https""#),
            ),
            (IntOrString::Int(0), Err("0 is not a port")),
            (IntOrString::Int(70_000), Err("70000 is not a port")),
        ] {
            match (tcp(port.clone(), address), expected) {
                (Action::Tcp { host, port }, Ok(expected)) => assert_eq!((host.as_str(), port), ("10.0.0.1", expected)),
                (Action::Broken(why), Err(expected)) => assert_eq!(why, expected),
                (action, _) => panic!("{port:?} gave {action:?}"),
            }
        }
        assert!(matches!(tcp(IntOrString::Int(80), None), Action::Broken(why) if why == "the pod has no address"));
    }

    #[test]
    fn a_hook_sleeps_but_opens_no_bare_connection() {
        let target = Target {
            address: None,
            container: &container(),
        };
        let sleep = LifecycleHandler {
            sleep: Some(SleepAction { seconds: 3 }),
            ..LifecycleHandler::default()
        };
        assert!(matches!(Action::of_hook(&sleep, &target), Action::Sleep(time) if time == Duration::from_secs(3)));
        let socket = TCPSocketAction {
            host: None,
            port: IntOrString::Int(80),
        };
        let tcp = LifecycleHandler {
            tcp_socket: Some(socket),
            ..LifecycleHandler::default()
        };
        assert!(matches!(Action::of_hook(&tcp, &target), Action::Broken(_)));
    }

    #[test]
    fn answers_from_200_to_399_are_success() {
        for (status, good) in [
            (199, false),
            (200, true),
            (299, true),
            (302, true),
            (399, true),
            (400, false),
            (503, false),
        ] {
            let answer = http::Answer {
                status,
                body: b"words\n".to_vec(),
            };
            let outcome = judge(&answer);
            assert_eq!(matches!(outcome, Outcome::Success(_)), good, "{status}: {outcome:?}");
        }
    }
}
