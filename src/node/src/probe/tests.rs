//! Probes against a scripted runtime in paused time, and against real sockets on loopback.

mod grpc;
mod hooks;
mod http;
mod runtime;
mod scheduler;
