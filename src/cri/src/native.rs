//! What our callers of containerd's own services have in common.

use tonic::{Request, metadata::MetadataValue};

/// Where containerd's CRI plugin keeps everything of its own.
pub(crate) const NAMESPACE: &str = "k8s.io";

/// A request within CRI's namespace.
pub(crate) fn in_namespace<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
    request
}
