//! `Scale`: how many there are of something, whatever it is, and how many there should be.
//!
//! It is a view of two or three fields of an object, and a write to it is one to the object. Whoever owns the number of
//! replicas in the one owns it in the other, so that server-side apply of a `Scale` and of the object conflict as they
//! should.

use bosun_kinds::scale;
use bosun_schema::{
    Types, apply,
    managed::{self, Model, Writer},
    type_of_kind,
};
use serde_json::{Value, json};

use super::{
    Registry, metadata,
    subresource::read_as,
    update::{Wish, inapplicable, patched_freely},
    write::{self, Written},
};
use crate::{
    Request, Resource, ScalePaths, Status,
    options::{Body, PatchType, WriteOptions},
};

const API_VERSION: &str = "autoscaling/v1";
/// Where a `Scale` has what it asks for, as field sets have it.
const REPLICAS: [&str; 2] = ["f:spec", "f:replicas"];

/// Where the row's objects keep what a `Scale` shows, if that is what the request is about.
pub(super) fn scaled(request: &Request) -> Option<&ScalePaths> {
    let row = request.resource.as_ref().filter(|_| request.subresource == "scale")?;
    row.subresources
        .iter()
        .find(|sub| &*sub.name == "scale")?
        .scale
        .as_ref()
}

fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .filter(|part| !part.is_empty())
        .fold(object, |value, part| &value[part])
}

fn at_mut<'a>(object: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.')
        .filter(|part| !part.is_empty())
        .fold(object, |value, part| {
            if !value.is_object() {
                *value = json!({});
            }
            &mut value[part]
        })
}

/// The scale of an object.
pub(super) fn scale_of(object: &Value, paths: &ScalePaths) -> Value {
    let mut own = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            own[field] = value.clone();
        }
    }
    let number = |path: &str| at(object, path).as_i64().unwrap_or_default();
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": own,
        "spec": {"replicas": number(&paths.spec_replicas)}, "status": {"replicas": number(&paths.status_replicas)},
    });
    let selector = paths
        .selector
        .as_deref()
        .map(|path| at(object, path))
        .and_then(|selector| match selector {
            Value::String(text) => Some(text.clone()),
            other => scale::selector(other),
        });
    if let Some(selector) = selector {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

/// Sets in `object` what `scale` asks for.
fn set_scale(row: &Resource, object: &mut Value, scale: &Value, paths: &ScalePaths) -> Result<(), Status> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
    if replicas < 0 {
        let error = bosun_api::field::FieldError {
            field: "spec.replicas".into(),
            problem: bosun_api::field::Problem::Invalid(replicas.into(), "must be greater than or equal to 0".into()),
        };
        let name = metadata::text(object, "name");
        return Err(Status::invalid(&row.group, "Scale", name, &[error]));
    }
    *at_mut(object, &paths.spec_replicas) = replicas.into();
    for field in ["uid", "resourceVersion"] {
        if let Some(given) = scale["metadata"][field].as_str().filter(|given| !given.is_empty()) {
            metadata::metadata(object).insert(field.into(), given.into());
        }
    }
    Ok(())
}

/// Applies a `Scale` to an object: what the configuration says, if nobody else owns the number of replicas.
fn apply_scale(
    request: &Request,
    row: &Resource,
    object: &mut Value,
    paths: &ScalePaths,
    (config, options): (&Value, &WriteOptions),
) -> Result<(), Status> {
    let ty = type_of_kind("autoscaling", "v1", "Scale").ok_or_else(|| Status::internal("no type Scale"))?;
    let model = Model {
        types: Types::builtin(),
        ty,
        api_version: API_VERSION,
        versions: None,
        reset: &managed::NOTHING,
    };
    let writer = Writer {
        manager: &options.field_manager,
        subresource: "scale",
        now: request.now,
    };
    let path = Owned::new(&paths.spec_replicas);
    let mut live = scale_of(object, paths);
    live["metadata"]["managedFields"] = path.in_scale(entries(object));
    let applied =
        apply::apply(&model, &writer, Some(&live), config, options.force).map_err(|error| inapplicable(&error))?;
    set_scale(row, object, &applied, paths)?;
    let owners = path.in_object(entries(object), entries(&applied), &row.api_version());
    metadata::metadata(object).insert("managedFields".into(), owners);
    Ok(())
}

fn entries(object: &Value) -> &[Value] {
    object["metadata"]["managedFields"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

/// The number of replicas among the fields that an object's managers own.
struct Owned(Vec<String>);

impl Owned {
    /// At a path such as `.spec.replicas`.
    fn new(path: &str) -> Self {
        let parts = path.split('.').filter(|part| !part.is_empty());
        Self(parts.map(|part| format!("f:{part}")).collect())
    }

    fn is_in(&self, entry: &Value) -> bool {
        has(&entry["fieldsV1"], &self.0)
    }

    /// Whoever owns it in the object, as owners of a `Scale`.
    fn in_scale(&self, object: &[Value]) -> Value {
        let owners = object.iter().filter(|entry| self.is_in(entry));
        owners.map(|entry| owning(entry, API_VERSION, &REPLICAS)).collect()
    }

    /// The object's owners once those of the `Scale` are as given: who owns it no more there has lost it, and who is new
    /// there owns it here.
    fn in_object(&self, object: &[Value], scale: &[Value], api_version: &str) -> Value {
        let mut new: Vec<&Value> = scale
            .iter()
            .filter(|entry| has(&entry["fieldsV1"], &REPLICAS))
            .collect();
        let mut owners = Vec::new();
        for entry in object {
            let mut entry = entry.clone();
            if self.is_in(&entry) {
                match new.iter().position(|other| same_manager(other, &entry)) {
                    Some(at) => drop(new.remove(at)),
                    None => take(&mut entry["fieldsV1"], &self.0),
                }
            }
            if entry["fieldsV1"].as_object().is_some_and(|fields| !fields.is_empty()) {
                owners.push(entry);
            }
        }
        let path: Vec<_> = self.0.iter().map(String::as_str).collect();
        owners.extend(new.into_iter().map(|entry| owning(entry, api_version, &path)));
        owners.into()
    }
}

/// An entry that owns this one field of that version, and is otherwise as given.
fn owning(entry: &Value, api_version: &str, path: &[&str]) -> Value {
    let mut entry = entry.clone();
    entry["apiVersion"] = api_version.into();
    entry["fieldsV1"] = path.iter().rev().fold(json!({}), |inner, part| json!({*part: inner}));
    entry
}

/// Whether two entries are of one manager, be it in different versions.
fn same_manager(one: &Value, other: &Value) -> bool {
    ["manager", "operation", "subresource"]
        .iter()
        .all(|field| one[*field].as_str().unwrap_or_default() == other[*field].as_str().unwrap_or_default())
}

fn has(fields: &Value, path: &[impl AsRef<str>]) -> bool {
    path.iter()
        .try_fold(fields, |fields, part| fields.get(part.as_ref()))
        .is_some()
}

/// Takes a field away, with those above it that have nothing else.
fn take(fields: &mut Value, path: &[String]) {
    let (Some((first, rest)), Some(map)) = (path.split_first(), fields.as_object_mut()) else {
        return;
    };
    if !rest.is_empty()
        && let Some(inner) = map.get_mut(first)
    {
        take(inner, rest);
        // The dot stands for the field itself.
        if inner
            .as_object()
            .is_some_and(|inner| inner.keys().any(|key| key != "."))
        {
            return;
        }
    }
    map.shift_remove(first);
}

impl Registry {
    /// Replaces the scale of an object.
    pub(super) async fn update_scale(
        &self,
        request: &Request,
        paths: &ScalePaths,
        body: Body,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let row = write::resource(request)?;
        let wanted = read_as(body, ("autoscaling", "v1", "Scale"))?;
        let act = |object: &mut Value| set_scale(row, object, &wanted, paths);
        self.change_scale(request, paths, &Wish::Action(&act), options).await
    }

    /// Patches the scale of an object.
    pub(super) async fn patch_scale(
        &self,
        request: &Request,
        paths: &ScalePaths,
        (ty, body): (PatchType, Body),
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let row = write::resource(request)?;
        if ty == PatchType::Apply {
            let act = |object: &mut Value| apply_scale(request, row, object, paths, (&body.value, options));
            return self.change_scale(request, paths, &Wish::Applied(&act), options).await;
        }
        let act = |object: &mut Value| {
            let old = scale_of(object, paths);
            let wanted = patched_freely(ty, old, &body.value)?;
            set_scale(
                row,
                object,
                &read_as(wanted.into(), ("autoscaling", "v1", "Scale"))?,
                paths,
            )
        };
        self.change_scale(request, paths, &Wish::Action(&act), options).await
    }

    async fn change_scale(
        &self,
        request: &Request,
        paths: &ScalePaths,
        wish: &Wish<'_>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let written = self.change(request, wish, options).await?;
        let object: Value = serde_json::from_slice(&written.json).map_err(Status::internal)?;
        Ok(Written {
            json: scale_of(&object, paths).to_string().into(),
            ..written
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, api_version: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": "Apply", "apiVersion": api_version, "fieldsV1": fields})
    }

    #[test]
    fn who_owns_the_number_of_replicas_is_known_in_both_views() {
        let path = Owned::new(".spec.replicas");
        let both = entry("ann", "apps/v1", &json!({"f:spec": {"f:paused": {}, "f:replicas": {}}}));
        let only = entry("bob", "apps/v1", &json!({"f:spec": {"f:replicas": {}}}));
        let other = entry("eve", "apps/v1", &json!({"f:spec": {"f:paused": {}}}));
        let object = [both.clone(), only.clone(), other.clone()];
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        let of_scale = |manager: &str| entry(manager, API_VERSION, &replicas);
        assert_eq!(path.in_scale(&object), json!([of_scale("ann"), of_scale("bob")]));
        for (name, scale, expected) in [
            (
                "nothing happened",
                vec![of_scale("ann"), of_scale("bob")],
                json!(object),
            ),
            (
                "somebody took it",
                vec![of_scale("zoe")],
                json!([
                    entry("ann", "apps/v1", &json!({"f:spec": {"f:paused": {}}})),
                    other,
                    entry("zoe", "apps/v1", &replicas)
                ]),
            ),
            (
                "somebody owns it too",
                vec![of_scale("ann"), of_scale("bob"), of_scale("zoe")],
                json!([both, only, other, entry("zoe", "apps/v1", &replicas)]),
            ),
        ] {
            assert_eq!(path.in_object(&object, &scale, "apps/v1"), expected, "{name}");
        }
    }
}
