//! The node agent.
//!
//! ```text
//!  manifest::ManifestSource ──ManifestEvent──▶ source ──PodEvent─┐
//!  api::pods (watch) ─────────────────────────────────PodEvent───▶ manager ──Message──▶ pod::worker (one task a UID)
//!  bosun_cri::Runtime ───────RuntimeEvent────▶    │                   ▲       │ Job
//!                                                 └──▶ routes ────────┘       ▼
//!  probe::Prober ────────────ProbeReport──────────────────────────────▶   pod::apply ──▶ runtime, disk, cgroups
//!                                                                             │ Outcome back to the worker
//!  admin (status socket) ◀── node::Board ◀──Notice── pod::worker ◀────────────┘
//! ```
//!
//! Long-lived tasks: the [`manager`], one [`pod::worker`] a pod, the [`probe`] scheduler, the [`manifest`] source, the
//!
//! [`join`] makes a machine a trusted node and keeps it one: its tasks renew certificates. [`config::kubelet`] reads the
//! file that kubelet is configured by.
//!
//! Pure: [`pod::phase`], [`pod::plan`], [`pod::status`], [`pod::backoff`], [`pod::observed`], [`pod::verdicts`],
//! [`pod::env`], [`pod::service_env`], [`pod::security`], [`pod::sandbox`], [`pod::container`], [`pod::orphan`], [`pod::payload`], [`pod::news`], [`cgroup::amounts`],
//! [`probe::schedule`], [`places`]. Everything else does what these decide.

pub mod admin;
pub mod agent;
pub mod api;
pub mod cgroup;
pub mod checkpoint;
pub mod config;
pub mod facts;
pub mod images;
pub mod join;
pub mod manager;
pub mod manifest;
pub mod node;
pub mod places;
pub mod pod;
pub mod probe;
pub mod routes;
pub mod serve;
pub mod source;
pub mod stats;
