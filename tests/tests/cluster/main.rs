//! The control plane from without: the built `bosun server`, asked by `kubectl` as a user asks it, and byte by byte as
//! only a test would.
//!
//! Every test has a server of its own ([`bosun_testkit::Server`]): a folder, a free port of the loopback interface. No
//! test needs root.

mod auth;
mod clients;
mod commands;
mod custom;
mod discovery;
mod full;
mod histories;
mod hostile;
mod kubectl;
mod life;
mod negotiation;
mod several;
mod watches;
