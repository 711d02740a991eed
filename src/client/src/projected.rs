//! Structures that hold only the fields of a kind that somebody reads.
//!
//! A decoded Pod takes 26 KiB where its JSON takes 3 KiB; what a scheduler reads of it fits into one. [`projected!`]
//! makes a structure of metadata and the named fields, of the kind of a type of k8s-openapi: `Api<…>`, `Informer<…>`
//! and all that takes a [`kube::Resource`] take it. What isn't named is skipped while decoding and never allocated;
//! `managedFields` always is.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::{Deserialize, Deserializer};

/// Makes a structure that holds metadata and some fields of a kind.
///
/// Fields are named as in Rust (`camelCase` on the wire); absent and `null` ones become their default, so their types
/// must have one. Types within are k8s-openapi's, or smaller ones that derive `Deserialize` with
/// `#[serde(default, rename_all = "camelCase")]`. `, without annotations` drops those of the metadata too.
///
/// ```
/// use bosun_client::projected;
/// use k8s_openapi::api::{apps::v1 as apps, core::v1 as core};
///
/// projected! {
///     /// Where a pod is, and how it is.
///     pub struct Pod: core::Pod, without annotations {
///         /// What is read of the spec.
///         pub spec: PodSpec,
///         /// What is read of the status.
///         pub status: PodStatus,
///     }
/// }
///
/// #[derive(Clone, Debug, Default, serde::Deserialize)]
/// #[serde(default, rename_all = "camelCase")]
/// pub struct PodSpec {
///     /// Empty while it isn't bound.
///     pub node_name: Option<String>,
/// }
///
/// #[derive(Clone, Debug, Default, serde::Deserialize)]
/// #[serde(default)]
/// pub struct PodStatus {
///     pub phase: Option<String>,
/// }
///
/// let pod: Pod = serde_json::from_value(serde_json::json!({
///     "apiVersion": "v1",
///     "kind": "Pod",
///     "metadata": {"name": "web", "annotations": {"a": "b"}, "managedFields": [{"manager": "kubectl"}]},
///     "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "i"}]},
///     "status": null,
/// }))?;
/// assert_eq!(pod.spec.node_name.as_deref(), Some("node-1"));
/// assert_eq!(pod.metadata.name.as_deref(), Some("web"));
/// assert!(pod.metadata.managed_fields.is_none() && pod.metadata.annotations.is_none());
/// assert_eq!(<Pod as kube::Resource>::url_path(&(), Some("default")), "/api/v1/namespaces/default/pods");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[macro_export]
macro_rules! projected {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident: $kind:ty {
            $($(#[$field_attribute:meta])* $field_visibility:vis $field:ident: $type:ty,)*
        }
    ) => {
        $crate::projected! {
            @with "bosun_client::projected::metadata"
            $(#[$attribute])*
            $visibility struct $name: $kind {
                $($(#[$field_attribute])* $field_visibility $field: $type,)*
            }
        }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident: $kind:ty, without annotations {
            $($(#[$field_attribute:meta])* $field_visibility:vis $field:ident: $type:ty,)*
        }
    ) => {
        $crate::projected! {
            @with "bosun_client::projected::metadata_without_annotations"
            $(#[$attribute])*
            $visibility struct $name: $kind {
                $($(#[$field_attribute])* $field_visibility $field: $type,)*
            }
        }
    };
    (
        @with $metadata:literal
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident: $kind:ty {
            $($(#[$field_attribute:meta])* $field_visibility:vis $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, Default, ::serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        $visibility struct $name {
            /// Names, labels, owners and the like, without `managedFields`.
            #[serde(default, deserialize_with = $metadata)]
            pub metadata: ::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            $(
                $(#[$field_attribute])*
                #[serde(default, deserialize_with = "bosun_client::projected::or_default")]
                $field_visibility $field: $type,
            )*
        }

        impl ::k8s_openapi::Resource for $name {
            const API_VERSION: &'static str = <$kind as ::k8s_openapi::Resource>::API_VERSION;
            const GROUP: &'static str = <$kind as ::k8s_openapi::Resource>::GROUP;
            const KIND: &'static str = <$kind as ::k8s_openapi::Resource>::KIND;
            const VERSION: &'static str = <$kind as ::k8s_openapi::Resource>::VERSION;
            const URL_PATH_SEGMENT: &'static str = <$kind as ::k8s_openapi::Resource>::URL_PATH_SEGMENT;
            type Scope = <$kind as ::k8s_openapi::Resource>::Scope;
        }

        impl ::k8s_openapi::Metadata for $name {
            type Ty = ::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

            fn metadata(&self) -> &Self::Ty {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut Self::Ty {
                &mut self.metadata
            }
        }
    };
}

/// Reads a field that may be `null`, which Go writes for what is empty.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads metadata without `managedFields`.
pub fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let kept = Option::<WithAnnotations>::deserialize(deserializer)?.unwrap_or_default();
    Ok(ObjectMeta {
        annotations: kept.annotations,
        ..kept.rest.into()
    })
}

/// Reads metadata without `managedFields` and annotations, which are often the larger part of an object.
pub fn metadata_without_annotations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let kept = Option::<Kept>::deserialize(deserializer)?.unwrap_or_default();
    Ok(kept.into())
}

macro_rules! kept {
    ($($field:ident: $type:ty),* $(,)?) => {
        /// The fields of metadata that are kept.
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Kept {
            $($field: Option<$type>,)*
        }

        /// The same, with annotations: written out, since a flattened structure is buffered before it is read.
        #[derive(Default)]
        struct WithAnnotations {
            annotations: Option<BTreeMap<String, String>>,
            rest: Kept,
        }

        impl<'de> Deserialize<'de> for WithAnnotations {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Default, Deserialize)]
                #[serde(default, rename_all = "camelCase")]
                struct All {
                    annotations: Option<BTreeMap<String, String>>,
                    $($field: Option<$type>,)*
                }
                let all = All::deserialize(deserializer)?;
                Ok(Self {
                    annotations: all.annotations,
                    rest: Kept { $($field: all.$field,)* },
                })
            }
        }

        impl From<Kept> for ObjectMeta {
            fn from(kept: Kept) -> Self {
                Self {
                    $($field: kept.$field,)*
                    ..Self::default()
                }
            }
        }
    };
}

kept! {
    creation_timestamp: Time,
    deletion_grace_period_seconds: i64,
    deletion_timestamp: Time,
    finalizers: Vec<String>,
    generate_name: String,
    generation: i64,
    labels: BTreeMap<String, String>,
    name: String,
    namespace: String,
    owner_references: Vec<OwnerReference>,
    resource_version: String,
    uid: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_metadata_is_kept_but_managed_fields() {
        let whole = serde_json::json!({
            "annotations": {"a": "b"},
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "deletionGracePeriodSeconds": 30,
            "deletionTimestamp": "2026-01-02T03:04:35Z",
            "finalizers": ["foregroundDeletion"],
            "generateName": "web-",
            "generation": 7,
            "labels": {"app": "web"},
            "name": "web-1",
            "namespace": "default",
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u"}],
            "resourceVersion": "12",
            "uid": "11",
        });
        let mut sent = whole.clone();
        sent["managedFields"] = serde_json::json!([{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]);
        // Absent since 1.24, yet some still send it.
        sent["selfLink"] = "/api/v1".into();
        let read = metadata(&sent).expect("valid metadata");
        assert_eq!(serde_json::to_value(read).expect("serialisable"), whole);

        let read = metadata_without_annotations(&sent).expect("valid metadata");
        assert_eq!(read.annotations, None);
        assert_eq!(read.name.as_deref(), Some("web-1"));
        assert_eq!(metadata(serde_json::Value::Null).expect("null"), ObjectMeta::default());
    }
}
