//! Certificates, keys and tokens of a cluster.
