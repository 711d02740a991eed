//! The contracts we speak with a container runtime, generated from the definitions beside this crate.

/// CRI v1 as of Kubernetes 1.36 (`cri/runtime.proto`): messages, the two clients and the two servers.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code; the definition carries the comments"
)]
pub mod cri {
    tonic::include_proto!("runtime.v1");
}

/// The encoded `FileDescriptorSet` that the code above was generated from.
pub const CRI_DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.bin"));
