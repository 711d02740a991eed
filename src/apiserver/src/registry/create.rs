//! Create.

use bosun_store::Txn;
use serde_json::Value;

use super::{
    Registry, metadata, namespace, services, shape,
    write::{self, Look, Place, Written, answer, answer_dry, commit, context, invalid, track},
};
use crate::{
    Reason, Request, Status,
    admission::{Attributes, Operation},
    options::{Body, WriteOptions},
};

/// How many made-up names are tried, as upstream.
const NAMES: usize = 8;

/// An object that asks to be created.
pub(super) struct New {
    /// Checked against its type.
    pub(super) object: Value,
    pub(super) warnings: Vec<String>,
    /// Whether it comes with its managed fields, as apply makes it.
    pub(super) tracked: bool,
}

impl Registry {
    /// Creates an object, or does what is posted to a subresource.
    pub async fn create(&self, request: &Request, body: Body, options: &WriteOptions) -> Result<Written, Status> {
        if let Some(done) = self.act(request, &body, options).await {
            return done;
        }
        let row = write::resource(request)?;
        let (object, warnings) = shape::read(row, body, options.field_validation)?;
        if !metadata::text(&object, "resourceVersion").is_empty() {
            return Err(Status::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let new = New {
            object,
            warnings,
            tracked: false,
        };
        self.create_object(request, new, options).await
    }

    pub(super) async fn create_object(
        &self,
        request: &Request,
        new: New,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let given = metadata::text(&new.object, "name").to_owned();
        let base = metadata::text(&new.object, "generateName").to_owned();
        let mut names_left = NAMES;
        loop {
            let name = if given.is_empty() && !base.is_empty() {
                metadata::generate_name(&base)
            } else {
                given.clone()
            };
            match self.create_named(request, &new, &name, options).await {
                Err(status) if status.reason == Reason::AlreadyExists && given.is_empty() => {
                    names_left -= 1;
                    if names_left == 0 {
                        let message = format!(
                            "{}, the server was not able to generate a unique name for the object",
                            status.message
                        );
                        return Err(Status { message, ..status }.retry_after(1));
                    }
                }
                other => return other,
            }
        }
    }

    async fn create_named(
        &self,
        request: &Request,
        new: &New,
        name: &str,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let place = self.place(request, name)?;
        let asked = options.to_json("CreateOptions");
        let mut look = Look::default();
        loop {
            let (object, warnings, mut txn) = self.decide_create(&place, new, name, &asked, options).await?;
            let stored = self.put(&place, &object, namespace::ABSENT, &mut txn)?;
            let revision = if options.dry_run {
                None
            } else {
                commit(self, txn).await?
            };
            if let Some(revision) = revision {
                return Ok(Written {
                    json: answer(place.row, &object, &stored, revision),
                    created: true,
                    warnings,
                });
            }
            // Not there, or something else that had to hold did not.
            let stored = place.cache.stored(&place.key).await.map_err(super::read::unreadable)?;
            if let Some(there) = stored {
                let mut status = Status::already_exists(&place.row.group, &place.row.plural, name);
                if there.projection().is_deleting() {
                    status.message = format!("object is being deleted: {}", status.message);
                }
                return Err(status);
            }
            if options.dry_run {
                return Ok(Written {
                    json: answer_dry(&object, None),
                    created: true,
                    warnings,
                });
            }
            // What it is decided on anew is no older than what stood in the way.
            place.cache.catch_up().await.map_err(super::read::unreadable)?;
            look.again();
            if look.is_over() {
                let why = "what it depends on keeps changing; please try again";
                return Err(Status::conflict(&place.row.group, &place.row.plural, name, why));
            }
        }
    }

    /// The object as it would be stored, with warnings and what else must hold and happen.
    async fn decide_create(
        &self,
        place: &Place<'_>,
        new: &New,
        name: &str,
        asked: &Value,
        options: &WriteOptions,
    ) -> Result<(Value, Vec<String>, Txn), Status> {
        let Place { request, row, .. } = *place;
        let mut object = new.object.clone();
        let mut warnings = new.warnings.clone();
        metadata::settle_namespace(row, request, &mut object)?;
        let compare = self.namespace_takes(place, name).await?;

        let admission = self.admission();
        let given = metadata::text(&object, "name").to_owned();
        let mut attributes = Attributes {
            request,
            name: &given,
            operation: Operation::Create,
            object,
            old: None,
            options: asked,
            dry_run: options.dry_run,
            txn: Txn::default(),
        };
        warnings.extend(admission.mutate(&mut attributes).await?);
        let mut object = std::mem::take(&mut attributes.object);
        row.strategy.default(&mut object);
        if !name.is_empty() {
            metadata::metadata(&mut object).insert("name".into(), name.into());
        }
        metadata::prepare_create(row, &mut object, request.now);
        let outcome = row.strategy.create(&mut object, &context(request));
        let mut errors = metadata::validate(row, &object);
        errors.extend(shape::faults(row, &object));
        match outcome {
            Ok(more) => warnings.extend(more),
            Err(more) => errors.extend(more),
        }
        if !errors.is_empty() {
            return Err(invalid(row, metadata::text(&object, "name"), &errors));
        }
        if services::is_service(row) {
            self.settle_service(place, &mut object, None, &mut attributes.txn)
                .await?;
        }
        if !new.tracked {
            track(self, place, options, None, &mut object);
        }
        let name = metadata::text(&object, "name").to_owned();
        attributes.name = &name;
        attributes.object = object;
        admission.validate(&mut attributes).await?;
        let Attributes { object, mut txn, .. } = attributes;
        txn.compares.extend(compare);
        Ok((object, warnings, txn))
    }
}
