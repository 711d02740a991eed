//! What a probe or a lifecycle hook does.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{
    core::{ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, SleepAction, TCPSocketAction},
    manifest::field::{Errors, Path},
    names,
};

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
    errors.at_least(&path.child("initialDelaySeconds"), probe.initial_delay_seconds, 0);
    errors.at_least(&path.child("timeoutSeconds"), probe.timeout_seconds, 1);
    errors.at_least(&path.child("periodSeconds"), probe.period_seconds, 1);
    errors.at_least(&path.child("failureThreshold"), probe.failure_threshold, 1);
    let threshold = path.child("successThreshold");
    errors.at_least(&threshold, probe.success_threshold, 1);
    if let Some(successes) = probe.success_threshold
        && successes > 1
        && kind != ProbeKind::Readiness
    {
        errors.invalid(&threshold, successes, "must be 1");
    }
    let grace = path.child("terminationGracePeriodSeconds");
    errors.at_least(&grace, probe.termination_grace_period_seconds, 1);
    if let (ProbeKind::Readiness, Some(seconds)) = (kind, probe.termination_grace_period_seconds) {
        errors.invalid(&grace, seconds, "must not be set for readinessProbes");
    }
}

pub(super) fn lifecycle(lifecycle: &Lifecycle, grace: i64, path: &Path, errors: &mut Errors) {
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
    if lifecycle.stop_signal.is_some() {
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
    sleep: Option<(&'a SleepAction, i64)>,
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
        if given.next().is_none() {
            errors.required(path, "must specify a handler type");
        }
        for (extra, _) in given {
            errors.forbidden(&path.child(extra), "may not specify more than 1 handler type");
        }
        if let Some(exec) = self.exec
            && exec.command.as_ref().is_none_or(Vec::is_empty)
        {
            errors.required(&path.child("exec").child("command"), "");
        }
        if let Some(get) = self.http_get {
            http_get(get, &path.child("httpGet"), errors);
        }
        if let Some(tcp) = self.tcp_socket {
            port(&tcp.port, &path.child("tcpSocket").child("port"), errors);
        }
        if let Some(grpc) = self.grpc {
            port_number(grpc.port, &path.child("grpc").child("port"), errors);
        }
        if let Some((sleep, grace)) = self.sleep
            && !(0..=grace).contains(&sleep.seconds)
        {
            let detail = format!("must be between 0 and terminationGracePeriodSeconds, {grace}, inclusive");
            errors.invalid(&path.child("sleep").child("seconds"), sleep.seconds, detail);
        }
    }
}

fn http_get(get: &HTTPGetAction, path: &Path, errors: &mut Errors) {
    if get.path.as_deref().is_none_or(str::is_empty) {
        errors.required(&path.child("path"), "");
    }
    port(&get.port, &path.child("port"), errors);
    errors.one_of(&path.child("scheme"), get.scheme.as_deref(), &["HTTP", "HTTPS"]);
    for (path, header) in path
        .child("httpHeaders")
        .each(get.http_headers.as_deref().unwrap_or_default())
    {
        errors.check(&path.child("name"), &header.name, names::http_header);
    }
}

fn port(port: &IntOrString, path: &Path, errors: &mut Errors) {
    match port {
        IntOrString::Int(number) => port_number(*number, path, errors),
        IntOrString::String(name) => errors.check(path, name, names::port_name),
    }
}

/// A port must be one that can be connected to.
pub(super) fn port_number(number: i32, path: &Path, errors: &mut Errors) {
    if !(1..=65535).contains(&number) {
        errors.invalid(path, number, "must be between 1 and 65535, inclusive");
    }
}
