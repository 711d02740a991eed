//! How rooms that speak only the Kubernetes API hear of objects and change them.

pub mod connect;
