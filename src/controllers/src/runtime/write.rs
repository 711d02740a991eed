//! Writes that controllers make.

use bosun_client::{CallError, call::call};
use kube::{
    Client, Resource,
    api::{DeleteParams, Preconditions, PropagationPolicy},
    core::Request,
};
use serde::{Serialize, de::IgnoredAny};
use serde_json::{Value, json};

/// Writes `status` of an object as it was read: if it has changed since, that's a conflict. Metadata and spec are
/// nothing but the object's address here; the API takes only the status of such a request.
pub async fn update_status<T>(client: &Client, object: &T, status: &impl Serialize) -> Result<(), CallError>
where
    T: Resource<DynamicType = ()>,
{
    put(client, object, "status", &json!({ "status": status })).await
}

/// Writes to a subresource of an object as it was read. `content` is what is written beside kind and metadata.
pub async fn put<T>(client: &Client, object: &T, subresource: &str, content: &Value) -> Result<(), CallError>
where
    T: Resource<DynamicType = ()>,
{
    let meta = object.meta();
    let mut body = json!({
        "apiVersion": T::api_version(&()),
        "kind": T::kind(&()),
        "metadata": {
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        },
    });
    for (field, value) in content.as_object().into_iter().flatten() {
        body[field] = value.clone();
    }
    let name = meta.name.as_deref().unwrap_or_default();
    let request = Request::new(T::url_path(&(), meta.namespace.as_deref()));
    let request = request.replace_subresource(
        subresource,
        name,
        &kube::api::PostParams::default(),
        body.to_string().into(),
    );
    let request = request.map_err(|error| CallError::Request(error.into()))?;
    call(client.request::<IgnoredAny>(request)).await.map(drop)
}

/// How an object is deleted only if it still is this one.
pub fn only(object: &impl Resource) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.meta().uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

/// The same, with what becomes of what it owns.
pub fn only_with(object: &impl Resource, policy: PropagationPolicy) -> DeleteParams {
    DeleteParams {
        propagation_policy: Some(policy),
        ..only(object)
    }
}
