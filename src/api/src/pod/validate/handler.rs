//! What a probe or a lifecycle hook does.

use crate::{
    core::{ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, SleepAction, TCPSocketAction},
    field::{Errors, OrEmpty, Path},
    names,
    pod::Origin,
};

use super::{port, port_number};

/// Which question a probe answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeKind {
    Liveness,
    Readiness,
    Startup,
}

pub(super) fn probe(probe: &Probe, kind: ProbeKind, path: &Path, errors: &mut Errors) {
    let handlers = Handlers {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    handlers.validate(path, errors);
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        errors.at_least(&path.child(field), value, 0);
    }
    let grace = path.child("terminationGracePeriodSeconds");
    if let Some(seconds) = probe.termination_grace_period_seconds {
        if seconds <= 0 {
            errors.invalid(&grace, seconds, "must be greater than 0");
        }
        if kind == ProbeKind::Readiness {
            errors.invalid(&grace, seconds, "must not be set for readinessProbes");
        }
    }
    if let Some(successes) = probe.success_threshold
        && successes != 1
        && kind != ProbeKind::Readiness
    {
        errors.invalid(&path.child("successThreshold"), successes, "must be 1");
    }
}

pub(super) fn lifecycle(lifecycle: &Lifecycle, grace: Option<i64>, origin: Origin, path: &Path, errors: &mut Errors) {
    for (name, handler) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(LifecycleHandler {
            exec,
            http_get,
            sleep,
            tcp_socket,
        }) = handler
        {
            let path = path.child(name);
            let handlers = Handlers {
                exec: exec.as_ref(),
                http_get: http_get.as_ref(),
                tcp_socket: tcp_socket.as_ref(),
                grpc: None,
                sleep: sleep.as_ref().map(|sleep| (sleep, grace)),
            };
            handlers.validate(&path, errors);
        }
    }
    if lifecycle.stop_signal.is_some() && origin == Origin::File {
        errors.forbidden(
            &path.child("stopSignal"),
            "is not supported on this node: set STOPSIGNAL in the image",
        );
    }
}

/// What may be given, of which exactly one must be.
struct Handlers<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    /// With the pod's grace, which it must fit in.
    sleep: Option<(&'a SleepAction, Option<i64>)>,
}

impl Handlers<'_> {
    fn validate(&self, path: &Path, errors: &mut Errors) {
        let given = [
            ("exec", self.exec.is_some()),
            ("httpGet", self.http_get.is_some()),
            ("tcpSocket", self.tcp_socket.is_some()),
            ("grpc", self.grpc.is_some()),
            ("sleep", self.sleep.is_some()),
        ];
        let mut given = given.iter().filter(|(_, given)| *given);
        let first = given.next().map(|(name, _)| *name);
        for (extra, _) in given {
            errors.forbidden(&path.child(extra), "may not specify more than 1 handler type");
        }
        match first {
            None => errors.required(path, "must specify a handler type"),
            Some(name) => self.one(&path.child(name), errors),
        }
    }

    /// Checks the first that is given.
    fn one(&self, path: &Path, errors: &mut Errors) {
        if let Some(exec) = self.exec {
            if !exec.command.is_given() {
                errors.required(&path.child("command"), "");
            }
        } else if let Some(get) = self.http_get {
            http_get(get, path, errors);
        } else if let Some(tcp) = self.tcp_socket {
            port(&tcp.port, &path.child("port"), errors);
        } else if let Some(grpc) = self.grpc {
            port_number(grpc.port, &path.child("port"), errors);
        } else if let Some((sleep, Some(grace))) = self.sleep
            && !(0..=grace).contains(&sleep.seconds)
        {
            let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
            errors.invalid(path, sleep.seconds, detail);
        }
    }
}

fn http_get(get: &HTTPGetAction, path: &Path, errors: &mut Errors) {
    if !get.path.is_given() {
        errors.required(&path.child("path"), "");
    }
    port(&get.port, &path.child("port"), errors);
    errors.one_of(&path.child("scheme"), get.scheme.as_deref(), &["HTTP", "HTTPS"]);
    for header in get.http_headers.or_empty() {
        errors.check(&path.child("httpHeaders"), &header.name, names::http_header);
    }
}
