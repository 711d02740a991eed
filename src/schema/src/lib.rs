//! The structure of API objects, as values: what validation, pruning, patches, apply and encodings go by.
//!
//! Pure: no I/O, no clock. Built-in types come from one compact table of facts, those of custom resources from their
//! definitions; whoever works on objects sees only [`Types`].
//!
//! - [`types`]: the model of a structure.
//! - [`builtin`]: Kubernetes' own types as such a model ([`Types::builtin`]), by name and by kind.
//! - [`resources`](mod@resources): Kubernetes' own resources: names, verbs, subresources, groups and their order.
//! - [`decode`]: JSON and YAML to a tree, within bounds, telling keys given twice.
//! - [`check`]: a tree against its type: wrong types, unknown fields, canonical forms.
//! - [`validate`]: what the schema alone says is wrong, for kinds without validation of their own.
//! - [`openapi`]: types and resources described as OpenAPI.
//! - [`protobuf`]: a tree to the protobuf encoding of built-in kinds and back.
//! - `facts`: the grammar of the table that both are made of, `facts/*.txt`.
//! - [`patch`]: JSON patch and JSON merge patch; [`strategic`]: strategic merge patch.
//! - [`custom`]: custom resources: schemas, validation, defaults, pruning, columns; `cel`: their rules.
//! - [`fieldset`]: sets of fields; [`managed`]: who manages which; [`apply`]: server-side apply.

pub mod apply;
pub mod builtin;
mod cel;
pub mod check;
pub mod custom;
pub mod decode;
mod facts;
pub mod fieldset;
pub mod managed;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod resources;
pub mod strategic;
mod time;
pub mod types;
pub mod validate;

pub use builtin::type_of_kind;
pub use openapi::{CustomResource, OpenApi};
pub use resources::{GroupFacts, ResourceFacts, SubresourceFacts, VersionFacts, groups, resources};
pub use types::{Field, ListKind, Merge, Shape, Type, TypeId, Types};
