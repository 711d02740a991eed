//! Update: replace, patch and apply.

use bosun_schema::{
    apply::{self, ApplyError},
    patch::{self, PatchError},
    strategic,
};
use bosun_store::{Revision, Txn};
use serde_json::Value;

use super::{
    Registry,
    create::New,
    metadata, namespace, rules, scale, services, shape,
    write::{
        self, Current, Look, Place, Versions, Written, answer, answer_dry, commit, context, invalid, model, track,
        writer,
    },
};
use crate::{
    Reason, Request, Status,
    admission::{Attributes, Operation},
    options::{Body, FieldValidation, PatchType, WriteOptions},
};

/// What is to become of an object.
pub(super) enum Wish<'a> {
    /// It is replaced by this.
    Replace { object: &'a Value, warnings: &'a [String] },
    /// It is patched.
    Patch {
        ty: PatchType,
        patch: &'a Value,
        mistakes: &'a [String],
    },
    /// It is made from what it is: what an action on it does.
    Action(&'a (dyn Fn(&mut Value) -> Result<(), Status> + Send + Sync)),
    /// The same, by an action that says itself who owns what then.
    Applied(&'a (dyn Fn(&mut Value) -> Result<(), Status> + Send + Sync)),
}

/// An object as it would be, with what else must hold and happen.
struct Decided {
    object: Value,
    warnings: Vec<String>,
    txn: Txn,
}

impl Registry {
    /// Replaces an object, or the part of it that a subresource is.
    pub async fn update(&self, request: &Request, body: Body, options: &WriteOptions) -> Result<Written, Status> {
        if let Some(paths) = scale::scaled(request) {
            return self.update_scale(request, paths, body, options).await;
        }
        let row = write::resource(request)?;
        let (object, warnings) = shape::read(row, body, options.field_validation)?;
        let wish = Wish::Replace {
            object: &object,
            warnings: &warnings,
        };
        self.change(request, &wish, options).await
    }

    /// Patches an object, or the part of it that a subresource is. Apply creates it if it is absent.
    pub async fn patch(
        &self,
        request: &Request,
        ty: PatchType,
        body: Body,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        if let Some(paths) = scale::scaled(request) {
            return self.patch_scale(request, paths, (ty, body), options).await;
        }
        let wish = Wish::Patch {
            ty,
            patch: &body.value,
            mistakes: &body.mistakes,
        };
        self.change(request, &wish, options).await
    }

    pub(super) async fn change(
        &self,
        request: &Request,
        wish: &Wish<'_>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let place = self.place(request, &request.name)?;
        let row = place.row;
        let asked = options.to_json(if matches!(wish, Wish::Patch { .. }) {
            "PatchOptions"
        } else {
            "UpdateOptions"
        });
        let mut look = Look::default();
        loop {
            let Some(current) = look.at(&place).await? else {
                match self.create_instead(&place, wish, options).await {
                    // Somebody else was quicker.
                    Err(status) if status.reason == Reason::AlreadyExists && !look.is_over() => continue,
                    other => return other,
                }
            };
            let decided = match self.decide_change(&place, &current, wish, &asked, options).await {
                // Perhaps only because the cache is a little behind.
                Err(_) if look.was_cached() => continue,
                other => other?,
            };
            let Decided {
                object,
                warnings,
                mut txn,
            } = decided;
            let unchanged = object == current.object;
            let goes = !unchanged && is_over(row, &object);
            if options.dry_run || unchanged {
                if unchanged && look.was_cached() && !options.dry_run {
                    // What is to be so was so a moment ago; whether it is now, the store knows.
                    place.cache.catch_up().await.map_err(super::read::unreadable)?;
                    let now = place.cache.peek(&place.key).map(|entry| entry.revision());
                    if now != Some(current.revision) {
                        continue;
                    }
                }
                return Ok(Written {
                    json: answer_dry(&object, Some(current.revision)),
                    created: false,
                    warnings,
                });
            }
            let stored = if goes {
                self.take_away(&place, &current, &mut txn)?;
                Vec::new()
            } else {
                self.put(&place, &object, current.revision, &mut txn)?
            };
            if let Some(revision) = commit(self, txn).await? {
                let json = if goes {
                    answer_dry(&object, Some(revision))
                } else {
                    answer(row, &object, &stored, revision)
                };
                return Ok(Written {
                    json,
                    created: false,
                    warnings,
                });
            }
            if look.is_over() {
                return Err(modified(&place));
            }
        }
    }

    /// What an update or apply of an absent object does.
    async fn create_instead(
        &self,
        place: &Place<'_>,
        wish: &Wish<'_>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let Place { request, row, .. } = *place;
        let absent = || Status::not_found(&row.group, &row.plural, &request.name);
        if !request.subresource.is_empty() {
            return Err(absent());
        }
        let new = match wish {
            Wish::Replace { object, warnings } if rules::create_on_update(row) => {
                if !metadata::text(object, "resourceVersion").is_empty() {
                    return Err(modified(place));
                }
                let mut object = (*object).clone();
                settle_name(place, &mut object)?;
                New {
                    object,
                    warnings: warnings.to_vec(),
                    tracked: false,
                }
            }
            Wish::Patch {
                ty: PatchType::Apply,
                patch,
                mistakes,
            } => {
                if !metadata::text(patch, "uid").is_empty() {
                    return Err(Status::conflict(
                        &row.group,
                        &row.plural,
                        &request.name,
                        &format!(
                            "uid mismatch: the provided object specified uid {}, and no existing object was found",
                            metadata::text(patch, "uid")
                        ),
                    ));
                }
                let mut object = self.applied(place, None, patch, options)?;
                settle_name(place, &mut object)?;
                let warnings = shape::fit(row, &mut object, mistakes.to_vec(), options.field_validation)?;
                New {
                    object,
                    warnings,
                    tracked: true,
                }
            }
            _ => return Err(absent()),
        };
        self.create_object(request, new, options).await
    }

    async fn decide_change(
        &self,
        place: &Place<'_>,
        current: &Current,
        wish: &Wish<'_>,
        asked: &Value,
        options: &WriteOptions,
    ) -> Result<Decided, Status> {
        let Place { request, row, .. } = *place;
        let old = &current.object;
        let (mut object, mut warnings, tracked) = match wish {
            Wish::Replace { object, warnings } => ((*object).clone(), warnings.to_vec(), false),
            Wish::Patch { ty, patch, mistakes } => {
                let mut object = self.patched(place, *ty, old, patch, options)?;
                let warnings = shape::fit(row, &mut object, mistakes.to_vec(), options.field_validation)?;
                (object, warnings, *ty == PatchType::Apply)
            }
            Wish::Action(act) | Wish::Applied(act) => {
                let mut object = old.clone();
                act(&mut object)?;
                shape::fit(row, &mut object, Vec::new(), FieldValidation::Ignore)?;
                (object, Vec::new(), matches!(wish, Wish::Applied(_)))
            }
        };
        settle_name(place, &mut object)?;
        metadata::settle_namespace(row, request, &mut object)?;
        check_preconditions(place, &object, current)?;

        let admission = self.admission();
        let mut attributes = Attributes {
            request,
            name: &request.name,
            operation: Operation::Update,
            object,
            old: Some(old),
            options: asked,
            dry_run: options.dry_run,
            txn: Txn::default(),
        };
        warnings.extend(admission.mutate(&mut attributes).await?);
        let mut object = std::mem::take(&mut attributes.object);
        row.strategy.default(&mut object);
        metadata::prepare_update(&mut object, old);
        let outcome = row.strategy.update(&mut object, old, &context(request));
        metadata::prepare_update(&mut object, old);
        let mut errors = metadata::validate_update(&object, old);
        if request.subresource.is_empty() {
            errors.extend(shape::faults(row, &object));
        }
        match outcome {
            Ok(more) => warnings.extend(more),
            Err(more) => errors.extend(more),
        }
        if !errors.is_empty() {
            return Err(invalid(row, &request.name, &errors));
        }
        if services::is_service(row) && request.subresource.is_empty() {
            self.settle_service(place, &mut object, Some(old), &mut attributes.txn)
                .await?;
        }
        metadata::raise_generation(row, &mut object, old);
        if !tracked {
            track(self, place, options, Some(old), &mut object);
        }
        attributes.object = object;
        admission.validate(&mut attributes).await?;
        let Attributes { mut object, txn, .. } = attributes;
        // As it was read, so that the two can be compared.
        metadata::metadata(&mut object).insert("resourceVersion".into(), current.revision.to_string().into());
        Ok(Decided { object, warnings, txn })
    }

    fn patched(
        &self,
        place: &Place<'_>,
        ty: PatchType,
        old: &Value,
        patch: &Value,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        let row = place.row;
        match ty {
            PatchType::Strategic => strategic::apply(&row.types, row.ty, old.clone(), patch).map_err(unpatchable),
            PatchType::Apply => self.applied(place, Some(old), patch, options),
            PatchType::Json | PatchType::Merge => patched_freely(ty, old.clone(), patch),
        }
    }

    /// The object with its managed fields once `config` is applied.
    fn applied(
        &self,
        place: &Place<'_>,
        live: Option<&Value>,
        config: &Value,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        let api_version = place.row.api_version();
        let versions = Versions::of(self, place.row);
        let (model, writer) = (model(place, &api_version, &versions), writer(place, options));
        apply::apply(&model, &writer, live, config, options.force).map_err(|error| inapplicable(&error))
    }
}

/// Why a configuration was not applied, as an answer.
pub(super) fn inapplicable(error: &ApplyError) -> Status {
    match error {
        ApplyError::Conflicts(conflicts) => {
            let mut status = Status::new(Reason::Conflict, error.to_string());
            for conflict in conflicts.iter() {
                status = status.because("FieldManagerConflict", &conflict.message(), &conflict.field);
            }
            status
        }
        ApplyError::ManagedFields | ApplyError::Version { .. } => Status::bad_request(error.to_string()),
        ApplyError::Untyped { .. } | ApplyError::Undecodable(_) => {
            Status::new(Reason::InternalError, error.to_string())
        }
    }
}

/// A value patched without regard to its type.
pub(super) fn patched_freely(ty: PatchType, old: Value, patch: &Value) -> Result<Value, Status> {
    match ty {
        PatchType::Json => patch::json(old, patch),
        PatchType::Merge | PatchType::Strategic | PatchType::Apply => patch::merge(old, patch),
    }
    .map_err(unpatchable)
}

#[allow(clippy::needless_pass_by_value, reason = "it is what errors are mapped by")]
fn unpatchable(error: PatchError) -> Status {
    let reason = match &error {
        PatchError::Malformed(_) => Reason::BadRequest,
        PatchError::TooManyOperations(_) => Reason::RequestEntityTooLarge,
        PatchError::Inapplicable(_) => Reason::Invalid,
        PatchError::Unprocessable(_) => Reason::InternalError,
    };
    Status::new(reason, error.to_string())
}

/// Whether nothing holds a deleted object any more.
pub(super) fn is_over(row: &crate::Resource, object: &Value) -> bool {
    if !metadata::is_deleting(object) || !metadata::finalizers(object).is_empty() {
        return false;
    }
    if namespace::is_namespace(row) {
        return !namespace::is_held(object);
    }
    object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
}

/// The object's name must be the path's, where it says one.
fn settle_name(place: &Place<'_>, object: &mut Value) -> Result<(), Status> {
    let name = &place.request.name;
    let given = metadata::text(object, "name");
    if !given.is_empty() && given != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    metadata::metadata(object).insert("name".into(), name.as_str().into());
    Ok(())
}

fn check_preconditions(place: &Place<'_>, object: &Value, current: &Current) -> Result<(), Status> {
    let row = place.row;
    let (uid, was) = (metadata::text(object, "uid"), metadata::text(&current.object, "uid"));
    if !uid.is_empty() && uid != was {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {was}");
        return Err(Status::conflict(&row.group, &row.plural, &place.request.name, &why));
    }
    match metadata::text(object, "resourceVersion") {
        "" | "0" if rules::unconditional_update(row) => Ok(()),
        "" | "0" => {
            let error = bosun_api::field::FieldError {
                field: "metadata.resourceVersion".into(),
                problem: bosun_api::field::Problem::Invalid(0.into(), "must be specified for an update".into()),
            };
            Err(invalid(row, &place.request.name, &[error]))
        }
        version => match version.parse().map(Revision) {
            Ok(revision) if revision == current.revision => Ok(()),
            Ok(_) => Err(modified(place)),
            Err(_) => Err(super::read::parse_version(version).map_or_else(|status| status, |_| modified(place))),
        },
    }
}

pub(super) fn modified(place: &Place<'_>) -> Status {
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Status::conflict(&place.row.group, &place.row.plural, &place.request.name, why)
}
